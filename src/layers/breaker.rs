//! Leaves a target alone that cannot be reached, and lets a single call find out whether it is back.
//!
//! ```text
//!            N failures in a row                     the wait is over, one call goes
//!   Closed ─────────────────────► Open ──────────────────────────────────► Probing
//!     ▲                            ▲  ▲      it failed too: another wait      │ │
//!     │                            │  └───────────────────────────────────────┘ │
//!     │                            └── it ended without saying anything ────────┤  (the next call may try at once)
//!     └──────────────────────────────── the target was reached ─────────────────┘
//! ```
//!
//! Only what says that the target could not be reached is a failure. A target that answers, with whatever error, is there.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::future::Either;
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use runtime_api::{CallError, Delivery, ErrorCode, Origin, TargetId};
use std::future::{Ready, ready as at_once};
use thiserror::Error;
use tokio::time::Instant;
use tower::{Layer, Service};
use tracing::{info, warn};

use crate::{config, pipeline::Routed, telemetry::metrics::BreakerMetrics};

/// The target is left alone. The call was not sent.
#[derive(Debug, Clone, Error)]
#[error("`{target}` could not be reached {failures} times in a row and is left alone; it is tried again in {}", humantime::format_duration(*tried_in))]
pub struct BreakerOpen {
    target: TargetId,
    failures: u32,
    tried_in: Duration,
}

impl From<BreakerOpen> for CallError {
    fn from(open: BreakerOpen) -> Self {
        Self::runtime(ErrorCode::Unavailable, Delivery::NotSent, open.to_string()).with_retry_after(open.tried_in)
    }
}

/// Whether calls go to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// They do.
    Closed,
    /// One does, to find out; the others are refused.
    Probing,
    /// They are refused until then.
    Open {
        /// When one call may try again.
        until: Instant,
    },
}

impl BreakerState {
    /// `closed`, `probing` or `open`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Probing => "probing",
            Self::Open { .. } => "open",
        }
    }

    /// The value of the gauge.
    const fn level(self) -> i64 {
        match self {
            Self::Closed => 0,
            Self::Probing => 1,
            Self::Open { .. } => 2,
        }
    }
}

/// The breaker of one target.
#[derive(Debug)]
pub struct Breaker {
    target: TargetId,
    failures_max: u32,
    wait: Duration,
    /// Failures in a row.
    failures: AtomicU32,
    /// What a call looks at first. While it is false, `state` is not looked at.
    tripped: AtomicBool,
    state: Mutex<BreakerState>,
    metrics: BreakerMetrics,
}

/// What the end of a call says of its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Reached,
    NotReached,
    /// It did not come so far.
    Unknown,
}

impl Breaker {
    /// A closed one.
    #[must_use]
    pub fn new(target: TargetId, settings: &config::Breaker, metrics: BreakerMetrics) -> Self {
        Self {
            target,
            failures_max: settings.failures,
            wait: settings.wait,
            failures: AtomicU32::new(0),
            tripped: AtomicBool::new(false),
            state: Mutex::new(BreakerState::Closed),
            metrics,
        }
    }

    /// Where it is on the picture above.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        *self.state.lock()
    }

    /// Whether a call would be let through now, if only to find out.
    #[must_use]
    pub fn lets_through(&self) -> bool {
        if !self.tripped.load(Ordering::Acquire) {
            return true;
        }
        match self.state() {
            BreakerState::Closed => true,
            BreakerState::Probing => false,
            BreakerState::Open { until } => until <= Instant::now(),
        }
    }

    /// Lets a call through, or says when to come back.
    fn enter(self: &Arc<Self>) -> Result<Pass, BreakerOpen> {
        let pass = |probe| Pass { breaker: Some(Arc::clone(self)), probe };
        if !self.tripped.load(Ordering::Acquire) {
            return Ok(pass(false));
        }
        let mut state = self.state.lock();
        let now = Instant::now();
        let tried_in = match *state {
            BreakerState::Closed => return Ok(pass(false)),
            BreakerState::Open { until } if until <= now => {
                self.change(&mut state, BreakerState::Probing);
                return Ok(pass(true));
            }
            BreakerState::Open { until } => until - now,
            // Whoever probes has a deadline; the wait is as good a guess as any.
            BreakerState::Probing => self.wait,
        };
        self.metrics.refused.inc();
        // Shown in whole milliseconds.
        let tried_in = Duration::from_millis(u64::try_from(tried_in.as_millis()).unwrap_or(u64::MAX).max(1));
        Err(BreakerOpen { target: self.target.clone(), failures: self.failures.load(Ordering::Relaxed), tried_in })
    }

    fn end(&self, verdict: Verdict, probe: bool) {
        match verdict {
            // A warm call on a healthy target only reads here.
            Verdict::Reached if !probe => {
                if self.failures.load(Ordering::Relaxed) > 0 && !self.tripped.load(Ordering::Relaxed) {
                    self.failures.store(0, Ordering::Relaxed);
                }
            }
            Verdict::Reached => self.close(),
            Verdict::NotReached if !probe => {
                let failures = self.failures.fetch_add(1, Ordering::AcqRel).saturating_add(1);
                if failures >= self.failures_max {
                    self.open(failures);
                }
            }
            Verdict::NotReached => {
                self.failures.fetch_add(1, Ordering::AcqRel);
                let until = Instant::now() + self.wait;
                self.change(&mut self.state.lock(), BreakerState::Open { until });
            }
            Verdict::Unknown if probe => {
                self.change(&mut self.state.lock(), BreakerState::Open { until: Instant::now() });
            }
            Verdict::Unknown => {}
        }
    }

    fn open(&self, failures: u32) {
        let mut state = self.state.lock();
        // What was under way when it opened says nothing new, and must not prolong the wait.
        if *state != BreakerState::Closed {
            return;
        }
        self.change(&mut state, BreakerState::Open { until: Instant::now() + self.wait });
        self.tripped.store(true, Ordering::Release);
        self.metrics.opened.inc();
        warn!(target_name = %self.target, failures, wait = ?self.wait, "target cannot be reached and is left alone");
    }

    fn close(&self) {
        let mut state = self.state.lock();
        self.failures.store(0, Ordering::Relaxed);
        self.change(&mut state, BreakerState::Closed);
        self.tripped.store(false, Ordering::Release);
        info!(target_name = %self.target, "target is reached again");
    }

    fn change(&self, state: &mut BreakerState, new: BreakerState) {
        *state = new;
        self.metrics.state.set(new.level());
    }
}

/// A call that was let through. Dropped without an end, it says nothing of the target.
#[derive(Debug)]
struct Pass {
    breaker: Option<Arc<Breaker>>,
    probe: bool,
}

impl Pass {
    fn end(&mut self, verdict: Verdict) {
        if let Some(breaker) = self.breaker.take() {
            breaker.end(verdict, self.probe);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        // Only a probe has anything to give back.
        if self.probe {
            self.end(Verdict::Unknown);
        }
    }
}

fn verdict<T>(answered: &Result<T, CallError>) -> Verdict {
    let Err(error) = answered else { return Verdict::Reached };
    match (error.delivery(), error.code()) {
        (Delivery::Answered, _) => Verdict::Reached,
        // A gateway that is stopping says nothing of its targets.
        (_, ErrorCode::Unavailable | ErrorCode::Disconnected) if error.origin() == Origin::Runtime => Verdict::NotReached,
        _ => Verdict::Unknown,
    }
}

/// Lays [`Breaking`] over a service.
#[derive(Debug, Clone, Copy)]
pub struct BreakerLayer;

impl<S> Layer<S> for BreakerLayer {
    type Service = Breaking<S>;

    fn layer(&self, inner: S) -> Breaking<S> {
        Breaking { inner }
    }
}

/// Asks the breaker of the candidate before each call, and tells it how the call ended.
#[derive(Debug, Clone)]
pub struct Breaking<S> {
    inner: S,
}

impl<S> Service<Routed> for Breaking<S>
where
    S: Service<Routed, Error = CallError>,
{
    type Response = S::Response;
    type Error = CallError;
    type Future = Either<Watched<S::Future>, Ready<Result<S::Response, CallError>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, routed: Routed) -> Self::Future {
        let entered = routed.candidate().guard.breaker.as_ref().map(Breaker::enter).transpose();
        match entered {
            Ok(pass) => Either::Left(Watched { answer: self.inner.call(routed), pass }),
            Err(open) => Either::Right(at_once(Err(open.into()))),
        }
    }
}

pin_project! {
    /// A call whose end the breaker is told.
    #[derive(Debug)]
    pub struct Watched<F> {
        #[pin]
        answer: F,
        pass: Option<Pass>,
    }
}

impl<F, T> Future for Watched<F>
where
    F: Future<Output = Result<T, CallError>>,
{
    type Output = Result<T, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let watched = self.project();
        let answered = ready!(watched.answer.poll(cx));
        if let Some(pass) = watched.pass {
            pass.end(verdict(&answered));
        }
        Poll::Ready(answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    const WAIT: Duration = Duration::from_secs(5);

    fn breaker(failures: u32) -> Arc<Breaker> {
        let metrics = Metrics::new(None).breaker("http", "up");
        Arc::new(Breaker::new("up".into(), &config::Breaker { failures, wait: WAIT }, metrics))
    }

    fn fail(breaker: &Arc<Breaker>, times: u32) {
        for _ in 0..times {
            breaker.enter().expect("it lets through").end(Verdict::NotReached);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_so_many_failures_in_a_row_and_says_when_it_tries_again() {
        let breaker = breaker(3);
        fail(&breaker, 2);
        breaker.enter().expect("closed").end(Verdict::Reached);
        fail(&breaker, 2);
        assert_eq!(breaker.state(), BreakerState::Closed, "not in a row");

        fail(&breaker, 1);

        let refused = breaker.enter().expect_err("it is open");
        let expected = "`up` could not be reached 3 times in a row and is left alone; it is tried again in 5s";
        assert_eq!(refused.to_string(), expected);
        let error = CallError::from(refused);
        assert_eq!(
            (error.code(), error.delivery(), error.retry_after()),
            (ErrorCode::Unavailable, Delivery::NotSent, Some(WAIT))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_finds_out_while_the_others_are_refused() {
        let breaker = breaker(1);
        fail(&breaker, 1);
        assert!(!breaker.lets_through());
        tokio::time::advance(WAIT).await;
        assert!(breaker.lets_through());

        let mut probe = breaker.enter().expect("the wait is over");
        assert!(breaker.enter().is_err(), "one finds out");
        probe.end(Verdict::NotReached);
        assert!(breaker.enter().is_err(), "another wait");
        tokio::time::advance(WAIT).await;
        breaker.enter().expect("the wait is over").end(Verdict::Reached);

        assert_eq!(breaker.state(), BreakerState::Closed);
        assert!(breaker.enter().is_ok() && breaker.enter().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_ends_without_a_word_does_not_keep_the_others_out() {
        let breaker = breaker(1);
        fail(&breaker, 1);
        tokio::time::advance(WAIT).await;

        drop(breaker.enter().expect("the wait is over"));

        assert!(breaker.enter().expect("the next one finds out").probe);
    }

    #[test]
    fn only_a_target_that_was_not_reached_counts() {
        use Delivery::{Answered, NotSent, Unknown};
        let runtime = |code, delivery| Err::<(), _>(CallError::runtime(code, delivery, ""));
        let cases = [
            (Ok(()), Verdict::Reached),
            (runtime(ErrorCode::Upstream, Answered), Verdict::Reached),
            (runtime(ErrorCode::Overloaded, Answered), Verdict::Reached),
            (runtime(ErrorCode::Unavailable, NotSent), Verdict::NotReached),
            (runtime(ErrorCode::Disconnected, Unknown), Verdict::NotReached),
            (runtime(ErrorCode::Overloaded, NotSent), Verdict::Unknown),
            (runtime(ErrorCode::DeadlineExceeded, Unknown), Verdict::Unknown),
            (Err(CallError::gateway(ErrorCode::Unavailable, "stopping")), Verdict::Unknown),
        ];
        for (answered, expected) in cases {
            assert_eq!(verdict(&answered), expected, "{answered:?}");
        }
    }
}
