//! A call that is under way: its notifications, its answer, and what happens when nobody looks any more.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use runtime_api::{CallerEvent, CallerEvents, TargetId};
use runtime_mcp::client::{self, TASK_STATUS};
use tokio::time::{Instant, sleep_until};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::TaskTracker,
};
use twinway_proto::{
    envelope::{self, splice},
    json::members,
    meta::key,
    rope::{Builder, Rope},
};

use super::{
    Outgoing, Session,
    batch::Batch,
    input::Parking,
    parked::{Left, Question},
    task::TaskIds,
};
use crate::catalog::Entry;

/// A call in progress. Dropping it cancels the call, unless it belongs to a legacy session: then the call goes on, because a legacy
/// client's disconnect is no cancel (2025-11-25, transports). Its answer is thrown away: a client that was told nothing yet has no
/// event to come back for.
pub struct Running {
    state: Option<State>,
    batch: Option<Box<Batch>>,
    deadline: Instant,
    left_behind: TaskTracker,
    goes_on: bool,
    listens: bool,
}

/// Time after the deadline in which a client may still fetch what is there for it.
pub(super) const READ_GRACE: Duration = Duration::from_secs(5);

/// What is left to be done of a call.
pub(super) struct State {
    answer: BoxFuture<'static, Outgoing>,
    /// What the target says before its answer.
    events: Option<Events>,
    /// An answer that waits for the notifications before it.
    ready: Option<Outgoing>,
    /// Ends it without an answer.
    withdrawn: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    in_session: Option<InSession>,
}

/// What a target says before its answer, and how the client hears of it.
pub(super) struct Events {
    pub(super) events: CallerEvents,
    /// The client's own progress token; without one it wants no progress.
    pub(super) token: Option<Bytes>,
    pub(super) asks: Asks,
    pub(super) tasks: OfTasks,
}

/// What the client hears of tasks.
pub(super) enum OfTasks {
    /// Nothing: it has none of this target.
    Nothing,
    /// Each by the client's id in place of this target's.
    Of(Box<(TaskIds, TargetId)>),
    /// What has the client's ids already.
    Known,
}

/// How the client is asked what the target wants to know.
pub(super) enum Asks {
    /// Not at all.
    Nobody,
    /// By a request in its session, for the call with this raw id.
    Session(Arc<Session>, Box<str>),
    /// By an answer, after which it makes the call again.
    Parking(Box<Parking>),
}

impl Events {
    /// Notifications and nothing else.
    pub(super) const fn only(events: CallerEvents) -> Self {
        Self { events, token: None, asks: Asks::Nobody, tasks: OfTasks::Known }
    }

    /// The same for a client that hears of tasks of whoever answers the call. Of several it is not known who will.
    pub(super) fn with_tasks(self, ids: Option<&TaskIds>, entry: &Entry) -> Self {
        let ids = ids.filter(|_| entry.candidates.len() == 1);
        let of = |ids: &TaskIds| OfTasks::Of(Box::new((ids.clone(), entry.chosen().target.clone())));
        Self { tasks: ids.map_or(OfTasks::Nothing, of), ..self }
    }
}

/// What comes of a poll.
enum Polled {
    Step(Step),
    /// The target asks, and the client is asked by an answer.
    Question(Question, Box<Parking>),
}

struct InSession {
    session: Arc<Session>,
    id: Box<str>,
}

/// What comes next.
#[derive(Debug)]
pub enum Step {
    /// A notification for the client.
    Event(Rope),
    /// The target works on, and the client may fetch the rest after so long (2025-11-25, polling). Only where it can.
    Away(Duration),
    /// The answer; nothing comes after it.
    Done(Outgoing),
    /// The client withdrew the call; it is not answered (2025-11-25, cancellation).
    Withdrawn,
}

impl Step {
    /// The message, and whether it is the last; `None` when the end comes without one.
    pub(super) fn said(self) -> Option<(Rope, bool)> {
        match self {
            Self::Event(message) => Some((message, false)),
            Self::Done(outgoing) => Some((outgoing.message, true)),
            Self::Away(_) | Self::Withdrawn => None,
        }
    }
}

impl Running {
    pub(super) fn new(
        answer: BoxFuture<'static, Outgoing>,
        events: Option<Events>,
        deadline: Instant,
        left_behind: TaskTracker,
    ) -> Self {
        Self { state: Some(State::new(answer, events)), batch: None, deadline, left_behind, goes_on: false, listens: false }
    }

    /// A call that says these things and is answered by `answer`.
    #[cfg(test)]
    pub(crate) fn of(answer: BoxFuture<'static, Outgoing>, events: CallerEvents, deadline: Instant) -> Self {
        Self::new(answer, Some(Events::only(events)), deadline, TaskTracker::new())
    }

    /// The same in a session, in which its target may ask the client.
    #[cfg(test)]
    pub(crate) fn asking(
        answer: BoxFuture<'static, Outgoing>,
        events: CallerEvents,
        deadline: Instant,
        session: &Arc<Session>,
    ) -> Self {
        let events = Events { asks: Asks::Session(Arc::clone(session), "7".into()), ..Events::only(events) };
        Self::new(answer, Some(events), deadline, TaskTracker::new())
    }

    /// Several calls whose answers go back together.
    pub(super) fn batch(batch: Batch, left_behind: TaskTracker) -> Self {
        Self { state: None, batch: Some(Box::new(batch)), deadline: Instant::now(), left_behind, goes_on: false, listens: false }
    }

    /// Goes on with a call that was parked: the client has made it again, with this id.
    pub(super) fn resumed(
        mut state: State,
        id: &str,
        events: impl FnOnce(CallerEvents) -> Events,
        deadline: Instant,
        left_behind: TaskTracker,
    ) -> Self {
        let id: Box<str> = id.into();
        let answer = state.answer;
        state.answer = Box::pin(async move { answer.await.with_id(&id) });
        state.events = state.events.map(|before| events(before.events));
        Self { state: Some(state), batch: None, deadline, left_behind, goes_on: false, listens: false }
    }

    /// After this instant nobody has to be waited for: neither the target nor a client that does not read. Later when the client
    /// is asked something meanwhile.
    #[must_use]
    pub fn given_up_at(&self) -> Instant {
        if let Some(batch) = &self.batch {
            return batch.given_up_at();
        }
        self.due() + READ_GRACE
    }

    /// Its deadline, later when the client is asked something meanwhile.
    fn due(&self) -> Instant {
        let events = self.state.as_ref().and_then(|state| state.events.as_ref());
        events.map_or(self.deadline, |events| events.events.due(self.deadline))
    }

    /// Whether its client can come back for the answer once its stream has begun, even if nothing was said on it.
    #[must_use]
    pub fn can_be_left(&self) -> bool {
        let in_session = self.state.as_ref().and_then(|state| state.in_session.as_ref());
        self.goes_on && in_session.is_some_and(|in_session| in_session.session.primes())
    }

    /// The session that goes on with it when its client is gone, and the raw ids of the requests that it answers.
    pub(super) fn left_to(&self) -> Option<(&Arc<Session>, Vec<Box<str>>)> {
        if let Some(batch) = &self.batch {
            return batch.left_to();
        }
        let in_session = self.state.as_ref()?.in_session.as_ref().filter(|_| self.goes_on)?;
        Some((&in_session.session, vec![in_session.id.clone()]))
    }

    /// Awaits what is driven without anybody who waits for it.
    pub(super) fn left_behind(&self) -> TaskTracker {
        self.left_behind.clone()
    }

    /// The client does not read what it is asked: the target is told that nobody answers, now and whenever it asks again.
    pub fn ask_nobody(&mut self) {
        self.batch.iter_mut().for_each(|batch| batch.ask_nobody());
        let events = self.state.as_mut().and_then(|state| state.events.as_mut());
        events.into_iter().for_each(Events::ask_nobody);
    }

    /// Waits, while the client does not read, until it withdraws the call. The deadline ends the call meanwhile: what it holds of
    /// the target is not to wait for the reader, too.
    pub async fn withdrawn_unread(&mut self) {
        let due = self.due();
        let Some(state) = &mut self.state else { return std::future::pending().await };
        let mut overdue = std::pin::pin!(sleep_until(due));
        poll_fn(|cx| {
            if state.poll_withdrawn(cx).is_ready() {
                return Poll::Ready(());
            }
            if overdue.is_elapsed() || overdue.as_mut().poll(cx).is_ready() {
                state.poll_answer(cx);
            }
            Poll::Pending
        })
        .await;
    }

    /// The session can cancel the call by this id, and the call outlives its holder.
    pub(super) fn in_session(mut self, session: &Arc<Session>, id: &str) -> Self {
        self = self.until(session.enter(id));
        if let Some(state) = &mut self.state {
            state.in_session = Some(InSession { session: Arc::clone(session), id: id.into() });
        }
        self.goes_on = true;
        self
    }

    /// The token ends it without an answer.
    pub(super) fn until(mut self, withdrawn: CancellationToken) -> Self {
        if let Some(state) = &mut self.state {
            state.withdrawn = Some(Box::pin(withdrawn.cancelled_owned()));
        }
        self
    }

    /// It is no call: it tells of changes for as long as its client likes.
    pub(super) const fn listening(mut self) -> Self {
        self.listens = true;
        self
    }

    /// Whether it tells of changes rather than makes a call.
    #[must_use]
    pub const fn listens(&self) -> bool {
        self.listens
    }

    /// Dropping it cancels the call after all.
    pub(super) const fn ends_with_its_holder(mut self) -> Self {
        self.goes_on = false;
        self
    }

    /// Whether there may be notifications before the answer.
    #[must_use]
    pub fn may_notify(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.events.is_some())
            || self.batch.as_ref().is_some_and(|batch| batch.may_notify())
    }

    /// The next step. Cancel-safe. Not to be called after [`Step::Done`] or [`Step::Withdrawn`].
    pub async fn next(&mut self) -> Step {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next step, for futures and bodies written by hand.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if let Some(batch) = &mut self.batch {
            return batch.poll(cx);
        }
        loop {
            let Some(state) = &mut self.state else { return Poll::Pending };
            let step = match std::task::ready!(state.poll(cx)) {
                Polled::Step(Step::Away(_)) if !self.can_be_left() => continue,
                Polled::Step(step) => step,
                Polled::Question(question, parking) => match self.park(question, &parking) {
                    Some(asked) => Step::Done(asked),
                    // The target is told that the client gives no answer, and goes on.
                    None => continue,
                },
            };
            if matches!(step, Step::Done(_) | Step::Withdrawn) {
                self.state = None;
            }
            return Poll::Ready(step);
        }
    }

    /// Leaves the call until its client comes back; `None` where there is no room.
    fn park(&mut self, question: Question, parking: &Parking) -> Option<Outgoing> {
        let (method, params) = (question.method.clone(), question.params.clone());
        let (deadline, held) = (self.deadline, &mut self.state);
        parking.park(&method, &params, || {
            let mut state = held.take().expect("it has just asked");
            // The request is over: nobody withdraws it any more, and its id may be used again.
            state.withdrawn = None;
            state.in_session = None;
            Left { state, deadline, question }
        })
    }
}

impl State {
    pub(super) const fn new(answer: BoxFuture<'static, Outgoing>, events: Option<Events>) -> Self {
        Self { answer, events, ready: None, withdrawn: None, in_session: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        if self.poll_withdrawn(cx).is_ready() {
            return Poll::Ready(Polled::Step(Step::Withdrawn));
        }
        self.poll_answer(cx);
        // What came before the answer goes before it.
        while let Some(events) = &mut self.events {
            match events.events.poll_next(cx) {
                Poll::Ready(Some(event)) => {
                    if let Some(polled) = events.take(event) {
                        return Poll::Ready(polled);
                    }
                }
                Poll::Ready(None) => self.events = None,
                Poll::Pending => break,
            }
        }
        self.ready.take().map_or(Poll::Pending, |answer| Poll::Ready(Polled::Step(Step::Done(answer))))
    }

    fn poll_withdrawn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.withdrawn.as_mut().map_or(Poll::Pending, |withdrawn| withdrawn.as_mut().poll(cx))
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) {
        if self.ready.is_none()
            && let Poll::Ready(answer) = self.answer.as_mut().poll(cx)
        {
            self.ready = Some(answer);
        }
    }
}

impl Events {
    /// The event as the client knows it; `None` when the client does not hear of it.
    fn take(&mut self, event: CallerEvent) -> Option<Polled> {
        match event {
            CallerEvent::Notification { method, params } => {
                let params = self.of_task(&method, params)?;
                let params = match (&*method, &self.token) {
                    ("notifications/progress", Some(token)) => with_token(&params, token),
                    ("notifications/progress", None) => return None,
                    // A modern client makes its call again instead (2026-07-28, elicitation).
                    (client::ELICITATION_COMPLETE, _) if !matches!(self.asks, Asks::Session(..)) => return None,
                    _ => params.into(),
                };
                Some(Polled::Step(Step::Event(envelope::notification(&method, Some(params)))))
            }
            CallerEvent::Away(retry) => Some(Polled::Step(Step::Away(retry))),
            CallerEvent::Request { method, params, answer } => {
                let params = self.of_task(&method, params)?;
                match std::mem::replace(&mut self.asks, Asks::Nobody) {
                    Asks::Session(session, call) => {
                        let id = session.ask(&call, answer);
                        self.asks = Asks::Session(session, call);
                        Some(Polled::Step(Step::Event(envelope::request(id?, &method, Some(params.into())))))
                    }
                    // Who is parked asks nobody until its client is back.
                    Asks::Parking(parking) => Some(Polled::Question(Question { method, params, answer }, parking)),
                    // Dropping the answer says that there is none.
                    Asks::Nobody => None,
                }
            }
            _ => None,
        }
    }

    /// See [`Running::ask_nobody`].
    fn ask_nobody(&mut self) {
        match std::mem::replace(&mut self.asks, Asks::Nobody) {
            Asks::Session(session, call) => session.ask_no_more(&call),
            // That is an answer, which the client may still take.
            parking @ Asks::Parking(_) => self.asks = parking,
            Asks::Nobody => {}
        }
    }

    /// What a target says with the client's ids of tasks; `None` for what is said of tasks to a client that has none.
    fn of_task(&self, method: &str, params: Bytes) -> Option<Bytes> {
        match &self.tasks {
            OfTasks::Of(tasks) => tasks.0.of_event(method, &tasks.1, &params).map(Rope::into_bytes),
            OfTasks::Nothing => (method != TASK_STATUS).then_some(params),
            OfTasks::Known => Some(params),
        }
    }
}

fn with_token(params: &Bytes, token: &Bytes) -> Rope {
    let text = std::str::from_utf8(params).unwrap_or_default();
    let Some(old) = members(text).flatten().find(|member| member.key.is(key::PROGRESS_TOKEN)) else {
        return params.clone().into();
    };
    let mut out = Builder::with_capacity(params.len() + token.len());
    splice(params, &[(old.range, token)], &mut out);
    out.finish()
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(state) = self.state.take() else { return };
        if !self.goes_on || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let deadline = self.deadline;
        self.left_behind.spawn(async move {
            let left_behind = TaskTracker::new();
            let mut running = Self { state: Some(state), batch: None, deadline, left_behind, goes_on: false, listens: false };
            while matches!(running.next().await, Step::Event(_)) {}
        });
    }
}

impl Drop for InSession {
    fn drop(&mut self) {
        self.session.leave(&self.id);
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("ready", &self.ready.is_some()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("goes_on", &self.goes_on).finish_non_exhaustive()
    }
}

/// What a session keeps to cancel a call.
pub(super) type Cancel = CancellationToken;

#[cfg(test)]
mod tests {
    use runtime_api::{Caller, Wants};

    use super::*;

    #[test]
    fn the_client_gets_its_own_progress_token_back() {
        let params = Bytes::from_static(br#"{"progress":1,"progressToken":17,"x":2.50}"#);
        let event = CallerEvent::Notification { method: "notifications/progress".into(), params };
        let (_caller, events) = Caller::channel(Wants::default());
        let mut events = Events { token: Some(Bytes::from_static(b"\"mine\"")), ..Events::only(events) };

        let Some(Polled::Step(Step::Event(message))) = events.take(event) else { panic!("a notification") };

        let expected =
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1,"progressToken":"mine","x":2.50}}"#;
        assert_eq!(message.into_bytes(), expected);
    }
}
