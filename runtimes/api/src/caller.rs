//! The way back to the client while a call is running.

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

/// Progress notifications and the like that may wait for a slow client before the upstream is held back.
///
/// 64 covers a burst of a chatty tool; beyond it the reader of the upstream waits, so that nothing is lost and nothing piles up.
const EVENTS_WAITING_MAX: usize = 64;

/// A handle through which a runtime reaches the client of a running call.
///
/// A call that can receive nothing carries [`Caller::none`], which costs no allocation.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    events: Option<mpsc::Sender<CallerEvent>>,
}

/// What a target sends to the client before its reply.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallerEvent {
    /// `notifications/progress`, `notifications/message`: the method and its raw params.
    Notification {
        /// The method.
        method: Box<str>,
        /// The raw `params` object.
        params: Bytes,
    },
    /// A request of the server to the client: elicitation, sampling, roots.
    Request {
        /// The method.
        method: Box<str>,
        /// The raw `params` object.
        params: Bytes,
        /// Takes the raw `result`, or the raw `error` object.
        answer: oneshot::Sender<Result<Bytes, Bytes>>,
    },
}

/// The receiving end that the entrance holds.
#[derive(Debug)]
pub struct CallerEvents {
    events: mpsc::Receiver<CallerEvent>,
}

/// The client has no way to receive this, or is gone.
#[derive(Debug, Clone, Copy, Error)]
#[error("the client cannot be reached during this call")]
pub struct CallerGone;

impl Caller {
    /// A caller that can receive nothing but the reply.
    #[must_use]
    pub const fn none() -> Self {
        Self { events: None }
    }

    /// A connected pair.
    #[must_use]
    pub fn channel() -> (Self, CallerEvents) {
        let (sender, receiver) = mpsc::channel(EVENTS_WAITING_MAX);
        (Self { events: Some(sender) }, CallerEvents { events: receiver })
    }

    /// Whether notifications go anywhere: asked before a progress token is given to a target.
    #[must_use]
    pub const fn listens(&self) -> bool {
        self.events.is_some()
    }

    /// Sends a notification; waits while the client is slower than the target.
    ///
    /// Cancel-safe: dropped before it is done, the notification was not sent.
    ///
    /// # Errors
    /// [`CallerGone`] when nobody listens (any more).
    pub async fn notify(&self, method: &str, params: Bytes) -> Result<(), CallerGone> {
        let event = CallerEvent::Notification { method: method.into(), params };
        self.send(event).await
    }

    /// Asks the client something and waits for its answer: the raw `result`, or the raw `error` object.
    ///
    /// # Errors
    /// [`CallerGone`] when nobody listens, or the client left without an answer.
    pub async fn request(&self, method: &str, params: Bytes) -> Result<Result<Bytes, Bytes>, CallerGone> {
        let (answer, answered) = oneshot::channel();
        self.send(CallerEvent::Request { method: method.into(), params, answer }).await?;
        answered.await.map_err(|_| CallerGone)
    }

    async fn send(&self, event: CallerEvent) -> Result<(), CallerGone> {
        let events = self.events.as_ref().ok_or(CallerGone)?;
        events.send(event).await.map_err(|_| CallerGone)
    }
}

impl CallerEvents {
    /// The next event; `None` once every [`Caller`] of the call is dropped. Cancel-safe.
    pub async fn next(&mut self) -> Option<CallerEvent> {
        self.events.recv().await
    }

    /// The next event, for futures written by hand.
    pub fn poll_next(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<CallerEvent>> {
        self.events.poll_recv(cx)
    }
}
