//! Who goes away, who withdraws a call, and what the upstream hears of it.

use crate::support::{Act, Era, Gateway, Mcp, Script, Scripted, Serves, Setup};

async fn behind(serves: Serves, act: Act) -> (Gateway, Scripted) {
    let upstream = Scripted::start(Script::new(serves).tool("waits", act)).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;
    (gateway, upstream)
}

fn is_cancelled(upstream: &Scripted) -> bool {
    upstream.seen().iter().any(|seen| seen.method == "notifications/cancelled" || (seen.abandoned && seen.method == "tools/call"))
}

/// A client that goes away as soon as its call has reached the upstream.
async fn call_and_go_away(client: &Mcp, upstream: &Scripted, calls: usize) {
    tokio::select! {
        _ = client.tool("up.waits", r#"{"n":1}"#).open() => panic!("the call is not answered yet"),
        () = upstream.wait_for_calls(calls) => {}
    }
}

#[tokio::test]
async fn a_modern_client_that_goes_away_cancels_its_call_at_a_legacy_server() {
    let (gateway, upstream) = behind(Serves::Legacy, Act::Hold).await;

    call_and_go_away(&gateway.modern(), &upstream, 1).await;

    let cancelled = upstream.wait_for("a cancellation", |seen| seen.method == "notifications/cancelled").await;
    let call = &upstream.calls()[0];
    assert_eq!(cancelled.json()["params"]["requestId"], call.json()["id"]);
    assert_eq!(cancelled.header("mcp-session-id"), call.header("mcp-session-id"));
    gateway.metric_reaches("twinway_call_duration_seconds_count", &["outcome=\"cancelled\""], 1.0).await;
}

#[tokio::test]
async fn a_modern_client_that_goes_away_closes_the_request_at_a_modern_server() {
    for act in [Act::Hold, Act::ProgressThenHold] {
        let (gateway, upstream) = behind(Serves::Modern, act).await;

        call_and_go_away(&gateway.modern(), &upstream, 1).await;

        upstream.wait_for("an abandoned call", |seen| seen.method == "tools/call" && seen.abandoned).await;
        gateway.metric_reaches("twinway_call_duration_seconds_count", &["outcome=\"cancelled\""], 1.0).await;
    }
}

#[tokio::test]
async fn a_modern_client_that_goes_away_in_the_middle_of_an_event_stream_cancels_too() {
    for serves in [Serves::Modern, Serves::Legacy] {
        let (gateway, upstream) = behind(serves, Act::ProgressThenHold).await;
        let client = gateway.modern();
        let mut answer = client.tool("up.waits", "{}").meta(r#""progressToken":1"#).open().await;
        answer.event().await.unwrap();

        drop(answer);

        gateway.metric_reaches("twinway_call_duration_seconds_count", &["outcome=\"cancelled\""], 1.0).await;
        upstream.wait_for("an abandoned call", |seen| seen.method == "tools/call" && seen.abandoned).await;
    }
}

#[tokio::test]
async fn a_legacy_client_that_goes_away_does_not_cancel_its_call() {
    for serves in [Serves::Modern, Serves::Legacy] {
        let (gateway, upstream) = behind(serves, Act::Hold).await;
        let client = gateway.legacy().await;

        call_and_go_away(&client, &upstream, 1).await;
        // Another call of the same session has to come through before anything is looked at.
        let ping = client.ask("ping").send().await;
        upstream.release(1);

        assert_eq!(ping.status, 200);
        gateway.metric_reaches("twinway_call_duration_seconds_count", &["outcome=\"ok\""], 1.0).await;
        assert!(!is_cancelled(&upstream), "{serves:?}");
    }
}

#[tokio::test]
async fn a_legacy_client_cancels_by_a_notification() {
    for serves in [Serves::Modern, Serves::Legacy] {
        for id in ["\"seven\"", "7"] {
            let (gateway, upstream) = behind(serves, Act::Hold).await;
            let client = gateway.legacy().await;
            let call = client.tool("up.waits", "{}").id(id).send();
            tokio::pin!(call);
            tokio::select! {
                _ = &mut call => panic!("the call is not answered yet"),
                () = upstream.wait_for_calls(1) => {}
            }

            let accepted = client.notify("notifications/cancelled", &format!(r#""requestId":{id}"#)).await;

            assert_eq!(accepted.status, 202);
            assert!(call.await.body.is_empty(), "a call that was withdrawn is not answered");
            match serves {
                Serves::Modern => {
                    upstream.wait_for("an abandoned call", |seen| seen.method == "tools/call" && seen.abandoned).await;
                }
                Serves::Legacy | Serves::Both => {
                    upstream.wait_for("a cancellation", |seen| seen.method == "notifications/cancelled").await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_session_cannot_cancel_the_call_of_another() {
    let (gateway, upstream) = behind(Serves::Legacy, Act::Hold).await;
    let (caller, other) = (gateway.legacy().await, gateway.legacy().await);
    let call = caller.tool("up.waits", r#"{"n":1}"#).id("5").send();
    tokio::pin!(call);
    tokio::select! {
        _ = &mut call => panic!("the call is not answered yet"),
        () = upstream.wait_for_calls(1) => {}
    }

    other.notify("notifications/cancelled", r#""requestId":5"#).await;
    upstream.release(1);

    assert_eq!(call.await.result()["structuredContent"]["n"], 1);
    assert!(!is_cancelled(&upstream));
}

#[tokio::test]
async fn the_end_of_a_session_cancels_its_calls() {
    let (gateway, upstream) = behind(Serves::Legacy, Act::Hold).await;
    let client = gateway.legacy().await;
    call_and_go_away(&client, &upstream, 1).await;

    assert_eq!(client.end().await.status, 204);

    upstream.wait_for("a cancellation", |seen| seen.method == "notifications/cancelled").await;
}

#[tokio::test]
async fn a_connection_is_good_for_the_next_call_after_a_cancelled_one() {
    let script = Script::new(Serves::Both).tool("waits", Act::Hold).tool("echo", Act::Echo);
    let upstream = Scripted::start(script).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;
    for (number, era) in [Era::Modern, Era::Legacy, Era::Modern].into_iter().enumerate() {
        let client = gateway.client(era).await;
        call_and_go_away(&client, &upstream, 2 * number + 1).await;

        assert_eq!(client.call("up.echo", r#"{"n":2}"#).await.result()["structuredContent"]["n"], 2, "{era:?}");
    }
}
