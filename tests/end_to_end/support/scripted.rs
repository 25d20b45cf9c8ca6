//! An MCP server over HTTP that does what the test tells it and remembers what it was asked.

mod acts;
mod garbage;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinSet,
};

use super::{client::MODERN, http::accept, within};
use acts::Body;

pub(crate) use acts::{Act, CUT, FLOOD};
pub(crate) use garbage::{Garbage, closed_port};

/// Which eras it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Serves {
    Modern,
    Legacy,
    Both,
}

/// What it is to do.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    serves: Serves,
    tools: Vec<(String, String, Act)>,
    page_size: usize,
    demands: Vec<(&'static str, String)>,
    /// Its raw capabilities.
    offers: String,
    /// Others in sessions.
    offers_in_sessions: Option<String>,
    /// Raw members of the definitions of tools in sessions, by the tool's name.
    says_in_sessions: Vec<(&'static str, &'static str)>,
    /// Raw members of what it says of itself.
    says: String,
    /// Raw members that say how long, and for whom, results of a method are good.
    promises: Vec<(&'static str, String)>,
    /// What it does with other methods.
    answers: Vec<(&'static str, Reply)>,
    mirrors: Vec<&'static str>,
    /// What a session is told that it does not know: a status, and the raw error.
    refuses_sessions: (u16, &'static str),
    hangs: bool,
}

impl Script {
    /// A server without tools.
    pub(crate) fn new(serves: Serves) -> Self {
        let (offers, says) = (r#"{"tools":{}}"#.to_owned(), String::new());
        let refuses_sessions = (404, r#"{"code":-32001,"message":"Session not found"}"#);
        let (tools, demands, answers, mirrors) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self {
            serves,
            tools,
            page_size: 1000,
            demands,
            offers,
            offers_in_sessions: None,
            says_in_sessions: Vec::new(),
            says,
            promises: Vec::new(),
            answers,
            mirrors,
            refuses_sessions,
            hangs: false,
        }
    }

    /// With these raw capabilities.
    pub(crate) fn offers(self, capabilities: &str) -> Self {
        Self { offers: capabilities.to_owned(), ..self }
    }

    /// With these raw capabilities in sessions.
    pub(crate) fn offers_in_sessions(self, capabilities: &str) -> Self {
        Self { offers_in_sessions: Some(capabilities.to_owned()), ..self }
    }

    /// Its tool of that name has these raw members in sessions alone.
    pub(crate) fn says_in_sessions(mut self, tool: &'static str, members: &'static str) -> Self {
        self.says_in_sessions.push((tool, members));
        self
    }

    /// With these raw instructions.
    pub(crate) fn instructs(self, instructions: &str) -> Self {
        Self { says: format!(r#","instructions":{instructions}"#), ..self }
    }

    /// With these raw caching hints in modern results of `server/discover` or `tools/list`, in place of "for no time, for nobody else".
    pub(crate) fn promises(mut self, method: &'static str, hints: &str) -> Self {
        self.promises.push((method, hints.to_owned()));
        self
    }

    /// Answers that method with this raw result.
    pub(crate) fn answers(mut self, method: &'static str, result: &str) -> Self {
        self.answers.push((method, Reply::Result(result.to_owned())));
        self
    }

    /// Takes requests of that method and says nothing.
    pub(crate) fn ignores(mut self, method: &'static str) -> Self {
        self.answers.push((method, Reply::Nothing));
        self
    }

    /// Breaks the connection in the middle of its answer to that method.
    pub(crate) fn dies_of(mut self, method: &'static str) -> Self {
        self.answers.push((method, Reply::Half));
        self
    }

    /// A tool with any arguments.
    pub(crate) fn tool(self, name: &str, act: Act) -> Self {
        let definition = format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}}}"#);
        self.defined(name, &definition, act)
    }

    /// A tool with that raw definition.
    pub(crate) fn defined(mut self, name: &str, definition: &str, act: Act) -> Self {
        self.tools.push((name.to_owned(), definition.to_owned(), act));
        self
    }

    /// Tools on one page of its list.
    pub(crate) fn page_size(self, page_size: usize) -> Self {
        Self { page_size, ..self }
    }

    /// Refuses requests without this header with 401.
    pub(crate) fn demands(mut self, header: &'static str, value: &str) -> Self {
        self.demands.push((header, value.to_owned()));
        self
    }

    /// Refuses modern calls of tools without this header with -32020.
    pub(crate) fn mirrors(mut self, header: &'static str) -> Self {
        self.mirrors.push(header);
        self
    }

    /// Tells a session that it does not know this, with that status.
    pub(crate) fn refuses_sessions(self, status: u16, error: &'static str) -> Self {
        Self { refuses_sessions: (status, error), ..self }
    }

    /// Takes every request and answers none.
    pub(crate) fn hangs(self) -> Self {
        Self { hangs: true, ..self }
    }
}

/// What it does with a request that is no call of a tool.
#[derive(Debug, Clone)]
enum Reply {
    /// Answers with this raw result.
    Result(String),
    /// Says nothing.
    Nothing,
    /// Breaks the connection in the middle of its answer.
    Half,
}

/// A request that it got.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// The JSON-RPC method; empty without a body.
    pub(crate) method: String,
    /// The name of the tool of a call.
    pub(crate) tool: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    /// The gateway closed the connection before it had the whole answer.
    pub(crate) abandoned: bool,
}

impl Seen {
    /// A header as text; empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The raw text of `params.arguments`.
    pub(crate) fn arguments(&self) -> String {
        let message: Message<'_> = serde_json::from_str(&self.body).unwrap();
        message.params().arguments.unwrap().get().to_owned()
    }
}

/// A running server. Dropping it closes its connections.
pub(crate) struct Scripted {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    sessions: Mutex<Vec<String>>,
    sessions_opened: Mutex<usize>,
    /// How often each [`Act::Fated`] ran, by the `id` of its arguments.
    runs: Mutex<HashMap<String, usize>>,
    /// Events of its answers that went towards the gateway.
    events_taken: AtomicUsize,
    changed: watch::Sender<()>,
    /// Lets acts go on that hold.
    gate: Semaphore,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(default)]
    method: String,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct Params<'a> {
    name: Option<String>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<&'a RawValue>,
    cursor: Option<String>,
}

impl<'a> Message<'a> {
    fn params(&self) -> Params<'a> {
        self.params.map(|raw| serde_json::from_str(raw.get()).unwrap()).unwrap_or_default()
    }
}

impl Scripted {
    /// Starts it on a free port.
    pub(crate) async fn start(script: Script) -> Self {
        Self::start_at(script, "127.0.0.1:0".parse().unwrap()).await
    }

    /// Starts it on that port, where one was before.
    pub(crate) async fn start_at(script: Script, address: SocketAddr) -> Self {
        let listener = super::until("the port", || async { TcpListener::bind(address).await.ok() }).await;
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            seen: Mutex::default(),
            sessions: Mutex::default(),
            sessions_opened: Mutex::default(),
            runs: Mutex::default(),
            events_taken: AtomicUsize::new(0),
            changed: watch::Sender::new(()),
            gate: Semaphore::new(0),
        });
        let mut tasks = JoinSet::new();
        let answering = Arc::clone(&shared);
        tasks.spawn(accept(listener, move |request| answer(Arc::clone(&answering), request)));
        Self { address, shared, tasks }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Its address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything it was asked.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The calls of tools among that.
    pub(crate) fn calls(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.method == "tools/call").collect()
    }

    /// Waits until it was asked something such, and returns it.
    pub(crate) async fn wait_for(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let mut changed = self.shared.changed.subscribe();
        within(what, async {
            loop {
                changed.borrow_and_update();
                if let Some(found) = self.seen().into_iter().find(&wanted) {
                    return found;
                }
                changed.changed().await.unwrap();
            }
        })
        .await
    }

    /// Waits until that many calls of tools came.
    pub(crate) async fn wait_for_calls(&self, count: usize) {
        let mut changed = self.shared.changed.subscribe();
        within("calls", changed.wait_for(|()| self.calls().len() >= count)).await.unwrap();
    }

    /// Lets that many holding acts go on.
    pub(crate) fn release(&self, count: usize) {
        self.shared.gate.add_permits(count);
    }

    /// Does something else from now on.
    pub(crate) fn becomes(&self, script: Script) {
        *self.shared.script.lock().unwrap() = script;
    }

    /// Forgets all sessions.
    pub(crate) fn expire_sessions(&self) {
        self.shared.sessions.lock().unwrap().clear();
    }

    /// How many sessions it opened.
    pub(crate) fn sessions_opened(&self) -> usize {
        *self.shared.sessions_opened.lock().unwrap()
    }

    /// Whether the [`Act::Fated`] with that `id` ran.
    pub(crate) fn ran(&self, id: &str) -> bool {
        self.shared.runs.lock().unwrap().contains_key(id)
    }

    /// How often each [`Act::Fated`] ran, by the `id` of its arguments.
    pub(crate) fn runs(&self) -> HashMap<String, usize> {
        self.shared.runs.lock().unwrap().clone()
    }

    /// Events of its answers that went towards the gateway; the others it could not send yet.
    pub(crate) fn events_taken(&self) -> usize {
        self.shared.events_taken.load(Ordering::Relaxed)
    }

    /// Ends it and waits until its port is free.
    pub(crate) async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Marks a request as abandoned unless it was answered.
struct Open {
    shared: Arc<Shared>,
    place: usize,
    answered: bool,
}

impl Open {
    fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        self.shared.seen.lock().unwrap()[self.place].abandoned = true;
        self.shared.changed.send_replace(());
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return acts::status(StatusCode::BAD_REQUEST) };
    let body = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    let message: Message<'_> = serde_json::from_str(if body.is_empty() { "{}" } else { &body }).unwrap();
    let params = message.params();
    let open = shared.note(Seen {
        method: message.method.clone(),
        tool: params.name.clone().unwrap_or_default(),
        headers: head.headers.clone(),
        body: body.clone(),
        abandoned: false,
    });
    let script = shared.script.lock().unwrap().clone();
    if script.hangs {
        std::future::pending::<()>().await;
    }
    if script.demands.iter().any(|(name, value)| head.headers.get(*name).is_none_or(|found| found != value)) {
        return acts::done(open, acts::status(StatusCode::UNAUTHORIZED));
    }
    let modern = head.headers.get("mcp-protocol-version").is_some_and(|version| version == MODERN);
    if modern {
        shared.modern(&script, &head.headers, &message, open).await
    } else {
        shared.legacy(&script, &head.method, &head.headers, &message, open).await
    }
}

impl Shared {
    fn note(self: &Arc<Self>, seen: Seen) -> Open {
        let mut all = self.seen.lock().unwrap();
        all.push(seen);
        let place = all.len() - 1;
        drop(all);
        self.changed.send_replace(());
        Open { shared: Arc::clone(self), place, answered: false }
    }

    async fn modern(&self, script: &Script, headers: &HeaderMap, message: &Message<'_>, open: Open) -> Response<Body> {
        let id = message.id.map_or("null", RawValue::get);
        if script.serves == Serves::Legacy {
            // What servers of the TypeScript SDK 1.x say to a request without a session.
            let error = r#"{"code":-32000,"message":"Bad Request: No valid session ID provided"}"#;
            return acts::done(open, acts::failure(400, "null", error));
        }
        match message.method.as_str() {
            "server/discover" => {
                let Script { offers, says, .. } = script;
                let hints = script.hints("server/discover");
                let result = format!(
                    r#"{{"resultType":"complete","supportedVersions":["{MODERN}"],"capabilities":{offers}{says},{hints},"_meta":{{"io.modelcontextprotocol/serverInfo":{{"name":"scripted","version":"1"}}}}}}"#
                );
                acts::done(open, acts::result(id, &result))
            }
            "tools/list" => {
                let members = format!(r#""resultType":"complete",{},"#, script.hints("tools/list"));
                acts::done(open, acts::result(id, &script.page(message, &members, false)))
            }
            "tools/call" if script.mirrors.iter().any(|name| !headers.contains_key(*name)) => {
                acts::done(open, acts::failure(400, id, r#"{"code":-32020,"message":"a header is not what it should be"}"#))
            }
            "tools/call" => self.call(script, message, true, open).await,
            method if script.knows(method) => script.answer(method, id, open).await,
            _ => acts::done(open, acts::failure(404, id, r#"{"code":-32601,"message":"no such method"}"#)),
        }
    }

    async fn legacy(
        &self,
        script: &Script,
        http_method: &http::Method,
        headers: &HeaderMap,
        message: &Message<'_>,
        open: Open,
    ) -> Response<Body> {
        let id = message.id.map_or("null", RawValue::get);
        if message.method == "initialize" && script.knows("initialize") {
            return script.answer("initialize", id, open).await;
        }
        if script.serves == Serves::Modern {
            let error = r#"{"code":-32022,"message":"this revision is not supported","data":{"supported":["2026-07-28"]}}"#;
            return acts::done(open, acts::failure(400, id, error));
        }
        if message.method == "initialize" {
            return acts::done(open, self.initialize(script, id));
        }
        let session = headers.get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned()).unwrap_or_default();
        if !self.sessions.lock().unwrap().contains(&session) {
            let (status, error) = script.refuses_sessions;
            return acts::done(open, acts::failure(status, "null", error));
        }
        match message.method.as_str() {
            _ if http_method == http::Method::DELETE => acts::done(open, acts::status(StatusCode::OK)),
            "tools/list" => acts::done(open, acts::result(id, &script.page(message, "", true))),
            "tools/call" => self.call(script, message, false, open).await,
            method if script.knows(method) => script.answer(method, id, open).await,
            _ if message.id.is_none() => acts::done(open, acts::status(StatusCode::ACCEPTED)),
            _ => acts::done(open, acts::failure(200, id, r#"{"code":-32601,"message":"no such method"}"#)),
        }
    }

    fn initialize(&self, script: &Script, id: &str) -> Response<Body> {
        let mut opened = self.sessions_opened.lock().unwrap();
        *opened += 1;
        let session = format!("session-{opened}");
        let Script { offers, offers_in_sessions, says, .. } = script;
        let offers = offers_in_sessions.as_ref().unwrap_or(offers);
        let result = format!(
            r#"{{"protocolVersion":"2025-11-25","capabilities":{offers},"serverInfo":{{"name":"scripted","version":"1"}}{says}}}"#
        );
        let mut response = acts::result(id, &result);
        response.headers_mut().insert("mcp-session-id", session.parse().unwrap());
        self.sessions.lock().unwrap().push(session);
        response
    }

    async fn call(&self, script: &Script, message: &Message<'_>, modern: bool, open: Open) -> Response<Body> {
        let params = message.params();
        let id = message.id.map_or("null", RawValue::get);
        let act = script.tools.iter().find(|(name, ..)| Some(name) == params.name.as_ref()).map(|(.., act)| act.clone());
        let Some(act) = act else {
            return acts::done(open, acts::failure(200, id, r#"{"code":-32602,"message":"no such tool"}"#));
        };
        let token = params.meta.and_then(|meta| {
            let meta: HashMap<String, &RawValue> = serde_json::from_str(meta.get()).ok()?;
            meta.get("progressToken").map(|token| token.get().to_owned())
        });
        let arguments = params.arguments.map_or("{}", RawValue::get).to_owned();
        act.perform(acts::Asked { id: id.to_owned(), arguments, token, modern }, open).await
    }
}

impl Script {
    fn hints(&self, method: &str) -> &str {
        let own = self.promises.iter().find(|(known, _)| *known == method);
        own.map_or(r#""ttlMs":0,"cacheScope":"private""#, |(_, hints)| hints)
    }

    fn knows(&self, method: &str) -> bool {
        self.answers.iter().any(|(known, _)| *known == method)
    }

    async fn answer(&self, method: &str, id: &str, open: Open) -> Response<Body> {
        let (_, reply) = self.answers.iter().find(|(known, _)| *known == method).unwrap();
        match reply {
            Reply::Result(result) => acts::done(open, acts::result(id, result)),
            Reply::Nothing => std::future::pending().await,
            Reply::Half => acts::dying(open),
        }
    }

    fn page(&self, message: &Message<'_>, members: &str, in_session: bool) -> String {
        let start: usize = message.params().cursor.map_or(0, |cursor| cursor.parse().unwrap());
        let end = self.tools.len().min(start + self.page_size);
        let tools = self.tools[start..end].iter().map(|(name, definition, _)| {
            let said = self.says_in_sessions.iter().find(|(tool, _)| in_session && tool == name);
            said.map_or_else(|| definition.clone(), |(_, members)| definition.replacen('{', &format!("{{{members},"), 1))
        });
        let tools: Vec<_> = tools.collect();
        let next = if end < self.tools.len() { format!(r#","nextCursor":"{end}""#) } else { String::new() };
        format!(r#"{{{members}"tools":[{}]{next}}}"#, tools.join(","))
    }
}
