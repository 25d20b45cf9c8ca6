//! What each kind of answer becomes.

use super::*;

fn answer(status: u16, media: &str, body: &'static [u8]) -> Answer {
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        media: media.to_owned(),
        is_compressed: false,
        location: None,
        retry_after: None,
        body: Bytes::from_static(body),
    }
}

fn result(answer: Answer, promise: Promise) -> Value {
    let reply = answer.into_reply(promise, "openapi://farm/x").unwrap();
    let result: Value = serde_json::from_slice(&reply.result).unwrap();
    assert_eq!(reply.is_error, result["isError"] == true);
    result
}

#[test]
fn structured_content_keeps_what_the_definition_promises() {
    let cases: [(&[u8], Promise, Value); 7] = [
        (br#"{"a":1.50}"#, Promise::Nothing, json!({"a": 1.50})),
        (br#" {"a":1} "#, Promise::Object, json!({"a": 1})),
        (b"[1]", Promise::Nothing, Value::Null),
        (b"[1]", Promise::Wrapped, json!({"result": [1]})),
        (br#""x""#, Promise::Wrapped, json!({"result": "x"})),
        (b"", Promise::Wrapped, json!({"result": null})),
        (b"{broken", Promise::Object, Value::Null),
    ];
    for (body, promise, expected) in cases {
        let result = result(answer(200, "application/json", body), promise);

        assert_eq!(result["structuredContent"], expected, "{}", String::from_utf8_lossy(body));
        assert_eq!(result["content"][0]["type"], "text");
    }
}

#[test]
fn content_is_of_the_kind_that_the_media_type_names() {
    let png = result(answer(200, "image/png", b"\x89PNG"), Promise::Nothing);
    assert_eq!(png["content"][0], json!({"type": "image", "data": "iVBORw==", "mimeType": "image/png"}));

    let pdf = result(answer(200, "application/pdf", b"%PDF"), Promise::Nothing);
    let resource = json!({"uri": "openapi://farm/x", "mimeType": "application/pdf", "blob": "JVBERg=="});
    assert_eq!(pdf["content"][0], json!({"type": "resource", "resource": resource}));

    for (media, body, is_text) in [
        ("text/csv", &b"a,b"[..], true),
        ("application/problem+json", br#"{"a":1}"#, true),
        ("image/svg+xml", b"<svg/>", false),
        ("text/plain", b"\xff\xfe", false),
        ("", b"plain", true),
    ] {
        let result = result(answer(200, media, body), Promise::Nothing);
        assert_eq!(result["content"][0]["type"] == "text", is_text, "{media}: {result}");
    }
    assert_eq!(result(answer(204, "", b""), Promise::Nothing)["content"][0]["text"], "HTTP 204 No Content");
}

#[test]
fn what_the_application_refuses_is_a_result_that_names_status_and_detail() {
    let cases: [(u16, &str, &[u8], &str); 5] = [
        (404, "application/json", br#"{"detail":"Item \u0031"}"#, "HTTP 404 Not Found: Item 1"),
        (422, "application/json", br#"{"detail":[{"loc":["a"]}]}"#, r#"HTTP 422 Unprocessable Entity: [{"loc":["a"]}]"#),
        (409, "application/problem+json", br#"{"title":"t","detail":"d"}"#, "HTTP 409 Conflict: d"),
        (500, "text/plain", b"Internal Server Error\n", "HTTP 500 Internal Server Error: Internal Server Error"),
        (400, "application/json", b"", "HTTP 400 Bad Request"),
    ];
    for (status, media, body, text) in cases {
        let result = result(answer(status, media, body), Promise::Object);

        assert_eq!(result["content"][0]["text"], text);
        assert_eq!(result["_meta"]["twinway/http-status"], status);
        assert_eq!(result["structuredContent"], Value::Null, "it would be checked against the schema of a good result");
    }
}

#[test]
fn an_answer_that_is_not_the_applications_is_an_error() {
    let failed = |answer: Answer| answer.into_reply(Promise::Nothing, "").unwrap_err();
    let moved = failed(Answer { location: Some("http://elsewhere/".to_owned()), ..answer(307, "", b"") });
    assert_eq!((moved.code(), moved.delivery()), (ErrorCode::Protocol, Delivery::Answered));
    assert!(moved.to_string().contains("http://elsewhere/"), "{moved}");
    let compressed = failed(Answer { is_compressed: true, ..answer(200, "application/json", b"\x1f\x8b") });
    assert_eq!(compressed.code(), ErrorCode::Protocol);
    for (status, code, delivery) in [
        (429, ErrorCode::Overloaded, Delivery::Answered),
        (502, ErrorCode::Disconnected, Delivery::Unknown),
        (503, ErrorCode::Disconnected, Delivery::Unknown),
    ] {
        let later = Some(Duration::from_secs(3));
        let busy = failed(Answer { retry_after: later, ..answer(status, "", b"busy") });
        assert_eq!((busy.code(), busy.delivery(), busy.retry_after()), (code, delivery, later));
        assert_eq!(failed(answer(status, "", b"busy")).retry_after(), None);
    }
}

#[test]
fn an_output_schema_is_given_only_where_every_good_answer_has_it() {
    let schema = |text: &str| json!({"application/json": {"schema": serde_json::from_str::<Value>(text).unwrap()}});
    let object = schema(r#"{"type":"object","properties":{"a":{"type":"integer"}}}"#);
    let list = schema(r#"{"type":"array"}"#);
    let cases = [
        (json!({"200": {"content": object}}), Some(Promise::Object)),
        (json!({"200": {"content": list}}), Some(Promise::Wrapped)),
        (json!({"200": {"content": object}, "201": {"content": object}, "404": {"content": list}}), Some(Promise::Object)),
        (json!({"default": {"content": object}}), Some(Promise::Object)),
        (json!({"200": {"content": object}, "204": {"description": "none"}}), None),
        (json!({"200": {"content": object}, "202": {"content": list}}), None),
        (json!({"200": {"content": {"text/csv": {"schema": {"type": "string"}}}}}), None),
        (json!({"200": {"content": {"application/json": {"schema": {}}}}}), None),
        (json!({}), None),
    ];
    let document = Document::read(br#"{"openapi":"3.1.0"}"#).unwrap();
    for (responses, expected) in cases {
        let found = output(&document, &json!({ "responses": responses })).unwrap();

        assert_eq!(found.as_ref().map(|(_, promise)| *promise), expected, "{responses}");
        if let Some((schema, _)) = found {
            assert_eq!(schema["type"], "object", "clients of the legacy revisions only know objects");
        }
    }
}
