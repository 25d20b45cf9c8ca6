//! Subscriptions to resources: from when on they hold, and what a client is told of one that does not.

use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;
use serde_json::{Value, json};

use crate::{
    stdio::program,
    support::{Answer, Gateway, Mcp, Open, Program, Setup, conformance_program, conformance_server, open, skip, until, within},
};

const WATCHED: &str = "test://watched-resource";
const UPDATED: &str = "notifications/resources/updated";

/// A server that takes note of a subscription so late that nothing would be told of a change that does not wait for it.
const LATE: [&str; 2] = ["--takes-note-after", "0.05"];

/// How often something is tried that could go well by chance.
const TIMES: usize = 20;

/// The Python SDK's server, of each era and on each carrier, behind one gateway.
struct Farm {
    gateway: Gateway,
    _servers: Vec<Program>,
}

const SERVERS: [&str; 5] = ["legacy", "modern", "old", "legacy-program", "modern-program"];

impl Farm {
    async fn start() -> Result<Self, String> {
        let ((legacy, at_legacy), (modern, at_modern), (old, at_old)) = tokio::try_join!(
            conformance_server("legacy", &LATE),
            conformance_server("modern", &LATE),
            conformance_server("legacy", &["--sse", LATE[0], LATE[1]]),
        )?;
        let mut setup = Setup::new().upstream("legacy", at_legacy).upstream("modern", at_modern);
        setup = setup.upstream_with("old", at_old, "transport = \"sse\"");
        for era in ["legacy", "modern"] {
            let command = [conformance_program(era)?, LATE.map(String::from).to_vec()].concat();
            setup = setup.tables(&program(&format!("{era}-program"), &command, ""));
        }
        let gateway = Gateway::start(setup).await;
        for server in SERVERS {
            gateway.target_is(server, "ready").await;
        }
        Ok(Self { gateway, _servers: vec![legacy, modern, old] })
    }
}

/// The stream of a session.
async fn stream_of(client: &Mcp) -> Open {
    let mut request = client.head(Method::GET, String::new());
    request.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
    open(client.address, request).await
}

async fn subscribe(client: &Mcp, uri: &str) -> Answer {
    client.ask("resources/subscribe").params(&format!(r#""uri":"{uri}""#)).send().await
}

async fn unsubscribe(client: &Mcp, uri: &str) {
    client.ask("resources/unsubscribe").params(&format!(r#""uri":"{uri}""#)).send().await.result();
}

/// A modern client's stream for these resources, and which of them are honoured.
async fn listen(client: &Mcp, uris: &[&str]) -> (Open, Value) {
    let filter = format!(r#""notifications":{}"#, json!({ "resourceSubscriptions": uris }));
    let mut stream = client.ask("subscriptions/listen").params(&filter).open().await;
    let acknowledged = stream.event().await.unwrap();
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    (stream, acknowledged["params"]["notifications"]["resourceSubscriptions"].clone())
}

async fn changes(client: &Mcp) {
    assert_eq!(client.call("test_trigger_resource_update", "{}").await.content(), "The resource changed");
}

async fn is_told(stream: &mut Open) {
    // The stream alone never ends: it is kept alive.
    let told = within("the update", stream.event()).await.unwrap();
    assert_eq!((&told["method"], &told["params"]["uri"]), (&json!(UPDATED), &json!(WATCHED)));
}

#[tokio::test]
async fn a_change_right_after_the_answer_to_a_subscription_is_told_in_a_session() {
    let test = async {
        let farm = Farm::start().await?;
        for server in SERVERS {
            let client = farm.gateway.legacy_at(server).await;
            let mut stream = stream_of(&client).await;
            for _ in 0..TIMES {
                assert_eq!(subscribe(&client, WATCHED).await.result(), json!({}), "{server}");
                changes(&client).await;
                is_told(&mut stream).await;
                unsubscribe(&client, WATCHED).await;
            }
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("subscriptions::a_change_right_after_the_answer_to_a_subscription_is_told_in_a_session", &reason);
    }
}

#[tokio::test]
async fn a_change_right_after_the_acknowledgement_is_told_to_a_modern_client() {
    let test = async {
        let farm = Farm::start().await?;
        for server in SERVERS {
            let client = farm.gateway.modern().at(server);
            for _ in 0..TIMES {
                let (mut stream, honoured) = listen(&client, &[WATCHED]).await;
                assert_eq!(honoured, json!([WATCHED]), "{server}");
                changes(&client).await;
                is_told(&mut stream).await;
            }
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("subscriptions::a_change_right_after_the_acknowledgement_is_told_to_a_modern_client", &reason);
    }
}

#[tokio::test]
async fn what_changes_while_another_resource_comes_to_be_wanted_is_told() {
    let test = async {
        let farm = Farm::start().await?;
        for server in ["modern", "modern-program"] {
            let (client, other) = (farm.gateway.legacy_at(server).await, farm.gateway.legacy_at(server).await);
            let mut stream = stream_of(&client).await;
            subscribe(&client, WATCHED).await.result();
            for _ in 0..TIMES {
                // The server is asked anew when another resource is wanted, and takes its time.
                let (answer, ()) = tokio::join!(subscribe(&other, "test://static-text"), changes(&client));
                answer.result();
                is_told(&mut stream).await;
                unsubscribe(&other, "test://static-text").await;
            }
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("subscriptions::what_changes_while_another_resource_comes_to_be_wanted_is_told", &reason);
    }
}

/// A legacy server that takes some subscriptions, once each, refuses others, and is silent about the rest; `asked` tells of which it was
/// asked.
const CHOOSY: &str = r#"
import json, sys
def say(message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
names, asked_for = ["good", "better", "refused", "silent"], []
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    method, result = asked["method"], None
    if method == "initialize":
        capabilities, info = {"tools": {}, "resources": {"subscribe": True}}, {"name": "choosy", "version": "1"}
        result = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info}
    elif method == "tools/list":
        result = {"tools": [{"name": "asked", "inputSchema": {"type": "object"}}]}
    elif method == "tools/call":
        result = {"content": [{"type": "text", "text": " ".join(asked_for)}]}
    elif method == "resources/list":
        result = {"resources": [{"name": name, "uri": f"x://{name}"} for name in names]}
    elif method == "resources/templates/list":
        result = {"resourceTemplates": []}
    elif method == "resources/subscribe":
        name = asked["params"]["uri"].removeprefix("x://")
        is_new = name not in asked_for
        asked_for.append(name)
        if name == "refused":
            say({"id": asked["id"], "error": {"code": -32050, "message": "not that one"}})
        elif name != "silent" and is_new:
            say({"id": asked["id"], "result": {}})
        continue
    say({"id": asked["id"], "result": result} if result else {"id": asked["id"], "error": {"code": -32601, "message": "no"}})
"#;

async fn behind(source: &str) -> Gateway {
    let command = ["python3", "-c", source].map(String::from);
    let gateway = Gateway::start(Setup::new().tables(&program("up", &command, ""))).await;
    gateway.target_is("up", "ready").await;
    gateway
}

#[tokio::test]
async fn whoever_is_refused_is_told_so_and_a_second_client_does_not_wait_for_what_holds() {
    let gateway = behind(CHOOSY).await;
    let (one, two) = (gateway.legacy_at("up").await, gateway.legacy_at("up").await);

    let refused = subscribe(&one, "x://refused").await.error();
    subscribe(&one, "x://good").await.result();
    subscribe(&two, "x://good").await.result();
    let (_stream, honoured) = listen(&gateway.modern().at("up"), &["x://refused", "x://good"]).await;

    assert_eq!(refused, json!({"code": -32050, "message": "not that one"}));
    assert_eq!(honoured, json!(["x://good"]));
    assert_eq!(two.call("asked", "{}").await.content(), "refused good refused");
}

#[tokio::test]
async fn a_target_that_says_nothing_holds_nobody_else_and_whoever_waits_is_told_in_the_end() {
    let gateway = behind(CHOOSY).await;
    let (client, modern) = (gateway.legacy_at("up").await, gateway.modern().at("up"));
    let is_answered = AtomicBool::new(false);

    let silent = async {
        let answer = subscribe(&client, "x://silent").await;
        is_answered.store(true, Ordering::Relaxed);
        answer.error()
    };
    let good = async {
        until("the request", || async { client.call("asked", "{}").await.content().contains("silent").then_some(()) }).await;
        subscribe(&client, "x://good").await.result();
        assert!(!is_answered.load(Ordering::Relaxed), "it did not wait for the other one");
    };
    let (silent, (), (_stream, honoured)) = tokio::join!(silent, good, listen(&modern, &["x://silent", "x://better"]));

    assert_eq!(silent["data"]["code"], "deadline_exceeded");
    assert_eq!(honoured, json!(["x://better"]));
}

/// A modern server that listens for one request at a time, and honours only what is good.
const ONCE: &str = r#"
import json, sys
def say(message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
heard = None
for line in sys.stdin:
    asked = json.loads(line)
    method, params = asked["method"], asked.get("params", {})
    if method == "notifications/cancelled" and params["requestId"] == heard:
        heard = None
    if "id" not in asked:
        continue
    result = None
    if method == "server/discover":
        result = {"supportedVersions": ["2026-07-28"], "capabilities": {"resources": {"subscribe": True}}}
    elif method == "tools/list":
        result = {"tools": []}
    elif method == "resources/list":
        result = {"resources": [{"name": name, "uri": f"x://{name}"} for name in ["good", "good-too", "bad"]]}
    elif method == "resources/templates/list":
        result = {"resourceTemplates": []}
    elif method == "subscriptions/listen" and heard is None:
        heard = asked["id"]
        honoured = [uri for uri in params["notifications"]["resourceSubscriptions"] if uri.startswith("x://good")]
        meta = {"io.modelcontextprotocol/subscriptionId": heard}
        params = {"notifications": {"resourceSubscriptions": honoured}, "_meta": meta}
        say({"method": "notifications/subscriptions/acknowledged", "params": params})
        continue
    error = {"code": -32603, "message": "no"}
    say({"id": asked["id"], "result": {"resultType": "complete", **result}} if result else {"id": asked["id"], "error": error})
"#;

#[tokio::test]
async fn what_a_modern_server_does_not_honour_is_refused_and_one_that_listens_once_is_asked_anew() {
    let gateway = behind(ONCE).await;
    let client = gateway.legacy_at("up").await;

    subscribe(&client, "x://good").await.result();
    subscribe(&client, "x://good-too").await.result();
    let bad = subscribe(&client, "x://bad").await.error();
    let (_stream, honoured) = listen(&gateway.modern().at("up"), &["x://bad", "x://good"]).await;

    assert_eq!((&bad["code"], &bad["data"]["code"]), (&json!(-32603), &json!("upstream_error")));
    assert_eq!(honoured, json!(["x://good"]));
}
