//! Clients of a session that are sent away in the middle of a call, and come back for the rest (2025-11-25, polling).

use http::{Method, Request};
use serde_json::json;

use crate::resume::{Event, KEPT, Make, begin, calls_end, goes_on, next, rest, take_up, whats, with_python, with_typescript};
use crate::support::{Act, Gateway, Mcp, Open, Script, Scripted, Serves, Setup, conformance_server, open, skip, until};

/// Streams end soon.
const SHORT: &str = "stream_time_max = \"50ms\"";

/// What comes on a stream until it ends.
async fn all(stream: &mut Open) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(event) = stream.raw_event().await {
        events.push(Event::parse(&event));
    }
    events
}

async fn gateway(script: Script, http: &str) -> (Gateway, Scripted) {
    let upstream = Scripted::start(script).await;
    let gateway = Gateway::start(Setup::new().http(http).upstream_with("up", upstream.url(), "refresh = \"50ms\"")).await;
    gateway.target_is("up", "ready").await;
    (gateway, upstream)
}

fn get(client: &Mcp) -> Request<String> {
    let mut request = client.head(Method::GET, String::new());
    request.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
    request
}

#[tokio::test]
async fn a_server_that_sends_its_client_away_in_mid_call_sends_away_the_client_of_the_gateway() {
    let test = async {
        let (_server, url) = conformance_server("legacy", &[]).await?;
        let gateway = Gateway::start(Setup::new().upstream("up", &url)).await;
        gateway.target_is("up", "ready").await;
        let client = gateway.legacy().await;

        let mut stream = client.tool("up.test_reconnection", "{}").id("7").open().await;
        let before = all(&mut stream).await;
        let after = rest(&client, before.last().unwrap().id()).await;

        assert_eq!(whats(&before), ["priming", "priming"]);
        assert_eq!(before[1].retry, Some(100), "as the server has it");
        assert_eq!(whats(&after), ["priming", "answer"]);
        let answer = &after[1].message;
        assert_eq!(
            (&answer["id"], &answer["result"]["content"][0]["text"]),
            (&json!(7), &json!("Reconnection test completed successfully."))
        );

        // Clients that could not come back stay.
        for client in [Mcp::legacy(gateway.address).open("2025-06-18").await, gateway.modern()] {
            assert_eq!(client.call("up.test_reconnection", "{}").await.content(), "Reconnection test completed successfully.");
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("polling::a_server_that_sends_its_client_away_in_mid_call_sends_away_the_client_of_the_gateway", &reason);
    }
}

#[tokio::test]
async fn a_client_is_sent_away_as_often_as_it_takes_and_the_call_is_made_once() {
    for serves in [Serves::Legacy, Serves::Modern] {
        let (gateway, upstream) = gateway(Script::new(serves).tool("waits", Act::Hold), SHORT).await;
        let client = gateway.legacy().await;

        let mut stream = client.tool("up.waits", r#"{"n":7}"#).open().await;
        let first = all(&mut stream).await;
        let second = rest(&client, first[0].id()).await;
        let third = rest(&client, second.last().unwrap().id()).await;
        upstream.release(1);
        calls_end(&gateway, 1.0).await;
        let last = rest(&client, third.last().unwrap().id()).await;

        for sent_away in [&first, &second, &third] {
            assert_eq!(whats(sent_away), ["priming", "priming"], "{serves:?}");
            assert!(sent_away[1].retry.is_some());
        }
        assert_eq!(last.last().unwrap().message["result"]["structuredContent"]["n"], 7, "{serves:?}");
        assert_eq!(upstream.calls().len(), 1, "{serves:?}");
    }
}

#[tokio::test]
async fn what_there_is_no_room_for_waits_for_the_client_that_was_sent_away() {
    let script = Script::new(Serves::Both).tool("works", Act::ProgressAroundHold(2, 50));
    let (gateway, upstream) = gateway(script, "stream_time_max = \"400ms\"\nsession_replay_bytes_max = 2000").await;
    let client = gateway.legacy().await;
    let (mut stream, mut heard) = begin(&client, "7").await;
    heard.extend(all(&mut stream).await);
    let last = heard.last().unwrap().id().to_owned();

    upstream.release(1);
    until("all that there is room for", || async { (gateway.metric(KEPT, &[]).await > 1700.0).then_some(()) }).await;
    let mut again = open(gateway.address, take_up(&client, &last)).await;
    let mut rest = Vec::new();
    while rest.last().is_none_or(|event: &Event| event.what() != "answer") {
        rest.push(next(&mut again).await);
    }

    let expected: Vec<_> = (3..=52).map(|step| step.to_string()).chain(["answer".to_owned()]).collect();
    rest.retain(|event| event.what() != "priming");
    assert_eq!(whats(&rest), expected);
}

#[tokio::test]
async fn a_client_that_was_sent_away_from_the_stream_of_changes_hears_of_those_in_between() {
    let (gateway, upstream) = gateway(Script::new(Serves::Both).tool("one", Act::Echo), SHORT).await;
    let client = gateway.legacy().await;

    let first = all(&mut open(gateway.address, get(&client)).await).await;
    upstream.becomes(Script::new(Serves::Both).tool("one", Act::Echo).tool("two", Act::Echo));
    until("the other tools", || async { (client.tool_names().await.len() == 2).then_some(()) }).await;
    let second = rest(&client, first.last().unwrap().id()).await;

    assert_eq!(whats(&first), ["priming", "priming"]);
    let told: Vec<_> = second.iter().filter(|event| event.message["method"] == "notifications/tools/list_changed").collect();
    assert_eq!(told.len(), 1, "{second:?}");
}

#[tokio::test]
async fn a_client_whose_revision_knows_nothing_of_it_is_never_sent_away() {
    let script = Script::new(Serves::Both).tool("works", Act::ProgressAroundHold(2, 3));
    let (gateway, upstream) = gateway(script, "stream_time_max = \"1ms\"").await;
    for client in [Mcp::legacy(gateway.address).open("2025-06-18").await, gateway.modern()] {
        let mut stream = client.tool("up.works", "{}").meta(r#""progressToken":1"#).open().await;
        let mut events = vec![next(&mut stream).await, next(&mut stream).await];

        upstream.release(1);
        events.extend(all(&mut stream).await);

        assert_eq!(whats(&events), ["1", "2", "3", "4", "5", "answer"], "{}", client.revision);
    }
}

/// A client that is sent away again and again in the middle of its call.
async fn comes_back(client: &Make<'_>) -> Result<(), String> {
    let script = Script::new(Serves::Both).tool("works", Act::ProgressAroundHold(2, 3));
    let (gateway, upstream) = gateway(script, "stream_time_max = \"100ms\"").await;
    let is_back = async || gateway.metric_reaches("twinway_streams_sent_away_total", &[], 2.0).await;
    goes_on(client, gateway.address, &upstream, is_back).await
}

#[tokio::test]
async fn the_python_client_comes_back() {
    if let Err(reason) = with_python(comes_back).await {
        skip("polling::the_python_client_comes_back", &reason);
    }
}

#[tokio::test]
async fn the_typescript_clients_come_back() {
    if let Err(reason) = with_typescript(comes_back).await {
        skip("polling::the_typescript_clients_come_back", &reason);
    }
}
