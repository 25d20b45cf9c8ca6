//! A server of the REST shape that Python tool servers have: `GET /tools/list`, `POST /tools/execute/{tool}`.
//!
//! ```text
//! arguments -> POST {base}/tools/execute/{tool} -> 200 {tool, status, result} -> content (and structured content)
//!                                               -> 4xx, 500 {detail}          -> isError with the status
//!                                               -> anything else              -> CallError by the delivery rule
//! ```

mod listing;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use runtime_api::{Call, CallError, Delivery, Eras, ErrorCode, Method as McpMethod, Reply, Support};
use runtime_mcp::handshake::part;
use twinway_proto::{json, rope::Rope};

use crate::{
    exchange::{refused, refused_by},
    h1::{Exchange, RequestHead},
    percent,
    settings::Upstream,
    site::{Site, add_trace},
    target::Found,
    tool_result,
};

/// What an answer may be.
pub(crate) const ACCEPT: &str = "application/json";

/// What `status` says when the tool failed and the server answers 200 all the same.
const FAILED: [&str; 3] = ["error", "failed", "failure"];

/// One such server.
#[derive(Debug)]
pub(crate) struct ToolServer {
    site: Arc<Site>,
    /// The path of the configured url without a slash at its end.
    base: Box<str>,
}

impl ToolServer {
    pub(crate) fn new(site: Arc<Site>) -> Self {
        let base = site.settings.url.path().trim_end_matches('/').into();
        Self { site, base }
    }

    /// Refuses what such a server cannot be configured with.
    pub(crate) fn check(settings: &Upstream) -> Result<(), Box<str>> {
        if settings.url.query().is_none() { Ok(()) } else { Err("the url of a tool server has no query".into()) }
    }

    /// Makes a call. Dropping the future closes the connection.
    pub(crate) async fn call(&self, call: &Call) -> Result<Reply, CallError> {
        if call.method != McpMethod::ToolsCall {
            let message = format!("a tool server does not know `{}`", call.method);
            return Err(CallError::gateway(ErrorCode::Unsupported, message));
        }
        let arguments = call.params.arguments.as_ref().map_or(Bytes::from_static(b"{}"), |range| call.params.part(range));
        let mut head = self.head(&Method::POST, &["/tools/execute/", &percent::segment(&call.name)]);
        add_trace(&call.trace, &mut head);
        let exchange = self.site.endpoint.post(head, arguments.into()).await?;
        let status = exchange.head.status;
        if !(status.is_success() || refuses_the_call(status)) {
            return Err(refused_by(&exchange.head));
        }
        let body = self.site.endpoint.body(exchange).await?;
        if status == StatusCode::NOT_FOUND {
            // It may offer other tools than it did.
            self.site.wake.notify_one();
        }
        if status.is_success() { result_of(&body) } else { fault_of(status, &body) }
    }

    /// Asks whether it is ready and for all tools.
    pub(crate) async fn look(&self) -> Result<Found, CallError> {
        self.check_health().await?;
        let exchange = self.get("/tools/list").await?;
        let status = exchange.head.status;
        if status != StatusCode::OK {
            return Err(refused_by(&exchange.head));
        }
        let tools = listing::read(&self.site.endpoint.body(exchange).await?)?;
        let eras = Eras { modern: Support::No, legacy: Support::No };
        Ok(Found::of_tools(tools, eras))
    }

    /// A server that says it is not ready is believed; one without such a page, or that keeps it to itself, is asked for its
    /// list and nothing more.
    async fn check_health(&self) -> Result<(), CallError> {
        let exchange = self.get("/health/ready").await?;
        let status = exchange.head.status;
        if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED {
            let message = format!("the upstream says that it is not ready: GET /health/ready answers with HTTP status {status}");
            return Err(CallError::runtime(ErrorCode::Unavailable, Delivery::Answered, message));
        }
        // Read to its end, so that the list takes the same connection.
        self.site.endpoint.body(exchange).await?;
        Ok(())
    }

    async fn get(&self, path: &str) -> Result<Exchange, CallError> {
        self.site.endpoint.pool.send(self.head(&Method::GET, &[path]).with(Rope::default())).await
    }

    /// The pieces of `path` are fixed or encoded.
    fn head(&self, method: &Method, path: &[&str]) -> RequestHead {
        RequestHead::new(method, &[&[&*self.base], path].concat().concat(), &self.site.endpoint.headers)
    }
}

/// Statuses by which such servers say what is wrong with a call, as against with the gateway's credentials or the server.
fn refuses_the_call(status: StatusCode) -> bool {
    let not_the_call = matches!(status.as_u16(), 401 | 403 | 407 | 408 | 425 | 429);
    status == StatusCode::INTERNAL_SERVER_ERROR || (status.is_client_error() && !not_the_call)
}

/// `{tool, status, result}`; a server that answers with the bare value is understood too.
fn result_of(body: &Bytes) -> Result<Reply, CallError> {
    if body.is_empty() {
        return Ok(tool_result::of_value(b"null"));
    }
    json::check(body).map_err(|error| {
        let message = "the tool server's answer is not JSON";
        CallError::runtime(ErrorCode::Protocol, Delivery::Unknown, message).with_source(error)
    })?;
    if part(body, "status").is_some_and(|status| says_failed(&status)) {
        let says = ["result", "error", "detail"].iter().find_map(|key| part(body, key).filter(|raw| &raw[..] != b"null"));
        return Ok(tool_result::of_fault(None, says.as_deref().unwrap_or(body)));
    }
    let result = part(body, "result");
    Ok(tool_result::of_value(result.as_deref().unwrap_or_else(|| body.trim_ascii())))
}

fn says_failed(status: &[u8]) -> bool {
    let raw = std::str::from_utf8(status).unwrap_or_default();
    json::string(raw).is_some_and(|status| FAILED.iter().any(|failed| status.eq_ignore_ascii_case(failed)))
}

/// `{detail}` is the tool's word. Any other body comes from somebody before it, so nobody knows how far the call had come.
fn fault_of(status: StatusCode, body: &Bytes) -> Result<Reply, CallError> {
    let detail = json::check(body).ok().and_then(|()| part(body, "detail"));
    detail.map_or_else(|| Err(refused(status)), |detail| Ok(tool_result::of_fault(Some(status), &detail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn an_answer_is_the_result_within_it() {
        let cases = [
            (
                r#"{"tool":"t","status":"success","result":{"a":1}}"#,
                r#"{"content":[{"type":"text","text":"{\"a\":1}"}],"structuredContent":{"a":1}}"#,
            ),
            (r#"{"result":"text"}"#, r#"{"content":[{"type":"text","text":"text"}]}"#),
            (" 7\n", r#"{"content":[{"type":"text","text":"7"}]}"#),
            ("", r#"{"content":[{"type":"text","text":"null"}]}"#),
            (r#"{"status":"error","result":"no"}"#, r#"{"content":[{"type":"text","text":"no"}],"isError":true}"#),
            (r#"{"status":"Failed","result":null,"error":"e"}"#, r#"{"content":[{"type":"text","text":"e"}],"isError":true}"#),
        ];
        for (answer, expected) in cases {
            assert_eq!(result_of(&body(answer)).unwrap().result, expected, "{answer}");
        }
        assert_eq!(result_of(&body("<html>")).unwrap_err().delivery(), Delivery::Unknown);
    }

    #[test]
    fn only_what_the_tool_itself_refused_is_its_answer() {
        let detail = body(r#"{"detail":"no"}"#);
        let unknown = |status: u16, body: &Bytes| {
            let status = StatusCode::from_u16(status).unwrap();
            fault_of(status, body).map_err(|error| (error.code(), error.delivery()))
        };

        assert!(unknown(404, &detail).unwrap().is_error && unknown(500, &detail).unwrap().is_error);
        assert_eq!(unknown(500, &body("Internal Server Error")).unwrap_err(), (ErrorCode::Disconnected, Delivery::Unknown));
        for (status, of_the_call) in
            [(400, true), (404, true), (422, true), (500, true), (401, false), (429, false), (503, false)]
        {
            assert_eq!(refuses_the_call(StatusCode::from_u16(status).unwrap()), of_the_call, "{status}");
        }
    }
}
