//! The stream protocol `/mcp+p2p/1.0.0`: opens streams to peers and takes theirs.
//!
//! ```text
//!   NodeHandle::open_stream ──► Behaviour ──(dial when there is no connection)──► Swarm
//!                                  │  dials QUIC first; chooses a connection: direct, near, QUIC
//!                                  ▼
//!                               Handler, one per connection
//!                                  │  outbound: at most 8 negotiations at once, the rest waits in a bounded queue
//!                                  │  inbound:  quota of the peer, then a bounded queue; refused = reset and counted
//!                                  ▼
//!                               IncomingStreams
//! ```
//!
//! Whoever asked for a stream always hears: what is dropped on the way (a connection that closes, a dial that fails)
//! drops its answer channel too.

mod behaviour;
mod connections;
mod dialling;
mod handler;

use std::sync::Arc;

use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, swarm::ConnectionId};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::{
    Carrier,
    quotas::{PeerQuota, StreamPermit},
};

pub(crate) use behaviour::Behaviour;

/// MCP++ Profile E, section 3.1.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/mcp+p2p/1.0.0");

/// Streams of peers that were admitted and wait to be taken: more than any one peer may open (32), so that one peer
/// alone does not fill it. When it is full, a stream is reset and counted.
const ACCEPTED_WAITING_MAX: usize = 64;

/// A stream that a peer opened, within its quota.
#[derive(Debug)]
pub struct InboundStream {
    /// The key that the connection proved.
    pub peer: PeerId,
    /// The connection it came on.
    pub connection: ConnectionId,
    /// Whether a relay stands between.
    pub relayed: bool,
    /// The other end of the connection.
    pub remote_addr: Multiaddr,
    /// What the peer has used up, over all its streams.
    pub quota: Arc<PeerQuota>,
    /// Its place among the peer's streams: to be kept until the stream is closed.
    pub permit: StreamPermit,
    /// The stream.
    pub stream: Stream,
}

impl InboundStream {
    /// What carries its connection: `tcp`, `quic`, or `unknown`.
    #[must_use]
    pub fn transport(&self) -> &'static str {
        Carrier::name_of(&self.remote_addr)
    }
}

/// A stream to a peer.
#[derive(Debug)]
pub struct OutboundStream {
    /// What carries its connection: `tcp`, `quic`, or `unknown` for an address that does not say.
    pub transport: &'static str,
    /// The stream.
    pub stream: Stream,
}

/// The streams that peers open.
#[derive(Debug)]
pub struct IncomingStreams {
    streams: mpsc::Receiver<InboundStream>,
}

impl IncomingStreams {
    /// The next stream; `None` once the node has stopped. Cancel-safe.
    pub async fn next(&mut self) -> Option<InboundStream> {
        self.streams.recv().await
    }
}

/// Why no stream could be opened. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The peer cannot be reached, and why.
    #[error("{0}")]
    Dial(Arc<str>),
    /// The peer does not speak the protocol.
    #[error("the peer does not speak /mcp+p2p/1.0.0")]
    Unsupported,
    /// The stream was not negotiated in time, or broke.
    #[error("the stream could not be negotiated: {0}")]
    Negotiation(Arc<str>),
    /// The connection closed.
    #[error("the connection closed before the stream was open")]
    ConnectionClosed,
    /// More streams are asked for than can wait.
    #[error("too many streams wait to be opened")]
    Busy,
    /// The time given is used up.
    #[error("the stream was not open in time")]
    DeadlineExceeded,
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

/// Somebody wants a stream.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    pub(crate) answer: oneshot::Sender<Result<OutboundStream, OpenError>>,
}

impl OpenRequest {
    /// Nobody waits any more.
    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn fail(self, error: OpenError) {
        // Whoever has stopped waiting needs no error.
        self.answer.send(Err(error)).ok();
    }
}
