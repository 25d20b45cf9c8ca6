//! The way in for clients that know no MCP: `/tools/list`, `/tools/execute/{tool}` and `/openapi.json`.

use http::{Method, Request};
use serde_json::{Value, json};

use crate::support::{Act, Answer, Gateway, Program, Script, Scripted, Serves, Setup, fastapi_app, python_program, send, skip};

const TOKEN: &str = "a-token-of-alice";

/// A schema that refers to itself, with a definition that has a name of its own.
const CYCLIC: &str = r##"{"name":"a/b {c}?","description":"Trees","inputSchema":{"type":"object",
    "properties":{"tree":{"$ref":"#/$defs/Tree~1Node"}},"required":["tree"],
    "$defs":{"Tree/Node":{"type":"object","properties":{"children":{"type":"array","items":{"$ref":"#/$defs/Tree~1Node"},
    "maxItems":2}}}}},"outputSchema":{"type":"object","properties":{"x":{"type":"integer"}},"required":["x"]}}"##;

/// What a careless server says.
const BROKEN: &str = r#"{"name":"broken","inputSchema":{"type":"object","properties":{"a":{"type":"any"}}}}"#;

fn result(result: &str) -> Act {
    Act::Result(result.to_owned())
}

fn script() -> Script {
    Script::new(Serves::Both)
        .tool("echo", Act::Echo)
        .tool("text", result(r#"{"content":[{"type":"text","text":"a\u00fc"}]}"#))
        .tool("number", result(r#"{"content":[],"structuredContent":{"n":1.50,"big":12345678901234567890123}}"#))
        .tool("fail", result(r#"{"content":[{"type":"text","text":"no luck"}],"isError":true}"#))
        .defined("broken", BROKEN, result(r#"{"content":[]}"#))
        .defined("a/b {c}?", CYCLIC, result(r#"{"content":[],"structuredContent":{"x":7}}"#))
}

async fn request(gateway: &Gateway, method: Method, path: &str, kind: &str, body: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).header("content-type", kind);
    send(gateway.address, request.body(body.to_owned()).unwrap()).await
}

async fn execute(gateway: &Gateway, tool: &str, body: &str) -> Answer {
    request(gateway, Method::POST, &format!("/tools/execute/{tool}"), "application/json", body).await
}

#[tokio::test]
async fn a_call_gets_what_the_tool_answered_byte_for_byte() {
    let upstream = Scripted::start(script()).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;

    // Clients that know the tool by a name that others would not take find it by that.
    let repaired = gateway.modern().tool_names().await.remove(0);
    let cyclic = format!(r#"{{"tool":"{repaired}","status":"success","result":{{"x":7}}}}"#);
    let cases = [
        ("up.text", r#"{"tool":"up.text","status":"success","result":"a\u00fc"}"#),
        ("up.number", r#"{"tool":"up.number","status":"success","result":{"n":1.50,"big":12345678901234567890123}}"#),
        ("up.a%2Fb%20%7Bc%7D%3F", &cyclic),
        ("up.a/b%20%7Bc%7D%3F", &cyclic),
        (&repaired, &cyclic),
    ];
    for (tool, expected) in cases {
        let answer = execute(&gateway, tool, "{}").await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, expected));
    }
    let arguments = r#"{ "z":1.0, "a":1e400, "z":2 }"#;
    execute(&gateway, "up.echo", arguments).await;
    assert_eq!(upstream.calls().last().unwrap().arguments(), arguments);
    execute(&gateway, "up.echo", "").await;
    assert_eq!(upstream.calls().last().unwrap().arguments(), "{}");
}

#[tokio::test]
async fn what_goes_wrong_is_said_with_the_status_and_whether_the_tool_ran() {
    let upstream = Scripted::start(script().tool("hangs", Act::Hold)).await;
    let slow = "[[tool]]\nmatch = \"up.hangs\"\ntimeout = \"100ms\"";
    let setup = Setup::new().upstream("up", upstream.url()).tables(slow).http("body_bytes_max = 1000");
    let gateway = Gateway::start(setup).await;

    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(1000));
    let cases = [
        ("up.nothing", "{}", 404, "there is no tool `up.nothing`", "not_sent"),
        ("up.echo", "[1]", 400, "the body is the tool's arguments, a JSON object", "not_sent"),
        ("up.echo", "{", 400, "the body is not JSON: ", "not_sent"),
        ("up.echo", large.as_str(), 413, "the body is larger than the limit of 1000 bytes", "not_sent"),
        ("up.hangs", "{}", 504, "", "unknown"),
    ];
    for (tool, body, status, detail, delivery) in cases {
        let answer = execute(&gateway, tool, body).await;
        let problem = answer.json();
        assert_eq!(answer.status, status, "{tool} {body:.20}: {problem}");
        assert!(problem["detail"].as_str().unwrap().starts_with(detail), "{problem}");
        assert_eq!(problem["data"]["delivery"], delivery, "{problem}");
    }
    let failed = execute(&gateway, "up.fail", "{}").await;
    assert_eq!((failed.status.as_u16(), failed.text().as_str()), (500, r#"{"detail":"no luck"}"#));
    let form = request(&gateway, Method::POST, "/tools/execute/up.echo", "text/plain", "{}").await;
    assert_eq!((form.status.as_u16(), upstream.calls().len()), (415, 2), "{}", form.text());
    let read = request(&gateway, Method::GET, "/tools/execute/up.echo", "", "").await;
    assert_eq!((read.status.as_u16(), read.header("allow")), (405, "POST"));
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_call() {
    let upstream = Scripted::start(script().tool("hangs", Act::Hold)).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;

    tokio::select! {
        _ = execute(&gateway, "up.hangs", "{}") => panic!("the call is not answered"),
        () = upstream.wait_for_calls(1) => {}
    }

    upstream.wait_for("an abandoned call", |seen| seen.method == "tools/call" && seen.abandoned).await;
}

#[tokio::test]
async fn health_is_told_to_head_too() {
    let gateway = Gateway::start(Setup::new()).await;

    for path in ["/health", "/health/ready", "/health/runtime", "/tools/list", "/openapi.json"] {
        let head = request(&gateway, Method::HEAD, path, "", "").await;
        let whole = gateway.get(path).await;
        assert_eq!((head.status, head.body.len()), (whole.status, 0), "{path}");
        assert_eq!(head.header("content-length"), whole.body.len().to_string(), "{path}");
        let refused = request(&gateway, Method::PUT, path, "", "").await;
        assert_eq!((refused.status.as_u16(), refused.header("allow")), (405, "GET, HEAD"), "{path}");
    }
}

#[tokio::test]
async fn whoever_has_no_token_gets_nothing() {
    let upstream = Scripted::start(script()).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url()).client("alice", TOKEN)).await;

    for (method, path) in [(Method::GET, "/tools/list"), (Method::GET, "/openapi.json"), (Method::POST, "/tools/execute/up.echo")]
    {
        let refused = request(&gateway, method, path, "application/json", "").await;
        assert_eq!((refused.status.as_u16(), refused.header("www-authenticate")), (401, "Bearer"), "{path}");
        assert!(refused.json()["detail"].as_str().unwrap().contains("bearer token"), "{path}");
    }
    assert!(upstream.calls().is_empty());
}

#[tokio::test]
async fn one_gateway_stands_behind_another_as_a_tool_server() {
    let upstream = Scripted::start(script()).await;
    let inner = Gateway::start(Setup::new().upstream("up", upstream.url()).client("outer", TOKEN)).await;
    let lines = "kind = \"tool-server\"\nbearer = \"env:INNER\"";
    let setup = Setup::new().upstream_with("in", format!("http://{}", inner.address), lines).variable("INNER", TOKEN);
    let outer = Gateway::start(setup).await;
    outer.target_is("in", "ready").await;

    let tools = outer.modern().at("in").pages().await[0]["tools"].clone();
    let repaired = tools[0]["name"].as_str().unwrap();
    let cyclic = outer.modern().call(&format!("in.{repaired}"), r#"{"tree":{}}"#).await.result();
    let failed = outer.modern().call("in.up.fail", "{}").await.result();

    let names: Vec<_> = tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert!(repaired.starts_with("up.a_b__c__-"), "{repaired}");
    assert_eq!(names, [repaired, "up.broken", "up.echo", "up.fail", "up.number", "up.text"]);
    let expected: Value = serde_json::from_str(CYCLIC).unwrap();
    assert_eq!(tools[0]["inputSchema"], expected["inputSchema"]);
    assert_eq!(cyclic["structuredContent"], json!({ "x": 7 }));
    assert_eq!(failed["content"][0]["text"], "HTTP 500 Internal Server Error: no luck");
}

/// Runs the client that knows nothing but the document: all that it says.
async fn openapi_client(gateway: &Gateway, arguments: &[&str]) -> Result<Vec<Value>, String> {
    let mut command = python_program("openapi_client.py")?;
    command.arg(format!("http://{}", gateway.address)).args(["--bearer", TOKEN]).args(arguments);
    let mut program = Program::start(command);
    let said = program.events().await;
    assert!(!said.is_empty(), "{}", program.log());
    Ok(said)
}

#[tokio::test]
async fn the_document_is_valid_and_a_client_made_from_it_calls_every_tool() {
    if let Err(reason) = validated().await {
        skip("the_document_is_valid_and_a_client_made_from_it_calls_every_tool", &reason);
    }
}

async fn validated() -> Result<(), String> {
    let (_app, app) = fastapi_app(&[]).await?;
    let upstream = Scripted::start(script()).await;
    let setup = Setup::new().upstream("up", upstream.url()).upstream_with("app", app, "kind = \"openapi\"");
    let gateway = Gateway::start(setup.client("alice", TOKEN)).await;
    gateway.target_is("app", "ready").await;
    gateway.target_is("up", "ready").await;
    let tools = gateway.modern().bearer(TOKEN).tool_names().await;
    let repaired = tools.iter().find(|tool| tool.starts_with("up.a_b__c__-")).unwrap();
    let keys = ["up.echo", "up.number", "up.fail", "up.broken", repaired, "list_tools"];
    let calls: Vec<_> = keys.iter().flat_map(|key| ["--call", key]).collect();

    let said = openapi_client(&gateway, &calls).await?;

    assert_eq!(said[0], json!({ "valid": { "operations": tools.len() + 1 } }));
    let called: Vec<_> = said.iter().filter_map(|event| Some((event["operation"].as_str()?, &event["statuses"]))).collect();
    assert_eq!(called.len(), keys.len(), "{said:?}");
    for (operation, statuses) in called {
        let expected = if operation == "up.fail" { "500" } else { "200" };
        assert!(statuses[expected].as_u64().is_some_and(|count| count > 0), "{operation}: {statuses}");
        assert_eq!(statuses.as_object().map(serde_json::Map::len), Some(1), "{operation}: {statuses}");
    }
    assert!(said.iter().all(|event| event.get("failed").is_none()), "{said:?}");
    Ok(())
}
