//! The requests of an MCP client in both eras, and the check of their answers.

use std::borrow::Cow;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request};
use runtime_api::Params;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub(crate) const SESSION_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");
pub(crate) const PROTOCOL_VERSION_HEADER: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD_HEADER: HeaderName = HeaderName::from_static("mcp-method");
const NAME_HEADER: HeaderName = HeaderName::from_static("mcp-name");

/// What every client says of itself; only a gateway that knows clients looks at it.
pub(crate) const TOKEN: &str = "the-token-of-the-load-generator";
const BEARER: &str = "Bearer the-token-of-the-load-generator";

/// What a modern request says of its client.
const MODERN_META: &str = concat!(
    r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    r#""io.modelcontextprotocol/clientInfo":{"name":"runtime-latency","version":"1.0.0"},"#,
    r#""io.modelcontextprotocol/clientCapabilities":{}}"#
);

/// The two ways in which MCP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Era {
    /// Revision 2026-07-28: no session, everything is in the request.
    Modern,
    /// Revision 2025-11-25: `initialize`, then calls of a session.
    Legacy,
}

impl Era {
    /// The era of a request with this `MCP-Protocol-Version`; versions are dates, so they compare as text.
    pub(crate) fn of_version(version: Option<&[u8]>) -> Self {
        if version.is_some_and(|version| version >= Self::Modern.version().as_bytes()) { Self::Modern } else { Self::Legacy }
    }

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Modern => Self::Legacy,
            Self::Legacy => Self::Modern,
        }
    }

    pub(crate) const fn version(self) -> &'static str {
        match self {
            Self::Modern => "2026-07-28",
            Self::Legacy => "2025-11-25",
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Modern => "modern",
            Self::Legacy => "legacy",
        }
    }
}

/// Makes the requests of one client to one endpoint.
pub(crate) struct RequestBuilder {
    era: Era,
    path: String,
    host: HeaderValue,
    tool: String,
    tool_header: HeaderValue,
    session: Option<HeaderValue>,
}

impl RequestBuilder {
    /// `endpoint` is `host:port/path`.
    pub(crate) fn new(era: Era, endpoint: &str, tool: &str) -> anyhow::Result<Self> {
        let (host, path) = endpoint.split_once('/').context("an endpoint is `host:port/path`")?;
        Ok(Self {
            era,
            path: format!("/{path}"),
            host: HeaderValue::from_str(host)?,
            tool: tool.to_owned(),
            tool_header: HeaderValue::from_str(tool)?,
            session: None,
        })
    }

    /// From now on every request belongs to this session, or to none.
    pub(crate) fn enter_session(&mut self, session: Option<HeaderValue>) {
        self.session = session;
    }

    pub(crate) const fn era(&self) -> Era {
        self.era
    }

    pub(crate) fn initialize(&self) -> Request<Full<Bytes>> {
        let body = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"runtime-latency","version":"1.0.0"}}}"#;
        let mut request = self.post(body.into());
        request.headers_mut().remove(PROTOCOL_VERSION_HEADER);
        request
    }

    pub(crate) fn initialized(&self) -> Request<Full<Bytes>> {
        self.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.into())
    }

    /// Ends the session.
    pub(crate) fn delete(&self) -> Request<Full<Bytes>> {
        let mut request = self.post(Bytes::new());
        *request.method_mut() = Method::DELETE;
        request
    }

    /// A `tools/call`; `text` must need no escapes in JSON.
    pub(crate) fn call(&self, id: u64, text: &str) -> Request<Full<Bytes>> {
        let mut request = self.post(call_body(self.era, id, &self.tool, text).into());
        if self.era == Era::Modern {
            request.headers_mut().insert(METHOD_HEADER, HeaderValue::from_static("tools/call"));
            request.headers_mut().insert(NAME_HEADER, self.tool_header.clone());
        }
        request
    }

    /// A `tools/list` for the whole list.
    pub(crate) fn list(&self, id: u64) -> Request<Full<Bytes>> {
        let params = match self.era {
            Era::Modern => [r#"{"_meta":"#, MODERN_META, "}"].concat(),
            Era::Legacy => "{}".to_owned(),
        };
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list","params":{params}}}"#);
        let mut request = self.post(body.into());
        if self.era == Era::Modern {
            request.headers_mut().insert(METHOD_HEADER, HeaderValue::from_static("tools/list"));
        }
        request
    }

    fn post(&self, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.parse().expect("the path was part of an endpoint");
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        headers.insert(AUTHORIZATION, HeaderValue::from_static(BEARER));
        headers.insert(PROTOCOL_VERSION_HEADER, HeaderValue::from_static(self.era.version()));
        headers.extend(self.session.clone().map(|session| (SESSION_HEADER, session)));
        request
    }
}

/// The bytes of one `tools/call` in `era`.
pub(crate) fn call_body(era: Era, id: u64, tool: &str, text: &str) -> String {
    let id_digits = id.to_string();
    let (before_meta, meta) = match era {
        Era::Modern => (r#","_meta":"#, MODERN_META),
        Era::Legacy => ("", ""),
    };
    [
        r#"{"jsonrpc":"2.0","id":"#,
        &id_digits,
        r#","method":"tools/call","params":{"name":""#,
        tool,
        r#"","arguments":{"text":""#,
        text,
        r#""}"#,
        before_meta,
        meta,
        "}}",
    ]
    .concat()
}

/// The parameters of the same modern call, as a gateway hands them to a runtime.
pub(crate) fn call_params(tool: &str, text: &str) -> Params {
    let name = [r#"{"name":""#, tool, r#"""#].concat();
    let arguments = [r#"{"text":""#, text, r#""}"#].concat();
    let name_range = r#"{"name":"#.len()..name.len();
    let arguments_start = name_range.end + r#","arguments":"#.len();
    let arguments_range = arguments_start..arguments_start + arguments.len();
    let meta_start = arguments_range.end + r#","_meta":"#.len();
    let raw = [&name, r#","arguments":"#, &arguments, r#","_meta":"#, MODERN_META, "}"].concat();
    Params {
        raw: raw.into(),
        name: Some(name_range),
        arguments: Some(arguments_range),
        meta: Some(meta_start..meta_start + MODERN_META.len()),
        meta_passes: true,
        ..Params::default()
    }
}

/// Fails unless `body` answers call `id` with exactly `text`.
pub(crate) fn check_answer(body: &[u8], id: u64, text: &str) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        id: Option<u64>,
        #[serde(borrow)]
        error: Option<&'a RawValue>,
        #[serde(borrow)]
        result: Option<CallResult<'a>>,
    }

    let answer: Answer<'_> = serde_json::from_slice(body).context("the answer is not a tool result")?;
    if let Some(error) = answer.error {
        anyhow::bail!("the call was refused: {}", error.get());
    }
    ensure!(answer.id == Some(id), "the answer has another id");
    check_result(&answer.result.context("the answer has no result")?, text)
}

/// Fails unless `body` answers request `id` with so many tools on one page.
pub(crate) fn check_list(body: &[u8], id: u64, tools: usize) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        id: Option<u64>,
        #[serde(borrow)]
        result: List<'a>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct List<'a> {
        #[serde(borrow)]
        tools: Vec<&'a RawValue>,
        #[serde(borrow)]
        next_cursor: Option<&'a RawValue>,
    }

    let answer: Answer<'_> = serde_json::from_slice(body).context("the answer is not a list of tools")?;
    ensure!(answer.id == Some(id), "the answer has another id");
    ensure!(answer.result.next_cursor.is_none(), "the list goes on on another page");
    ensure!(answer.result.tools.len() == tools, "the list has {} tools", answer.result.tools.len());
    Ok(())
}

/// Fails unless `result`, the bare result of a `tools/call`, is exactly `text`.
pub(crate) fn check_result(result: &CallResult<'_>, text: &str) -> anyhow::Result<()> {
    ensure!(!result.is_error, "the tool failed");
    let [content] = result.content.as_slice() else { anyhow::bail!("the result has not one content block") };
    // What an OpenAPI application answers is JSON: a text in quotes.
    ensure!(content.text.trim_matches('"') == text, "the text is not what was sent");
    Ok(())
}

/// What is checked of a tool's result.
#[derive(Deserialize)]
pub(crate) struct CallResult<'a> {
    #[serde(borrow)]
    content: Vec<Content<'a>>,
    #[serde(rename = "isError", default)]
    is_error: bool,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
}
