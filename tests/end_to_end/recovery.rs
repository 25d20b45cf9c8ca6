//! What becomes of calls whose target fails: made elsewhere, made again, or not sent at all.

use serde_json::{Value, json};

use crate::support::{Act, Answer, Gateway, Mcp, Script, Scripted, Serves, Setup};

/// A node that everybody on this machine may call.
const OPEN: &str = "[p2p]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nauthority = \"open-loopback\"\n";

/// One tool out of two.
const ECHO: &str = "[[tool]]\nname = \"echo\"\nfrom = [\"near.echo\", \"far.up.echo\"]\n";

fn echo() -> Script {
    Script::new(Serves::Both).tool("echo", Act::Echo)
}

/// The explanation of a call that succeeded.
async fn explained(client: &Mcp, tool: &str) -> Value {
    let answer = client.tool(tool, r#"{"n":1}"#).meta(r#""twinway/explain":true"#).send().await.result();
    assert_eq!(answer["structuredContent"], json!({"n": 1}), "{answer}");
    answer["_meta"]["twinway/explain"].clone()
}

fn data(answer: &Answer) -> Value {
    answer.error()["data"].clone()
}

/// A gateway with an upstream `near` and a peer `far`, whose upstream is `up`.
async fn both_ways(near: &Scripted, up: &Scripted, tables: &str) -> (Gateway, Gateway) {
    let far = Gateway::start(Setup::new().upstream("up", up.url()).tables(OPEN)).await;
    far.target_is("up", "ready").await;
    let tables = format!("[p2p]\n[[peer]]\nname = \"far\"\naddress = \"{}\"\n{tables}", far.p2p());
    let gateway = Gateway::start(Setup::new().upstream("near", near.url()).tables(&tables)).await;
    gateway.target_is("near", "ready").await;
    gateway.target_is("far", "ready").await;
    (gateway, far)
}

#[tokio::test]
async fn one_tool_out_of_two_falls_back_to_the_peer_when_the_upstream_is_gone() {
    let (near, up) = (Scripted::start(echo().tool("other", Act::Echo)).await, Scripted::start(echo()).await);
    let (gateway, _far) = both_ways(&near, &up, ECHO).await;
    let client = gateway.modern();
    assert_eq!(client.tool_names().await, ["echo", "near.other"], "the parts have no names of their own any more");
    assert_eq!(gateway.modern().at("near").tool_names().await, ["echo", "other"], "but in their target's own view");
    let first = explained(&client, "echo").await;
    assert_eq!((&first["target"], &first["reason"]), (&json!("near"), &json!("default")), "{first}");

    near.stop().await;
    let second = explained(&client, "echo").await;

    assert_eq!((&second["target"], &second["reason"]), (&json!("far"), &json!("fallback")), "{second}");
    let failed = json!([{"runtime": "http", "target": "near", "error": "unavailable", "delivery": "not_sent"}]);
    assert_eq!(second["attempts"], failed, "{second}");
    assert_eq!(gateway.metric("twinway_call_fallbacks_total", &["target=\"near\""]).await, 1.0);
    assert_eq!(up.calls().len(), 1);

    // Once the catalogue knows, nobody tries in vain any more.
    gateway.target_is("near", "stale").await;
    let third = explained(&client, "echo").await;
    assert_eq!((&third["target"], third.get("attempts")), (&json!("far"), None), "{third}");
}

#[tokio::test]
async fn a_side_effect_that_may_have_happened_is_not_made_elsewhere() {
    let dying = Script::new(Serves::Both).tool("echo", Act::Die);
    for (lines, delivery) in [("", "unknown"), ("idempotent = true\n", "")] {
        let (near, up) = (Scripted::start(dying.clone()).await, Scripted::start(echo()).await);
        let (gateway, _far) = both_ways(&near, &up, &format!("{ECHO}{lines}")).await;

        let answer = gateway.modern().call("echo", r#"{"n":1}"#).await;

        assert_eq!(near.calls().len(), 1);
        assert_eq!(up.calls().len(), usize::from(!lines.is_empty()), "{lines}");
        if lines.is_empty() {
            assert_eq!(data(&answer)["delivery"], delivery);
        } else {
            assert_eq!(answer.result()["structuredContent"], json!({"n": 1}));
        }
    }
}

#[tokio::test]
async fn parts_with_other_schemas_stay_apart_and_the_log_says_why() {
    let other = r#"{"name":"echo","inputSchema":{"type":"object","required":["n"]}}"#;
    let (near, far) =
        (Scripted::start(echo()).await, Scripted::start(Script::new(Serves::Both).defined("echo", other, Act::Echo)).await);
    for (lines, expected) in [("", vec!["echo", "far.echo"]), ("compatible = true\n", vec!["echo"])] {
        let tables = format!("[[tool]]\nname = \"echo\"\nfrom = [\"near.echo\", \"far.echo\"]\n{lines}");
        let gateway = Gateway::start(Setup::new().upstream("near", near.url()).upstream("far", far.url()).tables(&tables)).await;
        gateway.target_is("near", "ready").await;
        gateway.target_is("far", "ready").await;

        assert_eq!(gateway.modern().tool_names().await, expected, "{lines}");
    }
}

#[tokio::test]
async fn an_idempotent_tool_is_tried_again_and_a_plain_one_is_not() {
    let script = Script::new(Serves::Modern).tool("put", Act::Status(503)).tool("pay", Act::Status(503));
    let upstream = Scripted::start(script).await;
    let tables = "[[tool]]\nmatch = \"up.put\"\nidempotent = true\nretry = { policy = \"fixed\", attempts = 3, delay = \"1ms\" }\n\
                  [[tool]]\nmatch = \"up.pay\"\nretry = { policy = \"fixed\", attempts = 3, delay = \"1ms\" }\n";
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url()).tables(tables)).await;
    let client = gateway.modern();

    let (put, pay) = (client.call("up.put", "{}").await, client.call("up.pay", "{}").await);

    assert_eq!((data(&put)["delivery"].clone(), data(&pay)["delivery"].clone()), (json!("unknown"), json!("unknown")));
    let asked = |tool: &str| upstream.calls().iter().filter(|call| call.tool == tool).count();
    assert_eq!((asked("put"), asked("pay")), (3, 1));
    assert_eq!(gateway.metric("twinway_call_retries_total", &["target=\"up\""]).await, 2.0);
}

#[tokio::test]
async fn a_target_that_cannot_be_reached_is_left_alone_and_found_again() {
    let upstream = Scripted::start(echo()).await;
    let lines = "breaker = { failures = 3, wait = \"300ms\" }";
    let gateway = Gateway::start(Setup::new().upstream_with("up", upstream.url(), lines)).await;
    gateway.target_is("up", "ready").await;
    let client = gateway.modern();
    client.call("up.echo", "{}").await.result();
    let address = upstream.address();
    upstream.stop().await;
    for _ in 0..3 {
        client.call("up.echo", "{}").await.error();
    }
    assert_eq!(gateway.metric("twinway_breaker_state", &["target=\"up\""]).await, 2.0);

    let refused = client.call("up.echo", "{}").await;

    assert_eq!((data(&refused)["code"].clone(), data(&refused)["delivery"].clone()), ("unavailable".into(), "not_sent".into()));
    let message = refused.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("`up`") && message.contains("it is tried again in"), "{message}");
    assert!(data(&refused)["retryAfterMs"].as_u64().is_some_and(|ms| ms <= 300), "{}", refused.text());

    let _back = Scripted::start_at(echo(), address).await;
    crate::support::until("the target to be found again", || async {
        client.call("up.echo", "{}").await.json().get("result").is_some().then_some(())
    })
    .await;
    assert_eq!(gateway.metric("twinway_breaker_state", &["target=\"up\""]).await, 0.0);
}
