//! Makes a failed call again where the delivery rule allows it: at once on another candidate, later by the tool's policy.
//!
//! Nothing that may have run is made again, unless the tool is read-only or idempotent. No try begins that would begin after
//! the deadline. Both kinds of repetition are counted, stand as hops in the trace, and are listed by `twinway/explain`.

mod budget;
mod wait;

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use pin_project_lite::pin_project;
use runtime_api::{CallError, Delivery};
use tokio::time::{Instant, sleep_until};
use tower::{Layer, Service, ServiceExt};
use tracing::debug;

pub use budget::Budget;

use crate::{
    config::Retry,
    pipeline::{Answered, Attempt, Routed},
    router::{Picked, Reason},
};

/// Lays [`Recover`] over a service.
#[derive(Debug, Clone, Copy)]
pub struct RecoverLayer;

impl<S> Layer<S> for RecoverLayer {
    type Service = Recover<S>;

    fn layer(&self, inner: S) -> Recover<S> {
        Recover { inner }
    }
}

/// Makes failed calls again where it may. A tool with one candidate and no retry policy goes straight through.
#[derive(Debug, Clone)]
pub struct Recover<S> {
    inner: S,
}

impl<S> Service<Routed> for Recover<S>
where
    S: Service<Routed, Response = Answered, Error = CallError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Answered;
    type Error = CallError;
    type Future = Recovering<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, routed: Routed) -> Self::Future {
        if !routed.entry.recovers() {
            return Recovering::Plain { answer: self.inner.call(routed) };
        }
        let tries = Tries { inner: self.inner.clone(), routed, made: Vec::new(), may_have_run: false };
        Recovering::Trying { answer: Box::pin(tries.run()) }
    }
}

/// One call and the tries it took so far.
struct Tries<S> {
    inner: S,
    routed: Routed,
    made: Vec<Attempt>,
    may_have_run: bool,
}

impl<S> Tries<S>
where
    S: Service<Routed, Response = Answered, Error = CallError> + Clone + Send + 'static,
    S::Future: Send,
{
    async fn run(mut self) -> Result<Answered, CallError> {
        let retry = self.routed.entry.metadata.retry.clone();
        let budget = &self.routed.entry.chosen().guard.clone().budget;
        if retry.is_some() {
            budget.deposit();
        }
        let mut rounds = 0;
        loop {
            let error = match self.round().await {
                Ok(answered) => return Ok(Answered { attempts: self.made, ..answered }),
                Err(error) => error,
            };
            rounds += 1;
            let next = retry.as_ref().and_then(|retry| self.next_round(retry, rounds, &error));
            let Some(at) = next.filter(|_| budget.withdraw()) else { return Err(self.give_up(error)) };
            self.routed.candidate().metrics.retried();
            debug!(tool = %self.routed.entry.public, round = rounds + 1, "a call that failed is made again");
            sleep_until(at).await;
        }
    }

    /// Asks one candidate after the other, until one replies or the next must not be asked.
    async fn round(&mut self) -> Result<Answered, CallError> {
        let mut tried = vec![false; self.routed.entry.candidates.len()];
        let mut last = None;
        while let Some(picked) = self.pick(&tried) {
            if last.is_some() {
                self.routed.candidate().metrics.fell_back();
                debug!(tool = %self.routed.entry.public, candidate = picked.place, "a call that failed is made elsewhere");
            }
            tried[picked.place] = true;
            self.go_to(picked, last.is_some());
            let began = Instant::now();
            let error = match self.inner.clone().oneshot(self.routed.clone()).await {
                Ok(answered) => {
                    self.routed.candidate().observe(began.elapsed());
                    return Ok(answered);
                }
                Err(error) => error,
            };
            self.note(&error);
            let may_go_on = self.may_repeat(&error) && Instant::now() < self.routed.call.deadline;
            last = Some(error);
            if !may_go_on {
                break;
            }
        }
        Err(last.expect("a tool has a candidate, and the first round asks it"))
    }

    fn pick(&self, tried: &[bool]) -> Option<Picked> {
        let entry = &self.routed.entry;
        match entry.route.as_ref().ok().and_then(|route| route.choice.as_ref()) {
            Some(choice) => choice.pick(&entry.candidates, tried),
            // Without a choice it is this place or none, and without a route the router says so.
            None => (!tried[self.routed.place]).then_some(Picked { place: self.routed.place, preferred: true }),
        }
    }

    fn go_to(&mut self, picked: Picked, failed_before: bool) {
        self.routed.place = picked.place;
        if picked.preferred && !failed_before {
            return;
        }
        self.routed.reason = Reason::Fallback;
        if !failed_before {
            // Nobody of those that are preferred is healthy: that is a fallback, too.
            self.routed.entry.chosen().metrics.fell_back();
        }
    }

    fn note(&mut self, error: &CallError) {
        let candidate = self.routed.candidate();
        let (runtime, target) = (candidate.runtime.clone(), candidate.target.clone());
        self.made.push(Attempt { runtime, target, code: error.code(), delivery: error.delivery() });
        self.may_have_run |= error.delivery() == Delivery::Unknown;
    }

    fn may_repeat(&self, error: &CallError) -> bool {
        error.may_retry(self.routed.entry.metadata.may_run_twice())
    }

    /// When the next round begins, if the rule, the policy and the deadline allow one.
    fn next_round(&self, retry: &Retry, rounds: u32, error: &CallError) -> Option<Instant> {
        if rounds >= retry.attempts || !self.may_repeat(error) {
            return None;
        }
        let wait = wait::before_round(retry, rounds, rand::random()).max(error.retry_after().unwrap_or_default());
        let at = Instant::now() + wait;
        (at < self.routed.call.deadline).then_some(at)
    }

    /// The last error, which must not say that nothing was sent when an earlier try may have run.
    fn give_up(&self, error: CallError) -> CallError {
        if self.may_have_run && error.delivery() == Delivery::NotSent { error.with_delivery(Delivery::Unknown) } else { error }
    }
}

pin_project! {
    /// A call that is made once, or as often as it takes. Only the latter pays for a box.
    #[project = RecoveringState]
    pub enum Recovering<F> {
        /// Once.
        Plain { #[pin] answer: F },
        /// As often as it takes and may.
        Trying { answer: BoxFuture<'static, Result<Answered, CallError>> },
    }
}

impl<F: Future<Output = Result<Answered, CallError>>> Future for Recovering<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            RecoveringState::Plain { answer } => answer.poll(cx),
            RecoveringState::Trying { answer } => answer.as_mut().poll(cx),
        }
    }
}

impl<F> std::fmt::Debug for Recovering<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain { .. } => "Plain",
            Self::Trying { .. } => "Trying",
        })
    }
}
