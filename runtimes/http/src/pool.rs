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
    /// A connection that turns out closed before the request left is replaced; that is the only repetition here.
    pub(crate) async fn send(&self, mut request: Request) -> Result<Exchange, CallError> {
        loop {
            let (connection, fresh) = match self.take() {
                Some(connection) => (connection, false),
                // Boxed: a warm call does not connect, and its future should not have room for it.
                None => (Box::pin(self.origin.connect()).await.map_err(unreachable)?, true),
            };
            match connection.exchange(&mut request).await {
                Ok(exchange) => return Ok(exchange),
                Err(SendError::Unsent(_)) if !fresh => {}
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
