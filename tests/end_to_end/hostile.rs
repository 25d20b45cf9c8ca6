//! Peers that break the rules, and peers that keep them in ways nobody expects.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use futures_util::{AsyncReadExt as _, AsyncWriteExt as _, SinkExt as _, StreamExt as _};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use runtime_mcpp::{
    Config, FrameReader, FrameWriter, Identity, InboundStream, Multiaddr, Node, NodeHandle, PeerId, Stream, framed, framed::Half,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::support::{Act, Gateway, PATIENCE, Script, Scripted, Serves, Setup, within};

/// 16 MiB: the default limit of the MCP++ transport.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// Calls that are in flight at once before any is answered.
const HELD: usize = 500;

/// A peer with a key of its own that writes whatever it likes.
pub(crate) struct Stranger {
    node: NodeHandle,
    gateway: (PeerId, Multiaddr),
    _driving: JoinSet<()>,
}

impl Stranger {
    pub(crate) async fn of(gateway: &Gateway) -> Self {
        Self::known_as(Identity::ephemeral(), gateway).await
    }

    pub(crate) async fn known_as(identity: Identity, gateway: &Gateway) -> Self {
        let (node, _) = Node::bind(&Config::default(), identity).await.unwrap();
        let (handle, mut driving) = (node.handle(), JoinSet::new());
        driving.spawn(node.run(CancellationToken::new()));
        let address: Multiaddr = gateway.p2p().parse().unwrap();
        Self { node: handle, gateway: (gateway.peer_id().parse().unwrap(), address), _driving: driving }
    }

    async fn stream(&self) -> Stream {
        let (peer, address) = self.gateway.clone();
        self.node.open_stream(peer, vec![address], Instant::now() + PATIENCE).await.unwrap().stream
    }

    pub(crate) async fn conversation(&self) -> Conversation {
        let (reader, writer) = framed(self.stream().await, FRAME_BYTES_MAX);
        Conversation { reader, writer }
    }

    /// Writes these bytes on a stream of their own, says that nothing follows, and waits for the end of the stream.
    async fn throw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.stream().await;
        // The other side may hang up before the end: then there is nothing left to say or to hear.
        stream.write_all(bytes).await.ok();
        stream.close().await.ok();
        let mut answer = Vec::new();
        within("the end of a stream", stream.read_to_end(&mut answer)).await.ok();
        answer
    }

    /// A call as it should be, on a new stream.
    async fn call_works(&self) {
        let answer = self.conversation().await.ask("tools/call", json!({"name": "up.echo", "arguments": {"text": "hi"}})).await;
        assert_eq!(answer["result"]["structuredContent"]["text"], "hi", "{answer}");
    }
}

/// One stream in frames.
pub(crate) struct Conversation {
    reader: FrameReader<Half>,
    writer: FrameWriter<Half>,
}

impl Conversation {
    async fn send(&mut self, message: &Value) {
        self.writer.send(message.to_string().into_bytes().into()).await.unwrap();
    }

    async fn next(&mut self) -> Option<Value> {
        let frame = within("a frame", self.reader.next()).await?;
        Some(serde_json::from_slice(&frame.ok()?).unwrap())
    }

    /// Asks in the current binding.
    pub(crate) async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.send(&modern(1, method, params)).await;
        self.next().await.expect("an answer")
    }
}

/// A request of the current binding.
fn modern(id: usize, method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "stranger", "version": "1"},
    });
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

/// A gateway that offers the tools of this upstream to everybody on this machine.
async fn gateway(url: &str) -> Gateway {
    let setup = Setup::new().upstream_with("up", url, "era = \"modern\"\nconcurrency = 600");
    let p2p = r#"
        [p2p]
        listen = ["/ip4/127.0.0.1/tcp/0"]
        authority = "open-loopback"
        [p2p.quotas]
        calls_in_flight_max = 600
    "#;
    let gateway = Gateway::start(setup.tables(p2p)).await;
    gateway.target_is("up", "ready").await;
    gateway
}

/// A server with the tool `echo`.
async fn echo() -> Scripted {
    Scripted::start(Script::new(Serves::Modern).tool("echo", Act::Echo)).await
}

fn frame(declared_bytes: u32, body: &[u8]) -> Vec<u8> {
    [&declared_bytes.to_be_bytes(), body].concat()
}

fn whole_frame(body: &[u8]) -> Vec<u8> {
    frame(u32::try_from(body.len()).unwrap(), body)
}

#[tokio::test]
async fn each_frame_that_breaks_the_rules_is_counted_and_the_next_call_works() {
    let upstream = echo().await;
    let gateway = gateway(&upstream.url()).await;
    let stranger = Stranger::of(&gateway).await;
    let cases = [
        ("no bytes", frame(0, b""), "frame_empty"),
        ("one byte too many", frame(FRAME_BYTES_MAX as u32 + 1, b"{}"), "declared_frame_too_large"),
        ("the largest number", frame(u32::MAX, b"{}"), "declared_frame_too_large"),
        ("half a prefix", vec![0, 0], "incomplete_prefix"),
        ("half a body", frame(10, b"{}"), "incomplete_body"),
        ("not UTF-8", whole_frame(b"{\"jsonrpc\":\"\xff\"}"), "invalid_utf8"),
        ("not JSON", whole_frame(b"{\"jsonrpc\":2.0"), "invalid_json"),
        ("an array", whole_frame(br#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#), "not_a_message"),
        ("a number", whole_frame(b"7"), "not_a_message"),
    ];
    for (what, bytes, reason) in cases {
        let before = refused(&gateway, reason).await;

        stranger.throw(&bytes).await;

        assert_eq!(refused(&gateway, reason).await, before + 1.0, "{what} is counted as {reason}");
        stranger.call_works().await;
    }
}

#[tokio::test]
async fn five_hundred_calls_of_a_peer_answered_backwards_find_their_ids() {
    let upstream = BackwardsServer::start().await;
    let gateway = gateway(&format!("http://{}/mcp", upstream.address)).await;
    let stranger = Stranger::of(&gateway).await;
    let mut conversation = stranger.conversation().await;

    for id in 0..HELD {
        let text = format!("call {id}");
        conversation.send(&modern(id, "tools/call", json!({"name": "up.hold", "arguments": {"text": text}}))).await;
    }
    let mut order = Vec::new();
    for _ in 0..HELD {
        let answer = conversation.next().await.unwrap();
        let id = answer["id"].as_u64().unwrap();
        assert_eq!(answer["result"]["structuredContent"]["text"], format!("call {id}"), "{answer}");
        order.push(id);
    }

    assert!(!order.is_sorted(), "the answers came in another order than the calls");
    order.sort_unstable();
    order.dedup();
    assert_eq!(order.len(), HELD, "each call was answered once");
}

#[tokio::test]
async fn five_hundred_calls_on_a_peer_that_answers_backwards_find_their_callers() {
    let (address, _peer) = backwards_peer().await;
    let tables = format!("[p2p]\n[[peer]]\nname = \"far\"\naddress = \"{address}\"\nconcurrency = 600\n");
    let gateway = Gateway::start(Setup::new().tables(&tables)).await;
    gateway.target_is("far", "ready").await;
    let client = gateway.modern();

    let mut calls = JoinSet::new();
    for number in 0..HELD {
        let client = client.clone();
        calls.spawn(async move { (number, client.call("far.hold", &format!(r#"{{"number":{number}}}"#)).await.result()) });
    }
    let answers = within("all answers", calls.join_all()).await;

    for (number, answer) in answers {
        assert_eq!(answer["structuredContent"]["number"], number, "{answer}");
    }
}

#[tokio::test]
async fn a_stream_above_the_quota_is_refused_counted_and_hurts_no_other() {
    let upstream = echo().await;
    let gateway = gateway(&upstream.url()).await;
    let stranger = Stranger::of(&gateway).await;
    let mut held = Vec::new();
    for _ in 0..32 {
        let mut conversation = stranger.conversation().await;
        assert!(conversation.ask("server/discover", json!({})).await["result"].is_object());
        held.push(conversation);
    }

    let above = stranger.throw(&whole_frame(modern(1, "server/discover", json!({})).to_string().as_bytes())).await;

    assert!(above.is_empty(), "a refused stream is not answered");
    assert_eq!(refused(&gateway, "stream_quota").await, 1.0);
    let call = json!({"name": "up.echo", "arguments": {"text": "hi"}});
    assert_eq!(held[0].ask("tools/call", call).await["result"]["structuredContent"]["text"], "hi");
    // The gateway's end of a stream closes when it has given the place back.
    let mut last = held.pop().unwrap();
    last.writer.close().await.unwrap();
    assert_eq!(last.next().await, None);
    stranger.call_works().await;
}

#[tokio::test]
async fn the_rules_of_the_bindings_as_a_table() {
    let upstream = echo().await;
    let gateway = gateway(&upstream.url()).await;
    let stranger = Stranger::of(&gateway).await;
    let initialize = |revision: &str| {
        let params = json!({"protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "s", "version": "1"}});
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
    };
    let mut with_meta = modern(1, "initialize", json!({}));
    with_meta["params"]["protocolVersion"] = json!("2025-11-25");
    let bare = |method: &str| json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {}});
    let cases = [
        (initialize("2026-07-28"), "initialize_as_current_rejected"),
        (with_meta, "initialize_as_current_rejected"),
        (bare("tools/list"), "path_ambiguous"),
        (json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "up.echo"}}), "path_ambiguous"),
    ];
    for (request, reason) in cases {
        let mut conversation = stranger.conversation().await;
        conversation.send(&request).await;

        let answer = conversation.next().await.unwrap();

        assert_eq!(answer["error"]["data"]["reason"], reason, "{request} {answer}");
        if reason == "path_ambiguous" {
            assert_eq!(answer["error"]["code"], -32602, "{request} {answer}");
        }
        // The stream is as good as before: a session can still be opened on it.
        conversation.send(&initialize("2025-11-25")).await;
        assert_eq!(conversation.next().await.unwrap()["result"]["protocolVersion"], "2025-11-25");
    }
}

async fn refused(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric("twinway_p2p_refused_total", &[&format!("reason=\"{reason}\"")]).await
}

#[tokio::test]
async fn a_peer_that_answers_with_garbage_harms_nobody_else() {
    let garbage = [
        (frame(u32::MAX, b""), "declared_frame_too_large"),
        (frame(0, b""), "frame_empty"),
        (whole_frame(b"\xff\xfe"), "invalid_utf8"),
        (whole_frame(b"no JSON"), "invalid_json"),
        (whole_frame(b"[]"), "not_a_message"),
    ];
    for (bytes, reason) in garbage {
        let upstream = echo().await;
        let (address, _peer) = peer(move |inbound| throw_back(inbound.stream, bytes.clone())).await;
        let tables = format!("[p2p]\n[[peer]]\nname = \"far\"\naddress = \"{address}\"\n");

        let gateway = Gateway::start(Setup::new().upstream("up", upstream.url()).tables(&tables)).await;
        gateway.target_is("up", "ready").await;
        let names = gateway.modern().tool_names().await;
        let answer = gateway.modern().call("up.echo", r#"{"text":"hi"}"#).await.result();

        assert_eq!(names, ["up.echo"], "{reason}");
        assert_eq!(answer["structuredContent"]["text"], "hi", "{reason}");
        gateway.metric_reaches("twinway_p2p_refused_total", &[&format!("reason=\"{reason}\"")], 1.0).await;
    }
}

/// Answers whatever comes with these bytes.
async fn throw_back(mut stream: Stream, bytes: Vec<u8>) {
    let mut asked = [0; 4096];
    while stream.read(&mut asked).await.is_ok_and(|count| count > 0) {
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// A node that treats each stream of a gateway so; its address, and what keeps it alive.
async fn peer<F>(treat: impl Fn(InboundStream) -> F + Send + 'static) -> (Multiaddr, JoinSet<()>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let config = Config { listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()], ..Config::default() };
    let (node, mut incoming) = Node::bind(&config, Identity::ephemeral()).await.unwrap();
    let handle = node.handle();
    let address = handle.listen_addrs()[0].clone().with_p2p(handle.peer_id()).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(node.run(CancellationToken::new()));
    tasks.spawn(async move {
        let mut streams = JoinSet::new();
        while let Some(inbound) = incoming.next().await {
            streams.spawn(treat(inbound));
        }
    });
    (address, tasks)
}

/// A peer that holds all calls until there are [`HELD`], and then answers those of each stream backwards.
async fn backwards_peer() -> (Multiaddr, JoinSet<()>) {
    let held = watch::Sender::new(0);
    peer(move |inbound| {
        let held = held.clone();
        async move {
            answer_backwards(framed(inbound.stream, FRAME_BYTES_MAX), held).await;
            drop(inbound.permit);
        }
    })
    .await
}

async fn answer_backwards((reader, writer): (FrameReader<Half>, FrameWriter<Half>), held: watch::Sender<usize>) {
    let mut stream = Conversation { reader, writer };
    let mut all_held = held.subscribe();
    let mut held_here = Vec::new();
    loop {
        let frame = tokio::select! {
            frame = stream.reader.next() => frame,
            () = until_held(&mut all_held), if !held_here.is_empty() => {
                for answer in held_here.drain(..).rev() {
                    stream.send(&answer).await;
                }
                continue;
            }
        };
        let Some(Ok(frame)) = frame else { return };
        let asked: Value = serde_json::from_slice(&frame).unwrap();
        let Some(answer) = answer_to(&asked) else { continue };
        if asked["method"] == "tools/call" {
            held_here.push(answer);
            held.send_modify(|held| *held += 1);
        } else {
            stream.send(&answer).await;
        }
    }
}

async fn until_held(held: &mut watch::Receiver<usize>) {
    held.wait_for(|held| *held >= HELD).await.unwrap();
}

/// What a server with the one tool `hold` answers; nothing to a notification.
fn answer_to(asked: &Value) -> Option<Value> {
    let result = match asked["method"].as_str()? {
        "server/discover" => {
            json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "private"})
        }
        "tools/list" => {
            json!({"tools": [{"name": "hold", "inputSchema": {"type": "object"}}], "ttlMs": 0, "cacheScope": "private"})
        }
        "tools/call" => json!({"content": [], "structuredContent": asked["params"]["arguments"]}),
        _ => return None,
    };
    let mut answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": result});
    answer["result"]["resultType"] = json!("complete");
    Some(answer)
}

/// An HTTP server that holds all calls until there are [`HELD`], and then answers them in the reverse order.
struct BackwardsServer {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

/// How many calls came, and how many were answered.
type Turns = watch::Sender<(usize, usize)>;

impl BackwardsServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let turns = Turns::new((0, 0));
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let turns = turns.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| answer_in_turn(request, turns.clone()));
                    // The gateway closes its connections when it ends.
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
                });
            }
        });
        Self { address, _tasks: tasks }
    }
}

async fn answer_in_turn(request: Request<Incoming>, turns: Turns) -> Result<Response<Full<Bytes>>, Infallible> {
    let asked: Value = serde_json::from_slice(&request.into_body().collect().await.unwrap().to_bytes()).unwrap();
    if asked["method"] == "tools/call" {
        let mut place = 0;
        turns.send_modify(|(came, _)| {
            place = *came;
            *came += 1;
        });
        turns.subscribe().wait_for(|turn| *turn == (HELD, HELD - 1 - place)).await.unwrap();
        turns.send_modify(|(_, answered)| *answered += 1);
    }
    let answer = answer_to(&asked).unwrap_or_default();
    let response = Response::builder().header("content-type", "application/json");
    Ok(response.body(Full::from(answer.to_string())).unwrap())
}
