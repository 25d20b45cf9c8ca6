//! Nodes for the tests: one that answers, and one with the runtime under test.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{AsyncWrite, SinkExt as _, StreamExt as _, future::BoxFuture};
use runtime_api::{
    Call, CallError, CallService, Caller, Client, Method, Offers, Params, Principal, Priority, Reply, Runtime, TargetId,
    TargetState, TraceContext,
};
use runtime_mcpp::{
    Config, FrameWriter, Identity, InboundStream, IncomingStreams, McppRuntime, Multiaddr, Node, NodeHandle, PeerConfig, Stream,
    framed,
};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use twinway_proto::rope::Rope;

pub(crate) const FRAME_BYTES_MAX: usize = 16 << 20;

/// Calls of `hold` that are held before they are answered.
const HELD: usize = 500;

/// Longer than anything here takes on a busy machine; only a broken test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn config() -> Config {
    Config { listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()], ..Config::default() }
}

/// The same for each transport of this build.
pub(crate) fn carriers() -> Vec<Config> {
    let quic = Config { listen: vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()], ..Config::default() };
    if cfg!(feature = "quic") { vec![config(), quic] } else { vec![config()] }
}

/// Waits for what must happen.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it happens soon")
}

/// What the answering node noticed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Noticed {
    /// A request: its method or tool, its id, the number of its stream, the bytes of its frame.
    Asked { what: String, id: u64, stream: usize, bytes: usize },
    /// A notification: its method and params.
    Told { method: String, params: Value },
}

/// How the answering node treats one stream.
pub(crate) type Script = Arc<dyn Fn(InboundStream, usize, mpsc::Sender<Noticed>) -> BoxFuture<'static, ()> + Send + Sync>;

/// A node that answers.
pub(crate) struct Far {
    pub(crate) handle: NodeHandle,
    pub(crate) noticed: mpsc::Receiver<Noticed>,
    pub(crate) tasks: JoinSet<()>,
}

impl Far {
    /// A node whose streams are all treated by `script`.
    pub(crate) async fn start(config: &Config, script: Script) -> Self {
        Self::start_as(config, Identity::ephemeral(), script).await
    }

    pub(crate) async fn start_as(config: &Config, identity: Identity, script: Script) -> Self {
        let (node, incoming) = Node::bind(config, identity).await.unwrap();
        let handle = node.handle();
        let (notices, noticed) = mpsc::channel(4096);
        let mut tasks = JoinSet::new();
        tasks.spawn(node.run(CancellationToken::new()));
        tasks.spawn(accept(incoming, script, notices));
        Self { handle, noticed, tasks }
    }

    pub(crate) fn address(&self) -> Multiaddr {
        self.addresses().swap_remove(0)
    }

    pub(crate) fn addresses(&self) -> Vec<Multiaddr> {
        let addresses = self.handle.listen_addrs();
        addresses.iter().map(|address| address.clone().with_p2p(self.handle.peer_id()).unwrap()).collect()
    }

    /// The next call of a tool.
    pub(crate) async fn next_call(&mut self) -> (String, u64, usize, usize) {
        loop {
            match soon(self.noticed.recv()).await.unwrap() {
                Noticed::Asked { what, id, stream, bytes } if !what.contains('/') => return (what, id, stream, bytes),
                _ => {}
            }
        }
    }

    /// The next notification of that method.
    pub(crate) async fn next_told(&mut self, wanted: &str) -> Value {
        loop {
            match soon(self.noticed.recv()).await.unwrap() {
                Noticed::Told { method, params } if method == wanted => return params,
                _ => {}
            }
        }
    }
}

async fn accept(mut incoming: IncomingStreams, script: Script, notices: mpsc::Sender<Noticed>) {
    let mut streams = JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            Some(inbound) = incoming.next() => {
                streams.spawn(script(inbound, number, notices.clone()));
                number += 1;
            }
            Some(ended) = streams.join_next() => ended.unwrap(),
            else => return,
        }
    }
}

/// A modern MCP server with the tools `echo` (at once), `hold` (each stream answers backwards when
/// 500 are held on all), `grow` (adds a tool and says so) and `hang` (never).
pub(crate) fn server() -> Script {
    script(true)
}

/// The same in a session.
pub(crate) fn legacy_server() -> Script {
    script(false)
}

fn script(modern: bool) -> Script {
    let (held, grown) = (watch::Sender::new(0), watch::Sender::new(false));
    Arc::new(move |inbound, number, notices| {
        let server = Server { number, notices, modern, held: held.clone(), grown: grown.clone() };
        Box::pin(serve(inbound, server))
    })
}

struct Server {
    number: usize,
    notices: mpsc::Sender<Noticed>,
    modern: bool,
    /// Calls of `hold` on all streams.
    held: watch::Sender<usize>,
    /// There is one more tool.
    grown: watch::Sender<bool>,
}

async fn serve(inbound: InboundStream, server: Server) {
    let InboundStream { stream, permit, quota, .. } = inbound;
    let (mut reader, mut writer) = framed(stream, FRAME_BYTES_MAX);
    let mut held_here = Vec::new();
    let mut initialized = server.modern;
    let mut all_held = server.held.subscribe();
    loop {
        let frame = tokio::select! {
            frame = reader.next() => frame,
            () = until_held(&mut all_held), if !held_here.is_empty() => {
                for answer in held_here.drain(..).rev() {
                    send(&mut writer, answer).await;
                }
                continue;
            }
        };
        let Some(Ok(frame)) = frame else { break };
        quota.admit_bytes(frame.len()).await;
        let message: Value = serde_json::from_slice(&frame).unwrap();
        let method = message["method"].as_str().unwrap_or_default().to_owned();
        let Some(id) = message["id"].as_u64() else {
            initialized |= method == "notifications/initialized";
            server.notices.send(Noticed::Told { method, params: message["params"].clone() }).await.ok();
            continue;
        };
        let tool = message["params"]["name"].as_str();
        let what = tool.unwrap_or(&method).to_owned();
        let asked = Noticed::Asked { what: what.clone(), id, stream: server.number, bytes: frame.len() };
        server.notices.send(asked).await.ok();
        let result = match &*what {
            "server/discover" if server.modern => discovered(),
            "initialize" if !server.modern => initialize_result(),
            "tools/list" if initialized => tools(&message["params"]["cursor"], *server.grown.borrow()),
            "echo" | "hold" if initialized => json!({"content": [], "echo": message["params"]["arguments"]}),
            "meta" if initialized => json!({"content": [], "meta": message["params"]["_meta"]}),
            "grow" => {
                server.grown.send_replace(true);
                let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
                send(&mut writer, changed).await;
                json!({"content": []})
            }
            "hang" => continue,
            _ => {
                let error = json!({"code": -32601, "message": "no such method"});
                send(&mut writer, json!({"jsonrpc": "2.0", "id": id, "error": error})).await;
                continue;
            }
        };
        let answer = json!({"jsonrpc": "2.0", "id": id, "result": result});
        if what == "hold" {
            held_here.push(answer);
            server.held.send_modify(|held| *held += 1);
        } else {
            send(&mut writer, answer).await;
        }
    }
    drop(permit);
}

async fn until_held(held: &mut watch::Receiver<usize>) {
    held.wait_for(|held| *held >= HELD).await.unwrap();
}

/// A peer that is gone is noticed by the next read.
async fn send(writer: &mut FrameWriter<impl AsyncWrite + Unpin>, answer: Value) {
    writer.send(Rope::from(answer.to_string().into_bytes())).await.ok();
}

fn discovered() -> Value {
    json!({
        "resultType": "complete",
        "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {}},
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "twinway", "version": "0"}},
    })
}

fn initialize_result() -> Value {
    json!({"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": {"name": "far", "version": "0"}})
}

/// Two pages.
fn tools(cursor: &Value, grown: bool) -> Value {
    let tool = |name| json!({"name": name, "inputSchema": {"type": "object"}});
    match cursor.as_str() {
        None => json!({"tools": [tool("echo")], "nextCursor": "2"}),
        Some(_) if grown => json!({"tools": [tool("hold"), tool("hang"), tool("meta"), tool("grown")]}),
        Some(_) => json!({"tools": [tool("hold"), tool("hang"), tool("meta")]}),
    }
}

/// A node with the runtime under test.
pub(crate) struct Near {
    pub(crate) service: CallService,
    pub(crate) offers: watch::Receiver<Arc<Offers>>,
    pub(crate) handle: NodeHandle,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: JoinSet<()>,
}

impl Near {
    pub(crate) async fn start(peers: &[PeerConfig]) -> Self {
        Self::start_with(&config(), peers).await
    }

    pub(crate) async fn start_with(config: &Config, peers: &[PeerConfig]) -> Self {
        let (node, _) = Node::bind(config, Identity::ephemeral()).await.unwrap();
        let handle = node.handle();
        let runtime = Box::new(McppRuntime::new(node, config, peers).unwrap());
        let (service, offers, stop) = (runtime.service(), runtime.offers(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let running = runtime.run(stop.clone());
        tasks.spawn(async { running.await.unwrap() });
        Self { service, offers, handle, stop, tasks }
    }

    pub(crate) async fn call(&self, tool: &str, arguments: &str) -> Result<Reply, CallError> {
        self.service.clone().oneshot(call(tool, arguments)).await
    }

    /// Waits until the first peer's state is as wanted.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&TargetState) -> bool) {
        soon(self.offers.wait_for(|offers| wanted(&offers.targets[0].state))).await.unwrap();
    }
}

pub(crate) fn peer(far: &Far) -> PeerConfig {
    PeerConfig { calls_in_flight_max: NonZeroU32::new(600).unwrap(), ..PeerConfig::new("far", vec![far.address()]) }
}

pub(crate) fn call(tool: &str, arguments: &str) -> Call {
    let raw = format!(r#"{{"name":"{tool}","arguments":{arguments}}}"#);
    let name = 8..8 + tool.len() + 2;
    let arguments = raw.len() - 1 - arguments.len()..raw.len() - 1;
    Call {
        method: Method::ToolsCall,
        target: TargetId::from("far"),
        name: tool.into(),
        params: Params {
            raw: Bytes::from(raw),
            name: Some(name),
            arguments: Some(arguments),
            meta: None,
            meta_passes: true,
            ..Params::default()
        },
        principal: Principal::anonymous(),
        client: Client::Modern,
        session: None,
        deadline: Instant::now() + PATIENCE,
        priority: Priority::default(),
        trace: TraceContext::default(),
        caller: Caller::none(),
    }
}

/// A raw stream from a node of its own to `far`, for frames that no client of ours writes.
pub(crate) async fn raw_stream(near: &NodeHandle, far: &Far) -> Stream {
    soon(near.open_stream(far.handle.peer_id(), vec![far.address()], Instant::now() + PATIENCE)).await.unwrap().stream
}
