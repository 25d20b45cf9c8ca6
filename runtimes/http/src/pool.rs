//! Warm connections to one origin, a stack of them for each worker thread.
//!
//! A connection is driven by the worker that opened it; kept apart, a call never crosses threads. The stack is behind a
//! mutex that only its own worker takes, except for calls that come from outside the workers and share the last stack.

use std::{cell::Cell, time::Duration};

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use parking_lot::Mutex;
use runtime_api::{CallError, Delivery, ErrorCode};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::{body::RopeBody, connect::Origin};

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
    drivers: TaskTracker,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<RopeBody>,
    since: Instant,
}

/// An exchange that has begun: the head of the answer, and the connection to give back after its body.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) response: Response<Incoming>,
    pub(crate) sender: SendRequest<RopeBody>,
}

impl Pool {
    pub(crate) fn new(origin: Origin, drivers: TaskTracker) -> Self {
        let stacks = (0..=STACKS).map(|_| Mutex::default()).collect();
        Self { origin, stacks, drivers }
    }

    /// Sends a request and waits for the head of the answer. Dropping the future closes the connection.
    ///
    /// A connection that turns out closed before the request left is replaced; that is the only repetition here.
    pub(crate) async fn send(&self, mut request: Request<RopeBody>) -> Result<Exchange, CallError> {
        loop {
            let (mut sender, fresh) = match self.take() {
                Some(sender) => (sender, false),
                // Boxed: a warm call does not connect, and its future should not have room for it.
                None => (Box::pin(self.origin.connect(&self.drivers)).await.map_err(unreachable)?, true),
            };
            if sender.ready().await.is_err() {
                if fresh {
                    return Err(unreachable("the connection was closed at once"));
                }
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(Exchange { response, sender }),
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if !fresh => request = unsent,
                    Some(_) => return Err(unreachable(failed.into_error())),
                    None => return Err(broken(failed.into_error())),
                },
            }
        }
    }

    /// Gives back a connection whose answer was read to its end.
    pub(crate) fn give_back(&self, sender: SendRequest<RopeBody>) {
        if sender.is_closed() {
            return;
        }
        let mut stack = self.stack().lock();
        if stack.len() < IDLE_COUNT_MAX {
            stack.push(Idle { sender, since: Instant::now() });
        }
    }

    fn take(&self) -> Option<SendRequest<RopeBody>> {
        let mut stack = self.stack().lock();
        while let Some(idle) = stack.pop() {
            if idle.since.elapsed() > IDLE_MAX {
                // Those below have waited longer still.
                stack.clear();
                return None;
            }
            if !idle.sender.is_closed() {
                return Some(idle.sender);
            }
        }
        None
    }

    /// Closes idle connections that waited too long.
    pub(crate) fn sweep(&self) {
        for stack in &self.stacks {
            stack.lock().retain(|idle| idle.since.elapsed() <= IDLE_MAX && !idle.sender.is_closed());
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
