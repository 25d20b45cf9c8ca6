//! The HTTP headers of MCP, and the codec of those that mirror the body (MCP 2026-07-28, Streamable HTTP).

mod number;
mod params;
mod value;

use http::HeaderName;

pub use params::{InvalidParamHeader, PARAM_HEADERS_MAX, ParamHeader, ParamHeaders};
pub use value::{HeaderFault, decode_value, encode_value, matches};

/// The revision that a message follows: `2026-07-28`.
pub const MCP_PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// The session of the legacy eras.
pub const MCP_SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// Mirrors `method`.
pub const MCP_METHOD: HeaderName = HeaderName::from_static("mcp-method");

/// Mirrors `params.name` or `params.uri`.
pub const MCP_NAME: HeaderName = HeaderName::from_static("mcp-name");

/// Where a legacy client resumes an event stream.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What the names of headers begin with that mirror a tool's argument.
pub const MCP_PARAM_PREFIX: &str = "mcp-param-";
