//! OpenAPI documents as they are found outside of FastAPI: large ones of public APIs, broken ones, and hostile ones.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::support::{Canned, Gateway, Program, Setup, python_program, serve, skip};

/// A gateway before an API whose document has that address.
async fn before(url: &str) -> Gateway {
    Gateway::start(Setup::new().upstream_with("api", url, "kind = \"openapi\"")).await
}

/// A gateway before an API with that document, which answers every call with `{}`.
async fn before_document(document: Vec<u8>) -> (Gateway, Canned) {
    let api = Canned::start(move |path| match path {
        "/openapi.json" => document.clone(),
        _ => Canned::ok("application/json", b"{}"),
    })
    .await;
    (before(&api.url()).await, api)
}

fn document(members: &Value) -> Vec<u8> {
    let mut document = json!({"openapi": "3.1.0", "info": {"title": "t", "version": "1"}});
    document.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    Canned::ok("application/json", document.to_string().as_bytes())
}

/// What a client holds against `schema` holds.
fn conforms(schema: &Value, value: &Value, what: &str) {
    let validator = jsonschema::draft202012::new(schema).unwrap_or_else(|error| panic!("{what}: {error}"));
    let faults: Vec<_> = validator.iter_errors(value).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{what}: {faults:?} in {value}");
}

/// Calls every operation of a document of that style once, as a client that believes in the definitions does.
async fn every_operation(style: &str) -> Result<(), String> {
    let program = |option: &str| {
        let mut command = python_program("openapi_documents.py")?;
        command.args([style, option]);
        Ok::<_, String>(command)
    };
    // Before we say what a document means, somebody else says that it is one.
    assert_eq!(Program::start(program("--check")?).event_with("valid").await, true);
    let (_api, url) = serve(program("--until-stdin-closes")?).await;
    let samples = {
        let address = url.trim_start_matches("http://").parse().unwrap();
        crate::support::send(address, http::Request::get("/test/samples").body(String::new()).unwrap()).await.json()
    };
    let samples = samples.as_array().unwrap();
    assert!(samples.len() >= 500, "{}", samples.len());
    let gateway = before(&url).await;
    gateway.target_is("api", "ready").await;
    let client = gateway.modern().at("api");
    let pages = client.pages().await;
    let tools: HashMap<&str, &Value> = pages
        .iter()
        .flat_map(|page| page["tools"].as_array().unwrap())
        .map(|tool| (tool["name"].as_str().unwrap(), tool))
        .collect();
    assert_eq!(tools.len(), samples.len(), "every operation is a tool, and nothing else is");

    for sample in samples {
        let name = sample["tool"].as_str().unwrap();
        let tool = tools.get(name).unwrap_or_else(|| panic!("no `{name}` in {:?}", tools.keys()));
        conforms(&tool["inputSchema"], &sample["arguments"], name);

        let result = client.call(name, &sample["arguments"].to_string()).await.result();

        // The API answers what it did not expect with an error that says what differs.
        assert_eq!(result["isError"], Value::Null, "{name}: {result}");
        let expected = match &sample["answer"] {
            answer @ (Value::Object(_) | Value::Null) => answer.clone(),
            answer => json!({ "result": answer }),
        };
        assert_eq!(result["structuredContent"], expected, "{name}");
        if !expected.is_null() {
            conforms(&tool["outputSchema"], &expected, name);
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_operation_of_a_code_forge_is_called_as_its_document_says() {
    if let Err(reason) = every_operation("forge").await {
        skip("openapi_documents::every_operation_of_a_code_forge_is_called_as_its_document_says", &reason);
    }
}

#[tokio::test]
async fn every_operation_of_a_cluster_manager_is_called_as_its_document_says() {
    if let Err(reason) = every_operation("cluster").await {
        skip("openapi_documents::every_operation_of_a_cluster_manager_is_called_as_its_document_says", &reason);
    }
}

#[tokio::test]
async fn every_operation_of_a_payment_service_is_called_as_its_document_says() {
    if let Err(reason) = every_operation("ledger").await {
        skip("openapi_documents::every_operation_of_a_payment_service_is_called_as_its_document_says", &reason);
    }
}

#[tokio::test]
async fn a_document_that_leads_elsewhere_leads_nowhere() {
    let elsewhere = Canned::start(|_| Canned::ok("application/json", b"{}")).await;
    let evil = elsewhere.url();
    let (gateway, api) = before_document(document(&json!({
        "servers": [{"url": evil}],
        "paths": {
            "/here": {"get": {"operationId": "here"}},
            "/moved": {"get": {"operationId": "moved"}},
            "/there": {"get": {"operationId": "there", "servers": [{"url": evil}]}},
            "/item": {"$ref": format!("{evil}/item.json")},
            "/parameter": {"get": {"operationId": "parameter", "parameters": [{"$ref": format!("{evil}/p.json")}]}},
            "/schema": {"get": {"operationId": "schema", "parameters": [
                {"name": "q", "in": "query", "schema": {"$ref": format!("{evil}/q.json")}}]}},
        },
    })))
    .await;
    gateway.target_is("api", "ready").await;
    let client = gateway.modern().at("api");

    assert_eq!(client.tool_names().await, ["here", "moved"]);
    client.call("here", "{}").await.result();

    let asked = api.asked();
    assert!(asked.contains(&"GET /here".to_owned()), "{asked:?}");
    for operation in ["GET /there", "/item", "GET /parameter", "GET /schema"] {
        let named = gateway.program.log().lines().any(|line| line.contains("not offered") && line.contains(operation));
        assert!(named, "{operation} is not named in {}", gateway.program.log());
    }
    assert_eq!(elsewhere.asked(), [""; 0]);
}

#[tokio::test]
async fn redirects_are_refused_and_name_where_they_lead() {
    let elsewhere = Canned::start(|_| Canned::ok("application/json", b"{}")).await;
    let evil = elsewhere.url();
    let (to, offered) = (evil.clone(), document(&json!({"paths": {"/moved": {"get": {"operationId": "moved"}}}})));
    let api = Canned::start(move |path| if path == "/openapi.json" { offered.clone() } else { Canned::redirect(&to) }).await;
    let gateway = before(&api.url()).await;
    gateway.target_is("api", "ready").await;

    let error = gateway.modern().at("api").call("moved", "{}").await.error();

    assert!(error["message"].as_str().unwrap().contains(&evil), "{error}");
    let (moved, _) = before_document(Canned::redirect(&evil)).await;
    moved.program.logs(&evil).await;
    assert_eq!(elsewhere.asked(), [""; 0]);
}

#[tokio::test]
async fn a_document_that_cannot_be_used_says_why() {
    let nested = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let compressed = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\nconnection: close\r\n\r\n\x1f\x8b";
    let huge = b"HTTP/1.1 200 OK\r\ncontent-length: 60000000\r\nconnection: close\r\n\r\n{";
    let cases = [
        (Canned::ok("text/html", b"<html>Log in</html>"), "the OpenAPI document is not JSON"),
        (Canned::ok("application/json", br#"{"swagger":"2.0"}"#), "OpenAPI version 2.0; 3.0 and 3.1 are understood"),
        (Canned::ok("application/json", br#"{"openapi":"4.0.0"}"#), "OpenAPI version 4.0.0"),
        (Canned::ok("application/json", b"{}"), "has no member `openapi`"),
        (Canned::ok("application/json", nested.as_bytes()), "recursion limit"),
        (compressed.to_vec(), "is compressed, which was not asked for"),
        (huge.to_vec(), "larger than"),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(), "404"),
    ];
    for (answer, reason) in cases {
        let (gateway, _api) = before_document(answer).await;

        gateway.program.logs(reason).await;

        assert_ne!(gateway.target("api").await["state"], "ready", "{reason}");
        assert_eq!(gateway.modern().at("api").tool_names().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_hostile_operation_costs_only_itself() {
    let laughs: serde_json::Map<_, _> = (0..60)
        .map(|level| {
            let next = json!({"$ref": format!("#/components/schemas/l{}", (level + 1) % 60)});
            (format!("l{level}"), json!({"type": "object", "properties": {"a": next, "b": next, "c": next}}))
        })
        .collect();
    let deep = (0..100).fold(json!({"type": "string"}), |schema, _| json!({"not": schema}));
    let query = |schema: Value| json!([{"name": "q", "in": "query", "schema": schema}]);
    let many: Vec<_> = (0..20_000).map(|number| json!({"name": format!("p{number}"), "in": "query", "schema": {}})).collect();
    let (gateway, api) = before_document(document(&json!({
        "paths": {
            "/good": {"get": {"operationId": "good", "parameters": query(json!({"type": "string"}))}},
            "/laughs": {"get": {"operationId": "laughs", "parameters": query(json!({"$ref": "#/components/schemas/l0"}))}},
            "/loop": {"get": {"operationId": "loop", "parameters": [{"$ref": "#/components/parameters/loop"}]}},
            "/deep": {"get": {"operationId": "deep", "parameters": query(deep)}},
            "/many": {"get": {"operationId": "many", "parameters": many}},
            "/header": {"get": {"operationId": "header", "parameters": [{"name": "x\r\ny: z", "in": "header", "schema": {}}]}},
            "/line\r\nHost: evil": {"get": {"operationId": "line"}},
            "/../../admin": {"get": {"operationId": "up"}},
            "/%2e%2e/admin": {"get": {"operationId": "encoded_up"}},
            "//evil.example/x": {"get": {"operationId": "authority"}},
            "/{name}": {"get": {"operationId": "segment"}},
        },
        "components": {"schemas": laughs, "parameters": {"loop": {"$ref": "#/components/parameters/loop"}}},
    })))
    .await;
    gateway.target_is("api", "ready").await;
    let client = gateway.modern().at("api");

    let names = client.tool_names().await;

    assert!(names.contains(&"good".to_owned()), "{names:?}");
    for refused in ["loop", "header", "up", "encoded_up"] {
        assert!(!names.contains(&refused.to_owned()), "{refused} is offered");
    }
    for name in names.iter().filter(|name| *name != "segment") {
        client.call(name, "{}").await;
    }
    for name in ["..", "a/../b", "a\r\nb"] {
        client.call("segment", &json!({ "name": name }).to_string()).await;
    }
    client.call("good", r#"{"q":"x&y=z\r\n"}"#).await.result();
    let asked = api.asked();
    assert!(asked.contains(&"GET /good?q=x%26y%3Dz%0D%0A".to_owned()), "{asked:?}");
    for request in &asked {
        let path = request.strip_prefix("GET ").unwrap();
        assert!(path.starts_with('/') && !path.contains("/..") && !path.contains("admin"), "{request}");
    }
}
