//! One legacy session: its client, its calls, and what it wants to hear of.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use parking_lot::Mutex;
use runtime_api::{ClientAnswer, ClientSession, LegacyClient, LogLevel, Logging, Principal, SessionLife, Subscribed, Subscriber};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use twinway_proto::revision;

use super::{
    replay::{Kept, Store},
    running::Cancel,
    task::Watched,
};

/// Resources that one client may want to hear of.
pub(super) const SUBSCRIPTIONS_MAX: usize = 1_000;

/// Bytes of their URIs together: as many of ordinary length fit. Nobody can hold memory by long ones.
pub(super) const SUBSCRIPTION_BYTES_MAX: usize = 128 * 1024;

/// Questions to one client at a time. Each is a dialogue for a person, or a model's turn.
const QUESTIONS_MAX: usize = 64;

/// One conversation of a legacy client, or one duplex stream.
#[derive(Debug)]
pub struct Session {
    pub(super) id: u128,
    /// When its handle expires, in seconds of the Unix clock.
    pub(super) expires_s: u64,
    /// How long that was when it was opened here.
    lasts: Duration,
    client: OnceLock<Arc<LegacyClient>>,
    /// Of this object, not of the handle: a session that was forgotten and comes back is another one to runtimes.
    life: SessionLife,
    pub(super) principal: Principal,
    pub(super) view: Box<str>,
    in_flight: Mutex<InFlight>,
    /// The resources that the client wants to hear of, by the URIs that it knows.
    subscriptions: Mutex<HashMap<String, Arc<Subscribed>>>,
    subscriber: Subscriber,
    /// The tasks of which the client is told; there once it has any, or a stream.
    tasks: OnceLock<Box<Watched>>,
    /// From which level on log lines are wanted, as a place in [`LogLevel::ALL`]; beyond it nobody has said.
    log_level: AtomicU8,
    /// Where it keeps what it says on event streams; nowhere when its client has but one.
    store: Option<Arc<Store>>,
    /// There once there was a stream.
    kept: OnceLock<Arc<Kept>>,
    epoch: Instant,
    used_ms: AtomicU64,
}

/// The calls of a session.
#[derive(Debug, Default)]
struct InFlight {
    calls: HashMap<Box<str>, Cancel>,
    /// The session was ended: whatever begins now is cancelled.
    ended: bool,
    /// Its stream of notifications.
    stream: Option<CancellationToken>,
    /// What the client was asked, by the id of the request.
    questions: HashMap<u64, Question>,
    /// Of the last question.
    asked: u64,
}

/// What the client was asked.
#[derive(Debug)]
struct Question {
    /// The raw id of the call that waits for it.
    call: Box<str>,
    answer: ClientAnswer,
}

impl Session {
    /// The session of a duplex stream.
    #[must_use]
    pub fn of_stream(principal: Principal) -> Arc<Self> {
        Arc::new(Self::new(rand::random(), u64::MAX, principal, "", None))
    }

    /// A session of that number, whose handle expires then, in seconds of the Unix clock.
    pub(super) fn new(id: u128, expires_s: u64, principal: Principal, view: &str, store: Option<Arc<Store>>) -> Self {
        Self {
            id,
            expires_s,
            lasts: Duration::from_secs(expires_s.saturating_sub(now_s())),
            client: OnceLock::new(),
            life: SessionLife::new(rand::random()),
            principal,
            view: view.into(),
            in_flight: Mutex::default(),
            subscriptions: Mutex::default(),
            subscriber: Subscriber::default(),
            tasks: OnceLock::new(),
            log_level: AtomicU8::new(u8::MAX),
            store,
            kept: OnceLock::new(),
            epoch: Instant::now(),
            used_ms: AtomicU64::new(0),
        }
    }

    /// Whether its streams begin with an id to come back by: an event without data, which came with the last revision that has
    /// sessions; before, clients took it for a broken message.
    pub(super) fn primes(&self) -> bool {
        let keeps = self.store.as_ref().is_some_and(|store| store.keeps());
        keeps && self.client.get().is_some_and(|client| client.revision >= revision::LATEST_LEGACY)
    }

    /// What is said on its event streams, if its client can come back for it: revision 2024-11-05 has no such streams.
    pub(super) fn kept(&self) -> Option<&Arc<Kept>> {
        let (store, client) = (self.store.as_ref().filter(|store| store.keeps())?, self.client.get()?);
        (client.revision >= revision::ASSUMED_LEGACY)
            .then(|| self.kept.get_or_init(|| Arc::new(Kept::new(Arc::clone(store), self.primes()))))
    }

    /// Somebody uses it. Returns whether its handle is still good.
    pub(super) fn touch(&self) -> bool {
        let age = self.epoch.elapsed();
        self.used_ms.store(millis(age), Ordering::Relaxed);
        age < self.lasts
    }

    /// Its handle is good no more, however much it is used.
    pub(super) fn is_over(&self) -> bool {
        self.epoch.elapsed() >= self.lasts
    }

    /// For how long nobody has used it.
    pub(super) fn idle_for(&self) -> Duration {
        self.epoch.elapsed().saturating_sub(Duration::from_millis(self.used_ms.load(Ordering::Relaxed)))
    }

    /// Hears of the resources that the client has subscribed to.
    pub(super) const fn subscriber(&self) -> &Subscriber {
        &self.subscriber
    }

    /// The tasks of which the client is told.
    pub(super) fn tasks(&self) -> &Watched {
        self.tasks.get_or_init(Box::default)
    }

    /// The resources that the client wants to hear of.
    pub(super) fn subscribed(&self) -> Vec<Arc<str>> {
        self.subscriptions.lock().keys().map(|uri| uri.as_str().into()).collect()
    }

    /// Whether one more resource may be wanted, by that URI.
    pub(super) fn may_subscribe(&self, uri: &str) -> bool {
        let subscriptions = self.subscriptions.lock();
        let bytes: usize = subscriptions.keys().map(String::len).sum();
        subscriptions.contains_key(uri)
            || (subscriptions.len() < SUBSCRIPTIONS_MAX && bytes + uri.len() <= SUBSCRIPTION_BYTES_MAX)
    }

    /// Takes the place of an older subscription to the same resource.
    pub(super) fn subscribe(&self, uri: String, subscribed: Arc<Subscribed>) {
        self.subscriptions.lock().insert(uri, subscribed);
    }

    /// Ends this one subscription, unless another one is there instead by now.
    pub(super) fn give_up(&self, uri: &str, subscribed: &Arc<Subscribed>) {
        let mut subscriptions = self.subscriptions.lock();
        if subscriptions.get(uri).is_some_and(|held| Arc::ptr_eq(held, subscribed)) {
            subscriptions.remove(uri);
        }
    }

    pub(super) fn unsubscribe(&self, uri: &str) {
        self.subscriptions.lock().remove(uri);
    }

    /// Which log lines the client wants.
    pub(super) fn logging(&self) -> Logging {
        let level = LogLevel::ALL.get(usize::from(self.log_level.load(Ordering::Relaxed)));
        level.map_or(Logging::Whatever, |level| Logging::From(*level))
    }

    pub(super) fn set_log_level(&self, level: LogLevel) {
        self.log_level.store(level as u8, Ordering::Relaxed);
    }

    /// Notes a question of a call to the client and gives the id of the request that asks it; `None` when too many are open.
    pub(super) fn ask(&self, call: &str, answer: ClientAnswer) -> Option<u64> {
        let mut in_flight = self.in_flight.lock();
        // Of calls that have ended nobody waits for an answer.
        in_flight.questions.retain(|_, question| !question.answer.is_closed());
        if in_flight.questions.len() >= QUESTIONS_MAX {
            return None;
        }
        in_flight.asked += 1;
        let id = in_flight.asked;
        in_flight.questions.insert(id, Question { call: call.into(), answer });
        Some(id)
    }

    /// Nobody answers what this call has asked.
    pub(super) fn ask_no_more(&self, call: &str) {
        self.in_flight.lock().questions.retain(|_, question| *question.call != *call);
    }

    /// The client's answer to the question with that raw id: a raw result, or a raw error object. One that nobody waits for is
    /// thrown away.
    pub(super) fn answered(&self, id: &str, answer: &Result<Bytes, Bytes>) {
        let question = id.parse().ok().and_then(|id: u64| self.in_flight.lock().questions.remove(&id));
        question.into_iter().for_each(|question| drop(question.answer.send(answer.clone())));
    }

    /// The client, once it is initialized.
    #[must_use]
    pub fn client(&self) -> Option<Arc<LegacyClient>> {
        self.client.get().cloned()
    }

    pub(super) fn initialize(&self, client: Arc<LegacyClient>) {
        // A second initialize on one stream changes nothing: what was agreed on stays agreed on.
        self.client.set(client).ok();
    }

    /// The session as runtimes know it.
    pub(super) fn life(&self) -> ClientSession {
        self.life.session()
    }

    /// Names the session in traces without opening it to whoever reads them.
    #[must_use]
    pub fn public_id(&self) -> String {
        format!("{:016x}", self.id >> 64)
    }

    pub(super) fn enter(&self, id: &str) -> Cancel {
        let cancel = CancellationToken::new();
        let mut in_flight = self.in_flight.lock();
        if in_flight.ended {
            cancel.cancel();
        }
        in_flight.calls.insert(id.into(), cancel.clone());
        cancel
    }

    pub(super) fn leave(&self, id: &str) {
        self.in_flight.lock().calls.remove(id);
    }

    /// A stream of notifications begins, and the one before it ends. It is over when the token is cancelled, by either side.
    pub(super) fn listen(&self) -> CancellationToken {
        let stream = CancellationToken::new();
        let mut in_flight = self.in_flight.lock();
        if in_flight.ended {
            stream.cancel();
        }
        if let Some(older) = in_flight.stream.replace(stream.clone()) {
            older.cancel();
        }
        stream
    }

    /// Cancels the call with that raw id. A call that is not there has ended, or was never begun: both are fine.
    pub fn cancel(&self, id: &str) {
        if let Some(cancel) = self.in_flight.lock().calls.get(id) {
            cancel.cancel();
        }
    }

    /// Cancels everything that is in flight, and whatever is begun later.
    pub fn end(&self) {
        let mut in_flight = self.in_flight.lock();
        in_flight.ended = true;
        self.life.end();
        in_flight.calls.values().chain(&in_flight.stream).for_each(CancellationToken::cancel);
        drop(in_flight);
        self.subscriptions.lock().clear();
        self.tasks.get().into_iter().for_each(|tasks| tasks.clear());
        self.kept.get().into_iter().for_each(|kept| kept.clear());
    }

    /// Whether a call or a stream of it is under way.
    pub(super) fn is_busy(&self) -> bool {
        let in_flight = self.in_flight.lock();
        !in_flight.calls.is_empty() || in_flight.stream.as_ref().is_some_and(|stream| !stream.is_cancelled())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Handles outlive processes, so their time is that of the wall clock.
pub(super) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use runtime_api::{Declared, Interest, Party};

    use super::*;
    use crate::telemetry::metrics::ReplayMetrics;

    fn alice() -> Principal {
        Principal("alice".into())
    }

    #[tokio::test]
    async fn a_session_wants_so_many_resources_and_so_many_bytes_of_their_uris() {
        let session = Session::of_stream(alice());
        let party = Party { principal: alice(), session: Some(session.life()) };
        let interest = Interest::default();
        let subscribe = |uri: String| {
            let may = session.may_subscribe(&uri);
            let subscribed = interest.subscribe(&uri, uri.as_str().into(), party.clone(), session.subscriber()).expect("room");
            if may {
                session.subscribe(uri, Arc::new(subscribed));
            }
            may
        };
        assert!(subscribe("x".repeat(SUBSCRIPTION_BYTES_MAX - 4_000)));
        assert!(!subscribe("y".repeat(4_001)), "too long");

        let short = (0..2_000).map(|number| format!("{number:04}")).filter(|uri| subscribe(uri.clone())).count();

        assert_eq!(short, SUBSCRIPTIONS_MAX - 1, "too many");
        assert!(subscribe("0000".to_owned()), "which it has already");
    }

    #[tokio::test]
    async fn nothing_is_kept_for_a_session_before_it_has_a_stream() {
        let store = Arc::new(Store::new(1, None, ReplayMetrics::default()));
        let session = Session::new(1, u64::MAX, alice(), "", Some(store));
        session.initialize(Arc::new(LegacyClient {
            revision: revision::LATEST_LEGACY,
            capabilities: Bytes::new(),
            info: Bytes::new(),
            declared: Declared::NONE,
        }));

        assert!(session.kept.get().is_none());
        assert!(session.kept().is_some());
        assert!(Session::of_stream(alice()).kept().is_none(), "a stream of its own cannot be taken up");
    }
}
