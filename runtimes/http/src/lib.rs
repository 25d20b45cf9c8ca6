//! Calls tools on servers that speak HTTP.
//!
//! An [`Upstream`] is one of a closed set of [`Kind`]s: an MCP server over Streamable HTTP, of either era or of both, or over
//! HTTP+SSE; a tool server of the REST shape; an application with an OpenAPI document.
//! [`HttpRuntime`] keeps what it offers up to date and makes calls over warm pooled connections; a call costs one round trip
//! once a connection is open. What all kinds share (connections, places, looking at it anew) is written once; `target` is
//! the only file that tells them apart.

mod connect;
mod control;
mod exchange;
mod h1;
mod keeper;
mod mcp;
mod openapi;
mod percent;
mod pool;
mod runtime;
mod settings;
mod site;
mod target;
pub mod tls;
mod tool_result;
mod tool_server;

pub use control::{HttpControl, Plan};
pub use openapi::{OpenApi, OperationRule, document_address};
pub use pool::enter_worker;
pub use runtime::{HttpRuntime, SetupError};
pub use settings::{EraChoice, Kind, SessionChoice, TransportChoice, Upstream};
