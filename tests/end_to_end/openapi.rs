//! Upstreams with an OpenAPI document: a FastAPI application under uvicorn, called through the gateway.

use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Mcp, Program, Setup, fastapi_app, skip, until};

/// A FastAPI application behind a gateway.
struct Farm {
    gateway: Gateway,
    app: Program,
    url: String,
}

impl Farm {
    async fn start(arguments: &[&str], lines: &str) -> Result<Self, String> {
        let (app, url) = fastapi_app(arguments).await?;
        let setup = Setup::new()
            .upstream_with("app", &url, &format!("kind = \"openapi\"\n{lines}"))
            .variable("KEY", "k 1&2")
            .variable("USER", "ada:secret")
            .variable("SID", "s1");
        let gateway = Gateway::start(setup).await;
        gateway.target_is("app", "ready").await;
        Ok(Self { gateway, app, url })
    }

    fn client(&self) -> Mcp {
        self.gateway.modern().at("app")
    }

    async fn call(&self, tool: &str, arguments: Value) -> Value {
        self.client().call(tool, &arguments.to_string()).await.result()
    }

    /// What the tool answered as structured content; it must have succeeded.
    async fn structured(&self, tool: &str, arguments: Value) -> Value {
        let result = self.call(tool, arguments).await;
        assert_eq!(result["isError"], Value::Null, "{tool}: {result}");
        result["structuredContent"].clone()
    }

    /// The text of a result that is an error.
    async fn complaint(&self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments).await;
        assert_eq!(result["isError"], true, "{tool}: {result}");
        result["content"][0]["text"].as_str().unwrap().to_owned()
    }

    async fn tools(&self) -> Vec<Value> {
        self.client().pages().await.iter().flat_map(|page| page["tools"].as_array().cloned().unwrap_or_default()).collect()
    }

    async fn tool(&self, name: &str) -> Value {
        let tools = self.tools().await;
        tools.iter().find(|tool| tool["name"] == name).cloned().unwrap_or_else(|| panic!("no `{name}` in {tools:?}"))
    }

    /// Speaks to the application itself.
    async fn direct(&self, method: &str, path: &str) -> Answer {
        let address = self.url.trim_start_matches("http://").parse().unwrap();
        crate::support::send(address, http::Request::builder().method(method).uri(path).body(String::new()).unwrap()).await
    }
}

/// The tests of this file need Python; without it they say so.
macro_rules! farm {
    ($name:literal, $arguments:expr, $lines:expr) => {
        match Farm::start($arguments, $lines).await {
            Ok(farm) => farm,
            Err(reason) => return skip(concat!("openapi::", $name), &reason),
        }
    };
}

#[tokio::test]
async fn every_kind_of_parameter_arrives_where_it_belongs() {
    for version in ["3.1.0", "3.0.3"] {
        let farm = farm!("every_kind_of_parameter_arrives_where_it_belongs", &["--openapi-version", version], "");
        let arguments =
            json!({"item_id": 7, "q": "a&b=c #ü/", "tag": ["x", "y,z"], "colour": "green", "x-trace": "t 1", "session": "s=1"});

        let seen = farm.structured("read_item_items__item_id__get", arguments.clone()).await;

        let expected =
            json!({"item_id": 7, "q": "a&b=c #ü/", "tag": ["x", "y,z"], "colour": "green", "x_trace": "t 1", "session": "s=1"});
        assert_eq!(seen, expected, "{version}");
        let by_model = json!({"limit": 5, "order": "down", "tags": ["a", "b"]});
        assert_eq!(farm.structured("by_model_by_model_get", by_model.clone()).await, by_model, "{version}");
    }
}

#[tokio::test]
async fn arguments_of_one_name_are_told_apart_and_bodies_are_sent_as_they_came() {
    let farm = farm!("arguments_of_one_name_are_told_apart_and_bodies_are_sent_as_they_came", &[], "");
    let maker = json!({"name": "ACME", "country": null});
    let part = json!({"id": 2, "name": "p", "price": 0.5, "maker": maker, "parts": []});
    let item = json!({"id": "path", "id_query": "q", "id_header": "h", "id_cookie": "c", "id_body": 1, "name": "n", "price": 2, "maker": maker, "parts": [part]});

    let seen = farm.structured("same_name_everywhere_items__id__put", item).await;

    assert_eq!(seen, json!({"path": "path", "query": "q", "header": "h", "cookie": "c", "body": 1}));
    let created = farm
        .structured(
            "create_item_items_post",
            json!({"id": 1, "name": "n", "price": 2, "maker": maker, "parts": [part], "dry": true}),
        )
        .await;
    assert_eq!(created["parts"][0]["maker"], maker);
    let tree = json!({"kind": "branch", "children": [{"kind": "leaf", "value": 1}, {"kind": "branch", "children": []}]});
    assert_eq!(farm.structured("measure_tree_trees_post", tree).await, json!({"result": 3}));
    let two = json!({"first": {"name": "a"}, "second": {"name": "b"}, "note": "c"});
    assert_eq!(farm.structured("two_bodies_two_post", two).await, json!({"result": ["a", "b", "c"]}));
    assert_eq!(farm.structured("sum_of_sum_post", json!({"body": [1, 2.5]})).await, json!({"result": 3.5}));
}

#[tokio::test]
async fn forms_and_files_go_up_and_downloads_come_back() {
    let farm = farm!("forms_and_files_go_up_and_downloads_come_back", &[], "");
    let form = json!({"name": "a&b", "scopes": ["x", "y z"]});
    assert_eq!(farm.structured("log_in_form_post", form.clone()).await, form);

    let plain = farm.structured("upload_upload_post", json!({"file": "AP8N", "note": "n\r\n--x"})).await;
    let named = json!({"data": "AA==", "filename": "ü.png", "media_type": "image/png"});
    let full = farm
        .structured("upload_upload_post", json!({"file": named, "note": "n", "more": ["AAA=", {"data": "AA", "filename": "b"}]}))
        .await;

    assert_eq!(
        plain,
        json!({"name": "file", "type": "application/octet-stream", "bytes": [0, 255, 13], "note": "n\r\n--x", "more": []})
    );
    assert_eq!(full["name"], "ü.png");
    assert_eq!((&full["type"], &full["more"]), (&json!("image/png"), &json!([["more", 2], ["b", 1]])));
    assert_eq!(farm.structured("upload_raw_raw_file_post", json!({"file": "AAAA"})).await, json!({"result": 3}));
    let refused = farm.complaint("upload_upload_post", json!({"file": "/etc/passwd.txt", "note": "n"})).await;
    assert_eq!(refused, "the argument `file` is not base64; a file is given by its bytes, not by its path");

    let zip = farm.call("download_download_get", json!({})).await["content"][0].clone();
    assert_eq!(zip["resource"]["mimeType"], "application/zip");
    assert!(zip["resource"]["blob"].as_str().unwrap().starts_with("AAECAwQF"), "{zip}");
    let picture = farm.call("picture_picture_get", json!({})).await["content"][0].clone();
    assert_eq!(picture, json!({"type": "image", "mimeType": "image/png", "data": "iVBORw0KGgr/"}));
}

#[tokio::test]
async fn answers_without_json_are_results_too() {
    let farm = farm!("answers_without_json_are_results_too", &[], "");
    let content = async |tool: &str, arguments: Value| farm.call(tool, arguments).await["content"][0]["text"].clone();

    assert_eq!(content("text_text_get", json!({})).await, "grüße\n");
    assert_eq!(content("stream_stream_get", json!({})).await, "0\n1\n2\n");
    assert_eq!(content("delete_item_items__item_id__delete", json!({"item_id": 1})).await, "HTTP 204 No Content");
    assert_eq!(farm.direct("GET", "/test/counts").await.json()["deleted"], 1);
    assert_eq!(farm.structured("maybe_maybe_get", json!({})).await, json!({"result": null}));
    let big = farm.client().call("big_number_big_get", "{}").await.text();
    assert!(big.contains(r#""structuredContent":{"z": 12345678901234567890123, "a": 1.10}"#), "{big}");
}

#[tokio::test]
async fn errors_of_the_application_are_results_that_name_status_and_detail() {
    let farm = farm!("errors_of_the_application_are_results_that_name_status_and_detail", &[], "");
    let missing = farm.call("read_item_items__item_id__get", json!({"item_id": 404})).await;
    assert_eq!(missing["content"][0]["text"], "HTTP 404 Not Found: Item not found");
    assert_eq!((&missing["isError"], &missing["_meta"]["twinway/http-status"]), (&json!(true), &json!(404)));

    let invalid =
        farm.complaint("create_item_items_post", json!({"id": 0, "name": "n", "price": 1, "maker": {"name": "x"}})).await;
    assert!(invalid.starts_with("HTTP 422 Unprocessable Entity: [{"), "{invalid}");
    assert!(invalid.contains(r#""loc":["body","id"]"#), "{invalid}");
    assert_eq!(farm.complaint("fail_fail_get", json!({})).await, "HTTP 500 Internal Server Error: Internal Server Error");
    let status = farm.complaint("status_status__status__get", json!({"status": 418})).await;
    assert_eq!(status, r#"HTTP 418 I'm a teapot: {"code":418,"hint":"structured"}"#);

    // Nobody knows whether what stands behind a proxy ran: that is no result.
    let unknown = farm.client().call("status_status__status__get", r#"{"status":502}"#).await.error();
    assert_eq!(unknown["data"]["delivery"], "unknown", "{unknown}");
    assert!(unknown["message"].as_str().unwrap().starts_with("HTTP 502 Bad Gateway"), "{unknown}");
    let moved = farm.client().call("moved_moved_get", "{}").await.error();
    assert!(moved["message"].as_str().unwrap().contains("redirects are not followed"), "{moved}");
}

#[tokio::test]
async fn bad_arguments_are_named_and_nothing_is_sent() {
    let farm = farm!("bad_arguments_are_named_and_nothing_is_sent", &[], "");
    let cases = [
        ("read_item_items__item_id__get", json!({}), "the argument `item_id` is required and is missing"),
        (
            "read_item_items__item_id__get",
            json!({"item_id": "seven"}),
            "the argument `item_id` must be of type integer, not the value given",
        ),
        (
            "read_item_items__item_id__get",
            json!({"item_id": null}),
            "the argument `item_id` must not be empty: it is a part of the path",
        ),
        (
            "read_item_items__item_id__get",
            json!({"item_id": 1, "tag": "x"}),
            "the argument `tag` must be of type array, not the value given",
        ),
        (
            "read_item_items__item_id__get",
            json!({"item_id": 1, "x-trace": "a\r\nX-Evil: 1"}),
            "the argument `x-trace` holds characters that no header can carry",
        ),
        (
            "read_item_items__item_id__get",
            json!({"item_id": 1, "session": "a; b=c"}),
            "the argument `session` holds characters that no cookie can carry",
        ),
        (
            "admin_admin__what__get",
            json!({"what": "../items/1"}),
            "the argument `what` must not hold `/` or `\\`: it is one segment of the path",
        ),
        ("admin_admin__what__get", json!({"what": ".."}), "the argument `what` would make a path segment `.` or `..`"),
        ("admin_admin__what__get", json!({"what": ""}), "the argument `what` must not be empty: it is a part of the path"),
        ("text_text_get", json!({"x": 1}), "the tool has no argument `x`; it has none"),
    ];
    for (tool, arguments, expected) in cases {
        assert_eq!(farm.complaint(tool, arguments.clone()).await, expected, "{arguments}");
    }
    assert_eq!(
        farm.structured("admin_admin__what__get", json!({"what": "a%2Fb?x#y"})).await,
        json!({"result": "admin:a%2Fb?x#y"})
    );
}

#[tokio::test]
async fn each_operation_gets_the_credentials_that_are_configured_for_its_scheme() {
    let lines = "bearer = \"env:SID\"\n[upstream.openapi.security]\nhead = \"env:KEY\"\nquery = \"env:KEY\"\ncookie = \"env:SID\"\nbasic = \"env:USER\"\nbearer = \"env:SID\"";
    let farm = farm!("each_operation_gets_the_credentials_that_are_configured_for_its_scheme", &[], lines);

    assert_eq!(farm.structured("secure_secure_all_get", json!({})).await, json!({"result": ["k 1&2", "k 1&2", "s1"]}));
    assert_eq!(farm.structured("basic_secure_basic_get", json!({})).await, json!({"result": ["ada", "secret"]}));
    assert_eq!(farm.structured("bearer_secure_bearer_get", json!({})).await, json!({"result": "s1"}));
    let properties = farm.tool("secure_secure_all_get").await["inputSchema"]["properties"].clone();
    assert_eq!(properties, json!({}));

    let without = farm!("each_operation_gets_the_credentials_that_are_configured_for_its_scheme", &[], "");
    assert!(without.complaint("bearer_secure_bearer_get", json!({})).await.starts_with("HTTP 401"));
}

#[tokio::test]
async fn configuration_chooses_and_changes_operations() {
    let lines = r#"
[upstream.openapi]
include = ["*item*", "GET /files/*", "GET /admin/*"]
exclude = ["DELETE *"]
[[upstream.openapi.operation]]
match = "GET /files/*"
name = "file"
title = "File"
description = "Reads a file."
idempotent = false
path_slashes = true
output_schema = false
"#;
    let farm = farm!("configuration_chooses_and_changes_operations", &[], lines);

    let names = farm.client().tool_names().await;

    let expected = [
        "admin_admin__what__get",
        "create_item_items_post",
        "file",
        "read_item_items__item_id__get",
        "same_name_everywhere_items__id__put",
    ];
    assert_eq!(names, expected);
    let file = farm.tool("file").await;
    let properties = file["inputSchema"]["properties"].clone();
    let expected = json!({"name": "file", "title": "File", "description": "Reads a file.", "annotations": {"readOnlyHint": true, "idempotentHint": false},
        "inputSchema": {"type": "object", "properties": properties, "additionalProperties": false, "required": ["file"]}});
    assert_eq!(file, expected);
    assert_eq!(farm.call("file", json!({"file": "a b/c.txt"})).await["content"][0]["text"], "\"a b/c.txt\"");
    let refused = farm.complaint("file", json!({"file": "a/../../admin/x"})).await;
    assert_eq!(refused, "the argument `file` would make a path segment `.` or `..`");
}

#[tokio::test]
async fn definitions_say_what_the_document_says() {
    let farm = farm!("definitions_say_what_the_document_says", &[], "");
    let tools = farm.tools().await;
    for tool in &tools {
        for schema in ["inputSchema", "outputSchema"] {
            if let Some(schema) = tool.get(schema) {
                assert!(jsonschema::meta::is_valid(schema), "{tool}");
                assert_eq!(schema["type"], "object", "{tool}");
            }
        }
    }

    let create = farm.tool("create_item_items_post").await;
    assert_eq!(create["title"], "Create Item");
    let output = jsonschema::validator_for(&create["outputSchema"]).unwrap();
    let part = json!({"id": 2, "name": "p", "price": 0.5, "maker": {"name": "x"}});
    let item = json!({"id": 1, "name": "n", "price": 2, "maker": {"name": "x"}, "parts": [part]});
    assert!(output.is_valid(&farm.structured("create_item_items_post", item).await));
    assert!(!output.is_valid(&json!({"id": 1})));
    let defs = create["inputSchema"]["$defs"].as_object().unwrap();
    let is_cycle =
        |(name, schema): (&String, &Value)| schema["properties"]["parts"]["items"]["$ref"] == format!("#/$defs/{name}");
    assert!(defs.iter().any(is_cycle), "no definition refers to itself: {defs:?}");
    let hints = async |name: &str| farm.tool(name).await["annotations"].clone();
    assert_eq!(create["annotations"], json!({"readOnlyHint": false, "idempotentHint": false}));
    assert_eq!(hints("text_text_get").await, json!({"readOnlyHint": true, "idempotentHint": true}));
    let delete = json!({"readOnlyHint": false, "idempotentHint": true, "destructiveHint": true});
    assert_eq!(hints("delete_item_items__item_id__delete").await, delete);
    assert_eq!(farm.tool("old_old_get").await["_meta"]["twinway/metadata"]["deprecated"], true);
}

#[tokio::test]
async fn a_changed_document_changes_the_tools_and_an_unchanged_one_is_not_sent_again() {
    let lines = "refresh = \"100ms\"";
    let farm = farm!("a_changed_document_changes_the_tools_and_an_unchanged_one_is_not_sent_again", &[], lines);
    let counts = || async { farm.direct("GET", "/test/counts").await.json() };
    until("the document to be asked for in vain", || async {
        (counts().await["not_modified"].as_u64() >= Some(3)).then_some(())
    })
    .await;
    assert_eq!(counts().await["documents"], 1);
    assert!(!farm.client().tool_names().await.contains(&"grown".to_owned()));

    let client = farm.client();
    let listening = client.ask("subscriptions/listen").params(r#""notifications":{"toolsListChanged":true}"#);
    let mut told = listening.open().await;
    assert_eq!(told.event().await.unwrap()["method"], "notifications/subscriptions/acknowledged");

    farm.direct("POST", "/test/grow").await;

    assert_eq!(told.event().await.unwrap()["method"], "notifications/tools/list_changed");
    until("the new tool", || async { farm.client().tool_names().await.contains(&"grown".to_owned()).then_some(()) }).await;
    assert_eq!(farm.structured("grown", json!({})).await, Value::Null);
    assert_eq!(counts().await["documents"], 2);
}

#[tokio::test]
async fn a_path_of_the_applications_own_server_is_used() {
    // As behind a proxy that cuts `/api` off; uvicorn serves the paths with and without it.
    let farm = farm!("a_path_of_the_applications_own_server_is_used", &["--root-path", "/api"], "");

    let seen = farm.structured("read_item_items__item_id__get", json!({"item_id": 7})).await;

    assert_eq!(seen["item_id"], 7);
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_request() {
    let mut farm = farm!("a_client_that_leaves_cancels_the_request", &[], "");
    let client = farm.client();
    let request = client.tool("slow_slow_get", r#"{"seconds":30}"#);

    let abandoned = tokio::time::timeout(std::time::Duration::from_millis(500), request.send()).await;

    assert!(abandoned.is_err());
    assert_eq!(farm.app.event_with("event").await, "cancelled");
}
