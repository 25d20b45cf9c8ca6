//! Clients with a session that lose an event stream and take it up again by `Last-Event-ID`.

use std::net::SocketAddr;

use http::{Method, Request};
use serde_json::{Value, json};

use crate::support::{
    Act, Answer, Cut, Gateway, Mcp, Open, Program, Script, Scripted, Serves, Setup, node_client, open, python_client, send, skip,
};

pub(crate) const KEPT: &str = "twinway_replay_bytes";

/// A gateway before a server whose tool `up.works` reports progress twice, waits, and reports it three times more.
async fn farm(serves: Serves, http: &str) -> (Gateway, Scripted) {
    let script = Script::new(serves).tool("works", Act::ProgressAroundHold(2, 3)).tool("echo", Act::Echo);
    let upstream = Scripted::start(script).await;
    let gateway = Gateway::start(Setup::new().http(http).upstream("up", upstream.url())).await;
    gateway.target_is("up", "ready").await;
    (gateway, upstream)
}

/// The head of an event, and its message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    id: Option<String>,
    pub(crate) retry: Option<u64>,
    pub(crate) message: Value,
}

impl Event {
    pub(crate) fn parse(text: &str) -> Self {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let message =
            field("data:").filter(|data| !data.is_empty()).map_or(Value::Null, |data| serde_json::from_str(data).unwrap());
        Self { id: field("id:").map(str::to_owned), retry: field("retry:").map(|ms| ms.parse().unwrap()), message }
    }

    pub(crate) fn id(&self) -> &str {
        self.id.as_deref().unwrap()
    }

    /// What it is: the number of a report, or `answer`.
    pub(crate) fn what(&self) -> String {
        match &self.message {
            Value::Null => "priming".to_owned(),
            message if message.get("id").is_some() => "answer".to_owned(),
            message => message["params"]["progress"].to_string(),
        }
    }
}

pub(crate) async fn next(stream: &mut Open) -> Event {
    Event::parse(&stream.raw_event().await.unwrap())
}

/// Begins the call with that id, and reads until it waits: the priming event of the newest revision, and two reports.
pub(crate) async fn begin(client: &Mcp, id: &str) -> (Open, Vec<Event>) {
    let call = client.tool("up.works", &format!(r#"{{"n":{id}}}"#)).id(id).meta(&format!(r#""progressToken":{id}"#));
    let mut stream = call.open().await;
    let mut events = Vec::new();
    while events.last().is_none_or(|event: &Event| event.what() != "2") {
        events.push(next(&mut stream).await);
    }
    (stream, events)
}

pub(crate) fn take_up(client: &Mcp, last: &str) -> Request<String> {
    let mut request = client.head(Method::GET, String::new());
    request.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
    request.headers_mut().insert("last-event-id", last.parse().unwrap());
    request
}

/// All that there is after that event, to the end of the stream.
pub(crate) async fn rest(client: &Mcp, last: &str) -> Vec<Event> {
    let answer = send(client.address, take_up(client, last)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text().split_terminator("\n\n").map(Event::parse).collect()
}

pub(crate) fn whats(events: &[Event]) -> Vec<String> {
    events.iter().map(Event::what).collect()
}

async fn refused(client: &Mcp, last: &str) -> Answer {
    send(client.address, take_up(client, last)).await
}

pub(crate) async fn calls_end(gateway: &Gateway, count: f64) {
    gateway.metric_reaches("twinway_call_duration_seconds_count", &["outcome=\"ok\""], count).await;
}

#[tokio::test]
async fn a_call_that_takes_long_and_says_nothing_can_be_left_and_its_answer_fetched() {
    let script = Script::new(Serves::Both).tool("waits", Act::Hold);
    let upstream = Scripted::start(script).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;
    gateway.target_is("up", "ready").await;
    let client = gateway.legacy().await;

    let mut stream = client.tool("up.waits", r#"{"n":7}"#).open().await;
    let first = next(&mut stream).await;
    drop(stream);
    upstream.release(1);
    calls_end(&gateway, 1.0).await;
    let missed = rest(&client, first.id()).await;

    assert_eq!((first.what(), first.retry.is_some()), ("priming".to_owned(), true));
    assert_eq!(missed.last().unwrap().message["result"]["structuredContent"]["n"], 7);
}

#[tokio::test]
async fn a_client_that_is_cut_off_in_mid_call_gets_each_event_once_and_the_answer_in_every_revision_that_knows_how() {
    for (revision, primes) in [("2025-03-26", false), ("2025-06-18", false), ("2025-11-25", true)] {
        for serves in [Serves::Legacy, Serves::Modern] {
            let (gateway, upstream) = farm(serves, "").await;
            let client = Mcp::legacy(gateway.address).open(revision).await;

            let (stream, heard) = begin(&client, "7").await;
            drop(stream);
            upstream.release(1);
            calls_end(&gateway, 1.0).await;
            let missed = rest(&client, heard.last().unwrap().id()).await;

            assert_eq!(whats(&heard)[usize::from(primes)..], ["1", "2"], "{revision}");
            assert_eq!(heard[0].what() == "priming" && heard[0].retry.is_some(), primes, "{revision}");
            assert_eq!(whats(&missed), ["3", "4", "5", "answer"], "{revision} {serves:?}");
            let answer = &missed.last().unwrap().message;
            assert_eq!(answer["id"], 7);
            // Structured, or in words for the revision that knows no structure.
            assert!(answer["result"].to_string().contains(":7}"), "{answer}");
            let mut ids: Vec<_> = heard.iter().chain(&missed).map(Event::id).collect();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), heard.len() + missed.len(), "{ids:?}");
        }
    }
}

#[tokio::test]
async fn a_stream_can_be_taken_up_again_and_again_and_goes_on_live() {
    let (gateway, upstream) = farm(Serves::Legacy, "").await;
    let client = gateway.legacy().await;
    let (stream, heard) = begin(&client, "7").await;

    let mut second = open(gateway.address, take_up(&client, heard[0].id())).await;
    let again = [next(&mut second).await, next(&mut second).await, next(&mut second).await];
    // The first two are still connected, but nobody listens there.
    let mut third = open(gateway.address, take_up(&client, again[1].id())).await;
    let once_more = [next(&mut third).await, next(&mut third).await];
    upstream.release(1);
    let mut live = Vec::new();
    while let Some(event) = third.raw_event().await {
        live.push(Event::parse(&event));
    }

    assert_eq!(again[1..], heard[1..], "the same events with the same ids");
    assert_eq!(once_more[1], heard[2]);
    assert_eq!(whats(&live), ["3", "4", "5", "answer"]);
    assert_eq!(second.raw_event().await, None, "another has taken its place");
    drop(stream);
    assert_eq!(rest(&client, live[1].id()).await, live[2..]);
    assert_eq!(refused(&client, live[3].id()).await.status, 204, "it is over, and all of it was heard");
}

#[tokio::test]
async fn a_stream_gives_nothing_of_another_call_of_the_session() {
    let (gateway, upstream) = farm(Serves::Both, "").await;
    let client = gateway.legacy().await;
    let ((one, of_one), (other, of_other)) = tokio::join!(begin(&client, "1"), begin(&client, "2"));
    drop((one, other));
    upstream.release(2);
    calls_end(&gateway, 2.0).await;

    for (id, heard) in [(1, of_one), (2, of_other)] {
        let missed = rest(&client, heard[1].id()).await;

        assert_eq!(whats(&missed), ["2", "3", "4", "5", "answer"]);
        for event in &missed[..4] {
            assert_eq!(event.message["params"]["progressToken"], id);
        }
        assert_eq!(missed[4].message["id"], id);
    }
}

#[tokio::test]
async fn an_event_of_another_session_or_of_none_is_refused_and_counted() {
    let upstream = Scripted::start(Script::new(Serves::Both).tool("works", Act::ProgressAroundHold(2, 3))).await;
    let setup = Setup::new()
        .upstream("up", upstream.url())
        .client("ann", "token-of-ann-0123456789")
        .client("bob", "token-of-bob-0123456789");
    let gateway = Gateway::start(setup).await;
    gateway.target_is("up", "ready").await;
    let ann = Mcp::legacy(gateway.address).bearer("token-of-ann-0123456789").open("2025-11-25").await;
    let bob = Mcp::legacy(gateway.address).bearer("token-of-bob-0123456789").open("2025-11-25").await;
    let (stream, heard) = begin(&ann, "7").await;
    let (_stream_of_bob, of_bob) = begin(&bob, "7").await;
    let last = heard[2].id();
    let by_handle = Mcp { session: ann.session.clone(), ..bob.clone() };
    let elsewhere = last.rsplit_once('-').unwrap().0;

    for (what, client, id, status, reason) in [
        ("an event of Ann in a session of Bob", &bob, last, 410, "stream_gone"),
        ("the other way round", &ann, of_bob[2].id(), 410, "stream_gone"),
        ("an event that there was not yet", &ann, &*format!("{elsewhere}-99"), 410, "stream_gone"),
        ("no event of ours", &ann, "17", 400, "event_id"),
    ] {
        let answer = refused(client, id).await;
        assert_eq!(answer.status.as_u16(), status, "{what}: {}", answer.text());
        assert!(answer.error()["message"].is_string(), "{what}");
        gateway.metric_reaches("twinway_requests_refused_total", &[&format!("reason=\"{reason}\"")], 1.0).await;
    }
    assert_eq!(refused(&by_handle, last).await.status, 404, "the session of another");
    assert_eq!(gateway.metric("twinway_sessions_refused_total", &["reason=\"foreign\""]).await, 1.0);

    drop(stream);
    upstream.release(2);
    assert_eq!(whats(&rest(&ann, last).await).last().unwrap(), "answer", "it is still Ann's");
}

#[tokio::test]
async fn who_comes_back_for_what_is_not_kept_any_more_is_told_so_and_not_given_the_rest() {
    let upstream = Scripted::start(Script::new(Serves::Both).tool("works", Act::ProgressAroundHold(2, 50))).await;
    let setup = Setup::new().http("session_replay_bytes_max = 2000").upstream("up", upstream.url());
    let gateway = Gateway::start(setup).await;
    gateway.target_is("up", "ready").await;
    let client = gateway.legacy().await;
    let (stream, heard) = begin(&client, "\"seven\"").await;
    drop(stream);
    upstream.release(1);
    calls_end(&gateway, 1.0).await;

    let told = rest(&client, heard[1].id()).await;

    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].message["id"], "seven");
    let error = &told[0].message["error"];
    assert_eq!((&error["data"]["code"], &error["data"]["delivery"]), (&json!("disconnected"), &json!("unknown")));
    assert!(error["message"].as_str().unwrap().contains("not kept any more"), "{error}");
    assert_eq!(refused(&client, told[0].id()).await.status, 204);
    let kept = gateway.metric(KEPT, &[]).await;
    assert!((1.0..=2000.0).contains(&kept), "{kept}");
}

#[tokio::test]
async fn who_cannot_come_back_gets_no_ids_and_a_quick_answer_stays_json() {
    let (gateway, upstream) = farm(Serves::Both, "").await;
    let (off, upstream_of_off) = farm(Serves::Both, "session_replay_bytes_max = 0").await;
    let oldest = Mcp::legacy(gateway.address).open("2024-11-05").await;
    for (client, upstream) in [(gateway.modern(), &upstream), (oldest, &upstream), (off.legacy().await, &upstream_of_off)] {
        upstream.release(1);
        let call = client.tool("up.works", "{}").meta(r#""progressToken":1"#).send().await;

        assert_eq!(call.messages().len(), 6, "{}", client.revision);
        assert!(!call.text().contains("id: ") && !call.text().contains("retry"), "{}: {}", client.revision, call.text());
    }
    let quick = gateway.legacy().await.tool("up.echo", "{}").meta(r#""progressToken":1"#).send().await;
    assert_eq!(quick.header("content-type"), "application/json");
    assert_eq!(gateway.metric(KEPT, &[]).await, 0.0);
}

#[tokio::test]
async fn the_end_of_a_session_ends_its_streams_and_nothing_is_kept_of_them() {
    let (gateway, upstream) = farm(Serves::Legacy, "").await;
    let client = gateway.legacy().await;
    let (stream, _) = begin(&client, "1").await;
    let (mut connected, heard) = begin(&client, "2").await;
    drop(stream);
    assert!(gateway.metric(KEPT, &[]).await > 0.0);

    assert_eq!(client.end().await.status, 204);

    assert_eq!(connected.raw_event().await, None);
    assert_eq!(refused(&client, heard[2].id()).await.status, 404);
    assert_eq!(gateway.metric(KEPT, &[]).await, 0.0);
    upstream.wait_for("a cancellation", |seen| seen.method == "notifications/cancelled").await;
}

#[tokio::test]
async fn a_call_that_was_withdrawn_while_its_client_was_away_ends_without_an_answer() {
    let (gateway, _upstream) = farm(Serves::Legacy, "").await;
    let client = gateway.legacy().await;
    let (stream, heard) = begin(&client, "7").await;
    drop(stream);

    client.notify("notifications/cancelled", r#""requestId":7"#).await;
    gateway.metric_reaches("twinway_call_duration_seconds_count", &["outcome=\"cancelled\""], 1.0).await;

    assert_eq!(whats(&rest(&client, heard[1].id()).await), ["2"]);
}

/// The clients of other makes in their own words, each as one with a session.
pub(crate) async fn with_python(test: impl AsyncFn(&Make<'_>) -> Result<(), String>) -> Result<(), String> {
    test(&|arguments: &[&str]| python_client(&[&arguments[..1], &["--era", "legacy"], &arguments[1..]].concat())).await
}

/// The same for those in TypeScript: 2.x, and 1.x as it is.
pub(crate) async fn with_typescript(test: impl AsyncFn(&Make<'_>) -> Result<(), String>) -> Result<(), String> {
    for era in [&[][..], &["--era", "legacy"]] {
        test(&|arguments: &[&str]| node_client(&[&arguments[..1], era, &arguments[1..]].concat())).await?;
    }
    Ok(())
}

/// Starts a client with these arguments.
pub(crate) type Make<'a> = dyn Fn(&[&str]) -> Result<Program, String> + 'a;

/// A client calls `up.works` at that address, and makes nothing of what happens to it `meanwhile`, between the second report and the third.
pub(crate) async fn goes_on(
    client: &Make<'_>,
    address: SocketAddr,
    upstream: &Scripted,
    meanwhile: impl AsyncFnOnce(),
) -> Result<(), String> {
    let url = format!("http://{address}/mcp");
    let mut caller = client(&[&url, "call", "up.works", r#"{"n":7}"#, "--progress"])?;
    for step in [1.0, 2.0] {
        assert_eq!(caller.event_with("progress").await["progress"].as_f64(), Some(step));
    }

    meanwhile().await;
    upstream.release(1);

    for step in [3.0, 4.0, 5.0] {
        assert_eq!(caller.event_with("progress").await["progress"].as_f64(), Some(step));
    }
    assert_eq!(caller.event_with("result").await["structuredContent"], json!({"n": 7}));
    assert_eq!(upstream.calls().len(), 1, "nobody called again");
    Ok(())
}

/// A client whose connections are cut in the middle of its call.
async fn is_cut_off(client: &Make<'_>) -> Result<(), String> {
    let (gateway, upstream) = farm(Serves::Both, "").await;
    let proxy = Cut::start(gateway.address).await;
    goes_on(client, proxy.address, &upstream, async || proxy.cut()).await
}

#[tokio::test]
async fn the_python_client_takes_its_call_up_again() {
    if let Err(reason) = with_python(is_cut_off).await {
        skip("resume::the_python_client_takes_its_call_up_again", &reason);
    }
}

#[tokio::test]
async fn the_typescript_clients_take_their_call_up_again() {
    if let Err(reason) = with_typescript(is_cut_off).await {
        skip("resume::the_typescript_clients_take_their_call_up_again", &reason);
    }
}
