//! Deprecated tools: what lists say of them, and who is told when.

use serde_json::{Value, json};

use crate::support::{Act, Gateway, Script, Scripted, Serves, Setup};

const RULE: &str = "[[tool]]\nmatch = \"up.old\"\ndeprecated = true\ndeprecation_message = \"use up.new\"";

async fn start(setup: Setup) -> (Scripted, Gateway) {
    let script = Script::new(Serves::Both)
        .defined("old", r#"{"name":"old","description":"Adds.","inputSchema":{"type":"object","x":1e400}}"#, Act::Echo)
        .defined("new", r#"{"name":"new","description":"Adds.","inputSchema":{"type":"object"}}"#, Act::Echo);
    let upstream = Scripted::start(script).await;
    let gateway = Gateway::start(setup.upstream("up", upstream.url()).tables(RULE)).await;
    (upstream, gateway)
}

fn notice(result: &Value) -> Value {
    result["_meta"]["twinway/deprecation"].clone()
}

#[tokio::test]
async fn the_list_says_so_in_the_description_and_nowhere_else() {
    let (_upstream, gateway) = start(Setup::new()).await;

    let text = gateway.modern().ask("tools/list").send().await.text();

    let old = r#"{"name":"up.old","description":"[deprecated: use up.new] Adds.","inputSchema":{"type":"object","x":1e400}}"#;
    assert!(text.contains(old), "{text}");
    assert!(text.contains(r#"{"name":"up.new","description":"Adds.","inputSchema":{"type":"object"}}"#), "{text}");
    let own = gateway.modern().at("up").ask("tools/list").send().await.text();
    assert!(own.contains("[deprecated: use up.new] Adds."), "rules know it by its name in the merged view: {own}");
}

#[tokio::test]
async fn each_client_is_told_once_and_every_call_is_counted() {
    let (_upstream, gateway) =
        start(Setup::new().client("alice", "alice-has-a-token").client("bob", "bob-has-a-token-too")).await;
    let (alice, bob) = (gateway.modern().bearer("alice-has-a-token"), gateway.modern().bearer("bob-has-a-token-too"));
    let expected = json!({"tool": "up.old", "message": "use up.new"});

    assert_eq!(notice(&alice.call("up.old", "{}").await.result()), expected);
    assert_eq!(notice(&alice.call("up.old", "{}").await.result()), Value::Null);
    assert_eq!(notice(&alice.call("up.new", "{}").await.result()), Value::Null);
    assert_eq!(notice(&bob.call("up.old", "{}").await.result()), expected);

    let calls = gateway.metric("twinway_deprecated_calls_total", &["tool=\"up.old\""]).await;
    assert_eq!(calls, 3.0);
    for client in ["alice", "bob"] {
        gateway.program.logs(&format!("client=\"{client}\"")).await;
    }
}

#[tokio::test]
async fn a_session_is_a_client_and_the_notice_goes_with_an_explanation() {
    let (_upstream, gateway) = start(Setup::new()).await;
    for _ in 0..2 {
        let client = gateway.legacy().await;
        let first = client.tool("up.old", "{}").meta(r#""twinway/explain":true"#).send().await.result();

        assert_eq!(notice(&first)["tool"], "up.old");
        assert_eq!(first["_meta"]["twinway/explain"]["target"], "up");
        assert_eq!(first["structuredContent"], json!({}));
        assert_eq!(notice(&client.call("up.old", "{}").await.result()), Value::Null);
    }
}
