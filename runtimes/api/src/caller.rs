//! The way back to the client while a call is running.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use crate::{
    Declared, Logging,
    backlog::{Backlog, StreamRoom},
};

/// Progress notifications and the like that may wait for a slow client before the upstream is held back.
///
/// 64 covers a burst of a chatty tool; beyond it the reader of the upstream waits, so that nothing is lost and nothing piles up. A reader
/// that must not wait, because others come on the same stream, puts more into the [`Backlog`].
const EVENTS_WAITING_MAX: usize = 64;

/// How long a client may take for an answer, unless it is said otherwise. There is a person behind most of them, who may be at lunch;
/// longer than this neither servers nor proxies hold a call open.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// How often a call whose client is being asked looks whether it still is.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A handle through which a runtime reaches the client of a running call.
///
/// A call that can receive nothing carries [`Caller::none`], which costs no allocation.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    line: Option<Arc<Line>>,
}

#[derive(Debug)]
struct Line {
    events: mpsc::Sender<CallerEvent>,
    wants: Wants,
    /// The task whose result the call waits for, by the target's own id.
    task: Option<Arc<str>>,
    answer_timeout: Duration,
    pauses: Arc<Pauses>,
    backlog: Arc<Backlog>,
}

/// What the client of a call takes beside the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wants {
    /// Progress.
    pub progress: bool,
    /// Log lines.
    pub logging: Logging,
    /// Requests.
    pub requests: Declared,
}

impl CallerEvent {
    /// The length of its text.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Notification { method, params } | Self::Request { method, params, .. } => method.len() + params.len(),
            Self::Away(_) => 0,
        }
    }

    /// The same in memory of its own: parameters may be a small part of a large buffer.
    pub(crate) fn unshared(mut self) -> Self {
        if let Self::Notification { params, .. } | Self::Request { params, .. } = &mut self {
            *params = Bytes::copy_from_slice(params);
        }
        self
    }
}

impl Wants {
    /// Whether there is nothing that it takes.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
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
        answer: ClientAnswer,
    },
    /// The target has closed its stream for so long and works on (2025-11-25, polling).
    Away(Duration),
}

/// Takes what the client answered: the raw `result`, or the raw `error` object. Dropped, the client gives no answer.
pub type ClientAnswer = oneshot::Sender<Result<Bytes, Bytes>>;

/// The receiving end that the entrance holds.
#[derive(Debug)]
pub struct CallerEvents {
    events: mpsc::Receiver<CallerEvent>,
    pauses: Arc<Pauses>,
    backlog: Arc<Backlog>,
}

/// Counts what the client of a call was not told, because more waited for it than may. Keeps nothing open.
#[derive(Debug, Clone, Default)]
pub struct Losses(Option<Arc<Backlog>>);

impl Losses {
    /// So many notifications.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, |backlog| backlog.lost())
    }
}

/// The client has no way to receive this, or is gone.
#[derive(Debug, Clone, Copy, Error)]
#[error("the client cannot be reached during this call")]
pub struct CallerGone;

/// The time for which a call did not run, because its client was being asked: it does not count against the deadline.
#[derive(Debug, Default)]
struct Pauses(Mutex<Asking>);

#[derive(Debug, Default)]
struct Asking {
    questions: usize,
    since: Option<Instant>,
    total: Duration,
}

impl Caller {
    /// A caller that can receive nothing but the reply.
    #[must_use]
    pub const fn none() -> Self {
        Self { line: None }
    }

    /// A connected pair.
    #[must_use]
    pub fn channel(wants: Wants) -> (Self, CallerEvents) {
        Self::channel_about(wants, None, ANSWER_TIMEOUT)
    }

    /// A connected pair for a call that waits for the result of the task with this id of the target, if for any, and whose client may
    /// take so long for an answer.
    #[must_use]
    pub fn channel_about(wants: Wants, task: Option<Arc<str>>, answer_timeout: Duration) -> (Self, CallerEvents) {
        let (sender, events) = mpsc::channel(EVENTS_WAITING_MAX);
        let (pauses, backlog) = (Arc::<Pauses>::default(), Arc::<Backlog>::default());
        let line =
            Line { events: sender, wants, task, answer_timeout, pauses: Arc::clone(&pauses), backlog: Arc::clone(&backlog) };
        (Self { line: Some(Arc::new(line)) }, CallerEvents { events, pauses, backlog })
    }

    /// What it takes beside the reply.
    #[must_use]
    pub fn wants(&self) -> Wants {
        self.line.as_ref().map(|line| line.wants).unwrap_or_default()
    }

    /// Whether what a target says of this task is for the client of this call; what it says of no task may be for any.
    #[must_use]
    pub fn is_about(&self, task: Option<&str>) -> bool {
        task.is_none() || self.line.as_ref().and_then(|line| line.task.as_deref()) == task
    }

    /// Until when to wait for the target, as things stand: longer than the deadline by the time for which its client was asked.
    /// While it is asked, nobody can tell: then it is a moment at which to look again.
    #[must_use]
    pub fn due(&self, deadline: Instant) -> Instant {
        self.line.as_ref().map_or(deadline, |line| line.pauses.due(deadline))
    }

    /// Waits until the deadline has passed, not counting the time for which the client was asked. Cancel-safe.
    pub async fn overdue(&self, deadline: Instant) {
        loop {
            let due = self.due(deadline);
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }

    /// Sends a notification; waits while the client is slower than the target.
    ///
    /// Cancel-safe: dropped before it is done, the notification was not sent.
    ///
    /// # Errors
    /// [`CallerGone`] when nobody listens (any more).
    pub async fn notify(&self, method: &str, params: Bytes) -> Result<(), CallerGone> {
        let event = CallerEvent::Notification { method: method.into(), params };
        self.line()?.events.send(event).await.map_err(|_| CallerGone)
    }

    /// The same for whoever reads a stream for many calls, and must not hold them for the client of one. What the client does not take
    /// at once waits for it, as far as there is room for this call and on the stream.
    ///
    /// # Errors
    /// [`CallerGone`] when nobody listens (any more), or there is no room: [`Caller::losses`] counts those.
    pub async fn notify_on(&self, stream: &StreamRoom, method: &str, params: Bytes) -> Result<(), CallerGone> {
        let line = self.line()?;
        let event = CallerEvent::Notification { method: method.into(), params };
        line.backlog.notify(&line.events, stream, event).await
    }

    /// What its client was not told.
    #[must_use]
    pub fn losses(&self) -> Losses {
        Losses(self.line.as_ref().map(|line| Arc::clone(&line.backlog)))
    }

    /// Tells that the target has closed its stream and works on; the answer is fetched after so long (2025-11-25, polling). Cancel-safe.
    pub async fn away(&self, retry: Duration) {
        if let Ok(line) = self.line() {
            // A client that is gone need not know.
            line.events.send(CallerEvent::Away(retry)).await.ok();
        }
    }

    /// Asks the client something and waits for its answer, for as long as it may take: the raw `result`, or the raw `error` object.
    ///
    /// # Errors
    /// [`CallerGone`] when nobody listens, or the client gave no answer.
    pub async fn request(&self, method: &str, params: Bytes) -> Result<Result<Bytes, Bytes>, CallerGone> {
        let line = self.line()?;
        let (answer, answered) = oneshot::channel();
        let _pause = Pause::begin(&line.pauses);
        let event = CallerEvent::Request { method: method.into(), params, answer };
        let asking = async {
            if let Some(event) = line.backlog.ask(event) {
                line.events.send(event).await.map_err(|_| CallerGone)?;
            }
            answered.await.map_err(|_| CallerGone)
        };
        timeout(line.answer_timeout, asking).await.unwrap_or(Err(CallerGone))
    }

    fn line(&self) -> Result<&Line, CallerGone> {
        self.line.as_deref().ok_or(CallerGone)
    }

    #[cfg(test)]
    pub(crate) fn backlog(&self) -> &Backlog {
        &self.line.as_ref().expect("a channel").backlog
    }
}

impl CallerEvents {
    /// The next event; `None` once every [`Caller`] of the call is dropped. Cancel-safe.
    pub async fn next(&mut self) -> Option<CallerEvent> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next event, for futures written by hand.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<CallerEvent>> {
        match self.events.poll_recv(cx) {
            Poll::Ready(Some(event)) => Poll::Ready(Some(event)),
            Poll::Ready(None) => self.backlog.poll(&mut self.events, true, cx),
            Poll::Pending => self.backlog.poll(&mut self.events, false, cx),
        }
    }

    /// As [`Caller::due`].
    #[must_use]
    pub fn due(&self, deadline: Instant) -> Instant {
        self.pauses.due(deadline)
    }
}

impl Drop for CallerEvents {
    fn drop(&mut self) {
        // In this order: what finds the channel open may still be put into the backlog.
        self.events.close();
        self.backlog.clear();
    }
}

impl Pauses {
    fn due(&self, deadline: Instant) -> Instant {
        let asking = self.0.lock();
        let due = deadline + asking.total;
        match asking.since {
            // What is left of its time when it asked is left still.
            Some(since) => (due + since.elapsed()).max(Instant::now() + LOOK_AGAIN),
            None => due,
        }
    }
}

/// One question that is open.
struct Pause<'a>(&'a Pauses);

impl<'a> Pause<'a> {
    fn begin(pauses: &'a Pauses) -> Self {
        let mut asking = pauses.0.lock();
        asking.questions += 1;
        asking.since.get_or_insert_with(Instant::now);
        Self(pauses)
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        let mut asking = self.0.0.lock();
        asking.questions -= 1;
        if asking.questions == 0
            && let Some(since) = asking.since.take()
        {
            asking.total += since.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_for_which_a_client_is_asked_does_not_count() {
        let (caller, mut events) = Caller::channel(Wants { requests: Declared::ROOTS, ..Wants::default() });
        let deadline = Instant::now() + Duration::from_secs(30);
        let answering = async {
            let Some(CallerEvent::Request { answer, .. }) = events.next().await else { panic!("a question") };
            tokio::time::sleep(Duration::from_secs(120)).await;
            answer.send(Ok(Bytes::from_static(b"{}"))).expect("somebody waits");
            (events, Instant::now())
        };
        let (answer, (_events, answered_at)) = tokio::join!(caller.request("roots/list", Bytes::from_static(b"{}")), answering);
        assert_eq!(answer.expect("an answer"), Ok(Bytes::from_static(b"{}")));

        caller.overdue(deadline).await;

        assert_eq!(answered_at.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_answers_is_given_up() {
        let (caller, _events) = Caller::channel(Wants::default());
        let began = Instant::now();

        let answer = caller.request("roots/list", Bytes::new()).await;

        assert!(answer.is_err());
        assert_eq!(began.elapsed(), ANSWER_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_client_is_asked_the_time_that_was_left_is_left_still() {
        let (caller, events) = Caller::channel(Wants::default());
        let (far, near) = (Instant::now() + Duration::from_secs(300), Instant::now() + Duration::from_millis(1));
        let asking = caller.request("roots/list", Bytes::new());
        let asked_for = Duration::from_secs(10);

        timeout(asked_for, asking).await.map(drop).expect_err("nobody answers");
        assert_eq!((caller.due(far), events.due(far)), (far + asked_for, far + asked_for), "it was asked for so long");

        let mut asking = std::pin::pin!(caller.request("roots/list", Bytes::new()));
        timeout(asked_for, asking.as_mut()).await.map(drop).expect_err("nobody answers");
        assert_eq!(caller.due(far), far + 2 * asked_for, "it is asked still");
        assert_eq!(caller.due(near), (near + 2 * asked_for).max(Instant::now() + LOOK_AGAIN));
    }
}
