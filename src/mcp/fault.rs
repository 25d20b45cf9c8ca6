//! A target's error as a client's era has it.

use bytes::Bytes;
use runtime_api::{Era, Method};
use runtime_mcp::{
    era::error_code,
    handshake::{CLIENT_INFO, part},
};
use twinway_proto::{
    json::{Key, elements, write_string},
    meta::{key, rewrite},
};

use super::{find::no_resource, result::refused};

/// `MissingRequiredClientCapability` (2026-07-28).
const MISSING_CAPABILITY: i64 = -32021;
/// `URLElicitationRequiredError` (2025-11-25).
const URL_ELICITATION_REQUIRED: i64 = -32042;

/// What a client is told instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// This error object.
    Error(Bytes),
    /// This result.
    Result(Bytes),
}

/// The error object that a target answered with, for a client of that era. `name` is what the request named.
pub(super) fn for_client(error: &Bytes, method: Method, era: Era, name: &str) -> Told {
    let code = error_code(error);
    match (era, code) {
        // "Not found" has a code of its own in legacy revisions, and names the URI in the modern one.
        (Era::Modern, Some(-32002)) if method == Method::ResourcesRead => Told::Error(not_found(error, era, name)),
        (Era::Legacy, Some(-32602)) if method == Method::ResourcesRead && names_a_uri(error) => {
            Told::Error(not_found(error, era, name))
        }
        // A legacy client has declared what it can at the beginning. A model can read why that does not do.
        (Era::Legacy, Some(MISSING_CAPABILITY)) if method == Method::ToolsCall => Told::Result(tool_error(error)),
        (Era::Legacy, Some(-32022..=-32020)) => Told::Error(with_code(error, -32603)),
        (Era::Modern, Some(URL_ELICITATION_REQUIRED)) => match elicitations(error) {
            Some(result) => Told::Result(result.into()),
            None => Told::Error(with_code(error, -32603)),
        },
        _ => Told::Error(error.clone()),
    }
}

fn names_a_uri(error: &Bytes) -> bool {
    part(error, "data").is_some_and(|data| part(&data, "uri").is_some())
}

fn not_found(error: &Bytes, era: Era, uri: &str) -> Bytes {
    let mut data = br#"{"uri":"#.to_vec();
    write_string(&mut data, uri);
    data.push(b'}');
    let data = part(error, "data").filter(|_| names_a_uri(error)).unwrap_or_else(|| data.into());
    rewritten(error, &[("code", no_resource(era).to_string().as_bytes()), ("data", &data)])
}

fn with_code(error: &Bytes, code: i32) -> Bytes {
    rewritten(error, &[("code", code.to_string().as_bytes())])
}

/// The error with these members, whatever it had of them.
fn rewritten(error: &Bytes, with: &[(&str, &[u8])]) -> Bytes {
    let keep = |key: &Key<'_>| !with.iter().any(|(name, _)| key.is(name));
    rewrite(Some(text(error)), keep, with).map_or_else(|_| error.clone(), Bytes::from)
}

fn tool_error(error: &Bytes) -> Bytes {
    let message = part(error, "message").filter(|message| message.starts_with(b"\""));
    let message = message.unwrap_or_else(|| Bytes::from_static(br#""the tool needs more than this client can do""#));
    refused(&message).into()
}

/// What has to be done elsewhere first becomes something to ask: the call is then made again as it is (2025-11-25, elicitation;
/// 2026-07-28, multi round-trip requests).
fn elicitations(error: &Bytes) -> Option<Vec<u8>> {
    let all = part(&part(error, "data")?, "elicitations")?;
    let mut result = br#"{"resultType":"input_required","inputRequests":{"#.to_vec();
    let mut count = 0;
    for range in elements(text(&all)).flatten() {
        let keep = |key: &Key<'_>| !(key.is("elicitationId") || key.is("mode"));
        let params = rewrite(Some(&text(&all)[range]), keep, &[("mode", b"\"url\"")]).ok()?;
        let comma = if count > 0 { "," } else { "" };
        count += 1;
        let head = format!(r#"{comma}"elicitation-{count}":{{"method":"elicitation/create","params":"#);
        result.extend_from_slice(head.as_bytes());
        result.extend_from_slice(&params);
        result.push(b'}');
    }
    result.extend_from_slice(format!(r#"}},"_meta":{{"{}":{CLIENT_INFO}}}}}"#, key::SERVER_INFO).as_bytes());
    (count > 0).then_some(result)
}

/// Messages were checked to be UTF-8 as a whole.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(era: Era, method: Method, error: &'static str) -> String {
        match for_client(&Bytes::from_static(error.as_bytes()), method, era, "x://1") {
            Told::Error(error) | Told::Result(error) => text(&error).to_owned(),
        }
    }

    #[test]
    fn each_era_gets_the_error_it_knows() {
        use Era::{Legacy, Modern};
        use Method::{PromptsGet, ResourcesRead, ToolsCall};
        let cases = [
            (
                Modern,
                ResourcesRead,
                r#"{"code":-32002,"message":"m"}"#,
                r#"{"message":"m","code":-32602,"data":{"uri":"x://1"}}"#,
            ),
            (
                Modern,
                ResourcesRead,
                r#"{"code":-32002,"message":"m","data":{"uri":"y"}}"#,
                r#"{"message":"m","code":-32602,"data":{"uri":"y"}}"#,
            ),
            (
                Legacy,
                ResourcesRead,
                r#"{"code":-32602,"data":{"uri":"y"},"message":"m"}"#,
                r#"{"message":"m","code":-32002,"data":{"uri":"y"}}"#,
            ),
            (Legacy, ResourcesRead, r#"{"code":-32602,"message":"m"}"#, r#"{"code":-32602,"message":"m"}"#),
            (Legacy, PromptsGet, r#"{"code":-32021,"message":"m"}"#, r#"{"message":"m","code":-32603}"#),
            (
                Legacy,
                ToolsCall,
                r#"{"code":-32021,"message":"needs \"roots\""}"#,
                r#"{"content":[{"type":"text","text":"needs \"roots\""}],"isError":true}"#,
            ),
            (Modern, ToolsCall, r#"{"code":-1,"x":1}"#, r#"{"code":-1,"x":1}"#),
        ];
        for (era, method, error, expected) in cases {
            assert_eq!(told(era, method, error), expected, "{era:?} {method} {error}");
        }
    }

    #[test]
    fn what_has_to_be_done_at_a_url_first_becomes_a_question() {
        let error = r#"{"code":-32042,"message":"m","data":{"elicitations":[{"mode":"url","elicitationId":"7","url":"https://e.example","message":"Sign in"}]}}"#;

        let told = told(Era::Modern, Method::ToolsCall, error);

        let expected = r#"{"resultType":"input_required","inputRequests":{"elicitation-1":{"method":"elicitation/create","params":{"url":"https://e.example","message":"Sign in","mode":"url"}}},"#;
        assert!(told.starts_with(expected), "{told}");
    }
}
