//! Answers that come as event streams, cut anywhere, large or long, to clients that read slowly or not at all; and that of no call anything
//! stays, however it ends.

use futures_util::{StreamExt, stream};
use serde_json::json;

use crate::support::{Act, CELLS, CUT, Era, FLOOD, Gateway, Mcp, Script, Scripted, Setup, until};

const MIB: usize = 1024 * 1024;

/// Many times what sockets and queues hold on the way.
const FLOODED: Act = Act::Flood { steps: 10_000, bytes: 4096 };

/// An upstream can send no more when it has not done so for that many looks.
const QUIET_LOOKS: usize = 40;

async fn behind(script: Script, tables: &str) -> (Gateway, Scripted) {
    let upstream = Scripted::start(script).await;
    // Calls that fail on purpose shall not keep the next one from being made.
    let lines = "breaker = { failures = 1000 }";
    let gateway = Gateway::start(Setup::new().upstream_with("up", upstream.url(), lines).tables(tables)).await;
    gateway.target_is("up", "ready").await;
    (gateway, upstream)
}

/// Waits until an upstream can send no more, and says how many events it has sent.
async fn held_back(upstream: &Scripted) -> usize {
    let (mut before, mut looks) = (0, 0);
    until("the upstream to be held back", || {
        let taken = upstream.events_taken();
        looks = if taken > 0 && taken == before { looks + 1 } else { 0 };
        before = taken;
        std::future::ready((looks == QUIET_LOOKS).then_some(taken))
    })
    .await
}

#[tokio::test]
async fn a_character_may_end_in_the_next_piece_of_a_stream() {
    for (era, serves) in CELLS {
        let (gateway, _upstream) = behind(Script::new(serves).tool("cut", Act::Cut), "").await;
        let client = gateway.client(era).await;
        // Both events have less than 400 bytes.
        let every_place = stream::iter(0..400).for_each_concurrent(8, |at| {
            let client = &client;
            async move {
                let arguments = format!(r#"{{"at":{at}}}"#);
                let answer = client.tool("up.cut", &arguments).meta(r#""progressToken":1"#).send().await;
                let messages = answer.messages();

                assert_eq!(messages.len(), 2, "{era:?} -> {serves:?} at {at}: {messages:?}");
                assert_eq!(messages[0]["params"]["message"], CUT, "{era:?} -> {serves:?} at {at}");
                assert_eq!(answer.content(), CUT, "{era:?} -> {serves:?} at {at}");
            }
        });
        every_place.await;
    }
}

#[tokio::test]
async fn an_event_of_8_mib_passes_as_notification_and_as_answer_and_one_over_the_limit_breaks_only_its_call() {
    for (era, serves) in CELLS {
        let script = Script::new(serves).tool("large", Act::Flood { steps: 1, bytes: 8 * MIB });
        let script = script.tool("too-large", Act::Flood { steps: 1, bytes: 17 * MIB }).tool("echo", Act::Echo);
        let (gateway, _upstream) = behind(script, "").await;
        let client = gateway.client(era).await;

        let large = client.tool("up.large", "{}").meta(r#""progressToken":1"#).send().await;
        let refused = client.tool("up.too-large", "{}").meta(r#""progressToken":1"#).send().await.error();
        let echoed = client.call("up.echo", r#"{"n":1}"#).await.result();

        let expected = FLOOD.repeat(8 * MIB / FLOOD.len());
        let messages = large.messages();
        assert_eq!(messages.len(), 2, "{era:?} -> {serves:?}");
        assert!(messages[0]["params"]["message"] == expected, "{era:?} -> {serves:?}: the notification is another");
        assert!(messages[1]["result"]["content"][0]["text"] == expected, "{era:?} -> {serves:?}: the answer is another");
        assert_eq!((&refused["data"]["code"], &refused["data"]["delivery"]), (&json!("too_large"), &json!("unknown")));
        assert!(refused["message"].as_str().unwrap().contains("16777216 bytes"), "{era:?} -> {serves:?}: {refused}");
        assert_eq!(echoed["structuredContent"], json!({"n": 1}), "{era:?} -> {serves:?}");
    }
}

#[tokio::test]
async fn ten_thousand_reports_of_one_call_reach_a_slow_client_in_order_while_the_upstream_is_held_back() {
    for (era, serves) in CELLS {
        let rule = "[[tool]]\nmatch = \"up.flood\"\ntimeout = \"120s\"";
        let (gateway, upstream) = behind(Script::new(serves).tool("flood", FLOODED), rule).await;
        let client = gateway.client(era).await;
        let before = gateway.program.rss_bytes();

        let mut answer = client.tool("up.flood", "{}").meta(r#""progressToken":1"#).open().await;
        let sent = held_back(&upstream).await;
        let grown = gateway.program.rss_bytes().saturating_sub(before);

        assert!(sent < 5_000, "{era:?} -> {serves:?}: {sent} events wait somewhere");
        assert!(grown < 4 * MIB as u64, "{era:?} -> {serves:?}: the gateway grew by {grown} bytes");
        for step in 1..=10_000 {
            let told = answer.event().await.unwrap();
            assert_eq!(told["params"]["progress"], step, "{era:?} -> {serves:?}");
        }
        assert!(answer.event().await.unwrap()["result"].is_object(), "{era:?} -> {serves:?}");
        assert_eq!(answer.event().await, None, "{era:?} -> {serves:?}");
    }
}

#[tokio::test]
async fn a_call_whose_client_stops_reading_ends_at_its_deadline_and_frees_everything() {
    for (era, serves) in CELLS {
        let rule = "[[tool]]\nmatch = \"up.flood\"\ntimeout = \"300ms\"";
        let (gateway, upstream) = behind(Script::new(serves).tool("flood", FLOODED).tool("echo", Act::Echo), rule).await;
        let client = gateway.client(era).await;
        client.call("up.echo", "{}").await.result();
        let before = gateway.held().await;

        let mut unread = client.tool("up.flood", "{}").meta(r#""progressToken":1"#).open().await;
        unread.event().await.unwrap();
        gateway.metric_reaches("twinway_call_duration_seconds_count", &["outcome=\"deadline_exceeded\""], 1.0).await;

        upstream.wait_for("an abandoned call", |seen| seen.method == "tools/call" && seen.abandoned).await;
        // What is left is the connection, which is the client's.
        let mut but_the_connection = before;
        but_the_connection.tasks += 1.0;
        gateway.holds_no_more_than(but_the_connection).await;
        drop(unread);
        gateway.holds_no_more_than(before).await;
    }
}

#[tokio::test]
async fn an_upstream_that_dies_in_mid_stream_leaves_the_outcome_unknown_and_its_tool_ran_once() {
    for (era, serves) in CELLS {
        let script = Script::new(serves).tool("steps", Act::ProgressThenHold).tool("echo", Act::Echo);
        let (gateway, upstream) = behind(script.clone(), "").await;
        let client = gateway.client(era).await;
        client.call("up.echo", "{}").await.result();
        let before = gateway.held().await;
        let mut answer = client.tool("up.steps", "{}").meta(r#""progressToken":1"#).open().await;
        answer.event().await.unwrap();
        let (address, calls) = (upstream.address(), upstream.calls());

        upstream.stop().await;
        let last = answer.event().await.unwrap();

        let data = &last["error"]["data"];
        assert_eq!(
            (&data["code"], &data["delivery"]),
            (&json!("disconnected"), &json!("unknown")),
            "{era:?} -> {serves:?}: {last}"
        );
        assert!(last["error"]["message"].as_str().unwrap().contains("may have run"), "{era:?} -> {serves:?}: {last}");
        assert_eq!(answer.event().await, None);
        assert_eq!(calls.iter().filter(|call| call.tool == "steps").count(), 1, "{era:?} -> {serves:?}");
        let again = Scripted::start_at(script, address).await;
        client.call("up.echo", "{}").await.result();
        assert_eq!(again.calls().iter().filter(|call| call.tool == "steps").count(), 0, "{era:?} -> {serves:?}");
        gateway.holds_no_more_than(before).await;
    }
}

/// Calls that end in every way but by themselves.
async fn end_in_every_way(client: &Mcp, upstream: &Scripted) {
    client.call("up.dies", "{}").await.error();
    client.call("up.late", "{}").await.error();
    let calls = upstream.calls().len();
    tokio::select! {
        _ = client.tool("up.waits", "{}").open() => panic!("the call is not answered yet"),
        () = upstream.wait_for_calls(calls + 1) => {}
    }
    let mut left = client.tool("up.steps", "{}").meta(r#""progressToken":1"#).open().await;
    left.event().await.unwrap();
    drop(left);
    if client.era == Era::Legacy {
        // They go on without their clients.
        upstream.release(2);
        let withdrawn = client.tool("up.waits", "{}").id("\"w\"").send();
        let withdraw = async {
            upstream.wait_for_calls(calls + 3).await;
            client.notify("notifications/cancelled", r#""requestId":"w""#).await
        };
        tokio::join!(withdrawn, withdraw);
    }
}

#[tokio::test]
async fn of_a_call_nothing_stays_however_it_ends() {
    for (era, serves) in CELLS {
        let script = Script::new(serves).tool("echo", Act::Echo).tool("dies", Act::Die).tool("late", Act::Hold);
        let script = script.tool("waits", Act::Hold).tool("steps", Act::ProgressThenHold);
        let (gateway, upstream) = behind(script, "[[tool]]\nmatch = \"up.late\"\ntimeout = \"50ms\"").await;
        let nobody = gateway.held().await;
        let client = gateway.client(era).await;
        client.call("up.echo", "{}").await.result();
        let before = gateway.held().await;

        for _ in 0..5 {
            end_in_every_way(&client, &upstream).await;
        }

        gateway.holds_no_more_than(before).await;
        assert_eq!(before.sessions, f64::from(u8::from(era == Era::Legacy)));
        if era == Era::Legacy {
            client.end().await;
        }
        gateway.holds_no_more_than(nobody).await;
    }
}
