//! The event streams of one session: what was said on each, and who reads it.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use twinway_proto::rope::Rope;

use super::{EventId, Origin, Said};

/// What an event costs beside its message: its place in the queue and the allocation. It bounds their number, too: with 256 KiB
/// there are at most 2,048.
pub(super) const EVENT_BYTES: usize = 128;

/// Streams of one session that are known, ended ones included. More calls at one time have streams that cannot be taken up again.
pub(super) const STREAMS_MAX: usize = 32;

#[derive(Default)]
pub(super) struct Streams {
    pub(super) bytes: usize,
    pub(super) begun: u32,
    /// In the order in which they began.
    pub(super) known: VecDeque<Stream>,
}

pub(super) struct Stream {
    pub(super) origin: Origin,
    pub(super) number: u32,
    /// Raw ids of the requests that are answered on it.
    pub(super) requests: Vec<Box<str>>,
    /// The number of the first event that is kept. The client was given number 0 when the stream began.
    pub(super) first: u32,
    pub(super) events: VecDeque<Bytes>,
    pub(super) reader: Option<Reader>,
    /// Until when its client is expected that was sent away.
    pub(super) expected: Option<Instant>,
    /// Tells the speaker that there is another reader.
    pub(super) came: Arc<Notify>,
    pub(super) silent_since: Option<Instant>,
}

/// The connection that reads a stream.
#[derive(Debug, Clone)]
pub(in super::super) struct Reader {
    pub(super) said: mpsc::Sender<Said>,
    pub(super) since: Instant,
    /// Another has taken its place.
    pub(super) replaced: CancellationToken,
}

impl Streams {
    pub(super) fn find(&mut self, number: u32) -> Option<&mut Stream> {
        self.known.iter_mut().find(|stream| stream.number == number)
    }

    pub(super) fn begin(&mut self, origin: Origin, requests: Vec<Box<str>>, reader: Reader, came: Arc<Notify>) -> Option<u32> {
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
    pub(super) fn say(
        &mut self,
        number: u32,
        message: &Rope,
        granted: usize,
        bytes_max: usize,
    ) -> Option<(Origin, u32, Option<Reader>)> {
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
    pub(super) fn make_room(&mut self, number: u32, bytes: usize, bytes_max: usize) -> bool {
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
    pub(super) fn lose(&mut self, number: u32) {
        self.bytes -= self.find(number).map_or(0, Stream::lose);
    }

    /// Forgets the first such stream.
    pub(super) fn forget(&mut self, is_such: impl FnMut(&Stream) -> bool) {
        let place = self.known.iter().position(is_such);
        let Some(mut stream) = place.and_then(|place| self.known.remove(place)) else { return };
        stream.dismiss();
        self.bytes -= stream.lose();
    }
}

impl Stream {
    /// Nobody speaks on it, and nobody is expected back for what was said.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.silent_since.is_some() && self.expected.is_none_or(|until| until <= now)
    }

    /// The number of the event that comes next.
    pub(super) fn next(&self) -> u32 {
        self.first + u32::try_from(self.events.len()).unwrap_or(u32::MAX)
    }

    /// The events after that one.
    pub(super) fn after(&self, id: EventId) -> VecDeque<Said> {
        let events = (self.first..).zip(&self.events).filter(|(event, _)| *event > id.event);
        events.map(|(event, message)| Said::Kept(EventId { event, ..id }, message.clone().into())).collect()
    }

    /// Nobody is waited for any more who read it.
    pub(super) fn dismiss(&mut self) {
        self.reader.take().into_iter().for_each(|reader| reader.replaced.cancel());
    }

    /// Its oldest event is gone; returns the bytes that this frees.
    pub(super) fn lose_first(&mut self) -> usize {
        let Some(event) = self.events.pop_front() else { return 0 };
        self.first += 1;
        event.len() + EVENT_BYTES
    }

    /// All its events are gone; returns the bytes that this frees.
    pub(super) fn lose(&mut self) -> usize {
        let events = std::mem::take(&mut self.events);
        self.first += u32::try_from(events.len()).unwrap_or(u32::MAX);
        events.iter().map(|event| event.len() + EVENT_BYTES).sum()
    }
}

impl Reader {
    pub(super) fn new() -> (Self, mpsc::Receiver<Said>) {
        let (said, live) = mpsc::channel(1);
        (Self { said, since: Instant::now(), replaced: CancellationToken::new() }, live)
    }

    /// It hung up, or another took its place.
    pub(in super::super) async fn is_gone(&self) {
        tokio::select! {
            () = self.replaced.cancelled() => {}
            () = self.said.closed() => {}
        }
    }
}

/// A copy that holds no more than its own bytes: a message may be a small part of a large buffer.
pub(super) fn copied(message: &Rope) -> Bytes {
    let mut bytes = Vec::with_capacity(message.len());
    message.parts().for_each(|part| bytes.extend_from_slice(part));
    bytes.into()
}
