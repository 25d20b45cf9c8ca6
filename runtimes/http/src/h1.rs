//! HTTP/1.1 towards upstreams (RFC 9112), driven by whoever waits for the answer.
//!
//! hyper's client serves every shape of traffic and pays for it with a task for each connection and a header map for each
//! request. A call is one request and one answer on a warm connection: here it is written and read where it is awaited,
//! from a head that was spelled out when the upstream was configured. Dropping whatever waits closes the connection.

mod body;
mod connection;
mod head;
mod request;

pub(crate) use connection::{Connection, Exchange, SendError, Stream};
pub(crate) use head::Head;
pub(crate) use request::{Request, RequestHead};
