//! The conversation over an in-memory stream, and what it does with a server that misbehaves.

use std::{collections::HashMap, time::Duration};

use futures_util::stream;
use parking_lot::Mutex;
use runtime_api::{CallError, Caller, CallerEvent, Declared, Delivery, Demand, Era, ErrorCode, Wants};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::PollSender;

use super::*;
use crate::{client, handshake::ServerFacts};

/// The other end of a conversation: what arrived, and a way to answer.
struct Peer {
    heard: mpsc::Receiver<Rope>,
    says: mpsc::Sender<Result<Bytes, BoxError>>,
}

impl Peer {
    async fn hear(&mut self) -> Value {
        let message = self.heard.recv().await.expect("a message").into_bytes();
        serde_json::from_slice(&message).unwrap()
    }

    async fn say(&mut self, message: &str) {
        self.says.send(Ok(message.to_owned().into())).await.unwrap();
    }

    async fn answer(&mut self, id: u64, result: Value) {
        self.say(&json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()).await;
    }
}

struct Both {
    connection: Connection,
    peer: Peer,
    faults: Arc<Mutex<HashMap<Fault, usize>>>,
    tasks: TaskTracker,
}

fn conversation(edit: impl FnOnce(&mut Settings)) -> Both {
    let (out, heard) = mpsc::channel(1);
    let (says, mut said) = mpsc::channel::<Result<Bytes, BoxError>>(1);
    let source = stream::poll_fn(move |cx| said.poll_recv(cx));
    let faults = Arc::new(Mutex::new(HashMap::new()));
    let mut settings = Settings::new(NonZeroUsize::new(600).unwrap(), 1 << 20);
    let counted = Arc::clone(&faults);
    settings.on_fault = Arc::new(move |fault| *counted.lock().entry(fault).or_default() += 1);
    edit(&mut settings);
    let tasks = TaskTracker::new();
    let connection = Conversation::new(source, PollSender::new(out), settings).spawn(&tasks);
    Both { connection, peer: Peer { heard, says }, faults, tasks }
}

async fn ask(connection: Connection, method: &'static str, caller: Caller) -> Result<Value, CallError> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let answer = connection.request(Ask { method, deadline, caller: &caller }, |_| Ok(None)).await?;
    Ok(serde_json::from_slice(&answer.result()).unwrap())
}

#[tokio::test]
async fn five_hundred_answers_in_any_order_find_their_requests() {
    let Both { connection, mut peer, .. } = conversation(|_| {});
    let calls = futures_util::future::join_all((0..500).map(|number| {
        let connection = connection.clone();
        async move {
            let ask = Ask { method: "echo", deadline: Instant::now() + Duration::from_secs(30), caller: &Caller::none() };
            let params = format!("{{\"n\":{number}}}").into_bytes();
            let answer = connection.request(ask, |_| Ok(Some(params.into()))).await.unwrap();
            assert_eq!(&answer.result()[..], format!("{{\"n\":{number}}}").as_bytes());
        }
    }));
    let answers = async {
        let mut heard = Vec::new();
        for _ in 0..500 {
            heard.push(peer.hear().await);
        }
        // Evens backwards, then odds forwards: nearly nothing stays in its place.
        let (evens, odds): (Vec<_>, Vec<_>) = heard.into_iter().enumerate().partition(|(index, _)| index % 2 == 0);
        for (_, message) in evens.into_iter().rev().chain(odds) {
            peer.answer(message["id"].as_u64().unwrap(), message["params"].clone()).await;
        }
    };

    tokio::join!(calls, answers);

    assert_eq!(connection.load(), 0);
}

#[tokio::test]
async fn a_dropped_request_is_cancelled_and_its_late_answer_goes_nowhere() {
    let Both { connection, mut peer, faults, .. } = conversation(|_| {});
    let mut dropped = Box::pin(ask(connection.clone(), "slow", Caller::none()));
    let id = tokio::select! {
        _ = &mut dropped => panic!("nobody answered"),
        message = peer.hear() => message["id"].as_u64().unwrap(),
    };

    drop(dropped);
    let cancelled = peer.hear().await;
    assert_eq!((&cancelled["method"], &cancelled["params"]["requestId"]), (&json!("notifications/cancelled"), &json!(id)));
    let answers = async {
        let next = peer.hear().await["id"].as_u64().unwrap();
        peer.answer(id, json!({"late": true})).await;
        peer.answer(next, json!({"late": false})).await;
    };
    let (second, ()) = tokio::join!(ask(connection, "fast", Caller::none()), answers);

    assert_eq!(second.unwrap(), json!({"late": false}));
    assert_eq!(faults.lock()[&Fault::LateAnswer], 1);
}

#[tokio::test]
async fn the_end_of_the_stream_says_what_may_have_run() {
    let Both { connection, mut peer, tasks, .. } = conversation(|_| {});
    let sent = ask(connection.clone(), "call", Caller::none());
    let end = async {
        peer.hear().await;
        drop(peer);
    };

    let (error, ()) = tokio::join!(sent, end);

    let error = error.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (ErrorCode::Disconnected, Delivery::Unknown));
    let after = ask(connection, "call", Caller::none()).await.unwrap_err();
    assert_eq!((after.code(), after.delivery()), (ErrorCode::Disconnected, Delivery::NotSent));
    tasks.close();
    tasks.wait().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_left_is_taken_back() {
    let Both { connection, mut peer, .. } = conversation(|_| {});
    // The sink takes one message while nobody reads; the second waits, and what comes after it waits behind.
    let stuck: Vec<_> = (0..2).map(|_| Box::pin(ask(connection.clone(), "stuck", Caller::none()))).collect();
    let stuck = futures_util::future::join_all(stuck);
    let late = async {
        tokio::task::yield_now().await;
        let deadline = Instant::now() + Duration::from_millis(1);
        let caller = Caller::none();
        connection.request(Ask { method: "late", deadline, caller: &caller }, |_| Ok(None)).await
    };
    let stuck_then = tokio::select! {
        _ = stuck => panic!("nobody answered"),
        late = late => late,
    };

    let error = stuck_then.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (ErrorCode::DeadlineExceeded, Delivery::NotSent));
    assert_eq!(peer.hear().await["method"], "stuck");
}

#[tokio::test]
async fn progress_reaches_the_caller_of_its_request_only() {
    let Both { connection, mut peer, faults, .. } = conversation(|_| {});
    let (caller, mut events) = Caller::channel(Wants { progress: true, ..Wants::default() });
    let call = ask(connection, "long", caller);
    let answers = async {
        let id = peer.hear().await["id"].as_u64().unwrap();
        let progress = |token: u64| json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}});
        peer.say(&progress(id).to_string()).await;
        peer.say(&progress(id + 1).to_string()).await;
        peer.answer(id, json!({})).await;
    };

    let (answer, ()) = tokio::join!(call, answers);

    answer.unwrap();
    let Some(CallerEvent::Notification { method, params }) = events.next().await else { panic!("progress") };
    assert_eq!((&*method, &params[..]), ("notifications/progress", &br#"{"progressToken":1,"progress":1}"#[..]));
    assert!(events.next().await.is_none());
    assert_eq!(faults.lock()[&Fault::ProgressDropped], 1);
}

#[tokio::test]
async fn what_was_done_elsewhere_is_told_to_the_only_call_whose_client_may_have_been_sent_there() {
    let Both { connection, mut peer, faults, .. } = conversation(|_| {});
    let (caller, mut events) = Caller::channel(Wants { requests: Declared::ELICITATION_URL, ..Wants::default() });
    let call = ask(connection, "long", caller);
    let complete = r#"{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":"7"}}"#;
    let answers = async {
        let id = peer.hear().await["id"].as_u64().unwrap();
        peer.say(complete).await;
        peer.answer(id, json!({})).await;
    };

    let (answer, ()) = tokio::join!(call, answers);

    answer.unwrap();
    let Some(CallerEvent::Notification { method, params }) = events.next().await else { panic!("a notification") };
    assert_eq!((&*method, &params[..]), (client::ELICITATION_COMPLETE, &br#"{"elicitationId":"7"}"#[..]));
    assert!(events.next().await.is_none());
    assert_eq!(faults.lock().get(&Fault::NotificationIgnored), None);
}

#[tokio::test]
async fn the_other_side_may_ask() {
    let Both { mut peer, .. } = conversation(|settings| {
        settings.on_request = Some(Arc::new(|asked: Asked| {
            Box::pin(async move { Ok(format!("{{\"asked\":\"{}\"}}", asked.method).into_bytes().into()) })
        }));
    });

    peer.say(r#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#).await;
    assert_eq!(peer.hear().await, json!({"jsonrpc": "2.0", "id": "a", "result": {}}));
    peer.say(r#"{"jsonrpc":"2.0","id":9,"method":"roots/list"}"#).await;
    assert_eq!(peer.hear().await, json!({"jsonrpc": "2.0", "id": 9, "result": {"asked": "roots/list"}}));
}

#[tokio::test]
async fn a_request_nobody_answers_is_refused() {
    let Both { mut peer, .. } = conversation(|_| {});

    peer.say(r#"{"jsonrpc":"2.0","id":9,"method":"roots/list"}"#).await;

    assert_eq!(peer.hear().await["error"]["code"], -32601);
}

#[tokio::test]
async fn garbage_is_counted_and_ends_a_conversation_that_says_so() {
    let cases = [
        (&b"\xff"[..], Fault::InvalidUtf8),
        (b"garbage", Fault::InvalidJson),
        (b"[]", Fault::NotAMessage),
        (b"{}", Fault::NotAMessage),
    ];
    for (garbage, expected) in cases {
        for policy in [Garbage::Close, Garbage::Ignore] {
            let Both { connection, mut peer, faults, .. } = conversation(|settings| settings.garbage = policy);
            peer.says.send(Ok(Bytes::from_static(garbage))).await.unwrap();
            if policy == Garbage::Close {
                connection.ended().await;
            } else {
                peer.say(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await;
                peer.hear().await;
            }

            assert_eq!(faults.lock()[&expected], 1, "{garbage:?}");
            assert_eq!(connection.is_ended(), policy == Garbage::Close);
        }
    }
}

#[tokio::test]
async fn an_error_answer_is_an_answer() {
    let Both { connection, mut peer, faults, .. } = conversation(|_| {});
    let answers = async {
        let id = peer.hear().await["id"].as_u64().unwrap();
        peer.say(r#"{"jsonrpc":"2.0","id":4711,"result":{}}"#).await;
        peer.say(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-5,"message":"no"}}}}"#)).await;
    };

    let (answer, ()) = tokio::join!(ask(connection, "call", Caller::none()), answers);

    let error = answer.unwrap_err();
    assert_eq!(error.delivery(), Delivery::Answered);
    assert_eq!(&error.answer().unwrap()[..], br#"{"code":-5,"message":"no"}"#);
    assert_eq!(faults.lock()[&Fault::UnknownId], 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_conversation_holds_the_next_request_back() {
    let Both { connection, mut peer, .. } = conversation(|settings| settings.in_flight_max = NonZeroUsize::MIN);
    let mut first = Box::pin(ask(connection.clone(), "first", Caller::none()));
    tokio::select! {
        _ = &mut first => panic!("nobody answered"),
        message = peer.hear() => assert_eq!(message["method"], "first"),
    }

    let caller = Caller::none();
    let deadline = Instant::now() + Duration::from_millis(5);
    let second = connection.request(Ask { method: "second", deadline, caller: &caller }, |_| Ok(None)).await;

    let error = second.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (ErrorCode::Overloaded, Delivery::NotSent));
}

#[tokio::test]
async fn closing_fails_what_is_out_and_ends_both_tasks() {
    let Both { connection, mut peer, tasks, .. } = conversation(|_| {});
    let call = ask(connection.clone(), "call", Caller::none());
    let close = async {
        peer.hear().await;
        connection.close();
    };

    let (answer, ()) = tokio::join!(call, close);

    assert_eq!(answer.unwrap_err().delivery(), Delivery::Unknown);
    tasks.close();
    tasks.wait().await;
    assert!(peer.heard.recv().await.is_none(), "the sink is closed");
}

/// A stream that asks for tasks, or for resources: its id and what it names.
async fn asked_to_listen(peer: &mut Peer) -> (u64, Value) {
    let asked = peer.hear().await;
    assert_eq!(asked["method"], "subscriptions/listen", "{asked}");
    (asked["id"].as_u64().unwrap(), asked["params"]["notifications"]["taskIds"].clone())
}

async fn acknowledge(peer: &Peer, id: u64) {
    let meta = json!({"io.modelcontextprotocol/subscriptionId": id});
    let params = json!({"notifications": {}, "_meta": meta});
    let message = json!({"jsonrpc": "2.0", "method": listening::ACKNOWLEDGED, "params": params});
    peer.says.send(Ok(message.to_string().into())).await.unwrap();
}

#[tokio::test]
async fn news_of_tasks_are_heard_until_those_of_others_are_acknowledged() {
    let Both { connection, mut peer, tasks, .. } = conversation(|_| {});
    let ids = |ids: &[&str]| listening::Uris::new(ids.iter().map(|id| Arc::from(*id)).collect());
    let (watched, wanted) = tokio::sync::watch::channel(ids(&["t-1"]));
    tasks.spawn(async move {
        let facts = ServerFacts::default();
        listening::keep(&connection, Era::Modern, &facts, Demand::of_nobody(), wanted).await;
    });

    let (first, named) = asked_to_listen(&mut peer).await;
    acknowledge(&peer, first).await;
    watched.send_replace(ids(&["t-1", "t-2"]));
    let (second, all_named) = asked_to_listen(&mut peer).await;
    acknowledge(&peer, second).await;
    let cancelled = peer.hear().await;

    assert_eq!((named, all_named), (json!(["t-1"]), json!(["t-1", "t-2"])));
    assert_eq!((&cancelled["method"], &cancelled["params"]["requestId"]), (&json!("notifications/cancelled"), &json!(first)));
}
