//! Legacy sessions.
//!
//! A handle is sealed and says everything of its session, so that any replica with the same key can serve it. What is kept
//! here beside it is only what the process needs to work: the calls in flight, and which handles were ended.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use dashmap::DashMap;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use runtime_api::{ClientAnswer, ClientSession, LegacyClient, LogLevel, Logging, Principal, SessionLife, Subscribed, Subscriber};
use runtime_mcp::client::declared;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use twinway_proto::revision;

use super::{
    Seal, SealError,
    ended::Ended,
    replay::{Kept, Store},
    running::Cancel,
    seal::Shut,
    task::Watched,
};
use crate::{config::Http, telemetry::Metrics};

/// What a handle is sealed for.
const PURPOSE: &str = "session";

/// Longest handle that is looked at: two client parts of 1 KiB, in base64, with room.
const HANDLE_BYTES_MAX: usize = 4096;

/// Resources that one client may want to hear of.
pub(super) const SUBSCRIPTIONS_MAX: usize = 1_000;

/// Bytes of their URIs together: as many of ordinary length fit. Nobody can hold memory by long ones.
pub(super) const SUBSCRIPTION_BYTES_MAX: usize = 128 * 1024;

/// Questions to one client at a time. Each is a dialogue for a person, or a model's turn.
const QUESTIONS_MAX: usize = 64;

/// Sessions that are looked at to find one to make room: the oldest of so many is old enough.
const EVICTION_SAMPLE: usize = 32;

/// A handle that leads to no session.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SessionError {
    /// Not ours, or expired.
    #[error("this session is not known; initialize again")]
    Unknown,
    /// Ended by DELETE.
    #[error("this session was ended; initialize again")]
    Ended,
    /// Of another client, or of another view. Whoever asks is told what is told of no session at all.
    #[error("this session is not known; initialize again")]
    Foreign,
    /// No room.
    #[error("no more sessions can be opened now")]
    Full {
        /// When there may be room.
        retry_after: Duration,
    },
}

/// One conversation of a legacy client, or one duplex stream.
#[derive(Debug)]
pub struct Session {
    id: u128,
    /// When its handle expires, in seconds of the Unix clock.
    expires_s: u64,
    /// How long that was when it was opened here.
    lasts: Duration,
    client: OnceLock<Arc<LegacyClient>>,
    /// Of this object, not of the handle: a session that was forgotten and comes back is another one to runtimes.
    life: SessionLife,
    principal: Principal,
    view: Box<str>,
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
    questions: HashMap<u64, ClientAnswer>,
    /// Of the last question.
    asked: u64,
}

/// What a handle says. `id` stands in it twice over as a nonce would: it makes handles differ.
#[derive(Serialize, Deserialize)]
struct Sealed {
    id: u128,
    expires_s: u64,
    revision: String,
    capabilities: Box<RawValue>,
    info: Box<RawValue>,
}

/// All sessions of a gateway.
#[derive(Debug)]
pub struct Sessions {
    seal: ArcSwap<Seal>,
    open: DashMap<Box<str>, Arc<Session>>,
    ended: Mutex<Ended>,
    store: Arc<Store>,
    sessions_max: usize,
    idle: Duration,
    ttl: Duration,
    gauge: Gauge,
    metrics: Metrics,
}

impl Session {
    /// The session of a duplex stream.
    #[must_use]
    pub fn of_stream(principal: Principal) -> Arc<Self> {
        Arc::new(Self::new(rand::random(), u64::MAX, principal, "", None))
    }

    fn new(id: u128, expires_s: u64, principal: Principal, view: &str, store: Option<Arc<Store>>) -> Self {
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

    fn idle_for(&self) -> Duration {
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

    /// Notes a question to the client and gives the id of the request that asks it; `None` when too many are open.
    pub(super) fn ask(&self, answer: ClientAnswer) -> Option<u64> {
        let mut in_flight = self.in_flight.lock();
        // Of calls that have ended nobody waits for an answer.
        in_flight.questions.retain(|_, answer| !answer.is_closed());
        if in_flight.questions.len() >= QUESTIONS_MAX {
            return None;
        }
        in_flight.asked += 1;
        let id = in_flight.asked;
        in_flight.questions.insert(id, answer);
        Some(id)
    }

    /// The client's answer to the question with that raw id: a raw result, or a raw error object. One that nobody waits for is
    /// thrown away.
    pub(super) fn answered(&self, id: &str, answer: &Result<Bytes, Bytes>) {
        let question = id.parse().ok().and_then(|id: u64| self.in_flight.lock().questions.remove(&id));
        question.into_iter().for_each(|question| drop(question.send(answer.clone())));
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

    fn is_busy(&self) -> bool {
        let in_flight = self.in_flight.lock();
        !in_flight.calls.is_empty() || in_flight.stream.as_ref().is_some_and(|stream| !stream.is_cancelled())
    }
}

impl From<Shut> for SessionError {
    fn from(shut: Shut) -> Self {
        match shut {
            Shut::Unknown => Self::Unknown,
            Shut::Foreign => Self::Foreign,
        }
    }
}

impl SessionError {
    /// The HTTP status: 404 tells a client to initialize again (2025-11-25, session management); with a good handle it has to come back
    /// later.
    #[must_use]
    pub const fn status(&self) -> u16 {
        if matches!(self, Self::Full { .. }) { 503 } else { 404 }
    }

    /// Seconds after which to come back.
    #[must_use]
    pub const fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Full { retry_after } => Some(retry_after.as_secs()),
            Self::Unknown | Self::Ended | Self::Foreign => None,
        }
    }
}

impl Sessions {
    /// No sessions yet.
    ///
    /// # Errors
    /// [`SealError`] when a configured key cannot be used.
    pub fn new(config: &Http, metrics: &Metrics) -> Result<Self, SealError> {
        Ok(Self {
            seal: ArcSwap::from_pointee(Seal::new(config)?),
            open: DashMap::new(),
            ended: Mutex::new(Ended::new()),
            store: Arc::new(Store::new(config.session_replay_bytes_max, config.stream_time_max, metrics.replay().clone())),
            sessions_max: config.sessions_max.get(),
            idle: config.session_idle,
            ttl: config.session_ttl,
            gauge: metrics.sessions().clone(),
            metrics: metrics.clone(),
        })
    }

    /// Whether handles outlive the process.
    #[must_use]
    pub fn handles_are_ephemeral(&self) -> bool {
        self.seal.load().is_ephemeral()
    }

    /// What seals now.
    pub(super) fn seal(&self) -> Arc<Seal> {
        self.seal.load_full()
    }

    /// Seals with another key from now on; sessions that are open stay so.
    pub fn replace_seal(&self, seal: Seal) {
        self.seal.store(Arc::new(seal));
    }

    /// Opens a session and gives its handle.
    ///
    /// # Errors
    /// [`SessionError::Full`].
    pub fn open(&self, client: Arc<LegacyClient>, principal: &Principal, view: &str) -> Result<String, SessionError> {
        self.make_room()?;
        let (id, expires_s) = (rand::random(), now_s() + self.ttl.as_secs());
        let raw = |bytes: &Bytes| RawValue::from_string(String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
        let sealed = Sealed {
            id,
            expires_s,
            revision: client.revision.to_owned(),
            capabilities: raw(&client.capabilities),
            info: raw(&client.info),
        };
        let plain = serde_json::to_vec(&sealed).expect("strings and numbers always serialize");
        let handle = self.seal.load().seal_for(&plain, PURPOSE, &[principal.as_str(), view]);
        let session = self.session(id, expires_s, principal, view);
        session.initialize(client);
        self.keep(&handle, session);
        Ok(handle)
    }

    /// The session of a handle, for its own client and view only.
    ///
    /// # Errors
    /// [`SessionError`] otherwise.
    pub fn find(&self, handle: &str, principal: &Principal, view: &str) -> Result<Arc<Session>, SessionError> {
        if let Some(session) = self.open.get(handle).map(|session| Arc::clone(&session)) {
            if session.principal != *principal || &*session.view != view {
                self.metrics.session_refused("foreign");
                return Err(SessionError::Foreign);
            }
            if session.touch() {
                return Ok(session);
            }
            session.end();
            self.forget(handle);
            self.metrics.session_refused("unknown");
            return Err(SessionError::Unknown);
        }
        self.read(handle, principal, view).inspect_err(|error| {
            self.metrics.session_refused(match error {
                SessionError::Unknown => "unknown",
                SessionError::Ended => "ended",
                SessionError::Foreign => "foreign",
                // Counted where room was looked for.
                SessionError::Full { .. } => return,
            });
        })
    }

    /// Ends a session: its calls are cancelled and its handle is refused from now on.
    ///
    /// # Errors
    /// As [`Sessions::find`].
    pub fn end(&self, handle: &str, principal: &Principal, view: &str) -> Result<(), SessionError> {
        let session = self.find(handle, principal, view)?;
        self.ended.lock().add(session.id, session.expires_s, now_s());
        session.end();
        self.forget(handle);
        Ok(())
    }

    /// Forgets what nobody used for long; their handles stay good.
    pub fn sweep(&self) {
        self.open.retain(|_, session| {
            // A stream or a call that goes on and on must not keep it beyond its time.
            let is_over = session.epoch.elapsed() >= session.lasts;
            if is_over {
                session.end();
            }
            let stays = !is_over && (session.is_busy() || session.idle_for() <= self.idle);
            if !stays {
                self.gauge.dec();
            }
            stays
        });
        self.ended.lock().sweep(now_s());
        self.store.sweep();
    }

    /// Cancels every call of every session.
    pub fn cancel_all(&self) {
        for session in &self.open {
            session.end();
        }
    }

    /// How long a session may be idle before its memory is given up.
    #[must_use]
    pub const fn idle(&self) -> Duration {
        self.idle
    }

    /// A handle from before a sweep, a restart, or from another replica.
    fn read(&self, handle: &str, principal: &Principal, view: &str) -> Result<Arc<Session>, SessionError> {
        if handle.len() > HANDLE_BYTES_MAX {
            return Err(SessionError::Unknown);
        }
        let plain = self.seal.load().open_for(handle, PURPOSE, &[principal.as_str(), view])?;
        let sealed: Sealed = serde_json::from_slice(&plain).map_err(|_| SessionError::Unknown)?;
        let revision = revision::legacy(&sealed.revision).filter(|_| sealed.expires_s > now_s());
        let revision = revision.ok_or(SessionError::Unknown)?;
        if self.ended.lock().has(sealed.id, sealed.expires_s) {
            return Err(SessionError::Ended);
        }
        self.make_room()?;
        let session = self.session(sealed.id, sealed.expires_s, principal, view);
        let bytes = |raw: Box<RawValue>| Bytes::from(String::from(Box::<str>::from(raw)));
        session.initialize(Arc::new(LegacyClient {
            revision,
            declared: declared(sealed.capabilities.get()),
            capabilities: bytes(sealed.capabilities),
            info: bytes(sealed.info),
        }));
        Ok(self.keep(handle, session))
    }

    fn session(&self, id: u128, expires_s: u64, principal: &Principal, view: &str) -> Session {
        Session::new(id, expires_s, principal.clone(), view, Some(Arc::clone(&self.store)))
    }

    fn keep(&self, handle: &str, session: Session) -> Arc<Session> {
        // Two requests may bring one handle back at the same time: they must end up in one session.
        let kept = self.open.entry(handle.into()).or_insert_with(|| {
            self.gauge.inc();
            Arc::new(session)
        });
        Arc::clone(&kept)
    }

    /// A session that has no call in flight can be forgotten: its handle says all that is needed to go on.
    fn make_room(&self) -> Result<(), SessionError> {
        if self.open.len() < self.sessions_max {
            return Ok(());
        }
        // Whoever holds a session is about to begin a call in it.
        let is_idle = |session: &Arc<Session>| !session.is_busy() && Arc::strong_count(session) == 1;
        let idle = self.open.iter().filter(|session| is_idle(session)).take(EVICTION_SAMPLE);
        let oldest = idle.max_by_key(|session| session.idle_for()).map(|session| session.key().clone());
        match oldest {
            Some(handle) => self.forget(&handle),
            None => {
                self.metrics.session_refused("full");
                return Err(SessionError::Full { retry_after: Duration::from_secs(30) });
            }
        }
        Ok(())
    }

    fn forget(&self, handle: &str) {
        if self.open.remove(handle).is_some() {
            self.gauge.dec();
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Handles outlive processes, so their time is that of the wall clock.
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use runtime_api::{Interest, Party};

    use super::*;

    fn client() -> Arc<LegacyClient> {
        Arc::new(LegacyClient {
            revision: revision::LATEST_LEGACY,
            capabilities: Bytes::from_static(br#"{"roots":{}}"#),
            info: Bytes::from_static(br#"{"name":"c","version":"1"}"#),
            declared: declared(r#"{"roots":{}}"#),
        })
    }

    fn sessions(sessions_max: usize) -> Sessions {
        let sessions_max = sessions_max.try_into().expect("not zero");
        Sessions::new(&Http { sessions_max, ..Http::default() }, &Metrics::new(None)).expect("an ephemeral key")
    }

    fn alice() -> Principal {
        Principal("alice".into())
    }

    #[tokio::test]
    async fn a_handle_is_good_for_its_own_client_and_view_only() {
        let sessions = sessions(10);
        let handle = sessions.open(client(), &alice(), "up").expect("room");

        assert!(sessions.find(&handle, &alice(), "up").is_ok());
        assert_eq!(sessions.find(&handle, &Principal("bob".into()), "up").err(), Some(SessionError::Foreign));
        assert_eq!(sessions.find(&handle, &alice(), "").err(), Some(SessionError::Foreign));
        assert_eq!(sessions.find("forged", &alice(), "up").err(), Some(SessionError::Unknown));
    }

    #[tokio::test]
    async fn a_handle_of_another_is_known_as_one_also_when_its_session_is_forgotten_or_ended() {
        let sessions = sessions(10);
        let handle = sessions.open(client(), &alice(), "up").expect("room");
        let others_are_refused = |sessions: &Sessions| {
            let by_bob = sessions.find(&handle, &Principal("bob".into()), "up").err();
            assert_eq!(
                [by_bob, sessions.find(&handle, &alice(), "").err()],
                [Some(SessionError::Foreign), Some(SessionError::Foreign)]
            );
        };

        sessions.forget(&handle);
        others_are_refused(&sessions);
        sessions.end(&handle, &alice(), "up").expect("its owner ends it");
        others_are_refused(&sessions);

        assert_eq!(sessions.find(&handle, &alice(), "up").err(), Some(SessionError::Ended));
        assert_eq!(SessionError::Foreign.to_string(), SessionError::Unknown.to_string());
    }

    #[tokio::test]
    async fn a_forgotten_session_comes_back_by_its_handle() {
        let sessions = sessions(1);
        let first = sessions.open(client(), &alice(), "").expect("room");
        sessions.open(client(), &alice(), "").expect("the idle one gives way");
        assert_eq!(sessions.open.len(), 1);

        let found = sessions.find(&first, &alice(), "").expect("the handle says all");

        assert_eq!(found.client().expect("initialized").capabilities, client().capabilities);
        assert_eq!(sessions.gauge.get(), 1);
    }

    #[tokio::test]
    async fn an_ended_session_stays_ended_and_its_calls_are_cancelled() {
        let sessions = sessions(10);
        let handle = sessions.open(client(), &alice(), "").expect("room");
        let call = sessions.find(&handle, &alice(), "").expect("open").enter("1");

        sessions.end(&handle, &alice(), "").expect("open");

        assert!(call.is_cancelled());
        assert_eq!(sessions.find(&handle, &alice(), "").err(), Some(SessionError::Ended));
        assert_eq!(sessions.gauge.get(), 0);
    }

    #[tokio::test]
    async fn only_idle_sessions_give_way() {
        let sessions = sessions(1);
        let handle = sessions.open(client(), &alice(), "").expect("room");
        let session = sessions.find(&handle, &alice(), "").expect("open");
        let _call = session.enter("1");

        assert!(matches!(sessions.open(client(), &alice(), ""), Err(SessionError::Full { .. })));

        session.leave("1");
        drop(session);
        assert!(sessions.open(client(), &alice(), "").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn idle_sessions_are_swept() {
        let sessions = sessions(10);
        sessions.open(client(), &alice(), "").expect("room");
        tokio::time::advance(sessions.idle() + Duration::from_secs(1)).await;

        sessions.sweep();

        assert_eq!(sessions.gauge.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_ends_a_session_whose_time_is_up_though_somebody_listens_in_it() {
        let sessions = sessions(10);
        let handle = sessions.open(client(), &alice(), "").expect("room");
        let stream = sessions.find(&handle, &alice(), "").expect("open").listen();
        tokio::time::advance(sessions.ttl).await;

        sessions.sweep();

        assert!(stream.is_cancelled());
        assert_eq!(sessions.gauge.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_at_its_time_however_much_it_is_used() {
        let sessions = sessions(10);
        let handle = sessions.open(client(), &alice(), "").expect("room");
        let call = sessions.find(&handle, &alice(), "").expect("open").enter("1");
        tokio::time::advance(sessions.ttl / 2).await;
        assert!(sessions.find(&handle, &alice(), "").is_ok());

        tokio::time::advance(sessions.ttl / 2).await;

        assert_eq!(sessions.find(&handle, &alice(), "").err(), Some(SessionError::Unknown));
        assert!(call.is_cancelled());
        assert_eq!(sessions.gauge.get(), 0);
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
        let sessions = sessions(10);
        let handle = sessions.open(client(), &alice(), "").expect("room");
        let session = sessions.find(&handle, &alice(), "").expect("open");

        assert!(session.kept.get().is_none());
        assert!(session.kept().is_some());
        assert!(Session::of_stream(alice()).kept().is_none(), "a stream of its own cannot be taken up");
    }
}
