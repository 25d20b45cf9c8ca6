//! Keeps the results of read-only tools for a while, and gives them to the same caller for the same arguments.
//!
//! ```text
//! tool is not cached ---------------------------------> inner
//! call has no key (why is counted) -------------------> inner
//! hit -> the kept reply
//! miss -----------------------------------------------> inner -> a successful, complete reply is kept
//! ```
//!
//! Two equal calls at once are both made: whoever waited for another's call would end with that call's deadline and cancel.

mod key;
mod store;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use runtime_api::{CallError, Reply};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, util::Oneshot};

use crate::{
    catalog::Entry,
    config,
    pipeline::{Answered, Routed},
    telemetry::{Metrics, metrics::CacheMetrics},
};
pub use key::Definition;
use key::Key;
use store::{Answer, Store};

/// How a tool's results are kept. Resolved when its route is built; a tool whose results are not kept has none.
#[derive(Debug, Clone)]
pub struct Caching {
    /// How long a result is good.
    pub ttl: Duration,
    /// Of each candidate, in their order.
    pub definitions: Arc<[Arc<Definition>]>,
    /// What one session was answered is for no other.
    pub per_session: bool,
}

/// What the cache did for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheUse {
    /// The reply was kept from an earlier call.
    Hit,
    /// There was none.
    Miss,
    /// The call cannot be told from others with certainty; the reason has a name.
    Bypass(&'static str),
}

impl std::fmt::Display for CacheUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hit => f.write_str("hit"),
            Self::Miss => f.write_str("miss"),
            Self::Bypass(reason) => write!(f, "bypass: {reason}"),
        }
    }
}

/// Kept results. Cheap to clone; all clones share them.
#[derive(Debug, Clone)]
pub struct Cache {
    store: Arc<Store>,
    metrics: CacheMetrics,
}

impl Cache {
    /// An empty one.
    #[must_use]
    pub fn new(bounds: &config::Cache, metrics: &Metrics) -> Self {
        let metrics = metrics.cache();
        Self { store: Arc::new(Store::new(bounds, metrics.clone())), metrics }
    }

    /// Gives up what is expired, and what belongs to definitions that are not offered any more.
    pub fn sweep(&self) {
        self.store.sweep(Instant::now());
    }

    fn look_up(&self, caching: &Caching, routed: &Routed) -> Found {
        let definitions = caching.definitions.iter().map(|definition| &**definition);
        match key::of(definitions, &routed.call, caching.per_session) {
            Err(bypass) => {
                self.metrics.bypassed(bypass.as_str());
                Found::Bypass(bypass.as_str())
            }
            Ok(key) => match self.store.get(&key, Instant::now()) {
                Some(answer) => {
                    self.metrics.hit();
                    Found::Hit(answer)
                }
                None => {
                    self.metrics.missed();
                    Found::Miss(key)
                }
            },
        }
    }

    fn keep(&self, key: Key, entry: &Entry, answered: &Answered) {
        let Some(caching) = entry.caching.as_ref().filter(|_| is_final(&answered.reply)) else { return };
        let Some(definition) = caching.definitions.first() else { return };
        let answer = Answer { reply: answered.reply.clone(), taken: answered.taken.clone() };
        self.store.keep(key, answer, Arc::downgrade(definition), caching.ttl, Instant::now());
    }
}

enum Found {
    Hit(Answer),
    Miss(Key),
    Bypass(&'static str),
}

/// A success that will not change: neither an error nor a question back.
fn is_final(reply: &Reply) -> bool {
    let complete = reply.result_type.clone().is_none_or(|range| &reply.result[range] == b"\"complete\"");
    !reply.is_error && complete
}

/// Lays [`Cached`] over a service.
#[derive(Debug, Clone)]
pub struct CacheLayer {
    cache: Cache,
}

impl CacheLayer {
    /// All services of this layer share the cache.
    #[must_use]
    pub const fn new(cache: Cache) -> Self {
        Self { cache }
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = Cached<S>;

    fn layer(&self, inner: S) -> Cached<S> {
        Cached { inner, cache: self.cache.clone() }
    }
}

/// Answers from the cache where it may.
#[derive(Debug, Clone)]
pub struct Cached<S> {
    inner: S,
    cache: Cache,
}

impl<S> Service<Routed> for Cached<S>
where
    S: Service<Routed, Response = Answered, Error = CallError> + Clone,
{
    type Response = Answered;
    type Error = CallError;
    type Future = Looking<S>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, routed: Routed) -> Self::Future {
        let Some(caching) = &routed.entry.caching else {
            return Looking::Asking { answer: self.inner.clone().oneshot(routed), after: None };
        };
        let after = match self.cache.look_up(caching, &routed) {
            Found::Hit(Answer { reply, taken }) => {
                let answered = Answered { reply, taken, hop: Duration::ZERO, cache: Some(CacheUse::Hit), attempts: Vec::new() };
                return Looking::Found { answered: Some(answered) };
            }
            Found::Miss(key) => After::Keep { key, entry: Arc::clone(&routed.entry), cache: self.cache.clone() },
            Found::Bypass(reason) => After::Say(reason),
        };
        Looking::Asking { answer: self.inner.clone().oneshot(routed), after: Some(Box::new(after)) }
    }
}

/// What becomes of an answer. In a box, so that calls of other tools do not carry room for it.
enum After {
    Keep { key: Key, entry: Arc<Entry>, cache: Cache },
    Say(&'static str),
}

impl After {
    fn finish(self, answered: &mut Answered) {
        answered.cache = Some(match self {
            Self::Keep { key, entry, cache } => {
                cache.keep(key, &entry, answered);
                CacheUse::Miss
            }
            Self::Say(reason) => CacheUse::Bypass(reason),
        });
    }
}

pin_project! {
    /// A call that may be answered already.
    #[project = LookingState]
    pub enum Looking<S: Service<Routed>> {
        /// It is.
        Found { answered: Option<Answered> },
        /// It is not.
        Asking { #[pin] answer: Oneshot<S, Routed>, after: Option<Box<After>> },
    }
}

impl<S> Future for Looking<S>
where
    S: Service<Routed, Response = Answered, Error = CallError>,
{
    type Output = Result<Answered, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            LookingState::Found { answered } => {
                Poll::Ready(Ok(answered.take().expect("a future is not polled after it is done")))
            }
            LookingState::Asking { answer, after } => {
                let mut answered = ready!(answer.poll(cx));
                if let (Ok(answered), Some(after)) = (&mut answered, after.take()) {
                    after.finish(answered);
                }
                Poll::Ready(answered)
            }
        }
    }
}

impl<S: Service<Routed>> std::fmt::Debug for Looking<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Found { .. } => "Found",
            Self::Asking { .. } => "Asking",
        })
    }
}
