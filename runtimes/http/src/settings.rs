//! What the runtime is told about an upstream.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use runtime_api::TargetId;
use url::Url;

use crate::openapi::OpenApi;

/// A server that tools are called on.
///
/// Equal settings are one target: whatever differs makes a new one when a configuration is loaded anew.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Its name in the gateway.
    pub target: TargetId,
    /// What it speaks.
    pub kind: Kind,
    /// Where it is, `http` or `https`. No other origin is ever called.
    pub url: Url,
    /// Sent with every request: credentials and the like. Values marked sensitive are not logged.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `baggage` may be passed on.
    pub trusted: bool,
    /// Time to open a connection.
    pub connect_timeout: Duration,
    /// Time to answer a probe or a list.
    pub list_timeout: Duration,
    /// How often its list is asked for anew.
    pub refresh: Duration,
    /// Calls in flight to it; more wait within their deadline.
    pub concurrency: usize,
    /// Largest answer in bytes.
    pub answer_bytes_max: usize,
    /// Who shares a session of its, where it has sessions over Streamable HTTP.
    pub sessions: SessionChoice,
}

impl Upstream {
    /// An MCP server with the defaults.
    #[must_use]
    pub fn new(target: TargetId, url: Url) -> Self {
        Self {
            target,
            kind: Kind::default(),
            url,
            headers: Vec::new(),
            trusted: true,
            // Five seconds cover two lost SYN packets; a caller's deadline is usually thirty.
            connect_timeout: Duration::from_secs(5),
            list_timeout: Duration::from_secs(10),
            refresh: Duration::from_secs(60),
            // A Python server on one machine is saturated long before.
            concurrency: 256,
            // As large as what the entrance takes.
            answer_bytes_max: 16 * 1024 * 1024,
            sessions: SessionChoice::default(),
        }
    }
}

/// What an upstream speaks, and the settings that only this kind has.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// MCP over Streamable HTTP, or over HTTP+SSE as servers of revision 2024-11-05 have it; the url is its endpoint.
    Mcp {
        /// Which eras may be used with it.
        era: EraChoice,
        /// What may carry the messages.
        transport: TransportChoice,
    },
    /// `GET /tools/list` and `POST /tools/execute/{tool}` below the url.
    ToolServer,
    /// An application with an OpenAPI document, such as a FastAPI application.
    OpenApi(Box<OpenApi>),
}

impl Default for Kind {
    fn default() -> Self {
        Self::Mcp { era: EraChoice::default(), transport: TransportChoice::default() }
    }
}

/// Which eras may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EraChoice {
    /// What a probe finds.
    #[default]
    Auto,
    /// Sessions only.
    Legacy,
    /// Revision 2026-07-28 only.
    Modern,
}

/// Who shares a session at a server of MCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionChoice {
    /// All calls of a principal whose clients take the same.
    #[default]
    Shared,
    /// Nobody: each call has one of its own, which ends with it. For servers that remember in a session what a client said.
    Call,
}

/// What may carry the messages to a server of MCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransportChoice {
    /// What the server takes: Streamable HTTP, else HTTP+SSE.
    #[default]
    Auto,
    /// Streamable HTTP only.
    Http,
    /// HTTP+SSE only, which knows nothing but sessions.
    Sse,
}
