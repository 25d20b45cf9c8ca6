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

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use twinway_proto::rope::Rope;

use super::stream::EventStream;
use crate::telemetry::metrics::ReplayMetrics;

/// Bytes of all sessions together: a quarter of what request bodies may hold, and enough for 256 sessions that use up theirs.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// What an event costs beside its message: its place in the queue and the allocation. It bounds their number, too: with 256 KiB
/// there are at most 2,048.
const EVENT_BYTES: usize = 128;

/// Streams of one session that are known, ended ones included. More calls at one time have streams that cannot be taken up again.
const STREAMS_MAX: usize = 32;

/// Streams of all sessions that nobody speaks on and that are still known; 32 bytes each, and what is left of a session that is over.
const SILENT_MAX: usize = 10_000;

/// How long the events of a stream are kept once nobody speaks on it: longer than a client tries to connect, and than it takes to
/// change networks. Whoever comes later begins anew.
const KEPT_FOR: Duration = Duration::from_secs(5 * 60);

/// How long a client that lost its stream shall wait before it opens it again: so long that a gateway that restarts is there, and that
/// a person hardly notices.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// How much later than it was told a client may come back that was sent away, before it counts as one that is lost: it has to connect
/// anew.
pub(super) const RETURN_GRACE: Duration = Duration::from_secs(10);

/// Streams that are looked at to find one that makes room: so many clients are not expected back at one time for long.
const EXPECTED_LOOK_MAX: usize = 64;

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

/// What all sessions keep.
pub(super) struct Store {
    session_bytes_max: usize,
    /// After what time a client is sent away, to come back at once.
    read_max: Option<Duration>,
    bytes_max: usize,
    bytes: AtomicUsize,
    metrics: ReplayMetrics,
    /// Streams that nobody speaks on, the oldest first.
    silent: Mutex<VecDeque<Silent>>,
}

/// A stream that nobody speaks on, since then.
struct Silent {
    kept: Weak<Kept>,
    stream: u32,
    since: Instant,
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

#[derive(Default)]
struct Streams {
    bytes: usize,
    begun: u32,
    /// In the order in which they began.
    known: VecDeque<Stream>,
}

struct Stream {
    origin: Origin,
    number: u32,
    /// Raw ids of the requests that are answered on it.
    requests: Vec<Box<str>>,
    /// The number of the first event that is kept. The client was given number 0 when the stream began.
    first: u32,
    events: VecDeque<Bytes>,
    reader: Option<Reader>,
    /// Until when its client is expected that was sent away.
    expected: Option<Instant>,
    /// Tells the speaker that there is another reader.
    came: Arc<Notify>,
    silent_since: Option<Instant>,
}

/// The connection that reads a stream.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    said: mpsc::Sender<Said>,
    since: Instant,
    /// Another has taken its place.
    replaced: CancellationToken,
}

/// The one who speaks on a stream.
pub(super) struct Speaker {
    kept: Arc<Kept>,
    stream: u32,
    came: Arc<Notify>,
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

impl Store {
    /// Nothing is kept yet. Of 0 bytes nothing ever is.
    pub(super) fn new(session_bytes_max: usize, read_max: Option<Duration>, metrics: ReplayMetrics) -> Self {
        Self { session_bytes_max, read_max, bytes_max: BYTES_MAX, bytes: AtomicUsize::new(0), metrics, silent: Mutex::default() }
    }

    /// Whether anything is ever kept.
    pub(super) const fn keeps(&self) -> bool {
        self.session_bytes_max > 0
    }

    /// Gives up what was kept long enough.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        loop {
            let late = self.silent.lock().pop_front_if(|silent| silent.since + KEPT_FOR <= now);
            let Some(late) = late else { return };
            late.give_up();
        }
    }

    /// Takes so many bytes, from streams that are over if need be.
    fn take(&self, bytes: usize) -> bool {
        loop {
            let room = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.bytes_max);
            if self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).is_ok() {
                self.metrics.bytes.inc_by(signed(bytes));
                return true;
            }
            if !self.give_up_oldest() {
                return false;
            }
        }
    }

    /// Gives up the stream that is over for longest. One whose client is expected back is none yet.
    fn give_up_oldest(&self) -> bool {
        let mut expected = Vec::new();
        let found = loop {
            if expected.len() >= EXPECTED_LOOK_MAX {
                break false;
            }
            // A statement of its own: the guard must be gone before that session is locked.
            let oldest = self.silent.lock().pop_front();
            match oldest {
                Some(oldest) if oldest.is_expected() => expected.push(oldest),
                Some(oldest) => {
                    oldest.give_up();
                    break true;
                }
                None => break false,
            }
        };
        let mut silent = self.silent.lock();
        expected.into_iter().rev().for_each(|one| silent.push_front(one));
        found
    }

    /// Whether so many bytes more would push nothing out.
    fn has_room(&self, bytes: usize) -> bool {
        self.bytes.load(Ordering::Relaxed) + bytes <= self.bytes_max
    }

    fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.metrics.bytes.dec_by(signed(bytes));
    }

    fn fell_silent(&self, silent: Silent) {
        let mut all = self.silent.lock();
        let oldest = if all.len() >= SILENT_MAX { all.pop_front() } else { None };
        all.push_back(silent);
        drop(all);
        oldest.iter().for_each(Silent::give_up);
    }
}

impl Silent {
    /// Whether its client was sent away and is still to come back.
    fn is_expected(&self) -> bool {
        let now = Instant::now();
        let kept = self.kept.upgrade();
        kept.is_some_and(|kept| kept.streams.lock().find(self.stream).is_some_and(|stream| !stream.is_over(now)))
    }

    /// Its events are gone, unless somebody has spoken on it since.
    fn give_up(&self) {
        let Some(kept) = self.kept.upgrade() else { return };
        kept.change(0, |streams| {
            let is_silent = streams.find(self.stream).is_some_and(|stream| stream.silent_since == Some(self.since));
            if is_silent {
                streams.lose(self.stream);
            }
        });
    }
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

impl Streams {
    fn find(&mut self, number: u32) -> Option<&mut Stream> {
        self.known.iter_mut().find(|stream| stream.number == number)
    }

    fn begin(&mut self, origin: Origin, requests: Vec<Box<str>>, reader: Reader, came: Arc<Notify>) -> Option<u32> {
        if origin == Origin::Get {
            self.forget(|stream| stream.origin == Origin::Get);
        }
        if self.known.len() >= STREAMS_MAX {
            let now = Instant::now();
            self.forget(|stream| stream.is_over(now));
        }
        if self.known.len() >= STREAMS_MAX {
            return None;
        }
        self.begun += 1;
        let (number, events) = (self.begun, VecDeque::new());
        let (reader, expected, silent_since) = (Some(reader), None, None);
        self.known.push_back(Stream { origin, number, requests, first: 1, events, reader, expected, came, silent_since });
        Some(number)
    }

    /// Numbers a message, and keeps it if it was granted these bytes and finds room. Also returns who reads now.
    fn say(&mut self, number: u32, message: &Rope, granted: usize, bytes_max: usize) -> Option<(Origin, u32, Option<Reader>)> {
        let is_kept = granted > 0 && self.make_room(number, granted, bytes_max);
        if !is_kept {
            self.lose(number);
        }
        let stream = self.find(number)?;
        if is_kept {
            stream.events.push_back(copied(message));
        } else {
            // It has a number all the same.
            stream.first += 1;
        }
        let said = (stream.origin, stream.next() - 1, stream.reader.clone());
        self.bytes += if is_kept { granted } else { 0 };
        Some(said)
    }

    /// Makes room for an event of that stream: streams that are over go first, then its own oldest events.
    fn make_room(&mut self, number: u32, bytes: usize, bytes_max: usize) -> bool {
        let now = Instant::now();
        while self.bytes + bytes > bytes_max {
            let over = self.known.iter().filter(|stream| stream.is_over(now) && !stream.events.is_empty());
            let oldest = over.min_by_key(|stream| stream.silent_since).map(|stream| stream.number);
            match oldest {
                Some(oldest) => self.lose(oldest),
                None => {
                    let freed = self.find(number).map_or(0, Stream::lose_first);
                    if freed == 0 {
                        return false;
                    }
                    self.bytes -= freed;
                }
            }
        }
        true
    }

    /// The events of that stream are gone. It stays known, so that its client can be told so.
    fn lose(&mut self, number: u32) {
        self.bytes -= self.find(number).map_or(0, Stream::lose);
    }

    /// Forgets the first such stream.
    fn forget(&mut self, is_such: impl FnMut(&Stream) -> bool) {
        let place = self.known.iter().position(is_such);
        let Some(mut stream) = place.and_then(|place| self.known.remove(place)) else { return };
        stream.dismiss();
        self.bytes -= stream.lose();
    }
}

impl Stream {
    /// Nobody speaks on it, and nobody is expected back for what was said.
    fn is_over(&self, now: Instant) -> bool {
        self.silent_since.is_some() && self.expected.is_none_or(|until| until <= now)
    }

    /// The number of the event that comes next.
    fn next(&self) -> u32 {
        self.first + u32::try_from(self.events.len()).unwrap_or(u32::MAX)
    }

    /// The events after that one.
    fn after(&self, id: EventId) -> VecDeque<Said> {
        let events = (self.first..).zip(&self.events).filter(|(event, _)| *event > id.event);
        events.map(|(event, message)| Said::Kept(EventId { event, ..id }, message.clone().into())).collect()
    }

    /// Nobody is waited for any more who read it.
    fn dismiss(&mut self) {
        self.reader.take().into_iter().for_each(|reader| reader.replaced.cancel());
    }

    /// Its oldest event is gone; returns the bytes that this frees.
    fn lose_first(&mut self) -> usize {
        let Some(event) = self.events.pop_front() else { return 0 };
        self.first += 1;
        event.len() + EVENT_BYTES
    }

    /// All its events are gone; returns the bytes that this frees.
    fn lose(&mut self) -> usize {
        let events = std::mem::take(&mut self.events);
        self.first += u32::try_from(events.len()).unwrap_or(u32::MAX);
        events.iter().map(|event| event.len() + EVENT_BYTES).sum()
    }
}

/// A copy that holds no more than its own bytes: a message may be a small part of a large buffer.
fn copied(message: &Rope) -> Bytes {
    let mut bytes = Vec::with_capacity(message.len());
    message.parts().for_each(|part| bytes.extend_from_slice(part));
    bytes.into()
}

impl Speaker {
    /// Numbers a message and keeps it. Also returns who reads now.
    pub(super) fn say(&self, message: Rope) -> (Said, Option<Reader>) {
        let (kept, store) = (&self.kept, &self.kept.store);
        let bytes = message.len() + EVENT_BYTES;
        let granted = if bytes <= store.session_bytes_max && store.take(bytes) { bytes } else { 0 };
        let said = kept.change(granted, |streams| streams.say(self.stream, &message, granted, store.session_bytes_max));
        match said {
            Some((origin, event, reader)) => {
                (Said::Kept(EventId { origin, nonce: kept.nonce, stream: self.stream, event }, message), reader)
            }
            // The session is over, or another stream has taken the place of this one.
            None => (Said::Passing(message), None),
        }
    }

    /// Says it to whoever reads now, who may take that long. For a client that was sent away it is kept; for what there is no room for,
    /// that client is waited for.
    pub(super) async fn tell(&self, message: Rope, until: Instant) {
        while let Some(expected) = self.expected_for(message.len() + EVENT_BYTES) {
            if timeout_at(expected.min(until), self.came.notified()).await.is_err() {
                break;
            }
        }
        let (said, reader) = self.say(message);
        let Some(reader) = reader else { return };
        let sent = tokio::select! {
            biased;
            () = reader.replaced.cancelled() => return,
            sent = timeout_at(until, reader.said.send(said)) => sent,
        };
        if !matches!(sent, Ok(Ok(()))) {
            self.dismiss(&reader);
        }
    }

    /// Until when a client that was sent away is waited for, before something of so many bytes is said.
    fn expected_for(&self, bytes: usize) -> Option<Instant> {
        let (kept, store) = (&self.kept, &self.kept.store);
        let mut streams = kept.streams.lock();
        let has_room = streams.bytes + bytes <= store.session_bytes_max && store.has_room(bytes);
        streams.find(self.stream).and_then(|stream| stream.expected).filter(|_| !has_room)
    }

    /// Ends the connection of whoever reads now, who shall come back after so long (2025-11-25, polling). Cancel-safe.
    pub(super) async fn send_away(&self, retry: Duration) {
        let parting = {
            let mut streams = self.kept.streams.lock();
            streams.find(self.stream).and_then(|stream| {
                let id = EventId { origin: stream.origin, nonce: self.kept.nonce, stream: self.stream, event: stream.next() - 1 };
                let reader = stream.reader.take()?;
                stream.expected = Some(Instant::now() + retry + RETURN_GRACE);
                Some((id, reader))
            })
        };
        if let Some((id, reader)) = parting {
            self.kept.store.metrics.sent_away.inc();
            // One that does not read has lost its stream.
            timeout(RETURN_GRACE, reader.said.send(Said::Priming(id, retry))).await.ok();
        }
    }

    /// Waits until a client has read for as long as it shall at one time. Cancel-safe.
    pub(super) async fn has_been_read_long(&self) {
        let Some(read_max) = self.kept.store.read_max.filter(|_| self.kept.primes) else { return std::future::pending().await };
        loop {
            match self.reader() {
                Some(reader) if reader.since.elapsed() >= read_max => return,
                Some(reader) => sleep_until(reader.since + read_max).await,
                None => self.came.notified().await,
            }
        }
    }

    /// Who reads now.
    pub(super) fn reader(&self) -> Option<Reader> {
        self.kept.streams.lock().find(self.stream)?.reader.clone()
    }

    /// It is gone, or does not read.
    pub(super) fn dismiss(&self, reader: &Reader) {
        let mut streams = self.kept.streams.lock();
        if let Some(stream) = streams.find(self.stream) {
            stream.reader.take_if(|now| now.said.same_channel(&reader.said));
        }
    }

    /// Falls silent unless somebody reads.
    pub(super) fn falls_silent_without_reader(&self) -> bool {
        self.falls_silent_if(|stream| stream.reader.is_none())
    }

    /// Everything is said.
    pub(super) fn end(&self) {
        self.falls_silent_if(|_| true);
    }

    fn falls_silent_if(&self, condition: impl FnOnce(&Stream) -> bool) -> bool {
        let since = Instant::now();
        let mut streams = self.kept.streams.lock();
        let Some(stream) = streams.find(self.stream) else { return true };
        if !condition(stream) {
            return false;
        }
        stream.reader = None;
        stream.silent_since = Some(since);
        drop(streams);
        self.kept.store.fell_silent(Silent { kept: Arc::downgrade(&self.kept), stream: self.stream, since });
        true
    }
}

impl Reader {
    fn new() -> (Self, mpsc::Receiver<Said>) {
        let (said, live) = mpsc::channel(1);
        (Self { said, since: Instant::now(), replaced: CancellationToken::new() }, live)
    }

    /// It hung up, or another took its place.
    pub(super) async fn is_gone(&self) {
        tokio::select! {
            () = self.replaced.cancelled() => {}
            () = self.said.closed() => {}
        }
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

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("bytes", &self.streams.lock().bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
