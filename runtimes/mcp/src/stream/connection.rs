//! Makes requests on a conversation.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use runtime_api::{BoxError, CallError, Caller, Delivery, ErrorCode, StreamRoom};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use twinway_proto::{
    envelope,
    rope::{Builder, Rope},
};

use super::{
    Changes, Ended, Fault, Settings,
    outbox::{BoxSink, Outbox, Outgoing},
    pending::{GivenUp, Pending, Taken},
};
use crate::Incoming;

/// How long the last messages may take once a conversation has ended: a peer that does not read must not hold a task.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A way to make requests on one conversation. Cheap to clone; dropping the last does not end the conversation.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

/// What a request needs beside its parameters.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The method.
    pub method: &'a str,
    /// After this instant nobody waits any more.
    pub deadline: Instant,
    /// Who hears of progress. The parameters arrive as they came: with this hop's token in them.
    pub caller: &'a Caller,
}

/// What the handle, the reader and the writer have in common.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) pending: Pending,
    pub(super) outbox: Outbox,
    pub(super) changes: Changes,
    /// For what waits for clients that are slower than the other side.
    pub(super) room: StreamRoom,
    ended: CancellationToken,
    places: Semaphore,
    waiting: AtomicUsize,
    next_id: AtomicU64,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Makes a request and waits for its answer. `params` gets the request's id, which is also its progress token.
    ///
    /// Dropping it cancels the request: one that was not sent is taken back, for one that was `notifications/cancelled`
    /// goes out and a late answer is thrown away.
    ///
    /// # Errors
    /// `Overloaded` when no place was free within the deadline, `TooLarge`, `DeadlineExceeded`, `Disconnected`, `Protocol`, an
    /// error answer as `Upstream`, or what `params` returned.
    pub async fn request<P>(&self, ask: Ask<'_>, params: P) -> Result<Incoming, CallError>
    where
        P: FnOnce(u64) -> Result<Option<Rope>, CallError>,
    {
        let shared = &*self.shared;
        let _place = shared.place(ask.deadline).await?;
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        let message = envelope::request(id, ask.method, params(id)?);
        shared.check_size(&message)?;
        let not_sent = |ended: Ended| ended.to_call_error(Delivery::NotSent);
        let answered = shared.pending.add(id, ask.caller.clone()).map_err(not_sent)?;
        let mut guard = CancelOnDrop { shared, id, armed: true };
        shared.send(Outgoing::Request { id, message });
        tokio::select! {
            biased;
            answer = answered => {
                guard.armed = false;
                answer.unwrap_or_else(|_| Err(Ended::Here.to_call_error(Delivery::Unknown)))
            }
            () = ask.caller.overdue(ask.deadline) => Err(guard.time_out()),
        }
    }

    /// Fails a request that is out: for a carrier that knows that it did not arrive, or was refused where it arrived.
    pub fn fail(&self, id: u64, error: CallError) {
        if let Taken::Wanted(place) = self.shared.pending.take(id) {
            // Whoever has stopped waiting a moment ago needs no error.
            drop(place.send(Err(error)));
        }
    }

    /// Sends a notification.
    pub fn notify(&self, method: &str, params: Option<Rope>) {
        self.shared.send(Outgoing::Notification(envelope::notification(method, params)));
    }

    /// Tells of changed lists of the other side.
    #[must_use]
    pub fn changes(&self) -> Changes {
        self.shared.changes.clone()
    }

    /// Requests that are out or wait for a place.
    #[must_use]
    pub fn load(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// What carries the messages, as spans name it.
    #[must_use]
    pub fn transport(&self) -> &'static str {
        self.shared.settings.transport
    }

    /// Ends the conversation: requests that are out fail, what waits to be sent is sent, the sink is closed.
    pub fn close(&self) {
        self.shared.end(&Ended::Here);
    }

    /// Whether the conversation has ended.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.shared.ended.is_cancelled()
    }

    /// Waits for the end of the conversation. Cancel-safe.
    pub async fn ended(&self) {
        self.shared.ended.cancelled().await;
    }
}

impl Shared {
    pub(super) fn new(sink: BoxSink, settings: Settings) -> Self {
        Self {
            places: Semaphore::new(settings.in_flight_max.get()),
            settings,
            pending: Pending::default(),
            outbox: Outbox::new(sink),
            changes: Changes::default(),
            room: StreamRoom::default(),
            ended: CancellationToken::new(),
            waiting: AtomicUsize::new(0),
            next_id: AtomicU64::new(1),
        }
    }

    /// Puts a message in and writes it if the sink is free.
    pub(super) fn send(&self, message: Outgoing) {
        if self.outbox.push(message).is_err() {
            return self.end(&Ended::Flooded);
        }
        self.kick();
    }

    pub(super) fn fault(&self, fault: Fault) {
        (self.settings.on_fault)(fault);
    }

    /// Ends the conversation; the first reason counts.
    pub(super) fn end(&self, ended: &Ended) {
        // Seen to have ended before anybody hears of it: who tries again at once must not choose this conversation.
        self.ended.cancel();
        self.pending.end(ended);
        self.changes.end();
        self.outbox.close();
    }

    /// Waits for the end. Cancel-safe.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// The writer task.
    pub(super) async fn write(&self) {
        let written = std::future::poll_fn(|cx| self.outbox.poll(&self.pending, cx));
        let patience = async {
            self.ended().await;
            tokio::time::sleep(CLOSE_TIMEOUT).await;
        };
        tokio::select! {
            biased;
            outcome = written => if let Err(error) = outcome {
                self.end(&broken(error));
            },
            () = patience => {}
        }
    }

    fn kick(&self) {
        if let Err(error) = self.outbox.kick(&self.pending) {
            self.end(&broken(error));
        }
    }

    async fn place(&self, deadline: Instant) -> Result<Place<'_>, CallError> {
        let waiting = Waiting::new(&self.waiting);
        if let Ok(permit) = self.places.try_acquire() {
            return Ok(Place { _permit: permit, _waiting: waiting });
        }
        match timeout_at(deadline, self.places.acquire()).await {
            Ok(Ok(permit)) => Ok(Place { _permit: permit, _waiting: waiting }),
            _ => Err(CallError::runtime(
                ErrorCode::Overloaded,
                Delivery::NotSent,
                "as many calls as may are in flight to the target",
            )),
        }
    }

    fn check_size(&self, message: &Rope) -> Result<(), CallError> {
        let (size, limit) = (message.len(), self.settings.message_bytes_max);
        if size <= limit {
            return Ok(());
        }
        let text = format!("the request has {size} bytes, the target takes {limit} at most");
        Err(CallError::caller(ErrorCode::TooLarge, text))
    }
}

/// A place among the requests in flight.
struct Place<'a> {
    _permit: SemaphorePermit<'a>,
    _waiting: Waiting<'a>,
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Cancels the request unless it was answered.
struct CancelOnDrop<'a> {
    shared: &'a Shared,
    id: u64,
    armed: bool,
}

impl CancelOnDrop<'_> {
    fn time_out(mut self) -> CallError {
        self.armed = false;
        let delivery = match self.give_up("the deadline of the request has passed") {
            GivenUp::BeforeSending => Delivery::NotSent,
            GivenUp::AfterSending | GivenUp::TooLate => Delivery::Unknown,
        };
        CallError::runtime(ErrorCode::DeadlineExceeded, delivery, "the target did not answer in time")
    }

    fn give_up(&self, reason: &str) -> GivenUp {
        let given_up = self.shared.pending.give_up(self.id, Instant::now());
        match given_up {
            GivenUp::TooLate => {}
            GivenUp::BeforeSending => self.shared.outbox.withdraw(self.id),
            GivenUp::AfterSending => {
                let mut params = Builder::with_capacity(96);
                params.push_slice(b"{\"requestId\":").push_number(self.id).push_slice(b",\"reason\":\"");
                params.push_slice(reason.as_bytes()).push_slice(b"\"}");
                let message = envelope::notification("notifications/cancelled", Some(params.finish()));
                self.shared.send(Outgoing::Notification(message));
            }
        }
        given_up
    }
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.give_up("the caller has withdrawn the request");
        }
    }
}

pub(super) fn broken(error: BoxError) -> Ended {
    Ended::Broken(error.into())
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("load", &self.load()).field("ended", &self.is_ended()).finish_non_exhaustive()
    }
}
