//! A target's result as a client's era has it.

use std::ops::Range;

use bytes::Bytes;
use runtime_api::{Era, Method, Reply};
use runtime_mcp::handshake::CLIENT_INFO;
use twinway_proto::{
    envelope::{Edit, splice},
    json::{self, Key, elements, members, text, write_string},
    meta::{key, rewrite},
    rope::{Builder, Rope},
};

use super::output;

/// What modern results have and legacy ones do not.
const MODERN_MEMBERS: [&str; 3] = ["resultType", "ttlMs", "cacheScope"];

/// The result for a client of that revision. Where target and client are of the same era, it is the same bytes, unless the client's
/// revision is older than what the target may send.
pub(super) fn for_client(reply: Reply, method: Method, era: Era, revision: &str) -> Rope {
    match (era, &reply.result_type) {
        (Era::Modern, None) => modern(&reply, method),
        // Strict legacy clients refuse members that their revision does not know.
        (Era::Legacy, _) if reply.result_type.is_some() || reply.has_cache_hint => legacy(&reply.result, method, revision),
        (Era::Legacy, None) if !output::knows_all(revision) => legacy(&reply.result, method, revision),
        _ => reply.result.into(),
    }
}

/// The result of a tool that says what went wrong; `text` is a raw string.
pub(super) fn refused(text: &[u8]) -> Vec<u8> {
    [br#"{"content":[{"type":"text","text":"#, text, br#"}],"isError":true}"#].concat()
}

/// The contents of a resource under the URI by which the client asked for it.
pub(super) fn with_uri(result: Rope, own: &str, public: &str) -> Rope {
    let result = result.into_bytes();
    let mut quoted = Vec::new();
    write_string(&mut quoted, public);
    let Some(contents) = member(text(&result), "contents") else { return result.into() };
    let mut edits: Vec<Edit<'_>> = Vec::new();
    for content in elements(&text(&result)[contents.clone()]).flatten() {
        let start = contents.start + content.start;
        let content = &text(&result)[start..contents.start + content.end];
        let uri = member(content, "uri").filter(|uri| json::string(&content[uri.clone()]).as_deref() == Some(own));
        edits.extend(uri.map(|uri| (start + uri.start..start + uri.end, &quoted[..])));
    }
    let mut out = Builder::with_capacity(256 + result.len().min(4096));
    splice(&result, &edits, &mut out);
    out.finish()
}

fn member(object: &str, name: &str) -> Option<Range<usize>> {
    members(object).flatten().find(|member| member.key.is(name)).map(|member| member.range)
}

/// Adds what a modern client expects: that this is all, for how long it is good, and who says so.
pub(super) fn modern(reply: &Reply, method: Method) -> Rope {
    let result = &reply.result;
    let mut first = Vec::with_capacity(192);
    first.extend_from_slice(b"\"resultType\":\"complete\"");
    if method == Method::ResourcesRead && !reply.has_cache_hint {
        // The target did not say, so it is good for nobody else and for now (2026-07-28, caching).
        first.extend_from_slice(b",\"ttlMs\":0,\"cacheScope\":\"private\"");
    }
    let server = format!("\"{}\":{CLIENT_INFO}", key::SERVER_INFO);
    let mut out = Builder::with_capacity(first.len() + server.len() + 16 + result.len().min(4096));
    match &reply.meta {
        Some(meta) if result[meta.start] == b'{' => {
            first.push(b',');
            let inside = meta.start + 1;
            let server = server + comma(&result[meta.clone()]);
            splice(result, &[(1..1, &first), (inside..inside, server.as_bytes())], &mut out);
        }
        Some(_) => {
            first.push(b',');
            splice(result, &[(1..1, &first)], &mut out);
        }
        None => {
            first.extend_from_slice(format!(",\"_meta\":{{{server}}}{}", comma(result)).as_bytes());
            splice(result, &[(1..1, &first)], &mut out);
        }
    }
    out.finish()
}

/// What separates a new first member of this object from those that are there.
fn comma(object: &[u8]) -> &'static str {
    let is_empty = object[1..object.len() - 1].iter().all(u8::is_ascii_whitespace);
    if is_empty { "" } else { "," }
}

/// Without what only modern results have, and what the revision does not know of a tool's output.
fn legacy(result: &Bytes, method: Method, revision: &str) -> Rope {
    let result = output::known_parts(result, method, revision);
    let structure = member(text(&result), "structuredContent").map(|range| &text(&result)[range]);
    let unknown = structure.filter(|structure| method == Method::ToolsCall && !output::knows_structure(revision, structure));
    let content = unknown.and_then(|structure| output::structure_in_words(&result, structure));
    let keep = |key: &Key<'_>| {
        let is_modern = MODERN_MEMBERS.iter().any(|name| key.is(name));
        let is_unknown = unknown.is_some() && key.is("structuredContent");
        !(is_modern || is_unknown || (content.is_some() && key.is("content")))
    };
    let added: Vec<_> = content.iter().map(|content| ("content", &content[..])).collect();
    rewrite(Some(text(&result)), keep, &added).map_or_else(|_| result.clone().into(), Rope::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str =
        concat!(r#""io.modelcontextprotocol/serverInfo":{"name":"twinway","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);

    fn written(era: Era, method: Method, result: &'static str) -> String {
        let revision = match era {
            Era::Legacy => "2025-11-25",
            Era::Modern => "2026-07-28",
        };
        written_for(revision, era, method, result)
    }

    fn written_for(revision: &str, era: Era, method: Method, result: &'static str) -> String {
        let place = |name: &str| {
            let found = twinway_proto::json::members(result).flatten().find(|member| member.key.is(name));
            found.map(|member| member.range)
        };
        let reply = Reply {
            result: Bytes::from_static(result.as_bytes()),
            is_error: false,
            result_type: place("resultType"),
            meta: place("_meta"),
            has_cache_hint: place("ttlMs").or_else(|| place("cacheScope")).is_some(),
        };
        String::from_utf8(for_client(reply, method, era, revision).into_bytes().to_vec()).expect("UTF-8")
    }

    #[test]
    fn a_resource_comes_back_under_the_uri_by_which_it_was_asked_for() {
        let result = r#"{"contents":[{"uri":"x://1","text":"x://1"},{"text":"part","uri":"x://1/2"}]}"#;

        let written = with_uri(Rope::from(Bytes::from(result)), "x://1", "twinway://up/x://1").into_bytes();

        let expected = r#"{"contents":[{"uri":"twinway://up/x://1","text":"x://1"},{"text":"part","uri":"x://1/2"}]}"#;
        assert_eq!(written, expected);
    }

    #[test]
    fn a_legacy_client_gets_structure_that_its_revision_knows_and_is_told_in_words_what_stands_nowhere_else() {
        let object = r#"{"content":[],"structuredContent":{"a":1},"resultType":"complete"}"#;
        let list = r#"{"content":[],"structuredContent":[1.0],"resultType":"complete"}"#;
        let both = r#"{"content":[{"type":"text","text":"t"}],"structuredContent":[1],"resultType":"complete"}"#;
        let plain = r#"{"structuredContent":{"a":1},"content":[{"type":"text","text":"t"}]}"#;
        let cases = [
            ("2025-11-25", object, r#"{"content":[],"structuredContent":{"a":1}}"#),
            ("2025-11-25", list, r#"{"content":[{"type":"text","text":"[1.0]"}]}"#),
            ("2025-11-25", both, r#"{"content":[{"type":"text","text":"t"}]}"#),
            ("2025-03-26", object, r#"{"content":[{"type":"text","text":"{\"a\":1}"}]}"#),
            ("2025-03-26", plain, r#"{"content":[{"type":"text","text":"t"}]}"#),
            ("2025-06-18", plain, plain),
        ];
        for (revision, result, expected) in cases {
            assert_eq!(written_for(revision, Era::Legacy, Method::ToolsCall, result), expected, "{revision} {result}");
        }
    }

    #[test]
    fn each_era_gets_the_result_it_knows() {
        let plain = r#"{"content":[],"x":1e400}"#;
        let modern = r#"{"content":[],"resultType":"complete","ttlMs":5,"cacheScope":"public","x":1e400}"#;
        let call = Method::ToolsCall;

        assert_eq!(written(Era::Legacy, call, plain), plain);
        assert_eq!(written(Era::Modern, call, modern), modern);
        assert_eq!(written(Era::Legacy, call, modern), plain);
        assert_eq!(written(Era::Legacy, call, r#"{"content":[],"ttlMs":5,"x":1e400,"cacheScope":"public"}"#), plain);
        let cases = [
            (call, plain, format!(r#"{{"resultType":"complete","_meta":{{{SERVER}}},"content":[],"x":1e400}}"#)),
            (call, "{ }", format!(r#"{{"resultType":"complete","_meta":{{{SERVER}}} }}"#)),
            (call, r#"{"_meta":{"a":1}}"#, format!(r#"{{"resultType":"complete","_meta":{{{SERVER},"a":1}}}}"#)),
            (
                Method::ResourcesRead,
                r#"{"contents":[],"_meta":{}}"#,
                format!(r#"{{"resultType":"complete","ttlMs":0,"cacheScope":"private","contents":[],"_meta":{{{SERVER}}}}}"#),
            ),
            (
                Method::ResourcesRead,
                r#"{"contents":[],"ttlMs":7,"cacheScope":"public"}"#,
                format!(r#"{{"resultType":"complete","_meta":{{{SERVER}}},"contents":[],"ttlMs":7,"cacheScope":"public"}}"#),
            ),
        ];
        for (method, result, expected) in cases {
            assert_eq!(written(Era::Modern, method, result), expected, "{method} {result}");
        }
    }
}
