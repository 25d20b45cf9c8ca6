//! The ways in: adapters between a wire and the server side of MCP, without logic of their own.

mod accept;
pub(crate) mod auth;
mod duplex;
mod frames;
pub mod grpc;
pub mod http;
pub mod libp2p;
pub mod stdio;
pub mod tls;

pub use accept::BindError;
