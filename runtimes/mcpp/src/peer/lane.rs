//! The two lanes to a peer: streams that many small calls share, and streams for one large call at a time.

use std::ops::Deref;

use parking_lot::Mutex;
use runtime_api::{CallError, Delivery, ErrorCode};
use runtime_mcp::stream::Connection;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

use super::Fresh;

/// Streams that small calls share. One stream already carries 50,000 calls a second; four were measured at 70,000, sixteen
/// no better.
const SMALL_STREAMS_MAX: usize = 4;

/// Calls on the least busy stream above which another is opened.
const CROWDED_AT: usize = 16;

/// Large calls at once. Each can hold a frame of 16 MiB on both sides; with the four small streams and those of ping and
/// identify it stays far below a peer's quota of 32 streams.
const BULK_STREAMS_MAX: usize = 4;

/// Streams that small calls share.
#[derive(Debug, Default)]
pub(super) struct SmallLane {
    streams: Mutex<Vec<Connection>>,
}

/// The stream for a small call.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) connection: Connection,
    /// Another stream would help.
    pub(super) crowded: bool,
}

impl SmallLane {
    /// The least busy stream that has not ended.
    pub(super) fn choose(&self) -> Option<Choice> {
        let streams = self.streams.lock();
        let least_busy = streams.iter().filter(|stream| !stream.is_ended()).min_by_key(|stream| stream.load())?;
        let crowded = least_busy.load() >= CROWDED_AT && streams.len() < SMALL_STREAMS_MAX;
        Some(Choice { connection: least_busy.clone(), crowded })
    }

    /// Adds a stream.
    pub(super) fn add(&self, fresh: Fresh) {
        self.streams.lock().push(fresh.keep());
    }

    /// Adds a stream that outlives the others when they are thinned out.
    pub(super) fn prefer(&self, fresh: Fresh) -> Connection {
        let connection = fresh.keep();
        self.streams.lock().insert(0, connection.clone());
        connection
    }

    /// Forgets streams that have ended; returns one that has not.
    pub(super) fn prune(&self) -> Option<Connection> {
        let mut streams = self.streams.lock();
        streams.retain(|stream| !stream.is_ended());
        streams.first().cloned()
    }

    /// Ends the streams that are not needed now. When this side ends one, a call that has just chosen it knows that it was
    /// not sent and takes another; when the peer does, because the stream is idle, nobody knows.
    pub(super) fn thin_out(&self) {
        let mut streams = self.streams.lock();
        let mut first = true;
        streams.retain(|stream| {
            let keep = std::mem::take(&mut first) || stream.load() > 0;
            if !keep {
                stream.close();
            }
            keep
        });
    }

    /// Whether another stream would help.
    pub(super) fn is_crowded(&self) -> bool {
        self.choose().is_some_and(|choice| choice.crowded)
    }

    /// Ends all streams.
    pub(super) fn close(&self) {
        self.streams.lock().drain(..).for_each(|stream| stream.close());
    }
}

/// Streams for one large call at a time.
#[derive(Debug)]
pub(super) struct BulkLane {
    places: Semaphore,
    rested: Mutex<Vec<Connection>>,
}

/// A stream for one call; goes back to the lane when dropped.
#[derive(Debug)]
pub(super) struct BulkStream<'a> {
    connection: Connection,
    lane: &'a BulkLane,
    _place: SemaphorePermit<'a>,
}

impl Default for BulkLane {
    fn default() -> Self {
        Self { places: Semaphore::new(BULK_STREAMS_MAX), rested: Mutex::default() }
    }
}

impl BulkLane {
    /// A rested stream, or a new one from `open`.
    pub(super) async fn stream<F>(&self, deadline: Instant, open: impl FnOnce() -> F) -> Result<BulkStream<'_>, CallError>
    where
        F: Future<Output = Result<Fresh, CallError>>,
    {
        let overloaded =
            |_| CallError::runtime(ErrorCode::Overloaded, Delivery::NotSent, "too many large calls are in flight to the peer");
        let place = timeout_at(deadline, self.places.acquire()).await.map_err(overloaded)?;
        let place = place.expect("the semaphore is never closed");
        let connection = match self.rested() {
            Some(connection) => connection,
            None => open().await?.keep(),
        };
        Ok(BulkStream { connection, lane: self, _place: place })
    }

    fn rested(&self) -> Option<Connection> {
        let mut rested = self.rested.lock();
        std::iter::from_fn(|| rested.pop()).find(|stream| !stream.is_ended())
    }

    /// Ends the streams that nobody uses now.
    pub(super) fn close(&self) {
        self.rested.lock().drain(..).for_each(|stream| stream.close());
    }
}

impl Deref for BulkStream<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for BulkStream<'_> {
    fn drop(&mut self) {
        if !self.connection.is_ended() {
            self.lane.rested.lock().push(self.connection.clone());
        }
    }
}
