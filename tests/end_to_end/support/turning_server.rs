//! An MCP server of 2026-07-28 that has another tool in the moment in which it is asked to tell of other resources.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
    task::JoinSet,
};

use super::http::accept;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Events that wait for the gateway to read them.
const EVENTS_MAX: usize = 8;

/// A running server, with a tool `one`. When a second stream is opened it has a tool `two` and says so on the first; on the second it says
/// nothing until its tools were listed anew.
pub(crate) struct TurningServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    first: Mutex<Option<mpsc::Sender<Value>>>,
    tools: Mutex<Vec<&'static str>>,
    /// How often the tools were listed since the first stream is there.
    looks: AtomicUsize,
    /// The tools were listed with the second among them.
    listed: Notify,
}

impl TurningServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { tools: Mutex::new(vec!["one"]), ..Shared::default() });
        let mut tasks = JoinSet::new();
        let answering = Arc::clone(&shared);
        tasks.spawn(accept(listener, move |request| answer(Arc::clone(&answering), request)));
        Self { address, shared, _tasks: tasks }
    }

    /// Whether the tools were listed since the first stream is there, as nobody has told of changes before it.
    pub(crate) fn was_looked_at(&self) -> bool {
        self.shared.looks.load(Ordering::Relaxed) > 0
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let id = &asked["id"];
    let result = match asked["method"].as_str().unwrap_or_default() {
        "server/discover" => json!({
            "supportedVersions": ["2026-07-28"],
            "capabilities": {"tools": {"listChanged": true}, "resources": {"subscribe": true}},
        }),
        "tools/list" => json!({ "tools": shared.tools() }),
        "resources/list" => json!({"resources": [{"uri": "x://1", "name": "one"}]}),
        "resources/templates/list" => json!({"resourceTemplates": []}),
        "subscriptions/listen" => return shared.listen(id.clone(), &asked["params"]["notifications"]).await,
        _ => json!({}),
    };
    let mut answer = json!({"jsonrpc": "2.0", "id": id, "result": result});
    answer["result"]["resultType"] = "complete".into();
    let text = Bytes::from(answer.to_string());
    response("application/json", Full::new(text).boxed_unsync())
}

impl Shared {
    fn tools(&self) -> Vec<Value> {
        let tools = self.tools.lock().unwrap();
        if self.first.lock().unwrap().is_some() {
            self.looks.fetch_add(1, Ordering::Relaxed);
        }
        if tools.len() > 1 {
            self.listed.notify_one();
        }
        tools.iter().map(|name| json!({"name": name, "inputSchema": {"type": "object"}})).collect()
    }

    /// The first stream is kept; whoever opens another meets a server that is just about to change.
    async fn listen(self: Arc<Self>, id: Value, honoured: &Value) -> Response<Body> {
        let mut acknowledged = notification("notifications/subscriptions/acknowledged", &id);
        acknowledged["params"]["notifications"] = honoured.clone();
        let first = self.first.lock().unwrap().clone();
        let Some(first) = first else {
            let (send, events) = mpsc::channel(EVENTS_MAX);
            send.send(acknowledged).await.ok();
            *self.first.lock().unwrap() = Some(send);
            let events = stream::unfold(events, async |mut events| Some((events.recv().await?, events)));
            return response("text/event-stream", told(events));
        };
        self.tools.lock().unwrap().push("two");
        first.send(notification("notifications/tools/list_changed", &id)).await.ok();
        let events = stream::once(async move {
            self.listed.notified().await;
            acknowledged
        });
        response("text/event-stream", told(events.chain(stream::pending())))
    }
}

fn told(events: impl Stream<Item = Value> + Send + 'static) -> Body {
    StreamBody::new(events.map(|event| Ok(Frame::data(Bytes::from(format!("data: {event}\n\n")))))).boxed_unsync()
}

fn notification(method: &str, id: &Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": {"_meta": {"io.modelcontextprotocol/subscriptionId": id}}})
}

fn response(kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", kind.parse().unwrap());
    response
}
