//! Results of read-only tools that are kept: for whom, for how long, and which never are.

use serde_json::{Value, json};

use crate::support::{Act, Gateway, Mcp, Script, Scripted, Serves, Setup, until};

const READ_ONLY: &str = r#"{"name":"look","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}}"#;

/// A rule that keeps the results of every tool that may be kept.
const KEEP: &str = "[[tool]]\nmatch = \"*\"\ncache_ttl = \"1h\"";

async fn upstream(definition: &str, act: Act) -> Scripted {
    Scripted::start(Script::new(Serves::Both).defined("look", definition, act)).await
}

/// What the cache did for a call.
async fn cache_of(client: &Mcp, tool: &str, arguments: &str) -> Value {
    let answer = client.tool(tool, arguments).meta(r#""twinway/explain":true"#).send().await;
    answer.result()["_meta"]["twinway/explain"]["cache"].clone()
}

#[tokio::test]
async fn the_same_question_is_asked_once_and_every_caller_asks_for_themselves() {
    let upstream = upstream(READ_ONLY, Act::Echo).await;
    let setup = Setup::new().upstream("up", upstream.url()).tables(KEEP);
    let setup = setup.client("alice", "alice-has-a-token").client("bob", "bob-has-another-token");
    let gateway = Gateway::start(setup).await;
    let (alice, bob) = (gateway.modern().bearer("alice-has-a-token"), gateway.modern().bearer("bob-has-another-token"));

    let first = alice.call("up.look", r#"{"a":1,"b":"é"}"#).await.result();
    let again = alice.call("up.look", r#"{ "b":"\u00e9", "a":1.0 }"#).await.result();

    assert_eq!(first, again);
    assert_eq!(upstream.calls().len(), 1);
    assert_eq!(cache_of(&alice, "up.look", r#"{"a":1,"b":"é"}"#).await, "hit");
    assert_eq!(cache_of(&alice, "up.look", r#"{"a":2}"#).await, "miss");
    assert_eq!(cache_of(&bob, "up.look", r#"{"a":1,"b":"é"}"#).await, "miss");
    assert_eq!(upstream.calls().len(), 3);
    assert_eq!(gateway.metric("twinway_cache_hits_total", &[]).await, 2.0);
    assert_eq!(gateway.metric("twinway_cache_misses_total", &[]).await, 3.0);
}

#[tokio::test]
async fn a_hit_is_the_same_in_both_eras_as_a_reply_of_the_target() {
    let upstream = upstream(READ_ONLY, Act::Echo).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url()).tables(KEEP)).await;
    for client in [gateway.modern(), gateway.legacy().await] {
        let missed = client.call("up.look", r#"{"z":1e400}"#).await.text();
        let hit = client.call("up.look", r#"{"z":1e400}"#).await.text();
        assert_eq!(missed, hit, "a number that no double holds passes by the cache");

        let missed = client.call("up.look", r#"{"z":1,"a":[]}"#).await.text();
        let hit = client.call("up.look", r#"{"z":1,"a":[]}"#).await.text();
        assert_eq!(missed, hit);
    }
    assert_eq!(upstream.calls().len(), 6);
}

#[tokio::test]
async fn only_tools_that_change_nothing_are_kept_and_only_trusted_ones_are_believed() {
    let plain = r#"{"name":"look","inputSchema":{"type":"object"}}"#;
    let (writes, lies) = (upstream(plain, Act::Echo).await, upstream(READ_ONLY, Act::Echo).await);
    let setup = Setup::new().upstream("writes", writes.url()).upstream_with("lies", lies.url(), "trust = \"none\"");
    let gateway = Gateway::start(setup.tables(KEEP)).await;
    let client = gateway.modern();

    for tool in ["writes.look", "lies.look"] {
        for _ in 0..2 {
            assert_eq!(cache_of(&client, tool, "{}").await, Value::Null, "{tool}");
        }
    }

    assert_eq!((writes.calls().len(), lies.calls().len()), (2, 2));
}

#[tokio::test]
async fn failures_and_questions_back_are_not_kept() {
    let acts = [
        Act::Result(r#"{"content":[],"isError":true}"#.to_owned()),
        Act::Error(r#"{"code":-32000,"message":"not now"}"#.to_owned()),
        Act::Status(503),
        Act::Body(r#"{"jsonrpc":"2.0","id":0,"result":{"resultType":"input_required","inputRequests":{}}}"#.to_owned()),
    ];
    for act in acts {
        let upstream = upstream(READ_ONLY, act.clone()).await;
        let gateway = Gateway::start(Setup::new().upstream("up", upstream.url()).tables(KEEP)).await;

        gateway.modern().call("up.look", "{}").await;
        gateway.modern().call("up.look", "{}").await;

        assert_eq!(upstream.calls().len(), 2, "{act:?}");
        assert_eq!(gateway.metric("twinway_cache_entries", &[]).await, 0.0, "{act:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_told_apart_with_certainty_passes_by_the_cache() {
    let upstream = upstream(READ_ONLY, Act::Echo).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url()).tables(KEEP)).await;
    let client = gateway.modern();
    let cases = [
        (r#"{"a":1,"a":2}"#, "duplicate_key"),
        (r#"{"a":"\ud800"}"#, "lone_surrogate"),
        (r#"{"a":12345678901234567890123}"#, "inexact_number"),
    ];
    for (arguments, reason) in cases {
        for _ in 0..2 {
            let answer = client.tool("up.look", arguments).meta(r#""twinway/explain":true"#).send().await.text();
            assert!(answer.contains(&format!(r#""cache":"bypass: {reason}""#)), "{answer}");
        }
        let label = format!("reason=\"{reason}\"");
        assert_eq!(gateway.metric("twinway_cache_bypasses_total", &[&label]).await, 2.0, "{reason}");
    }
    assert_eq!(upstream.calls().len(), 6);
}

#[tokio::test]
async fn a_result_is_given_away_no_longer_than_its_time() {
    let upstream = upstream(READ_ONLY, Act::Echo).await;
    let rule = "[[tool]]\nmatch = \"*\"\nread_only = true\ncache_ttl = \"50ms\"";
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url()).tables(rule)).await;
    let client = gateway.modern();

    until("the kept result to be too old", || async {
        client.call("up.look", "{}").await.result();
        (upstream.calls().len() >= 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_tool_with_another_definition_is_asked_again() {
    let upstream = upstream(READ_ONLY, Act::Result(r#"{"content":[{"type":"text","text":"old"}]}"#.to_owned())).await;
    let setup = Setup::new().upstream_with("up", upstream.url(), "refresh = \"50ms\"").tables(KEEP);
    let gateway = Gateway::start(setup).await;
    let client = gateway.modern();
    assert_eq!(client.call("up.look", "{}").await.content(), "old");

    let definition = READ_ONLY.replace("\"look\",", "\"look\",\"description\":\"better\",");
    let new = Act::Result(r#"{"content":[{"type":"text","text":"new"}]}"#.to_owned());
    upstream.becomes(Script::new(Serves::Both).defined("look", &definition, new));
    until("the new definition", || async { client.ask("tools/list").send().await.text().contains("better").then_some(()) }).await;

    assert_eq!(client.call("up.look", "{}").await.content(), "new");
    assert_eq!(cache_of(&client, "up.look", "{}").await, "hit");
}

#[tokio::test]
async fn what_is_kept_is_bounded() {
    let upstream = upstream(READ_ONLY, Act::Echo).await;
    let bounds = "[cache]\nentries_max = 2\nbytes_max = 100_000";
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url()).tables(&format!("{bounds}\n{KEEP}"))).await;
    let client = gateway.modern();

    for number in 0..5 {
        client.call("up.look", &format!("{{\"number\":{number}}}")).await;
    }
    let large = json!({ "text": "x".repeat(20_000) }).to_string();
    client.call("up.look", &large).await;

    assert_eq!(gateway.metric("twinway_cache_entries", &[]).await, 2.0);
    assert_eq!(gateway.metric("twinway_cache_evictions_total", &[]).await, 3.0);
    assert_eq!(cache_of(&client, "up.look", &large).await, "miss", "a result of a fifth of the memory is not kept");
    assert_eq!(cache_of(&client, "up.look", r#"{"number":4}"#).await, "hit");
    assert_eq!(cache_of(&client, "up.look", r#"{"number":0}"#).await, "miss");
}
