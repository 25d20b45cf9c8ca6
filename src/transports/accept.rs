//! Accepts connections, and what all ways in over TCP have in common.

use std::{io, net::SocketAddr, time::Duration};

use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// HTTP/2 clients are asked this often whether they are there, and have so long to answer: a client that vanished without
/// a word would be kept for ever, and its calls with it.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(20);
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after an accept that failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Pause before looking again at a connection that began with a part of the HTTP/2 preface.
const PREFACE_PAUSE: Duration = Duration::from_millis(5);

/// The address cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    /// Which.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Accepts until `stop`, and holds at most `connections_max` connections at a time: more wait in the kernel's queue.
/// `serve` puts the connection's task into the set.
pub(super) async fn accept_until(
    listener: TcpListener,
    stop: &CancellationToken,
    connections: &mut JoinSet<()>,
    connections_max: usize,
    serve: impl Fn(TcpStream, &mut JoinSet<()>),
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < connections_max => accepted,
        };
        match accepted {
            // An answer is one small write: waiting for more to send only adds latency.
            Ok((stream, _)) => match stream.set_nodelay(true) {
                Ok(()) => serve(stream, connections),
                Err(error) => debug!(%error, "the connection is gone already"),
            },
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Looks at the first bytes without taking them: whoever serves the connection reads from the socket itself, with
/// nothing in between.
pub(super) async fn is_http2(stream: &TcpStream) -> io::Result<bool> {
    // RFC 9113, section 3.4; no request of HTTP/1.1 begins so. All of it: whoever serves HTTP/2 then waits for nothing more
    // before its own time limits begin to count.
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut first = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut first).await?;
        if count == 0 || count == PREFACE.len() || !PREFACE.starts_with(&first[..count]) {
            return Ok(&first[..count] == PREFACE);
        }
        // A part of what may become the preface: readiness tells nothing of the next byte.
        tokio::time::sleep(PREFACE_PAUSE).await;
    }
}
