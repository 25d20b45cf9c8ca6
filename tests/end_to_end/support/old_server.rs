//! An MCP server of revision 2024-11-05, over HTTP+SSE, that has its ways and remembers what it was asked.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
    task::JoinSet,
    time::timeout,
};

use super::http::accept;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Events that wait for the gateway to read them.
const EVENTS_MAX: usize = 64;

/// How long it takes note of `notifications/initialized`: what comes meanwhile comes too early.
const SLOWNESS: Duration = Duration::from_millis(50);

/// A running server. Its tools: `echo` gives back its arguments; `huge` is refused with 413, unread; `ask` fills a form before its POST
/// is answered; `wait` is not answered at all.
pub(crate) struct OldServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    /// What the first event says; `ID` stands for the session's own.
    endpoint: String,
    tools: Mutex<Vec<String>>,
    streams: Mutex<HashMap<String, mpsc::Sender<String>>>,
    /// Method and path, and the method of the message.
    asked: Mutex<Vec<String>>,
    opened: Mutex<usize>,
    answer: Mutex<Value>,
    answered: Notify,
    /// A message has come.
    came: Notify,
}

impl OldServer {
    /// Starts one whose first event says this; there is none when it is empty.
    pub(crate) async fn start(endpoint: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            endpoint: endpoint.to_owned(),
            tools: Mutex::new(["echo", "huge", "ask", "wait"].map(str::to_owned).to_vec()),
            streams: Mutex::default(),
            asked: Mutex::default(),
            opened: Mutex::default(),
            answer: Mutex::default(),
            answered: Notify::new(),
            came: Notify::new(),
        });
        let mut tasks = JoinSet::new();
        let answering = Arc::clone(&shared);
        tasks.spawn(accept(listener, move |request| answer(Arc::clone(&answering), request)));
        Self { address, shared, _tasks: tasks }
    }

    /// Where its stream is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/sse", self.address)
    }

    /// Everything it was asked, such as `POST /sse initialize`, and `too early` for a message that did not wait for its turn.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// How many streams it opened.
    pub(crate) fn opened(&self) -> usize {
        *self.shared.opened.lock().unwrap()
    }

    /// Has another tool, and says so in every session.
    pub(crate) async fn offers(&self, tool: &str) {
        self.shared.tools.lock().unwrap().push(tool.to_owned());
        let streams: Vec<_> = self.shared.streams.lock().unwrap().values().cloned().collect();
        for stream in streams {
            let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
            stream.send(changed.to_string()).await.ok();
        }
    }

    /// Ends every stream.
    pub(crate) fn hangs_up(&self) {
        self.shared.streams.lock().unwrap().clear();
    }

    /// Knows no session any more, and lets the streams stand.
    pub(crate) fn forgets(&self) {
        let streams = std::mem::take(&mut *self.shared.streams.lock().unwrap());
        self.shared.streams.lock().unwrap().extend(streams.into_iter().map(|(id, stream)| (format!("old {id}"), stream)));
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return status(StatusCode::BAD_REQUEST) };
    let message: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
    let method = message["method"].as_str().unwrap_or_default();
    shared.asked.lock().unwrap().push(format!("{} {} {method}", head.method, head.uri.path()).trim_end().to_owned());
    match (&head.method, head.uri.path()) {
        (&Method::GET, "/sse") => shared.open(),
        (&Method::POST, "/messages") => shared.take(head.uri.query().unwrap_or_default(), &message).await,
        (_, "/sse") => status(StatusCode::METHOD_NOT_ALLOWED),
        _ => status(StatusCode::NOT_FOUND),
    }
}

impl Shared {
    fn open(&self) -> Response<Body> {
        let (send, events) = mpsc::channel(EVENTS_MAX);
        let id = {
            let mut opened = self.opened.lock().unwrap();
            *opened += 1;
            opened.to_string()
        };
        self.streams.lock().unwrap().insert(id.clone(), send);
        let first = format!("event: endpoint\ndata: {}\n\n", self.endpoint.replace("ID", &id));
        let first = (!self.endpoint.is_empty()).then_some(first);
        let frames = stream::unfold((first, events), |(mut first, mut events)| async move {
            let text = match first.take() {
                Some(first) => first,
                None => format!("event: message\ndata: {}\n\n", events.recv().await?),
            };
            Some((Ok(Frame::data(Bytes::from(text))), (first, events)))
        });
        let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
        response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
        response
    }

    async fn take(&self, session: &str, message: &Value) -> Response<Body> {
        let Some(stream) = self.streams.lock().unwrap().get(session).cloned() else { return status(StatusCode::NOT_FOUND) };
        self.came.notify_waiters();
        let Some(method) = message["method"].as_str() else {
            *self.answer.lock().unwrap() = message["result"].clone();
            self.answered.notify_one();
            return status(StatusCode::ACCEPTED);
        };
        let params = &message["params"];
        let result = match (method, params["name"].as_str()) {
            ("initialize", _) => json!({
                "protocolVersion": "2024-11-05",
                "capabilities": {"tools": {"listChanged": true}},
                "serverInfo": {"name": "old", "version": "1"},
            }),
            ("tools/list", _) => json!({"tools": self.tools()}),
            ("tools/call", Some("huge")) => return status(StatusCode::PAYLOAD_TOO_LARGE),
            ("tools/call", Some("ask")) => self.ask(&stream).await,
            ("tools/call", Some("echo")) => json!({"content": [{"type": "text", "text": params["arguments"].to_string()}]}),
            ("notifications/initialized", _) => {
                if timeout(SLOWNESS, self.came.notified()).await.is_ok() {
                    self.asked.lock().unwrap().push("too early".to_owned());
                }
                return status(StatusCode::ACCEPTED);
            }
            _ => return status(StatusCode::ACCEPTED),
        };
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
        stream.send(answer.to_string()).await.ok();
        status(StatusCode::ACCEPTED)
    }

    fn tools(&self) -> Vec<Value> {
        let tools = self.tools.lock().unwrap();
        tools.iter().map(|name| json!({"name": name, "inputSchema": {"type": "object"}})).collect()
    }

    async fn ask(&self, stream: &mpsc::Sender<String>) -> Value {
        let params =
            json!({"message": "Who?", "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}}});
        let asked = json!({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": params});
        stream.send(asked.to_string()).await.ok();
        self.answered.notified().await;
        json!({"content": [{"type": "text", "text": self.answer.lock().unwrap().to_string()}]})
    }
}

fn status(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::new()).boxed_unsync());
    *response.status_mut() = code;
    response
}
