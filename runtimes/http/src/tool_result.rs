//! Writes what a server that knows nothing of MCP answers as the result of a tool.

use bytes::Bytes;
use http::StatusCode;
use runtime_api::Reply;
use twinway_proto::json;

/// A value: an object is structured content too, a string is its own text, and all else is the text of its JSON. `raw` is
/// one JSON value without white space around it, checked by whoever read it.
pub(crate) fn of_value(raw: &[u8]) -> Reply {
    let structured = raw.first() == Some(&b'{');
    // Quotes inside the text need a backslash each; a sixth more is what JSON of short members takes.
    let mut out = Vec::with_capacity(64 + raw.len() + raw.len() / 6 + if structured { raw.len() } else { 0 });
    out.extend_from_slice(br#"{"content":[{"type":"text","text":"#);
    if raw.first() == Some(&b'"') {
        out.extend_from_slice(raw);
    } else {
        json::write_string(&mut out, text(raw));
    }
    out.extend_from_slice(b"}]");
    if structured {
        out.extend_from_slice(br#","structuredContent":"#);
        out.extend_from_slice(raw);
    }
    out.push(b'}');
    Reply::new(out.into())
}

/// A failure of the tool: the status, if it is told by one, and what it says of it, as text for a person or a model. No structured content, because
/// clients check that against the schema of a result. `detail` is one raw JSON value.
pub(crate) fn of_fault(status: Option<StatusCode>, detail: &[u8]) -> Reply {
    let detail = text(detail);
    let says = json::string(detail).unwrap_or_else(|| detail.into());
    let mut out = br#"{"content":[{"type":"text","text":"#.to_vec();
    match status {
        Some(status) => json::write_string(&mut out, &format!("HTTP {status}: {says}")),
        None => json::write_string(&mut out, &says),
    }
    out.extend_from_slice(br#"}],"isError":true}"#);
    Reply { is_error: true, ..Reply::new(Bytes::from(out)) }
}

/// What was read as JSON is UTF-8.
fn text(raw: &[u8]) -> &str {
    std::str::from_utf8(raw).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_value_becomes_content() {
        let cases = [
            (
                r#"{"n":1.50,"s":"a\"b"}"#,
                r#"{"content":[{"type":"text","text":"{\"n\":1.50,\"s\":\"a\\\"b\"}"}],"structuredContent":{"n":1.50,"s":"a\"b"}}"#,
            ),
            (r#""a\n\ud800""#, r#"{"content":[{"type":"text","text":"a\n\ud800"}]}"#),
            ("[1,2]", r#"{"content":[{"type":"text","text":"[1,2]"}]}"#),
            ("null", r#"{"content":[{"type":"text","text":"null"}]}"#),
        ];
        for (raw, expected) in cases {
            let reply = of_value(raw.as_bytes());

            assert_eq!(reply.result, expected, "{raw}");
            assert!(!reply.is_error);
            json::check(&reply.result).unwrap();
        }
    }

    #[test]
    fn a_fault_names_its_status_and_is_an_error() {
        let named = of_fault(Some(StatusCode::NOT_FOUND), br#""Tool \"x\" not found""#);
        let listed = of_fault(Some(StatusCode::UNPROCESSABLE_ENTITY), br#"[{"loc":["body"]}]"#);

        assert_eq!(
            named.result,
            r#"{"content":[{"type":"text","text":"HTTP 404 Not Found: Tool \"x\" not found"}],"isError":true}"#
        );
        assert!(named.is_error && listed.is_error);
        json::check(&listed.result).unwrap();
    }
}
