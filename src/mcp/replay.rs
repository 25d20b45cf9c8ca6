//! What was said on the event streams of a legacy session, kept for a while, so that a client that has lost one can take it up again
//! (2025-11-25, transports, resumability and redelivery).
//!
//! ```text
//!                           say                       Reader
//! call, or changes ──► its task ──► numbered, kept ──────────► the connection that reads now
//!                                         │ follow                ▲
//!                                         └── GET, Last-Event-ID ─┘ what came after that event, then what comes
//! ```
//!
//! What does not fit any more goes: streams that are over, the oldest first, then the oldest events of the stream that speaks. A
//! client that comes back for something that is gone is told so, and never given what came after it as if that were all.

mod speaker;
mod store;
mod streams;

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use twinway_proto::rope::Rope;

#[cfg(test)]
pub(super) use speaker::RETURN_GRACE;
pub(super) use speaker::Speaker;
pub(super) use store::Store;

use super::stream::EventStream;
use streams::{Reader, Stream, Streams};

/// How long a client that lost its stream shall wait before it opens it again: so long that a gateway that restarts is there, and that
/// a person hardly notices.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// Names one event of one stream of one session; visible ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId {
    origin: Origin,
    /// Tells the streams of a session from those that it, or another, had before or elsewhere.
    nonce: u32,
    stream: u32,
    event: u32,
}

/// How a stream began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// With a call, or a batch of them.
    Post,
    /// With a client that wants to be told of changes.
    Get,
}

/// Something that is written on an event stream.
#[derive(Debug, Clone)]
pub enum Said {
    /// A message that nobody can come back for.
    Passing(Rope),
    /// A message by whose id its client can come back.
    Kept(EventId, Rope),
    /// Nothing new, but an id to come back by, and after what time.
    Priming(EventId, Duration),
}

/// What one session keeps.
pub(super) struct Kept {
    store: Arc<Store>,
    nonce: u32,
    /// Its client knows events without data.
    primes: bool,
    streams: Mutex<Streams>,
    /// The number of the catalogue up to which its client was told of changes.
    seen: AtomicU64,
}

/// What there is for a client that comes back.
pub(super) enum Followed {
    /// What it missed, and what comes.
    Stream(EventStream),
    /// The same, but somebody has to speak again.
    Left(EventStream, Speaker),
    /// Nothing: it has heard all of a stream that is over.
    Over,
    /// Something that it missed is gone. These requests were answered there; the newest event has that id.
    Gap(Vec<Box<str>>, EventId),
    /// No such stream is known (any more).
    Unknown,
}

impl Kept {
    /// Of a session whose client knows priming events or not.
    pub(super) fn new(store: Arc<Store>, primes: bool) -> Self {
        Self { store, nonce: rand::random(), primes, streams: Mutex::default(), seen: AtomicU64::new(0) }
    }

    /// Begins a stream; `None` when too many of this session are being spoken on. One that tells of changes takes the place of an
    /// older such.
    pub(super) fn begin(self: &Arc<Self>, origin: Origin, requests: Vec<Box<str>>) -> Option<(Speaker, EventStream)> {
        let (reader, live) = Reader::new();
        let came = Arc::<Notify>::default();
        let stream = self.change(0, |streams| streams.begin(origin, requests, reader, Arc::clone(&came)))?;
        let first = EventId { origin, nonce: self.nonce, stream, event: 0 };
        Some((Speaker { kept: Arc::clone(self), stream, came }, EventStream::new(self.priming(first), Some(live))))
    }

    /// What there is after that event. Whoever read the stream before reads it no more.
    pub(super) fn follow(self: &Arc<Self>, id: EventId) -> Followed {
        let mut streams = self.streams.lock();
        let is_this = |stream: &&mut Stream| stream.origin == id.origin && id.event < stream.next();
        let Some(stream) = streams.find(id.stream).filter(is_this).filter(|_| self.nonce == id.nonce) else {
            return Followed::Unknown;
        };
        if id.event + 1 < stream.first {
            return Followed::Gap(stream.requests.clone(), EventId { event: stream.next() - 1, ..id });
        }
        let missed = stream.after(id);
        stream.expected = None;
        if stream.silent_since.is_some() && id.origin == Origin::Post {
            return if missed.is_empty() { Followed::Over } else { Followed::Stream(EventStream::new(missed, None)) };
        }
        let (reader, live) = Reader::new();
        if let Some(older) = stream.reader.replace(reader) {
            older.replaced.cancel();
        }
        let came = Arc::clone(&stream.came);
        came.notify_one();
        let said = self.priming(id).into_iter().chain(missed).collect();
        let again = EventStream::new(said, Some(live));
        match stream.silent_since.take() {
            Some(_) => Followed::Left(again, Speaker { kept: Arc::clone(self), stream: id.stream, came }),
            None => Followed::Stream(again),
        }
    }

    /// Up to which number of the catalogue the client was told of changes.
    pub(super) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    pub(super) fn set_seen(&self, number: u64) {
        self.seen.store(number, Ordering::Relaxed);
    }

    /// The session is over: nobody comes back for anything.
    pub(super) fn clear(&self) {
        self.change(0, |streams| {
            streams.known.drain(..).for_each(|mut stream| stream.dismiss());
            streams.bytes = 0;
        });
    }

    /// A client that has this id can come back for what follows it (2025-11-25, polling).
    fn priming(&self, id: EventId) -> VecDeque<Said> {
        self.primes.then_some(Said::Priming(id, RETRY)).into_iter().collect()
    }

    /// Changes the streams, which may then hold so many bytes more, and gives back what they do not.
    fn change<T>(&self, granted: usize, change: impl FnOnce(&mut Streams) -> T) -> T {
        let mut streams = self.streams.lock();
        let held = streams.bytes + granted;
        let changed = change(&mut streams);
        let freed = held - streams.bytes;
        drop(streams);
        self.store.give_back(freed);
        changed
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.clear();
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match self.origin {
            Origin::Post => 'p',
            Origin::Get => 'g',
        };
        write!(f, "{origin}{:08x}-{}-{}", self.nonce, self.stream, self.event)
    }
}

impl EventId {
    /// The id with that text; `None` when none of ours has it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (origin, rest) = text.split_at_checked(1)?;
        let origin = match origin {
            "p" => Origin::Post,
            "g" => Origin::Get,
            _ => return None,
        };
        let mut parts = rest.split('-');
        let nonce = u32::from_str_radix(parts.next()?, 16).ok()?;
        let (stream, event) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next().is_none().then_some(Self { origin, nonce, stream, event })
    }

    /// Whether it names an event of a stream that tells of changes.
    pub(super) const fn is_of_changes(self) -> bool {
        matches!(self.origin, Origin::Get)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("bytes", &self.streams.lock().bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
