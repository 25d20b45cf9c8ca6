//! Writes what a server that knows nothing of MCP answers as the result of a tool.

use bytes::Bytes;
use http::StatusCode;
use runtime_api::Reply;
use twinway_proto::json;

/// The `_meta` member that holds the HTTP status of an error.
const HTTP_STATUS: &str = "twinway/http-status";

/// A value: an object is structured content too, a string is its own text, and all else is the text of its JSON. `raw` is
/// one JSON value without white space around it, checked by whoever read it.
pub(crate) fn of_value(raw: &[u8]) -> Reply {
    let mut result = if raw.first() == Some(&b'"') { raw_text_content(raw) } else { text_content(text(raw)) };
    if raw.first() == Some(&b'{') {
        result.extend_from_slice(br#","structuredContent":"#);
        result.extend_from_slice(raw);
    }
    finish(result)
}

/// A failure of the tool: the status, if it is told by one, and what it says of it, which is one raw JSON value.
pub(crate) fn of_fault(status: Option<StatusCode>, detail: &[u8]) -> Reply {
    let detail = text(detail);
    let says = json::string(detail).unwrap_or_else(|| detail.into());
    match status {
        Some(status) => of_failure(&format!("{}: {says}", status_line(status)), Some(status)),
        None => of_failure(&says, None),
    }
}

/// A result that says that the call failed, as text for a person or a model. Nothing structured is in it: some clients hold
/// even that against the schema of a good result.
pub(crate) fn of_failure(text: &str, status: Option<StatusCode>) -> Reply {
    let mut result = text_content(text);
    result.extend_from_slice(br#","isError":true"#);
    let meta = status.map(|status| {
        result.extend_from_slice(br#","_meta":"#);
        let start = result.len();
        result.extend_from_slice(format!(r#"{{"{HTTP_STATUS}":{}}}"#, status.as_u16()).as_bytes());
        start..result.len()
    });
    Reply { is_error: true, meta, ..finish(result) }
}

/// A result up to the end of its content, which is a text.
pub(crate) fn text_content(text: &str) -> Vec<u8> {
    let mut result = begin(text.len());
    json::write_string(&mut result, text);
    result.extend_from_slice(b"}]");
    result
}

/// The same of a text that stands there as JSON already.
fn raw_text_content(raw: &[u8]) -> Vec<u8> {
    let mut result = begin(raw.len());
    result.extend_from_slice(raw);
    result.extend_from_slice(b"}]");
    result
}

fn begin(text_bytes: usize) -> Vec<u8> {
    // Quotes inside the text need a backslash each; a sixth more is what JSON of short members takes.
    let mut result = Vec::with_capacity(64 + text_bytes + text_bytes / 6);
    result.extend_from_slice(br#"{"content":[{"type":"text","text":"#);
    result
}

/// Closes a good result.
pub(crate) fn finish(mut result: Vec<u8>) -> Reply {
    result.push(b'}');
    Reply::new(Bytes::from(result))
}

/// `HTTP 404 Not Found`.
pub(crate) fn status_line(status: StatusCode) -> String {
    let reason = status.canonical_reason().map(|reason| format!(" {reason}")).unwrap_or_default();
    format!("HTTP {}{reason}", status.as_u16())
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
            r#"{"content":[{"type":"text","text":"HTTP 404 Not Found: Tool \"x\" not found"}],"isError":true,"_meta":{"twinway/http-status":404}}"#
        );
        assert!(named.is_error && listed.is_error);
        assert_eq!(&named.result[named.meta.clone().unwrap()], br#"{"twinway/http-status":404}"#);
        json::check(&listed.result).unwrap();
    }
}
