//! The client side of an MCP conversation, whatever carries it.
//!
//! [`outgoing`] writes a call's parameters for the next hop, [`incoming`] reads what comes back, [`handshake`] holds both
//! ways to begin, [`era`] tells which of them a server understands, [`listing`] collects its tools, and [`stream`] is the
//! whole conversation over any duplex of messages.

pub mod backoff;
pub mod client;
pub mod era;
pub mod handshake;
mod hint;
pub mod incoming;
pub mod input;
pub mod listing;
pub mod outgoing;
pub mod stream;

pub use incoming::Incoming;
