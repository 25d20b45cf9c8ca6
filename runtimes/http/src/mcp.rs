//! An MCP server over Streamable HTTP, or over HTTP+SSE: its eras, its sessions, and calls to it.

mod fault;
mod listen;
mod look;
mod old_sse;
mod questions;
mod session;
mod session_side;
mod sse_reply;
mod support;
mod task_news;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue, StatusCode};
use runtime_api::{Call, CallError, Caller, Era, Eras, ErrorCode, LogLevel, Logging, Method, Reply, Support};
use runtime_mcp::{
    Incoming, client, handshake,
    input::{self, wants_input},
    outgoing::{self, Hop},
};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};
use twinway_proto::{
    envelope,
    headers::{MCP_METHOD, MCP_NAME, MCP_PROTOCOL_VERSION, MCP_SESSION_ID, ParamHeaders, encode_value},
    revision,
    rope::Rope,
};

use self::{
    fault::{AskError, client_error, mismatches_headers, of_another_era, refuses_sessions},
    listen::Tells,
    old_sse::OldServer,
    session::{Owner, Session, Sessions},
    sse_reply::SseReply,
    support::{AtomicSupport, AtomicWire, Wire},
};
use crate::{
    exchange::{Content, content, refused_by},
    h1::{Exchange, RequestHead},
    settings::{EraChoice, SessionChoice, TransportChoice},
    site::{Site, add_trace},
};

/// What an answer may be.
pub(crate) const ACCEPT: &str = "application/json, text/event-stream";

/// How long the first call in a session waits for the session's stream. Most servers begin it at once; some only with its first event.
const STREAM_PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct McpServer {
    site: Arc<Site>,
    /// Which eras may be used.
    era: EraChoice,
    /// What may carry the messages of sessions.
    transport: TransportChoice,
    sessions: Sessions<Session>,
    /// The same server, if it speaks HTTP+SSE.
    old: OldServer,
    /// What the last look that met the server found.
    wire: AtomicWire,
    /// What the modern requests begin with that call a tool.
    tool_call: RequestHead,
    /// Tools whose arguments are mirrored in headers.
    param_headers: ArcSwap<HashMap<Arc<str>, ParamHeaders>>,
    ids: AtomicU64,
    modern: AtomicSupport,
    legacy: AtomicSupport,
    /// What it tells in sessions, if it serves both eras.
    // Boxed: a look uses it, and no call.
    known: Box<session_side::Known>,
    /// Of which changes it tells, if the last look found that it tells of any.
    tells: watch::Sender<Option<Tells>>,
}

/// Headers that repeat arguments.
type Mirrored = Vec<(HeaderName, HeaderValue)>;

/// A request on its way to the upstream.
struct Ask<'a> {
    id: u64,
    method: &'a str,
    params: Option<Rope>,
    head: RequestHead,
    caller: &'a Caller,
    session: Option<&'a Arc<Session>>,
}

impl McpServer {
    pub(crate) fn new(site: Arc<Site>, era: EraChoice, transport: TransportChoice) -> Self {
        let (wire, era) = match transport {
            TransportChoice::Auto | TransportChoice::Http => (Wire::Http, era),
            TransportChoice::Sse => (Wire::Sse, EraChoice::Legacy),
        };
        let (modern, legacy) = match era {
            EraChoice::Auto => (Support::Unknown, Support::Unknown),
            EraChoice::Legacy => (Support::No, Support::Yes),
            EraChoice::Modern => (Support::Yes, Support::No),
        };
        Self {
            tool_call: modern_head(&site, Method::ToolsCall.as_str()),
            old: OldServer::new(Arc::clone(&site)),
            site,
            era,
            transport,
            sessions: Sessions::new(),
            wire: AtomicWire::new(wire),
            param_headers: ArcSwap::default(),
            ids: AtomicU64::new(1),
            modern: AtomicSupport::new(modern),
            legacy: AtomicSupport::new(legacy),
            known: Box::default(),
            tells: watch::Sender::new(None),
        }
    }

    /// Which eras it serves, as far as known.
    fn eras(&self) -> Eras {
        Eras { modern: self.modern.get(), legacy: self.legacy.get() }
    }

    /// Whether its sessions are streams of HTTP+SSE. A modern server has no such.
    fn speaks_sse(&self) -> bool {
        self.wire.get() == Wire::Sse && self.modern.get() != Support::Yes
    }

    /// Makes a call. Dropping the future cancels it upstream.
    pub(crate) async fn call(&self, call: &Call) -> Result<Reply, CallError> {
        let answered = match self.era_for(call).await? {
            Era::Modern => match self.call_modern(call).await {
                Ok(question) if wants_input(&question, &call.client) => Box::pin(self.go_on(call, question)).await,
                answered => answered,
            },
            // Boxed: most servers of sessions speak Streamable HTTP, and a call to them should not have room for this.
            Era::Legacy if self.speaks_sse() => Box::pin(self.old.call(call)).await,
            Era::Legacy => self.call_legacy(call).await,
        };
        if answered.as_ref().is_err_and(of_another_era) {
            self.site.wake.notify_one();
        }
        Ok(answered?.into_reply())
    }

    /// The client's own era when the upstream serves it, else the other.
    async fn era_for(&self, call: &Call) -> Result<Era, CallError> {
        if self.modern.get() == Support::Unknown {
            Box::pin(self.probe_modern()).await?;
        }
        if call.client.era() == Era::Modern || self.modern.get() == Support::No {
            let era = if self.modern.get() == Support::Yes { Era::Modern } else { Era::Legacy };
            return Ok(era);
        }
        // A modern server may serve sessions too and says so nowhere: the first legacy client finds out.
        match self.legacy.get() {
            Support::Yes => Ok(Era::Legacy),
            Support::No => Ok(Era::Modern),
            Support::Unknown => match self.session(&Owner::of(call)).await {
                Ok(_) => {
                    // What it tells in sessions is looked at now.
                    self.site.wake.notify_one();
                    Ok(Era::Legacy)
                }
                Err(error) if refuses_sessions(&error) => {
                    self.legacy.set(Support::No);
                    Ok(Era::Modern)
                }
                Err(error) => Err(error),
            },
        }
    }

    /// Gets the server what it asks for, and makes the call again with it.
    async fn go_on(&self, call: &Call, question: Incoming) -> Result<Incoming, CallError> {
        input::rounds(call, question, |round| async move { self.call_modern(&round).await }).await
    }

    /// A call that was refused unseen, because the tool wants other arguments mirrored than it did, is made once more.
    async fn call_modern(&self, call: &Call) -> Result<Incoming, CallError> {
        let mirrored = self.mirrored_arguments(call);
        match self.call_mirroring(call, &mirrored).await {
            Err(error) if call.method == Method::ToolsCall && mismatches_headers(&error) => {
                Box::pin(self.call_mirroring_anew(call, &mirrored, error)).await
            }
            answered => answered,
        }
    }

    async fn call_mirroring(&self, call: &Call, mirrored: &Mirrored) -> Result<Incoming, CallError> {
        let id = self.next_id();
        let params = outgoing::params(call, self.hop(call, Era::Modern, id))?;
        let mut head = match call.method {
            Method::ToolsCall => self.tool_call.begin(),
            other => self.modern_head(other.as_str()),
        };
        if call.method.is_mirrored() {
            head.add(&MCP_NAME, &encode_value(&call.name));
        }
        for (name, value) in mirrored {
            head.add(name, value);
        }
        add_trace(&call.trace, &mut head);
        let ask = Ask { id, method: call.method.as_str(), params: Some(params), head, caller: &call.caller, session: None };
        self.ask(ask).await.map_err(AskError::finally)
    }

    /// A session that expired is opened anew and the call repeated once: the upstream refused it unseen.
    async fn call_legacy(&self, call: &Call) -> Result<Incoming, CallError> {
        if self.site.settings.sessions == SessionChoice::Call {
            return Box::pin(self.call_alone(call)).await.map_err(AskError::finally);
        }
        match self.call_in_session(call).await {
            Err(AskError::Expired) => {}
            Err(AskError::Failed(error)) => return Err(error),
            Ok(answer) => return Ok(answer),
        }
        self.site.wake.notify_one();
        self.call_in_session(call).await.map_err(AskError::finally)
    }

    async fn call_in_session(&self, call: &Call) -> Result<Incoming, AskError> {
        let owner = Owner::of(call);
        let session = self.session(&owner).await?;
        let answered = self.call_in(&session, call).await;
        if matches!(answered, Err(AskError::Expired)) {
            self.sessions.forget(&owner, &session);
        }
        answered
    }

    /// A call in a session that nobody else uses, before or after it.
    async fn call_alone(&self, call: &Call) -> Result<Incoming, AskError> {
        let session = self.open_for(&Owner::of(call)).await?;
        let _ends = EndsWithCall { site: &self.site, session: &session };
        self.call_in(&session, call).await
    }

    async fn call_in(&self, session: &Arc<Session>, call: &Call) -> Result<Incoming, AskError> {
        if let Logging::From(level) = call.caller.wants().logging {
            // Once for a session that others have not set so already.
            Box::pin(self.set_log_level(session, level)).await?;
        }
        let id = self.next_id();
        let params = outgoing::params(call, self.hop(call, Era::Legacy, id))?;
        let mut head = session.head.begin();
        add_trace(&call.trace, &mut head);
        let _out = session.asking.enter(id, &call.caller);
        let withdraw = Withdraw { server: self, session, id, armed: true };
        let ask =
            Ask { id, method: call.method.as_str(), params: Some(params), head, caller: &call.caller, session: Some(session) };
        let answered = self.ask(ask).await;
        withdraw.disarm();
        answered
    }

    /// A session whose client hears what is asked in it.
    async fn open_for(&self, owner: &Owner) -> Result<Arc<Session>, CallError> {
        let session = Arc::new(self.open_session(owner).await?);
        // The gateway listens in its own session for other things, and answers there.
        let says_more = !owner.declared.is_none() || session.facts.has("logging") || session.facts.has("tasks");
        if *owner != Owner::gateway() && says_more {
            let (open, opened) = oneshot::channel();
            let hearing = questions::hear(Arc::clone(&self.site), Arc::clone(&session), session.given_up(), open);
            self.site.endpoint.background.spawn(hearing);
            // What a server asks before there is a stream to ask on is lost with many of them.
            drop(timeout(STREAM_PATIENCE, opened).await);
        }
        Ok(session)
    }

    async fn open_session(&self, owner: &Owner) -> Result<Session, CallError> {
        let id = self.next_id();
        let capabilities = client::capabilities(owner.declared);
        let params = handshake::initialize_params(revision::LATEST_LEGACY, &capabilities, handshake::CLIENT_INFO);
        let message = envelope::request(id, handshake::INITIALIZE, Some(params));
        let endpoint = &self.site.endpoint;
        let exchange = endpoint.post(endpoint.post_head(&endpoint.headers), message).await?;
        let session_id = exchange.head.get(MCP_SESSION_ID.as_str()).and_then(|id| HeaderValue::from_bytes(id).ok());
        let answer = self.read(exchange, id, &Caller::none(), None).await.map_err(AskError::finally)?;
        let session = Session::new(endpoint, session_id, handshake::read_initialized(&answer)?, owner.principal.clone());
        let ready = envelope::notification(handshake::INITIALIZED, None);
        let exchange = endpoint.post(session.head.begin(), ready).await?;
        let status = exchange.head.status;
        if !status.is_success() {
            return Err(refused_by(&exchange.head));
        }
        endpoint.body(exchange).await?;
        self.legacy.set(Support::Yes);
        Ok(session)
    }

    /// Has a session's log lines sent from this level on, or from a lower one that somebody else wants. The gateway's own filter
    /// takes out what a client does not want.
    async fn set_log_level(&self, session: &Arc<Session>, level: LogLevel) -> Result<(), AskError> {
        if !session.facts.has("logging") || !session.log_floor.lowers(level) {
            return Ok(());
        }
        let id = self.next_id();
        let params = format!(r#"{{"level":"{}"}}"#, level.as_str()).into_bytes().into();
        let (caller, head) = (Caller::none(), session.head.begin());
        let ask = Ask { id, method: "logging/setLevel", params: Some(params), head, caller: &caller, session: Some(session) };
        match self.ask(ask).await {
            // Without it there are just fewer lines.
            Ok(_) | Err(AskError::Failed(_)) => Ok(()),
            Err(AskError::Expired) => Err(AskError::Expired),
        }
    }

    /// The owner's session, opened when there is none.
    async fn session(&self, owner: &Owner) -> Result<Arc<Session>, CallError> {
        if self.era == EraChoice::Modern {
            return Err(CallError::gateway(ErrorCode::Unsupported, "this upstream is configured as modern only"));
        }
        // Boxed, as everything that a warm call does not do: a call's future is moved, and small is quick.
        let session = self.sessions.get(owner, || Box::pin(self.open_for(owner))).await;
        if session.as_ref().is_err_and(refuses_sessions) && self.era == EraChoice::Auto {
            self.serves_no_sessions();
        }
        session
    }

    /// If it served sessions once, it is another server now.
    fn serves_no_sessions(&self) {
        if self.legacy.replace(Support::Unknown) == Support::Yes {
            self.site.wake.notify_one();
        }
    }

    async fn ask(&self, ask: Ask<'_>) -> Result<Incoming, AskError> {
        let message = envelope::request(ask.id, ask.method, ask.params);
        let exchange = self.site.endpoint.post(ask.head, message).await?;
        self.read(exchange, ask.id, ask.caller, ask.session).await
    }

    async fn read(
        &self,
        exchange: Exchange,
        id: u64,
        caller: &Caller,
        session: Option<&Arc<Session>>,
    ) -> Result<Incoming, AskError> {
        let status = exchange.head.status;
        // Only a session that has an id can be unknown.
        let in_session = session.is_some_and(|session| session.has_id());
        match content(&exchange.head) {
            Content::Json if status == StatusCode::OK => Ok(Incoming::read(self.site.endpoint.body(exchange).await?, id)?),
            Content::Events if status == StatusCode::OK => {
                let reply = self.sse_reply(caller, session, id);
                Ok(Box::pin(reply.read(exchange)).await?)
            }
            Content::Json if status.is_client_error() => {
                let refusal = refused_by(&exchange.head);
                let body = self.site.endpoint.body(exchange).await?;
                Err(client_error(refusal, status, &body, in_session))
            }
            _ if status == StatusCode::NOT_FOUND && in_session => Err(AskError::Expired),
            _ => Err(refused_by(&exchange.head).into()),
        }
    }

    fn sse_reply<'a>(&'a self, caller: &'a Caller, session: Option<&'a Arc<Session>>, id: u64) -> SseReply<'a> {
        SseReply { site: &self.site, session, caller, id }
    }

    fn hop(&self, call: &Call, era: Era, id: u64) -> Hop {
        let progress_token = call.caller.wants().progress.then_some(id);
        Hop { era, progress_token, gateway: false, trusted: self.site.settings.trusted }
    }

    /// The arguments that the tool wants to see in headers, too.
    fn mirrored_arguments(&self, call: &Call) -> Mirrored {
        if call.method != Method::ToolsCall {
            return Mirrored::new();
        }
        let index = self.param_headers.load();
        let Some(mirrored) = index.get(&call.name) else { return Mirrored::new() };
        let raw = call.params.arguments.clone().and_then(|range| std::str::from_utf8(&call.params.raw[range]).ok());
        // Arguments that cannot be mirrored do not fit the tool's schema: the upstream says so better.
        mirrored.from_arguments(raw.unwrap_or("{}")).unwrap_or_default()
    }

    /// Lists the tools anew, unless somebody else has, and makes the call once more if it has other headers now than it was
    /// `refused` with.
    async fn call_mirroring_anew(&self, call: &Call, before: &Mirrored, refused: CallError) -> Result<Incoming, CallError> {
        let mut mirrored = self.mirrored_arguments(call);
        if mirrored == *before && self.refresh_mirrored().await.is_ok() {
            mirrored = self.mirrored_arguments(call);
        }
        if mirrored == *before {
            return Err(refused);
        }
        // What else is another about the tools, the next look finds.
        self.site.wake.notify_one();
        self.call_mirroring(call, &mirrored).await
    }

    fn modern_head(&self, method: &str) -> RequestHead {
        modern_head(&self.site, method)
    }

    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }
}

/// What a modern request of that method begins with.
fn modern_head(site: &Site, method: &str) -> RequestHead {
    let mut head = site.endpoint.post_head(&site.endpoint.headers);
    head.add(&MCP_PROTOCOL_VERSION, &HeaderValue::from_static(revision::MODERN));
    head.add(&MCP_METHOD, &encode_value(method));
    head
}

/// Ends a session with the only call in it, also one that is dropped.
struct EndsWithCall<'a> {
    site: &'a Arc<Site>,
    session: &'a Arc<Session>,
}

impl Drop for EndsWithCall<'_> {
    fn drop(&mut self) {
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let (site, session) = (Arc::clone(self.site), Arc::clone(self.session));
        self.site.endpoint.background.spawn(async move { look::end_session(&site, &session).await });
    }
}

/// Tells a legacy upstream that nobody waits any more, if the call is dropped before its answer.
struct Withdraw<'a> {
    server: &'a McpServer,
    session: &'a Arc<Session>,
    id: u64,
    armed: bool,
}

impl Withdraw<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        if !self.armed || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let params = format!(r#"{{"requestId":{},"reason":"the caller does not wait any more"}}"#, self.id);
        let message = envelope::notification("notifications/cancelled", Some(params.into_bytes().into()));
        self.server.site.endpoint.tell(self.session.head.begin(), message);
    }
}
