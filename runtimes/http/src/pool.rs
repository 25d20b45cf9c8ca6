//! Warm connections to one origin, a stack of them for each worker thread.
//!
//! A connection belongs to the runtime of the worker that opened it; kept apart, a call never crosses threads. The stack is behind a
//! mutex that only its own worker takes, except for calls that come from outside the workers and share the last stack.

use std::{cell::Cell, time::Duration};

use parking_lot::Mutex;
use runtime_api::{CallError, Delivery, ErrorCode};
use tokio::time::Instant;

use crate::{
    connect::Origin,
    h1::{Connection, Exchange, Request, SendError},
};

/// Stacks for workers; more workers share stacks, which costs speed only.
const STACKS: usize = 64;

/// An idle connection is not used any more after this time. uvicorn and Node close theirs after 5 s, and a request that
/// crosses the close on its way is lost with unknown outcome.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// Idle connections of one worker. Above the concurrency of one upstream nothing is gained.
const IDLE_COUNT_MAX: usize = 256;

thread_local! {
    static STACK: Cell<usize> = const { Cell::new(STACKS) };
}

/// Tells the pools that this thread is the worker with that index.
pub fn enter_worker(index: usize) {
    STACK.set(index % STACKS);
}

#[derive(Debug)]
pub(crate) struct Pool {
    origin: Origin,
    stacks: Box<[Mutex<Vec<Idle>>]>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(origin: Origin) -> Self {
        let stacks = (0..=STACKS).map(|_| Mutex::default()).collect();
        Self { origin, stacks }
    }

    /// Sends a request and waits for the head of the answer. Dropping the future closes the connection.
    ///
    /// A connection that turns out closed before the request left is replaced. So is, once, a used connection that ended
    /// without an answer to a safe request: the upstream closed it while the request was on its way. Nothing else is
    /// repeated here.
    pub(crate) async fn send(&self, mut request: Request) -> Result<Exchange, CallError> {
        let mut may_reuse = true;
        loop {
            let (connection, fresh) = match may_reuse.then(|| self.take()).flatten() {
                Some(connection) => (connection, false),
                // Boxed: a warm call does not connect, and its future should not have room for it.
                None => (Box::pin(self.origin.connect()).await.map_err(unreachable)?, true),
            };
            match connection.exchange(&mut request).await {
                Ok(exchange) => return Ok(exchange),
                Err(SendError::Unsent(_)) if !fresh => {}
                Err(SendError::Unanswered(_)) if !fresh && request.rewind() => may_reuse = false,
                Err(unsent @ SendError::Unsent(_)) => return Err(unreachable(unsent)),
                Err(sent) => return Err(broken(sent)),
            }
        }
    }

    /// Gives back the connection of an exchange that was read to its end; any other is closed.
    pub(crate) fn give_back(&self, exchange: Exchange) {
        let Some(connection) = exchange.into_connection() else { return };
        let mut stack = self.stack().lock();
        if stack.len() < IDLE_COUNT_MAX {
            stack.push(Idle { connection, since: Instant::now() });
        }
    }

    fn take(&self) -> Option<Connection> {
        let mut stack = self.stack().lock();
        while let Some(mut idle) = stack.pop() {
            if idle.since.elapsed() > IDLE_MAX {
                // Those below have waited longer still.
                stack.clear();
                return None;
            }
            if idle.connection.is_quiet() {
                return Some(idle.connection);
            }
        }
        None
    }

    /// Closes idle connections that waited too long.
    pub(crate) fn sweep(&self) {
        for stack in &self.stacks {
            stack.lock().retain_mut(|idle| idle.since.elapsed() <= IDLE_MAX && idle.connection.is_quiet());
        }
    }

    fn stack(&self) -> &Mutex<Vec<Idle>> {
        &self.stacks[STACK.get()]
    }
}

fn unreachable(source: impl Into<runtime_api::BoxError>) -> CallError {
    CallError::runtime(ErrorCode::Unavailable, Delivery::NotSent, "the upstream cannot be reached").with_source(source)
}

/// The request, or a part of it, left; no answer came.
pub(crate) fn broken(source: impl Into<runtime_api::BoxError>) -> CallError {
    let message = "the connection to the upstream broke before its answer was complete";
    CallError::runtime(ErrorCode::Disconnected, Delivery::Unknown, message).with_source(source)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };
    use twinway_proto::rope::Rope;
    use url::Url;

    use super::*;
    use crate::h1::RequestHead;

    async fn upstream() -> (Pool, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        (Pool::new(Origin::new(&url, Duration::from_secs(5)).unwrap()), listener)
    }

    fn request(method: &Method) -> Request {
        RequestHead::new(method, "/", &HeaderMap::new()).with(Rope::default())
    }

    /// Reads one request; what it answers is the status line.
    async fn serve(stream: &mut TcpStream, answer: &str) {
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "the end before a request");
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    /// A pool with one warm connection, and the upstream's end of it.
    async fn warm(answer: &str) -> (Pool, TcpListener, TcpStream) {
        let (pool, listener) = upstream().await;
        let accept = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            serve(&mut stream, answer).await;
            stream
        };
        let (exchange, stream) = tokio::join!(pool.send(request(&Method::GET)), accept);
        let mut exchange = exchange.unwrap();
        exchange.whole(100).await.unwrap();
        pool.give_back(exchange);
        (pool, listener, stream)
    }

    const FINE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

    #[tokio::test]
    async fn a_safe_request_that_meets_the_close_of_a_used_connection_is_sent_once_more_on_a_new_one() {
        let (pool, listener, mut used) = warm(FINE).await;
        let upstream = async {
            serve(&mut used, "").await;
            drop(used);
            let (mut fresh, _) = listener.accept().await.unwrap();
            serve(&mut fresh, FINE).await;
        };
        let (exchange, ()) = tokio::join!(pool.send(request(&Method::GET)), upstream);
        assert_eq!(exchange.unwrap().head.status, 200);
    }

    #[tokio::test]
    async fn a_safe_request_is_not_sent_a_third_time() {
        let (pool, listener, mut used) = warm(FINE).await;
        let upstream = async {
            serve(&mut used, "").await;
            drop(used);
            let (mut fresh, _) = listener.accept().await.unwrap();
            serve(&mut fresh, "").await;
        };
        let (exchange, ()) = tokio::join!(pool.send(request(&Method::GET)), upstream);
        assert_eq!(exchange.unwrap_err().delivery(), Delivery::Unknown);
    }

    #[tokio::test]
    async fn a_request_that_may_change_something_is_never_sent_again() {
        let (pool, _listener, mut used) = warm(FINE).await;
        let upstream = async {
            serve(&mut used, "").await;
            drop(used);
        };
        // A second connection would wait for ever: nobody accepts it.
        let (exchange, ()) = tokio::join!(pool.send(request(&Method::POST)), upstream);
        assert_eq!(exchange.unwrap_err().delivery(), Delivery::Unknown);
    }

    #[tokio::test]
    async fn a_connection_is_kept_after_an_answer_but_not_after_a_500() {
        for (status, kept) in [("200 OK", true), ("404 Not Found", true), ("500 Internal Server Error", false)] {
            let (pool, _listener, _used) = warm(&format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")).await;
            assert_eq!(pool.take().is_some(), kept, "{status}");
        }
    }
}
