//! The client side of a conversation over any duplex of messages: frames on a libp2p stream, lines of a child process, events
//! and POSTs of HTTP+SSE.
//!
//! ```text
//!   Connection::request ──► Outbox ──► sink          whoever puts a message in writes it, too, when the sink is free;
//!        │    ▲               ▲                      the writer task goes on where the transport made it wait
//!        │    │               │ notifications/cancelled
//!        ▼    │ answer        │
//!      Pending table ◄──── reader task ◄── source    never waits for anything but the source
//! ```
//!
//! Many requests are in flight, answers come in any order, either side may ask. Ids are this hop's own and never used
//! twice. Reader and writer are two tasks, because two peers that both wait to write before they read stand still for ever.

mod changes;
mod connection;
pub mod listening;
mod met;
pub mod opening;
mod outbox;
mod pending;
mod reader;

use std::{fmt, num::NonZeroUsize, sync::Arc};

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, future::BoxFuture};
use runtime_api::BoxError;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use twinway_proto::rope::Rope;

pub use changes::{Changed, Changes};
pub use connection::{Ask, Connection};
pub use met::Met;

use connection::Shared;

/// A conversation that nobody drives yet.
pub struct Conversation {
    /// Makes requests.
    pub connection: Connection,
    reader: BoxFuture<'static, ()>,
    writer: BoxFuture<'static, ()>,
}

/// How a conversation is held.
#[derive(Clone)]
pub struct Settings {
    /// Requests in flight at once; more wait within their deadline.
    pub in_flight_max: NonZeroUsize,
    /// Largest message in bytes that the other side takes; a larger request is refused before it is sent.
    pub message_bytes_max: usize,
    /// What to do with a message that cannot be read.
    pub garbage: Garbage,
    /// What carries the messages, as spans name it: `tcp`, `quic`, `pipe`.
    pub transport: &'static str,
    /// Answers requests of the other side; `ping` is answered without it. None: they go to the client of the one call in flight that
    /// takes them, or are refused with -32601.
    pub on_request: Option<OnRequest>,
    /// Hears of everything that was thrown away.
    pub on_fault: OnFault,
}

/// What to do with a message that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Garbage {
    /// Close: on a framed stream nothing that follows can be trusted (MCP++ transport, fail-closed matrix).
    Close,
    /// Go on with the next: a child process may print a line that is not for us.
    Ignore,
}

/// A request of the other side.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The method.
    pub method: Box<str>,
    /// The raw `params` object.
    pub params: Option<Bytes>,
}

/// Answers a request of the other side: the raw `result`, or the raw `error` object.
pub type OnRequest = Arc<dyn Fn(Asked) -> BoxFuture<'static, Result<Rope, Bytes>> + Send + Sync>;

/// Hears of a [`Fault`]. Called by the reader: it must not block.
pub type OnFault = Arc<dyn Fn(Fault) + Send + Sync>;

/// Something the other side sent was thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// Not UTF-8.
    InvalidUtf8,
    /// Not JSON, or deeper than the bound.
    InvalidJson,
    /// JSON, but not one JSON-RPC message.
    NotAMessage,
    /// An answer to nothing that was asked.
    UnknownId,
    /// An answer to a request that was given up.
    LateAnswer,
    /// Progress for a client that does not take it as fast as it comes.
    ProgressDropped,
    /// A notification that nobody here reads.
    NotificationIgnored,
}

/// Why a conversation ended.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum Ended {
    /// The other side closed it.
    #[error("the other side closed the stream")]
    ByPeer,
    /// This side closed it.
    #[error("this side closed the stream")]
    Here,
    /// The transport broke.
    #[error("the stream broke")]
    Broken(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The other side sent something that cannot be read.
    #[error("the other side sent a message that cannot be read")]
    Garbage(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The other side asks without reading the answers.
    #[error("the other side asks faster than it takes answers")]
    Flooded,
}

impl Conversation {
    /// Begins a conversation. Nothing is read or sent before its tasks run.
    pub fn new<In, Out, InError, OutError>(source: In, sink: Out, settings: Settings) -> Self
    where
        In: Stream<Item = Result<Bytes, InError>> + Send + Unpin + 'static,
        Out: Sink<Rope, Error = OutError> + Send + 'static,
        InError: Into<BoxError> + Send + 'static,
        OutError: Into<BoxError> + 'static,
    {
        let shared = Arc::new(Shared::new(Box::pin(sink.sink_map_err(Into::into)), settings));
        Self {
            connection: Connection::new(Arc::clone(&shared)),
            reader: Box::pin(reader::read(source, Arc::clone(&shared))),
            writer: Box::pin(async move { shared.write().await }),
        }
    }

    /// Lets reader and writer run as two tasks of `tasks`, and returns the way to make requests.
    #[must_use]
    pub fn spawn(self, tasks: &TaskTracker) -> Connection {
        tasks.spawn(self.reader);
        tasks.spawn(self.writer);
        self.connection
    }

    /// Like [`Self::spawn`], on a runtime that is not the current one.
    #[must_use]
    pub fn spawn_on(self, tasks: &TaskTracker, runtime: &Handle) -> Connection {
        tasks.spawn_on(self.reader, runtime);
        tasks.spawn_on(self.writer, runtime);
        self.connection
    }
}

impl Settings {
    /// One call at a time per permit over TCP, garbage closes, nothing of the other side is answered but `ping`.
    #[must_use]
    pub fn new(in_flight_max: NonZeroUsize, message_bytes_max: usize) -> Self {
        let (garbage, transport) = (Garbage::Close, "tcp");
        Self { in_flight_max, message_bytes_max, garbage, transport, on_request: None, on_fault: Arc::new(|_| ()) }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { in_flight_max, message_bytes_max, garbage, .. } = self;
        f.debug_struct("Settings")
            .field("in_flight_max", in_flight_max)
            .field("message_bytes_max", message_bytes_max)
            .field("garbage", garbage)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation").field("connection", &self.connection).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
