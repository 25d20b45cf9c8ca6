//! Clients that go away without a word leave nothing behind. `cargo bench --bench runtime_latency -- --memory` weighs it.

use bytes::Bytes;
use http_body_util::Full;
use tokio::task::JoinSet;
use twinway::measure::HttpConnection;

use crate::support::{Act, Era, Gateway, Script, Scripted, Serves, Setup, until};

/// Enough for a leak of one in a hundred to show.
const CALLS: usize = 10_000;
const CONNECTIONS: usize = 8;
const CLIENTS: usize = 500;

/// `CALLS` calls of that era over a few connections; every one is answered.
async fn call_often(gateway: &Gateway, era: Era) {
    let client = gateway.client(era).await;
    let mut callers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let request = client.tool("quick.echo", r#"{"text":"hello"}"#).request();
        let mut connection = HttpConnection::new(&gateway.address.to_string());
        let host = gateway.address.to_string().parse().unwrap();
        callers.spawn(async move {
            let (mut head, body) = request.into_parts();
            head.headers.insert("host", host);
            for _ in 0..CALLS / CONNECTIONS {
                let request = http::Request::from_parts(head.clone(), Full::new(Bytes::from(body.clone())));
                let answer = connection.send(request).await.unwrap();
                assert_eq!(answer.status, 200);
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    if era == Era::Legacy {
        client.end().await;
    }
}

/// Clients that go away as soon as their calls have reached the upstream; `reached` calls have done so before.
async fn vanish_in_calls(gateway: &Gateway, upstream: &Scripted, era: Era, reached: usize) {
    let mut waiting = JoinSet::new();
    for _ in 0..CLIENTS / 4 {
        let client = gateway.client(era).await;
        waiting.spawn(async move { client.tool("slow.waits", "{}").open().await.status });
    }
    upstream.wait_for_calls(reached + CLIENTS / 4).await;
    waiting.shutdown().await;
}

#[tokio::test]
async fn clients_that_vanish_leave_no_session_and_no_call_behind() {
    let quick = Scripted::start(Script::new(Serves::Both).tool("echo", Act::Echo)).await;
    let slow = Scripted::start(Script::new(Serves::Both).tool("waits", Act::Hold)).await;
    let setup = Setup::new().http("session_idle = \"1s\"").upstream("quick", quick.url()).upstream("slow", slow.url());
    let gateway = Gateway::start(setup).await;

    call_often(&gateway, Era::Modern).await;
    call_often(&gateway, Era::Legacy).await;
    for _ in 0..CLIENTS / 2 {
        gateway.legacy().await;
    }
    vanish_in_calls(&gateway, &slow, Era::Modern, 0).await;
    vanish_in_calls(&gateway, &slow, Era::Legacy, CLIENTS / 4).await;

    // The call of a session goes on without its client, and holds the session as long.
    let of_sessions = (CLIENTS / 4) as f64;
    let gauges = async || (gateway.metric("twinway_sessions", &[]).await, gateway.metric("twinway_calls_in_flight", &[]).await);
    until("idle sessions to end", async || (gauges().await == (of_sessions, of_sessions)).then_some(())).await;
    slow.release(CLIENTS / 2);
    until("every session and call to end", async || (gauges().await == (0.0, 0.0)).then_some(())).await;

    assert_eq!(gateway.modern().call("quick.echo", "{}").await.status, 200);
}
