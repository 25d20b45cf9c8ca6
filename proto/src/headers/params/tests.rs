//! What the index of mirrored arguments must hold to, as tables.

use super::*;

const SCHEMA: &str = r#"{"type": "object", "properties": {
    "region": {"type": "string", "x-mcp-header": "Region"},
    "count": {"type": "integer", "x-mcp-header": "Count"},
    "dry": {"type": "boolean", "x-mcp-header": "Dry-Run"},
    "where": {"type": "object", "properties": {"zone": {"type": "string", "x-mcp-header": "Zone"}}},
    "free": {"type": "string"},
    "x-mcp-header": {"type": "string"}
}}"#;

fn mirrored(arguments: &str) -> Vec<(String, String)> {
    let headers = ParamHeaders::from_schema(SCHEMA).unwrap();
    let fields = headers.from_arguments(arguments).unwrap();
    fields.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
}

fn checked(fields: &[(&'static str, &'static str)], arguments: &str) -> Result<(), HeaderFault> {
    let mut sent = HeaderMap::new();
    for (name, value) in fields {
        sent.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    ParamHeaders::from_schema(SCHEMA).unwrap().check(&sent, arguments)
}

#[test]
fn annotated_properties_are_found_by_their_paths() {
    let headers = ParamHeaders::from_schema(SCHEMA).unwrap();

    let found: Vec<_> = headers.iter().map(|header| (header.path.join("."), header.name.as_str())).collect();

    let expected = [
        ("region", "mcp-param-region"),
        ("count", "mcp-param-count"),
        ("dry", "mcp-param-dry-run"),
        ("where.zone", "mcp-param-zone"),
    ];
    assert_eq!(found, expected.map(|(path, name)| (path.to_owned(), name)));
}

#[test]
fn a_schema_without_annotations_has_no_headers() {
    for schema in [r#"{"type":"object"}"#, r#"{"properties":{"a":{"const":{"x-mcp-header":"A"}}}}"#, "true"] {
        assert!(ParamHeaders::from_schema(schema).unwrap().is_empty(), "{schema}");
    }
}

#[test]
fn annotations_that_break_the_rules_are_refused() {
    let not_token = InvalidParamHeader::NotToken("a".into());
    let not_scalar = InvalidParamHeader::NotScalar("a".into());
    let cases = [
        (r#"{"properties":{"a":{"type":"string","x-mcp-header":""}}}"#, &not_token),
        (r#"{"properties":{"a":{"type":"string","x-mcp-header":"a b"}}}"#, &not_token),
        (r#"{"properties":{"a":{"type":"string","x-mcp-header":"a\r\nb"}}}"#, &not_token),
        (r#"{"properties":{"a":{"type":"string","x-mcp-header":"世"}}}"#, &not_token),
        (r#"{"properties":{"a":{"type":"string","x-mcp-header":7}}}"#, &not_token),
        (r#"{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}"#, &not_scalar),
        (r#"{"properties":{"a":{"type":["string","null"],"x-mcp-header":"A"}}}"#, &not_scalar),
        (r#"{"properties":{"a":{"x-mcp-header":"A"}}}"#, &not_scalar),
        (r#"{"type":"object","x-mcp-header":"A"}"#, &InvalidParamHeader::Unreachable),
        (r#"{"properties":{"a":{"items":{"type":"string","x-mcp-header":"A"}}}}"#, &InvalidParamHeader::Unreachable),
        (r#"{"anyOf":[{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]}"#, &InvalidParamHeader::Unreachable),
        (r#"{"$defs":{"a":{"type":"string","x-mcp-header":"A"}}}"#, &InvalidParamHeader::Unreachable),
        (r#"{"$defs":{"a":{"type":"string","\u0078-mcp-header":"A"}}}"#, &InvalidParamHeader::Unreachable),
        (r#"{"x-mcp-header":"#, &InvalidParamHeader::NotJson),
        (
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}"#,
            &InvalidParamHeader::Repeated("a".into()),
        ),
    ];

    for (schema, fault) in cases {
        assert_eq!(ParamHeaders::from_schema(schema).as_ref(), Err(fault), "{schema}");
    }
}

#[test]
fn more_mirrored_arguments_than_a_request_has_room_for_are_refused() {
    let properties = |count: usize| {
        let each: Vec<_> = (0..count).map(|at| format!(r#""p{at}":{{"type":"string","x-mcp-header":"P{at}"}}"#)).collect();
        format!(r#"{{"properties":{{{}}}}}"#, each.join(","))
    };

    assert_eq!(ParamHeaders::from_schema(&properties(PARAM_HEADERS_MAX)).unwrap().iter().count(), PARAM_HEADERS_MAX);
    assert_eq!(ParamHeaders::from_schema(&properties(PARAM_HEADERS_MAX + 1)), Err(InvalidParamHeader::TooMany));
}

#[test]
fn arguments_are_mirrored_with_their_spelling() {
    let fields =
        mirrored(r#"{"where":{"zone":"世"},"region":"us\u002dwest","count":12345678901234567890123,"dry":true,"free":"x"}"#);

    let expected = [
        ("mcp-param-region", "us-west"),
        ("mcp-param-count", "12345678901234567890123"),
        ("mcp-param-dry-run", "true"),
        ("mcp-param-zone", "=?base64?5LiW?="),
    ];
    assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn absent_null_and_composite_arguments_have_no_header() {
    for arguments in ["{}", r#"{"region":null,"where":null}"#, r#"{"region":["a"],"where":{"zone":{}}}"#, r#"{"where":"zone"}"#] {
        assert!(mirrored(arguments).is_empty(), "{arguments}");
    }
}

#[test]
fn of_duplicate_keys_the_last_is_mirrored() {
    assert_eq!(mirrored(r#"{"region":"a","\u0072egion":"b"}"#), [("mcp-param-region".to_owned(), "b".to_owned())]);
}

#[test]
fn arguments_that_are_no_object_or_no_text_are_refused() {
    let headers = ParamHeaders::from_schema(SCHEMA).unwrap();

    for arguments in ["[]", "null", "{", r#"{"region":"\ud800"}"#] {
        assert_eq!(headers.from_arguments(arguments), Err(HeaderFault::Arguments), "{arguments}");
    }
}

#[test]
fn what_a_client_sent_is_compared_with_the_body() {
    let region = HeaderName::from_static("mcp-param-region");

    assert_eq!(checked(&[("mcp-param-region", "eu"), ("mcp-param-count", "3")], r#"{"region":"eu","count":3.0}"#), Ok(()));
    assert_eq!(checked(&[("mcp-param-unknown", "x")], "{}"), Ok(()));
    assert_eq!(checked(&[], r#"{"region":"eu"}"#), Err(HeaderFault::Missing(region.clone())));
    assert_eq!(checked(&[("mcp-param-region", "eu")], r#"{"region":null}"#), Err(HeaderFault::Unexpected(region.clone())));
    assert_eq!(checked(&[("mcp-param-region", "us")], r#"{"region":"eu"}"#), Err(HeaderFault::Mismatch(region.clone())));
    assert_eq!(
        checked(&[("mcp-param-region", "eu"), ("mcp-param-region", "us")], r#"{"region":"eu"}"#),
        Err(HeaderFault::Repeated(region))
    );
}
