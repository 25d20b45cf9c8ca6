//! Clients that go away without a word leave nothing behind. `cargo bench --bench runtime_latency -- --memory` weighs it.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::task::JoinSet;
use twinway::measure::HttpConnection;

use crate::support::{Act, Era, Gateway, Mcp, Script, Scripted, Serves, Setup, until};

/// Enough for a leak of one in a hundred to show.
const CALLS: usize = 10_000;
const CONNECTIONS: usize = 8;
const CLIENTS: usize = 500;

/// As many as may be open at one time (`http.sessions_max`).
const SESSIONS: usize = 10_000;
/// What an idle session may cost.
const SESSION_BYTES_MAX: u64 = 8 * 1024;

/// `CALLS` calls of that era over a few connections; every one is answered.
async fn call_often(gateway: &Gateway, era: Era) {
    let client = gateway.client(era).await;
    send_often(gateway, CALLS, || client.tool("quick.echo", r#"{"text":"hello"}"#).request()).await;
    if era == Era::Legacy {
        client.end().await;
    }
}

/// So many requests over a few connections; every one is answered.
async fn send_often(gateway: &Gateway, count: usize, request: impl Fn() -> Request<String>) {
    let mut senders = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (mut head, body) = request().into_parts();
        let mut connection = HttpConnection::new(&gateway.address.to_string());
        head.headers.insert("host", gateway.address.to_string().parse().unwrap());
        senders.spawn(async move {
            for _ in 0..count / CONNECTIONS {
                let request = Request::from_parts(head.clone(), Full::new(Bytes::from(body.clone())));
                let answer = connection.send(request).await.unwrap();
                assert_eq!(answer.status, 200);
            }
        });
    }
    while let Some(ended) = senders.join_next().await {
        ended.unwrap();
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

#[tokio::test]
async fn ten_thousand_sessions_whose_clients_vanish_cost_their_memory_once() {
    let gateway = Gateway::start(Setup::new().http("session_idle = \"8s\"")).await;
    let sessions = async || gateway.metric("twinway_sessions", &[]).await;
    // What the first request takes is not what a session costs.
    gateway.legacy().await.end().await;
    let empty = gateway.program.rss_bytes();
    let mut after = Vec::new();

    for _ in 0..3 {
        send_often(&gateway, SESSIONS, || Mcp::legacy(gateway.address).initialization("2025-11-25")).await;
        assert_eq!(sessions().await, SESSIONS as f64);
        let each = (gateway.program.rss_bytes() - empty) / SESSIONS as u64;
        assert!(each < SESSION_BYTES_MAX, "{each} bytes for each session");
        until("every session to end", async || (sessions().await == 0.0).then_some(())).await;
        after.push(gateway.program.rss_bytes());
    }

    assert!(after[2] * 10 <= after[0] * 11, "bytes after each time: {after:?}");
}
