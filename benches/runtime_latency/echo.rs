//! What the neutral tool server answers, over whatever it is asked: MCP of both eras with the tools `echo` and `nap`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::request::Era;

/// JSON-RPC 2.0, section 5.1.
const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;
const PARSE_ERROR: i32 = -32700;

/// How long `nap` takes, which is `echo` otherwise: enough for a client to go away in the middle of it.
pub(crate) const NAP: Duration = Duration::from_millis(200);

/// An answer.
pub(crate) struct Reply {
    /// For HTTP.
    pub(crate) status: StatusCode,
    /// The message; empty when nothing is answered.
    pub(crate) body: String,
    /// It answers `initialize`.
    pub(crate) opens_session: bool,
    /// When it is sent; only HTTP waits.
    pub(crate) after: Duration,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// Which tools are listed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Offer {
    /// `echo` and `nap`.
    Own,
    /// So many, which nobody calls.
    Many(usize),
}

/// Answers one message.
pub(crate) fn answer(era: Era, offer: Offer, body: &[u8]) -> Reply {
    let Ok(message) = serde_json::from_slice::<Message<'_>>(body) else {
        return failure(StatusCode::BAD_REQUEST, "null", PARSE_ERROR, "the body is not a JSON-RPC message");
    };
    let (Some(id), Some(method)) = (message.id, message.method) else {
        return Reply { status: StatusCode::ACCEPTED, body: String::new(), opens_session: false, after: Duration::ZERO };
    };
    match method.as_ref() {
        "initialize" => Reply { opens_session: true, ..success(id.get(), INITIALIZED) },
        "server/discover" => success(id.get(), DISCOVERED),
        "ping" => success(id.get(), "{}"),
        "tools/list" => success(id.get(), &tools(era, offer)),
        "tools/call" => call(era, id, message.params),
        _ => failure(unknown_method_status(era), id.get(), METHOD_NOT_FOUND, "no such method"),
    }
}

fn call(era: Era, id: &RawValue, params: Option<&RawValue>) -> Reply {
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
        #[serde(borrow)]
        arguments: Arguments<'a>,
    }
    #[derive(Deserialize)]
    struct Arguments<'a> {
        #[serde(borrow)]
        text: &'a RawValue,
    }

    let status = match era {
        Era::Modern => StatusCode::BAD_REQUEST,
        Era::Legacy => StatusCode::OK,
    };
    match params.map(|params| serde_json::from_str::<Params<'_>>(params.get())) {
        Some(Ok(Params { name, arguments })) if TOOLS.contains(&&*name) && arguments.text.get().starts_with('"') => {
            let after = if name == "nap" { NAP } else { Duration::ZERO };
            Reply { after, ..success(id.get(), &echoed(era, arguments.text.get())) }
        }
        _ => failure(status, id.get(), INVALID_PARAMS, "the tools are `echo` and `nap`, and their `text` is a string"),
    }
}

/// The result of `echo`; `text` is the JSON string as it came.
fn echoed(era: Era, text: &str) -> String {
    let end = match era {
        Era::Modern => concat!(
            r#"}],"isError":false,"resultType":"complete","_meta":"#,
            r#"{"io.modelcontextprotocol/serverInfo":{"name":"echo-server","version":"1.0.0"}}}"#
        ),
        Era::Legacy => r#"}],"isError":false}"#,
    };
    [r#"{"content":[{"type":"text","text":"#, text, end].concat()
}

const DISCOVERED: &str = concat!(
    r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":60000,"#,
    r#""cacheScope":"public","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"echo-server","version":"1.0.0"}}}"#
);

const INITIALIZED: &str = concat!(
    r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"#,
    r#""serverInfo":{"name":"echo-server","version":"1.0.0"}}"#
);

const TOOLS: [&str; 2] = ["echo", "nap"];

fn tools(era: Era, offer: Offer) -> String {
    let schema = r#"{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}"#;
    let modern = match era {
        Era::Modern => r#""resultType":"complete","ttlMs":60000,"cacheScope":"public","#,
        Era::Legacy => "",
    };
    let tool = |name: &&str| format!(r#"{{"name":"{name}","description":"Returns its text","inputSchema":{schema}}}"#);
    match offer {
        Offer::Own => format!(r#"{{{modern}"tools":[{}]}}"#, TOOLS.iter().map(tool).collect::<Vec<_>>().join(",")),
        Offer::Many(count) => format!(r#"{{{modern}"tools":[{}]}}"#, many(count)),
    }
}

/// So many tools of about 500 bytes, each with a long description. They are written once: what is measured is the listing.
fn many(count: usize) -> Arc<str> {
    static WRITTEN: Mutex<BTreeMap<usize, Arc<str>>> = Mutex::new(BTreeMap::new());
    let mut written = WRITTEN.lock().expect("nobody panics with it");
    let write = || {
        let tool = |number| {
            let description = "Finds what lies there. ".repeat(13);
            format!(
                r#"{{"name":"tool_{number}","description":"{description}","inputSchema":{{"type":"object","properties":{{"path":{{"type":"string","description":"Where to look"}},"depth":{{"type":"integer","minimum":0}}}},"required":["path"]}}}}"#
            )
        };
        (0..count).map(tool).collect::<Vec<_>>().join(",").into()
    };
    written.entry(count).or_insert_with(write).clone()
}

fn unknown_method_status(era: Era) -> StatusCode {
    match era {
        Era::Modern => StatusCode::NOT_FOUND,
        Era::Legacy => StatusCode::OK,
    }
}

fn success(id: &str, result: &str) -> Reply {
    let body = [r#"{"jsonrpc":"2.0","id":"#, id, r#","result":"#, result, "}"].concat();
    Reply { status: StatusCode::OK, body, opens_session: false, after: Duration::ZERO }
}

fn failure(status: StatusCode, id: &str, code: i32, message: &str) -> Reply {
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{message}"}}}}"#);
    Reply { status, body, opens_session: false, after: Duration::ZERO }
}
