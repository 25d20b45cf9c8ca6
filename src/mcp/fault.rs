//! A target's error as a client's era has it.

use bytes::Bytes;
use runtime_api::{Era, Method, Reply};
use runtime_mcp::{
    era::error_code,
    handshake::{CLIENT_INFO, part},
};
use twinway_proto::{
    json::{Key, elements, members, string, text, write_string},
    meta::{key, rewrite},
};

use super::{
    find::no_resource,
    result::{self, refused},
};

/// `MissingRequiredClientCapability` (2026-07-28).
const MISSING_CAPABILITY: i64 = -32021;
/// `URLElicitationRequiredError` (2025-11-25).
const URL_ELICITATION_REQUIRED: i64 = -32042;
/// The data of the error for a client that cannot be sent to a URL.
const NEEDS_URLS: &[u8] = br#"{"requiredCapabilities":{"elicitation":{"url":{}}}}"#;
/// What the keys of [`elicitations`] begin with; a number follows.
const ELICITATION: &str = "elicitation-";

/// What a client is told instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// This error object.
    Error(Bytes),
    /// This result.
    Result(Bytes),
}

/// Whoever a target's error is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) method: Method,
    pub(super) era: Era,
    /// What the request named.
    pub(super) name: &'a str,
    /// Whether the client can be sent to a URL.
    pub(super) takes_urls: bool,
    /// The client's answers to what it was asked before.
    pub(super) responses: Option<&'a Bytes>,
}

/// The error object that a target answered with, for that client.
pub(super) fn for_client(error: &Bytes, reader: &Reader<'_>) -> Told {
    let (code, Reader { method, era, name, .. }) = (error_code(error), *reader);
    match (era, code) {
        // "Not found" has a code of its own in legacy revisions, and names the URI in the modern one.
        (Era::Modern, Some(-32002)) if method == Method::ResourcesRead => Told::Error(not_found(error, era, name)),
        (Era::Legacy, Some(-32602)) if method == Method::ResourcesRead && names_a_uri(error) => {
            Told::Error(not_found(error, era, name))
        }
        // A legacy client has declared what it can at the beginning. A model can read why that does not do.
        (Era::Legacy, Some(MISSING_CAPABILITY)) if method == Method::ToolsCall => Told::Result(tool_error(error)),
        (Era::Legacy, Some(-32022..=-32020)) => Told::Error(with_code(error, -32603)),
        (Era::Modern, Some(URL_ELICITATION_REQUIRED)) => sent_elsewhere(error, reader),
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

fn modern_tool_error(error: &Bytes) -> Bytes {
    let reply = Reply { is_error: true, result_type: None, meta: None, has_cache_hint: false, result: tool_error(error) };
    result::modern(&reply, Method::ToolsCall).into_bytes()
}

/// What has to be done elsewhere first, for a modern client: it is asked, unless it has not declared that it can be (2026-07-28,
/// elicitation: capabilities), or has said already that it does not go there.
fn sent_elsewhere(error: &Bytes, reader: &Reader<'_>) -> Told {
    let Some(result) = elicitations(error) else { return Told::Error(with_code(error, -32603)) };
    if !reader.takes_urls {
        let code = MISSING_CAPABILITY.to_string();
        return Told::Error(rewritten(error, &[("code", code.as_bytes()), ("data", NEEDS_URLS)]));
    }
    match reader.responses.is_some_and(|responses| declined(text(responses))) {
        false => Told::Result(result.into()),
        true if reader.method == Method::ToolsCall => Told::Result(modern_tool_error(error)),
        true => Told::Error(with_code(error, -32603)),
    }
}

/// Whether one of the answers to [`elicitations`] is that the person does not go there.
fn declined(responses: &str) -> bool {
    let asked = members(responses).flatten().filter(|response| response.key.text().starts_with(ELICITATION));
    let action = |answer| members(answer).flatten().find(|member| member.key.is("action")).and_then(|one| string(one.value));
    asked.into_iter().any(|response| action(response.value).is_some_and(|action| action != "accept"))
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
        let head = format!(r#"{comma}"{ELICITATION}{count}":{{"method":"elicitation/create","params":"#);
        result.extend_from_slice(head.as_bytes());
        result.extend_from_slice(&params);
        result.push(b'}');
    }
    result.extend_from_slice(format!(r#"}},"_meta":{{"{}":{CLIENT_INFO}}}}}"#, key::SERVER_INFO).as_bytes());
    (count > 0).then_some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(era: Era, method: Method, error: &'static str) -> String {
        let reader = Reader { method, era, name: "x://1", takes_urls: true, responses: None };
        match for_client(&Bytes::from_static(error.as_bytes()), &reader) {
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

    #[test]
    fn nobody_is_sent_to_a_url_who_does_not_take_that_or_does_not_go_there() {
        let error = r#"{"code":-32042,"message":"m","data":{"elicitations":[{"mode":"url","url":"https://e.example"}]}}"#;
        let lacking = r#"{"message":"m","code":-32021,"data":{"requiredCapabilities":{"elicitation":{"url":{}}}}}"#;
        let refused = r#"{"resultType":"complete","_meta":{"#;
        let not_given = r#"{"message":"m","data":{"elicitations":[{"mode":"url","url":"https://e.example"}]},"code":-32603}"#;
        let asked = r#"{"resultType":"input_required","#;
        for (method, takes_urls, responses, expected) in [
            (Method::ToolsCall, false, "", lacking),
            (Method::ToolsCall, true, r#"{"elicitation-1":{"action":"decline"}}"#, refused),
            (Method::ToolsCall, true, r#"{"elicitation-2":{"action":"cancel"}}"#, refused),
            (Method::PromptsGet, true, r#"{"elicitation-1":{"action":"decline"}}"#, not_given),
            // Whoever accepts may not be through yet.
            (Method::ToolsCall, true, r#"{"elicitation-1":{"action":"accept"}}"#, asked),
            (Method::ToolsCall, true, r#"{"another":{"action":"decline"}}"#, asked),
            (Method::ToolsCall, true, "", asked),
        ] {
            let responses = Bytes::from_static(responses.as_bytes());
            let reader = Reader { method, era: Era::Modern, name: "n", takes_urls, responses: Some(&responses) };

            let (Told::Error(told) | Told::Result(told)) = for_client(&Bytes::from_static(error.as_bytes()), &reader);

            assert!(text(&told).starts_with(expected), "{method} {responses:?}: {}", text(&told));
        }
    }
}
