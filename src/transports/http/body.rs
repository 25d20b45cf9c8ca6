//! The body of a response: one message, or the event stream of a call.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use twinway_proto::{rope::Rope, sse};

use super::old_sse::Open;
use crate::{
    mcp::{EventStream, Said},
    transports::frames::Unwritten,
};

/// Pause after which a silent stream says that it lives. Proxies usually cut after 30 or 60 seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a response carries.
#[derive(Debug)]
pub(super) enum Answer {
    /// One frame.
    Whole(Option<Rope>),
    /// Events as they come.
    Stream(Box<Stream>),
    /// What is written to a client of HTTP+SSE.
    Frames(Box<Frames>),
}

/// An event stream of Streamable HTTP.
#[derive(Debug)]
pub(super) struct Stream {
    events: EventStream,
    keep_alive: KeepAlive,
}

/// The stream of a client of HTTP+SSE.
#[derive(Debug)]
pub(super) struct Frames {
    first: Option<Bytes>,
    frames: Unwritten,
    keep_alive: KeepAlive,
    /// The client's session ends with its stream.
    _open: Open,
}

/// Says that a silent stream lives.
#[derive(Debug)]
struct KeepAlive(Pin<Box<Sleep>>);

impl KeepAlive {
    fn new() -> Self {
        Self(Box::pin(sleep(KEEP_ALIVE)))
    }

    /// Something was said.
    fn reset(&mut self) {
        self.0.as_mut().reset(Instant::now() + KEEP_ALIVE);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Rope>> {
        if self.0.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.reset();
        let comment: Bytes = sse::comment("still here");
        Poll::Ready(Some(comment.into()))
    }
}

impl Answer {
    pub(super) fn whole(rope: impl Into<Rope>) -> Self {
        Self::Whole(Some(rope.into()).filter(|rope| !rope.is_empty()))
    }

    /// Events as they come.
    pub(super) fn stream(events: EventStream) -> Self {
        Self::Stream(Box::new(Stream { events, keep_alive: KeepAlive::new() }))
    }

    /// What is written to a client of HTTP+SSE, behind a first event.
    pub(super) fn frames(first: Bytes, frames: Unwritten, open: Open) -> Self {
        Self::Frames(Box::new(Frames { first: Some(first), frames, keep_alive: KeepAlive::new(), _open: open }))
    }

    /// A stream without any event.
    pub(super) fn silence() -> Self {
        Self::stream(EventStream::default())
    }
}

impl Stream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Rope>> {
        match self.events.poll_next(cx) {
            Poll::Ready(Some(said)) => {
                self.keep_alive.reset();
                Poll::Ready(Some(written(&said)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self.keep_alive.poll(cx),
        }
    }
}

/// As it stands in an event stream.
fn written(said: &Said) -> Rope {
    let one_line = "an id of ours is one line";
    match said {
        Said::Passing(message) => sse::write_event(message),
        Said::Kept(id, message) => sse::write_event_with_id(&id.to_string(), message).expect(one_line),
        Said::Priming(id, retry) => {
            let retry_ms = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
            sse::write_priming(&id.to_string(), Some(retry_ms)).expect(one_line).into()
        }
    }
}

impl Frames {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Rope>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first.into()));
        }
        match self.frames.poll_next(cx) {
            Poll::Ready(Some(message)) => {
                self.keep_alive.reset();
                Poll::Ready(Some(sse::write_event(&message)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self.keep_alive.poll(cx),
        }
    }
}

impl Body for Answer {
    type Data = Rope;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Rope>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(rope) => Poll::Ready(rope.take().map(|rope| Ok(Frame::data(rope)))),
            Self::Stream(stream) => stream.poll(cx).map(|next| next.map(|rope| Ok(Frame::data(rope)))),
            Self::Frames(frames) => frames.poll(cx).map(|next| next.map(|rope| Ok(Frame::data(rope)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(rope) => SizeHint::with_exact(rope.as_ref().map_or(0, |rope| rope.len() as u64)),
            Self::Stream(_) | Self::Frames(_) => SizeHint::default(),
        }
    }
}
