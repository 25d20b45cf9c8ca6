//! Calls tools on servers that speak HTTP.
//!
//! An [`Upstream`] is an MCP server over Streamable HTTP, of either era or of both. [`HttpRuntime`] keeps what it offers
//! up to date and makes calls over warm pooled connections; a call costs one round trip once a connection is open.

mod body;
mod connect;
mod exchange;
mod keeper;
mod pool;
mod runtime;
mod session;
mod settings;
mod sse_reply;
mod target;

pub use pool::enter_worker;
pub use runtime::{HttpRuntime, SetupError};
pub use settings::{EraChoice, Upstream};
