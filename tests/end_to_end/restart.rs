//! Upstreams that restart between two calls: the client notices nothing.

use serde_json::json;

use crate::support::{Act, CELLS, Gateway, Script, Scripted, Serves, Setup};

/// How servers say that they do not know a session: as the specification has it, and as the SDK for TypeScript does.
const REFUSALS: [(u16, &str); 3] = [
    (404, r#"{"code":-32001,"message":"Session not found"}"#),
    (400, r#"{"code":-32000,"message":"Bad Request: No valid session ID provided"}"#),
    (400, r#"{"code":-32000,"message":"Bad Request: Server not initialized"}"#),
];

#[tokio::test]
async fn the_call_after_a_restart_of_the_upstream_runs_once_and_its_client_notices_nothing() {
    for (era, serves) in CELLS {
        // Without sessions there is nothing to refuse.
        let refusals = if serves == Serves::Legacy { &REFUSALS[..] } else { &REFUSALS[..1] };
        for (status, error) in refusals {
            let script = Script::new(serves).tool("echo", Act::Echo).refuses_sessions(*status, error);
            let upstream = Scripted::start(script.clone()).await;
            let gateway = Gateway::start(Setup::new().upstream_with("up", upstream.url(), "refresh = \"1h\"")).await;
            gateway.target_is("up", "ready").await;
            let client = gateway.client(era).await;
            client.call("up.echo", r#"{"n":1}"#).await.result();
            let address = upstream.address();

            upstream.stop().await;
            let again = Scripted::start_at(script, address).await;
            let answer = client.call("up.echo", r#"{"n":2}"#).await;

            let case = format!("{era:?} -> {serves:?}, {status} {error}");
            assert_eq!(answer.result()["structuredContent"], json!({"n": 2}), "{case}");
            let tries = again.calls().len();
            assert_eq!(tries, if serves == Serves::Legacy { 2 } else { 1 }, "{case}: what was refused unseen is made again");
            assert_eq!(gateway.metric("twinway_call_failures_total", &[]).await, 0.0, "{case}");
        }
    }
}
