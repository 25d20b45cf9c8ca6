//! Cuts a byte stream into events, wherever the chunks of the stream happen to end.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr2;

/// One dispatched event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The `id` field of this very event; `Some("")` resets the stream's last event id.
    /// The id that counts for resuming is [`Decoder::last_event_id`], which also takes ids of blocks without data.
    pub id: Option<Box<str>>,
    /// The event type; `None` stands for the default, `message`.
    pub event: Option<Box<str>>,
    /// The `data` lines, joined with LF. Empty for a priming event. The bytes are passed on as they came: UTF-8 is
    /// checked by whoever parses them.
    pub data: Bytes,
    /// The `retry` field of this very event, in milliseconds.
    pub retry_ms: Option<u64>,
}

/// Why a stream can not be decoded any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SseError {
    /// One event, or one line, is longer than the decoder may hold.
    #[error("an event is larger than the limit of {event_bytes_max} bytes")]
    EventTooLarge {
        /// The limit that was passed to [`Decoder::new`].
        event_bytes_max: usize,
    },
    /// The stream ended inside an event, which by the standard is thrown away.
    #[error("the stream ended inside an event, {held_bytes} bytes of it are lost")]
    Truncated {
        /// How much of the unfinished event had arrived.
        held_bytes: usize,
    },
}

/// The `data` lines of an unfinished event. One line stays the slice of the chunk that it came in.
#[derive(Debug, Default)]
enum Data {
    #[default]
    None,
    One(Bytes),
    Many(BytesMut),
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(line) => line.len(),
            Self::Many(lines) => lines.len(),
        }
    }

    fn append(&mut self, line: Bytes) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(line),
            Self::One(first) => {
                let mut lines = BytesMut::with_capacity(first.len() + 1 + line.len());
                lines.extend_from_slice(&first);
                lines.extend_from_slice(b"\n");
                lines.extend_from_slice(&line);
                Self::Many(lines)
            }
            Self::Many(mut lines) => {
                lines.extend_from_slice(b"\n");
                lines.extend_from_slice(&line);
                Self::Many(lines)
            }
        };
    }

    fn take(&mut self) -> Option<Bytes> {
        match std::mem::take(self) {
            Self::None => None,
            Self::One(line) => Some(line),
            Self::Many(lines) => Some(lines.freeze()),
        }
    }
}

/// Where the decoder stands in the optional byte order mark at the head of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// So many bytes of the mark were seen.
    Matched(usize),
    Done,
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Decodes one event stream. Every byte is searched once, however the stream is cut into chunks.
///
/// Take events until `None` before the next [`push`](Self::push): chunks that were pushed and not yet read are held
/// whole, only what belongs to an unfinished event is bounded.
///
/// ```
/// use bytes::Bytes;
/// use twinway_proto::sse::Decoder;
///
/// let mut decoder = Decoder::new(1024);
/// decoder.push(Bytes::from_static(b"data: {}\n\n"));
///
/// assert_eq!(decoder.next_event().unwrap().unwrap().data, "{}");
/// assert_eq!(decoder.next_event(), Ok(None));
/// ```
#[derive(Debug)]
pub struct Decoder {
    event_bytes_max: usize,
    chunks: VecDeque<Bytes>,
    /// The head of a line whose end has not arrived; all of it was searched already.
    partial: BytesMut,
    /// The last line ended in CR: a LF that follows belongs to it.
    skip_line_feed: bool,
    mark: Mark,
    data: Data,
    event: Option<Box<str>>,
    id: Option<Box<str>>,
    retry_ms: Option<u64>,
    last_event_id: Box<str>,
    reconnect_ms: Option<u64>,
    failed: Option<SseError>,
}

impl Decoder {
    /// A decoder at the head of a stream. `event_bytes_max` bounds what one event may hold: its data, id and type
    /// and the line that is arriving.
    #[must_use]
    pub fn new(event_bytes_max: usize) -> Self {
        Self {
            event_bytes_max,
            chunks: VecDeque::new(),
            partial: BytesMut::new(),
            skip_line_feed: false,
            mark: Mark::Matched(0),
            data: Data::None,
            event: None,
            id: None,
            retry_ms: None,
            last_event_id: Box::default(),
            reconnect_ms: None,
            failed: None,
        }
    }

    /// Adds the next chunk of the stream, of any length.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// The next complete event, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`SseError::EventTooLarge`]; it is final, the decoder answers the same from then on.
    pub fn next_event(&mut self) -> Result<Option<Event>, SseError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        while let Some(line) = self.next_line()? {
            if line.is_empty() {
                if let Some(event) = self.dispatch() {
                    return Ok(Some(event));
                }
            } else {
                self.take_line(&line)?;
            }
        }
        Ok(None)
    }

    /// The id to resume from (`Last-Event-ID`), empty when the stream gave none.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// The reconnection time that the stream asked for, in milliseconds, also from blocks without data.
    #[must_use]
    pub fn reconnect_ms(&self) -> Option<u64> {
        self.reconnect_ms
    }

    /// Call at the end of the stream, after the last `next_event`.
    ///
    /// # Errors
    /// [`SseError::Truncated`] when an event was cut off; an unfinished comment or id is no loss.
    pub fn finish(&self) -> Result<(), SseError> {
        // No other field of the standard begins so, and half a name is enough to know that data was lost.
        let data_arriving = self.partial.starts_with(b"d");
        if matches!(self.data, Data::None) && !data_arriving {
            return Ok(());
        }
        Err(SseError::Truncated { held_bytes: self.held_bytes() + self.partial.len() })
    }

    fn held_bytes(&self) -> usize {
        self.data.len() + self.event.as_deref().map_or(0, str::len) + self.id.as_deref().map_or(0, str::len)
    }

    fn check_size(&mut self, more_bytes: usize) -> Result<(), SseError> {
        if self.held_bytes().saturating_add(more_bytes) <= self.event_bytes_max {
            return Ok(());
        }
        let error = SseError::EventTooLarge { event_bytes_max: self.event_bytes_max };
        self.failed = Some(error);
        self.chunks.clear();
        Err(error)
    }

    /// The next line without its end, a slice of its chunk unless it began in an earlier one.
    fn next_line(&mut self) -> Result<Option<Bytes>, SseError> {
        while let Some(mut chunk) = self.chunks.pop_front() {
            self.strip_mark(&mut chunk);
            if self.skip_line_feed && !chunk.is_empty() {
                self.skip_line_feed = false;
                if chunk[0] == b'\n' {
                    chunk.advance(1);
                }
            }

            let Some(line_bytes) = memchr2(b'\r', b'\n', &chunk) else {
                self.check_size(self.partial.len() + chunk.len())?;
                self.partial.extend_from_slice(&chunk);
                continue;
            };

            self.check_size(self.partial.len() + line_bytes)?;
            let head = chunk.split_to(line_bytes);
            self.skip_line_feed = chunk[0] == b'\r';
            chunk.advance(1);
            if !chunk.is_empty() {
                self.chunks.push_front(chunk);
            }
            return Ok(Some(self.complete_line(head)));
        }
        Ok(None)
    }

    fn complete_line(&mut self, tail: Bytes) -> Bytes {
        if self.partial.is_empty() {
            return tail;
        }
        self.partial.extend_from_slice(&tail);
        self.partial.split().freeze()
    }

    /// Drops one byte order mark at the head of the stream, even when it arrives in pieces.
    fn strip_mark(&mut self, chunk: &mut Bytes) {
        while let Mark::Matched(seen) = self.mark {
            let Some(&byte) = chunk.first() else { return };
            if byte == BYTE_ORDER_MARK[seen] {
                chunk.advance(1);
                self.mark = if seen + 1 == BYTE_ORDER_MARK.len() { Mark::Done } else { Mark::Matched(seen + 1) };
            } else {
                // It was no mark after all: what was taken for one is the head of the first line.
                self.partial.extend_from_slice(&BYTE_ORDER_MARK[..seen]);
                self.mark = Mark::Done;
            }
        }
    }

    fn take_line(&mut self, line: &Bytes) -> Result<(), SseError> {
        let (name_bytes, mut value) = match memchr::memchr(b':', line) {
            Some(colon) => (colon, line.slice(colon + 1..)),
            None => (line.len(), Bytes::new()),
        };
        if value.first() == Some(&b' ') {
            value.advance(1);
        }
        match &line[..name_bytes] {
            b"data" => {
                // The joining LF counts too, or a million empty lines would be free.
                self.check_size(value.len() + 1)?;
                self.data.append(value);
            }
            b"event" => self.event = (!value.is_empty()).then(|| lossy(&value)),
            b"id" if !value.contains(&0) => {
                let id = lossy(&value);
                self.last_event_id.clone_from(&id);
                self.id = Some(id);
            }
            b"retry" => self.take_retry(&value),
            // A comment (empty name) or a field that the standard says to ignore.
            _ => {}
        }
        Ok(())
    }

    fn take_retry(&mut self, value: &[u8]) {
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return;
        }
        // Digits that overflow are no sensible time; they are ignored like any other bad value.
        let parsed = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
        if let Some(retry_ms) = parsed {
            self.retry_ms = Some(retry_ms);
            self.reconnect_ms = Some(retry_ms);
        }
    }

    /// Ends the block at a blank line. A block without data is no event, but its id and retry have been noted.
    fn dispatch(&mut self) -> Option<Event> {
        let (id, event, retry_ms) = (self.id.take(), self.event.take(), self.retry_ms.take());
        let data = self.data.take()?;
        Some(Event { id, event, data, retry_ms })
    }
}

/// Names and ids are decoded as the standard decodes the stream: bad UTF-8 becomes U+FFFD.
fn lossy(value: &[u8]) -> Box<str> {
    String::from_utf8_lossy(value).into()
}

#[cfg(test)]
mod tests;
