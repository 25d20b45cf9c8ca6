//! All legacy sessions, and the handles by which clients come back to them.
//!
//! A handle is sealed and says everything of its session, so that any replica with the same key can serve it. What is kept
//! here beside it is only what the process needs to work: the calls in flight, and which handles were ended.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use dashmap::DashMap;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use runtime_api::{LegacyClient, Principal};
use runtime_mcp::client::declared;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;
use twinway_proto::revision;

use super::{Seal, SealError, Session, ended::Ended, replay::Store, seal::Shut, session::now_s};
use crate::{config::Http, telemetry::Metrics};

/// What a handle is sealed for.
const PURPOSE: &str = "session";

/// Longest handle that is looked at: two client parts of 1 KiB, in base64, with room.
const HANDLE_BYTES_MAX: usize = 4096;

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
            let is_over = session.is_over();
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

#[cfg(test)]
mod tests {
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
}
