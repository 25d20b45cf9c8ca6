//! A way out and a way in that the gateway does not know: both are written here, outside it, and serve a call.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use runtime_api::{
    Call, CallError, CallService, Eras, Item, Items, Offers, PartError, Principal, Reply, Runtime, RuntimeId, Support,
    TargetOffers, TargetState, Transport, erase,
};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Duration, timeout},
};
use tokio_util::sync::CancellationToken;
use twinway::{
    app::App,
    config::Config,
    mcp::{Answer, Binding, Inbound, Scope, Server, Session, Shown, Step, Way},
};

/// Longer than anything here takes on a busy machine; only a broken test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A runtime whose one target lives in this process and turns a text around.
struct Memory {
    offers: watch::Sender<Arc<Offers>>,
    stopped: CancellationToken,
}

impl Memory {
    fn new(stopped: CancellationToken) -> Self {
        let definition =
            json!({"name": "reverse", "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}}});
        let tool = Item { name: "reverse".into(), definition: Bytes::from(definition.to_string()) };
        let target = TargetOffers {
            state: TargetState::Ready,
            eras: Eras { modern: Support::Yes, legacy: Support::Yes },
            items: Items::of_tools([tool]),
            ..TargetOffers::unheard_of("attic".into())
        };
        Self { offers: watch::Sender::new(Arc::new(Offers { targets: vec![Arc::new(target)] })), stopped }
    }
}

impl Runtime for Memory {
    fn id(&self) -> RuntimeId {
        RuntimeId("memory".into())
    }

    fn offers(&self) -> watch::Receiver<Arc<Offers>> {
        self.offers.subscribe()
    }

    fn service(&self) -> CallService {
        erase(tower::service_fn(|call: Call| async move {
            assert_eq!((call.target.as_str(), &*call.name), ("attic", "reverse"));
            let arguments = call.params.part(&call.params.arguments.clone().expect("the test sends arguments"));
            let arguments: Value = serde_json::from_slice(&arguments).expect("the entrance has checked it");
            let reversed: String = arguments["text"].as_str().unwrap_or_default().chars().rev().collect();
            let result = json!({"content": [{"type": "text", "text": reversed}]});
            Ok::<_, CallError>(Reply::new(Bytes::from(result.to_string())))
        }))
    }

    fn run(self: Box<Self>, stop: CancellationToken) -> BoxFuture<'static, Result<(), PartError>> {
        Box::pin(async move {
            stop.cancelled().await;
            self.stopped.cancel();
            Ok(())
        })
    }
}

/// A message and where its answer goes.
type Letter = (Bytes, oneshot::Sender<Bytes>);

/// A transport whose clients are in this process.
struct Letterbox {
    letters: mpsc::Receiver<Letter>,
    server: Server,
}

impl Transport for Letterbox {
    fn name(&self) -> &'static str {
        "letterbox"
    }

    fn local_addr(&self) -> String {
        "this process".to_owned()
    }

    fn serve(mut self: Box<Self>, stop: CancellationToken) -> BoxFuture<'static, Result<(), PartError>> {
        Box::pin(async move {
            let principal = Principal("writer".into());
            let session = Session::of_stream(principal.clone());
            loop {
                let letter = tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(()),
                    letter = self.letters.recv() => letter,
                };
                let Some((message, reply)) = letter else { return Ok(()) };
                let answer = self.server.handle(&Inbound {
                    message,
                    view: "",
                    principal: &principal,
                    way: Way::Stream { session: &session, binding: Some(Binding::Baseline), transport: "pipe", is_full: false },
                    scope: Scope::Everything,
                    shown: Shown::full(),
                    answer_bytes_max: usize::MAX,
                    time_max: Duration::MAX,
                });
                reply.send(finish(answer).await).expect("the client waits");
            }
        })
    }
}

async fn finish(answer: Answer) -> Bytes {
    match answer {
        Answer::Accepted => Bytes::new(),
        Answer::Message(outgoing) | Answer::Denied(outgoing) | Answer::Unreadable(_, outgoing) => outgoing.message.into_bytes(),
        Answer::Running(mut running) => loop {
            match running.next().await {
                Step::Event(_) | Step::Away(_) => {}
                Step::Done(outgoing) => return outgoing.message.into_bytes(),
                Step::Withdrawn => return Bytes::new(),
            }
        },
    }
}

/// A client of the letterbox.
struct Writer(mpsc::Sender<Letter>);

impl Writer {
    async fn ask(&self, method: &str, mut params: Value) -> Value {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "writer", "version": "1"},
            "twinway/explain": true,
        });
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let (reply, answered) = oneshot::channel();
        self.0.send((message.to_string().into(), reply)).await.expect("the transport is served");
        let answer = timeout(PATIENCE, answered).await.expect("in time").expect("an answer");
        serde_json::from_slice(&answer).expect("JSON")
    }
}

#[tokio::test]
async fn a_runtime_and_a_transport_from_outside_serve_a_call() {
    let mut config = Config::default();
    config.http.listen = ([127, 0, 0, 1], 0).into();
    let (letters, inbox) = mpsc::channel(1);
    let runtime_stopped = CancellationToken::new();
    let app = App::builder(config)
        .runtime(Box::new(Memory::new(runtime_stopped.clone())))
        .transport(move |server| Box::new(Letterbox { letters: inbox, server }))
        .build()
        .await
        .expect("a gateway");
    let (stop, writer) = (CancellationToken::new(), Writer(letters));
    let (ready, is_ready) = oneshot::channel();
    let mut running = JoinSet::new();
    running.spawn(app.run(stop.clone(), move || ready.send(()).expect("the test waits")));
    timeout(PATIENCE, is_ready).await.expect("in time").expect("ready");

    let listed = writer.ask("tools/list", json!({})).await;
    let called = writer.ask("tools/call", json!({"name": "attic.reverse", "arguments": {"text": "drawer"}})).await;
    stop.cancel();
    let ended = timeout(PATIENCE, running.join_next()).await.expect("in time").expect("one task");

    assert_eq!(listed["result"]["tools"][0]["name"], "attic.reverse", "{listed}");
    assert_eq!(called["result"]["content"][0]["text"], "reward", "{called}");
    assert_eq!(called["result"]["_meta"]["twinway/explain"]["runtime"], "memory", "{called}");
    ended.expect("no panic").expect("no part failed");
    assert!(writer.0.is_closed(), "the transport was driven until it was told to stop");
    assert!(runtime_stopped.is_cancelled(), "the runtime was driven until it was told to stop");
}
