//! What the operations of a document become.

use url::Url;

use super::*;

fn convert_with(settings: &OpenApi, paths: &Value) -> Converted {
    let text = json!({ "openapi": "3.1.0", "paths": paths }).to_string();
    let document = Document::read(text.as_bytes()).unwrap();
    let base: Url = "http://farm:1/".parse().unwrap();
    let headers = HeaderMap::new();
    let servers = Servers::new(&base, &base, &document);
    Converter { document: &document, settings, headers: &headers, servers }.convert()
}

fn convert(paths: &Value) -> Converted {
    convert_with(&OpenApi::default(), paths)
}

fn names(converted: &Converted) -> Vec<&str> {
    converted.operations.iter().map(|operation| &*operation.tool.name).collect()
}

fn definitions(converted: &Converted) -> Vec<Value> {
    let definitions = converted.operations.iter().map(|operation| serde_json::from_slice(&operation.tool.definition));
    definitions.collect::<Result<_, _>>().unwrap()
}

#[test]
fn every_method_but_trace_becomes_a_tool_and_says_what_it_does() {
    let methods = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
    let item: Map<_, _> = methods.iter().map(|method| ((*method).to_owned(), json!({ "responses": {} }))).collect();

    let converted = convert(&json!({ "/a": item }));

    assert_eq!(names(&converted), ["get_a", "put_a", "post_a", "delete_a", "options_a", "head_a", "patch_a"]);
    let hints: Vec<_> = definitions(&converted).iter().map(|definition| definition["annotations"].clone()).collect();
    assert_eq!(hints[0], json!({"readOnlyHint": true, "idempotentHint": true}));
    assert_eq!(hints[1], json!({"readOnlyHint": false, "idempotentHint": true}));
    assert_eq!(hints[2], json!({"readOnlyHint": false, "idempotentHint": false}));
    assert_eq!(hints[3], json!({"readOnlyHint": false, "idempotentHint": true, "destructiveHint": true}));
}

#[test]
fn a_name_is_given_once_and_does_not_depend_on_what_is_offered() {
    let paths = json!({
        "/a": {"get": {"operationId": "same/id"}, "post": {"operationId": "same/id"}},
        "/b": {"get": {"operationId": "same_id"}},
    });
    let everything = convert(&paths);
    assert_eq!(names(&everything), ["same_id", "post_a", "get_b"]);

    let without_the_first =
        OpenApi { exclude: vec![globset::Glob::new("GET /a").unwrap().compile_matcher()], ..OpenApi::default() };

    assert_eq!(names(&convert_with(&without_the_first, &paths)), ["post_a", "get_b"]);
}

#[test]
fn an_operation_that_cannot_be_called_is_left_out_and_named() {
    let remote = json!({"parameters": [{"$ref": "https://evil.example/p.json"}]});
    let elsewhere = json!({"servers": [{"url": "https://evil.example"}]});
    let paths = json!({
        "/good": {"get": {}},
        "/remote": {"get": remote},
        "/elsewhere": {"get": elsewhere},
        "/up/../../admin": {"get": {}},
        "/item": {"$ref": "#/nowhere"},
        "/text": "no item",
    });

    let converted = convert(&paths);

    assert_eq!(names(&converted), ["get_good"]);
    let left_out: Vec<_> = converted.left_out.iter().map(|one| one.operation.as_str()).collect();
    assert_eq!(left_out, ["GET /remote", "GET /elsewhere", "GET /up/../../admin", "/item"]);
    let reasons: Vec<_> = converted.left_out.iter().map(|one| one.reason.to_string()).collect();
    assert!(reasons[0].contains("https://evil.example/p.json") && reasons[1].contains("https://evil.example"), "{reasons:?}");
}

#[test]
fn no_more_operations_are_offered_than_anybody_lists() {
    let paths: Map<_, _> = (0..=OPERATIONS_MAX).map(|number| (format!("/{number}"), json!({"get": {}}))).collect();

    let converted = convert(&paths.into());

    assert_eq!((converted.operations.len(), converted.left_out.len()), (OPERATIONS_MAX, 1));
    assert!(converted.left_out[0].reason.to_string().contains("`include` chooses them"));
}

#[test]
fn a_definition_says_what_the_document_says() {
    let operation = json!({
        "summary": " List ", "description": "All of them.", "deprecated": true,
        "responses": {"200": {"content": {"application/json": {"schema": {"type": "array", "items": {"type": "string"}}}}}},
    });

    let definition = &definitions(&convert(&json!({"/a": {"get": operation, "put": {}}})))[..];

    assert_eq!((&definition[0]["title"], &definition[0]["description"]), (&json!("List"), &json!("List\n\nAll of them.")));
    assert_eq!(definition[0]["_meta"]["twinway/metadata"]["deprecated"], true);
    assert_eq!(definition[0]["outputSchema"]["required"], json!(["result"]));
    assert_eq!(definition[1]["description"], "PUT /a", "what it calls is better than nothing");
}
