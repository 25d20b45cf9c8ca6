//! Legacy sessions at one upstream: one for each principal and what its client takes, never shared between two principals.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dashmap::DashMap;
use http::{HeaderMap, HeaderValue};
use runtime_api::{Call, CallError, Declared, Era, ErrorCode, Principal};
use runtime_mcp::{
    client::{LogFloor, TASK_STATUS},
    handshake::ServerFacts,
};
use tokio::{sync::OnceCell, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};
use twinway_proto::{
    envelope::Notification,
    headers::{MCP_PROTOCOL_VERSION, MCP_SESSION_ID},
};

use super::questions::Asking;
use crate::{
    exchange::{Endpoint, events_headers},
    h1::RequestHead,
    site::Site,
};

/// Sessions at one upstream. Servers keep hundreds of kilobytes for each.
const SESSIONS_MAX: usize = 1024;

/// A session that nobody used for this long is ended. Most servers end theirs after half an hour.
const IDLE_MAX: Duration = Duration::from_secs(10 * 60);

/// Whose session it is. A server asks a session for what its client declared, so clients that declare different things have
/// different sessions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    pub(super) principal: Principal,
    pub(crate) declared: Declared,
}

impl Owner {
    /// Whoever makes this call.
    pub(crate) fn of(call: &Call) -> Self {
        Self { principal: call.principal.clone(), declared: call.caller.wants().requests }
    }

    /// The gateway, when it asks for itself. Some servers list only tools that need no more than their client declares, so it
    /// declares what any client may: what is listed is for all of them.
    pub(crate) fn gateway() -> Self {
        // No configured client can have a colon in its name.
        Self { principal: Principal("gateway:".into()), declared: Declared::ALL }
    }
}

/// What an upstream agreed on in `initialize`.
#[derive(Debug)]
pub(crate) struct Session {
    /// All headers of the session's requests.
    pub(crate) headers: HeaderMap,
    /// What its POST requests begin with.
    pub(crate) head: RequestHead,
    /// What the upstream told of itself.
    pub(crate) facts: ServerFacts,
    /// Its calls whose clients can be asked something.
    pub(super) asking: Asking,
    /// Whose calls are made in it.
    pub(super) principal: Principal,
    /// Cancelled when nobody has the session any more.
    given_up: DropGuard,
    /// From which level on log lines are sent.
    pub(super) log_floor: LogFloor,
}

impl Session {
    /// `id` is what the upstream gave, if it gave one.
    pub(crate) fn new(endpoint: &Endpoint, id: Option<HeaderValue>, facts: ServerFacts, principal: Principal) -> Self {
        let mut headers = endpoint.headers.clone();
        headers.insert(MCP_PROTOCOL_VERSION, HeaderValue::from_static(facts.revision));
        if let Some(id) = id {
            headers.insert(MCP_SESSION_ID, id);
        }
        Self::with(endpoint.post_head(&headers), headers, facts, principal)
    }

    fn with(head: RequestHead, headers: HeaderMap, facts: ServerFacts, principal: Principal) -> Self {
        let (asking, given_up) = (Asking::default(), CancellationToken::new().drop_guard());
        Self { headers, head, facts, asking, principal, given_up, log_floor: LogFloor::default() }
    }

    /// Takes note of how a task stands, if that is what the server says in this session and nobody waits for it there.
    pub(super) fn told(&self, site: &Site, message: &Bytes, notification: &Notification<'_>) {
        let params = notification.params.as_ref().filter(|_| notification.method == TASK_STATUS);
        params.into_iter().for_each(|params| site.told(Era::Legacy, Some(&self.principal), &message[params.range.clone()]));
    }

    /// Cancelled when nobody has the session any more.
    pub(super) fn given_up(&self) -> CancellationToken {
        self.given_up.token().clone()
    }

    /// The headers of a GET that opens a stream of the session.
    pub(crate) fn listening_headers(&self) -> HeaderMap {
        events_headers(&self.headers)
    }

    /// Whether the upstream keeps anything that has to be ended.
    pub(crate) fn has_id(&self) -> bool {
        self.headers.contains_key(MCP_SESSION_ID)
    }
}

/// The sessions of one upstream; what a session is depends on what carries it.
#[derive(Debug)]
pub(crate) struct Sessions<S> {
    slots: DashMap<Owner, Arc<Slot<S>>>,
    epoch: Instant,
}

#[derive(Debug)]
struct Slot<S> {
    session: OnceCell<Arc<S>>,
    /// Milliseconds after the epoch.
    used_ms: AtomicU64,
}

impl<S> Sessions<S> {
    pub(crate) fn new() -> Self {
        Self { slots: DashMap::new(), epoch: Instant::now() }
    }

    /// The owner's session. Opened once, however many calls wait for it.
    ///
    /// Cancel-safe: when the call that opens it is dropped, the next one opens it.
    pub(crate) async fn get<F, E>(&self, owner: &Owner, open: impl FnOnce() -> F) -> Result<Arc<S>, E>
    where
        F: Future<Output = Result<Arc<S>, E>>,
        E: From<CallError>,
    {
        let slot = self.slot(owner)?;
        slot.used_ms.store(self.now_ms(), Ordering::Relaxed);
        let session = slot.session.get_or_try_init(open).await?;
        Ok(Arc::clone(session))
    }

    /// Forgets a session that the upstream does not know any more, unless it was replaced already.
    pub(crate) fn forget(&self, owner: &Owner, expired: &Arc<S>) {
        self.slots.remove_if(owner, |_, slot| slot.session.get().is_some_and(|session| Arc::ptr_eq(session, expired)));
    }

    /// Takes out the sessions that nobody used lately, or all of them.
    pub(crate) fn take_idle(&self, all: bool) -> Vec<Arc<S>> {
        let oldest_ms = self.now_ms().saturating_sub(u64::try_from(IDLE_MAX.as_millis()).unwrap_or(u64::MAX));
        let mut taken = Vec::new();
        self.slots.retain(|_, slot| {
            // A call that runs for long holds its session.
            let busy = slot.session.get().is_some_and(|session| Arc::strong_count(session) > 1);
            let idle = all || (!busy && slot.used_ms.load(Ordering::Relaxed) < oldest_ms);
            if let (true, Some(session)) = (idle, slot.session.get()) {
                taken.push(Arc::clone(session));
            }
            !idle
        });
        taken
    }

    fn slot(&self, owner: &Owner) -> Result<Arc<Slot<S>>, CallError> {
        if let Some(slot) = self.slots.get(owner).map(|slot| Arc::clone(&slot)) {
            return Ok(slot);
        }
        if self.slots.len() >= SESSIONS_MAX {
            let message = format!("all {SESSIONS_MAX} sessions at this upstream are in use");
            return Err(CallError::gateway(ErrorCode::Overloaded, message).with_retry_after(IDLE_MAX));
        }
        let new = || Arc::new(Slot { session: OnceCell::new(), used_ms: AtomicU64::new(self.now_ms()) });
        Ok(Arc::clone(&self.slots.entry(owner.clone()).or_insert_with(new)))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn owner(name: &str) -> Owner {
        Owner { principal: Principal(name.into()), declared: Declared::NONE }
    }

    fn open(id: &'static str) -> std::future::Ready<Result<Arc<Session>, CallError>> {
        let facts = ServerFacts { revision: "2025-11-25", ..ServerFacts::default() };
        let headers = HeaderMap::from_iter([(MCP_SESSION_ID, HeaderValue::from_static(id))]);
        let head = RequestHead::new(&Method::POST, "/mcp", &headers);
        std::future::ready(Ok(Arc::new(Session::with(head, headers, facts, Principal::anonymous()))))
    }

    #[tokio::test]
    async fn two_principals_never_share_a_session() {
        let sessions = Sessions::new();

        let a = sessions.get(&owner("a"), || open("1")).await.expect("opens");
        let b = sessions.get(&owner("b"), || open("2")).await.expect("opens");
        let again = sessions.get(&owner("a"), || open("3")).await.expect("is open");

        assert!(!Arc::ptr_eq(&a, &b));
        assert!(Arc::ptr_eq(&a, &again));
    }

    #[tokio::test]
    async fn clients_that_declare_different_things_have_different_sessions() {
        let sessions = Sessions::new();
        let asked = Owner { declared: Declared::ROOTS, ..owner("a") };

        let plain = sessions.get(&owner("a"), || open("1")).await.expect("opens");
        let with_roots = sessions.get(&asked, || open("2")).await.expect("opens");

        assert!(!Arc::ptr_eq(&plain, &with_roots));
    }

    #[tokio::test]
    async fn only_the_expired_session_is_forgotten() {
        let sessions = Sessions::new();
        let old = sessions.get(&owner("a"), || open("1")).await.expect("opens");
        sessions.forget(&owner("a"), &old);
        let new = sessions.get(&owner("a"), || open("2")).await.expect("opens");

        sessions.forget(&owner("a"), &old);

        let kept = sessions.get(&owner("a"), || open("3")).await.expect("is open");
        assert!(Arc::ptr_eq(&new, &kept));
    }

    #[tokio::test(start_paused = true)]
    async fn idle_sessions_are_given_up() {
        let sessions = Sessions::new();
        sessions.get(&owner("old"), || open("1")).await.expect("opens");
        tokio::time::advance(IDLE_MAX + Duration::from_secs(1)).await;
        sessions.get(&owner("new"), || open("2")).await.expect("opens");

        assert_eq!(sessions.take_idle(false).len(), 1);
        assert_eq!(sessions.take_idle(true).len(), 1);
    }
}
