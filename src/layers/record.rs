//! Counts and times every call, whatever becomes of it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use runtime_api::{CallError, ErrorCode};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, util::Oneshot};
use tracing::{Instrument, Span, debug, instrument::Instrumented};

use crate::{
    catalog::Entry,
    pipeline::{Answered, Routed, Taken},
    router::Candidate,
    telemetry::{
        RouteMetrics,
        metrics::{InFlight, Outcome},
        span,
    },
};

/// Lays [`Record`] over a service.
#[derive(Debug, Clone, Copy)]
pub struct RecordLayer;

impl<S> Layer<S> for RecordLayer {
    type Service = Record<S>;

    fn layer(&self, inner: S) -> Record<S> {
        Record { inner }
    }
}

/// Counts and times every call.
#[derive(Debug, Clone)]
pub struct Record<S> {
    inner: S,
}

impl<S> Service<Routed> for Record<S>
where
    S: Service<Routed, Response = Answered, Error = CallError> + Clone,
{
    type Response = Answered;
    type Error = CallError;
    type Future = Recorded<Instrumented<Oneshot<S, Routed>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, routed: Routed) -> Self::Future {
        let seen = Seen::new(&routed);
        let span = routed.span.clone();
        Recorded { answer: self.inner.clone().oneshot(routed).instrument(span), seen }
    }
}

pin_project! {
    /// A call that is counted when it ends.
    pub struct Recorded<F> {
        #[pin]
        answer: F,
        seen: Seen,
    }
}

impl<F: Future<Output = Result<Answered, CallError>>> Future for Recorded<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let recorded = self.project();
        let answered = ready!(recorded.answer.poll(cx));
        recorded.seen.end(&answered);
        Poll::Ready(answered)
    }
}

impl<F> std::fmt::Debug for Recorded<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorded").field("ended", &self.seen.ended).finish_non_exhaustive()
    }
}

/// A call in progress; dropped before its end it counts as cancelled.
struct Seen {
    entry: Arc<Entry>,
    span: Span,
    began: Instant,
    ended: bool,
    _in_flight: InFlight,
}

impl Seen {
    fn new(routed: &Routed) -> Self {
        let entry = Arc::clone(&routed.entry);
        if let Some(decisions) = &routed.entry.decisions {
            decisions.inc();
        }
        let in_flight = entry.chosen().metrics.enter();
        Self { entry, span: routed.span.clone(), began: Instant::now(), ended: false, _in_flight: in_flight }
    }

    fn end(&mut self, answered: &Result<Answered, CallError>) {
        self.ended = true;
        let outcome = match answered {
            Ok(answered) if answered.reply.is_error => Outcome::ToolError,
            Ok(_) => Outcome::Ok,
            Err(error) => {
                self.entry.chosen().metrics.failed(error.delivery());
                debug!(error = error as &dyn std::error::Error, delivery = error.delivery().as_str(), "a call got no reply");
                Outcome::Failed(error.code())
            }
        };
        let metrics = match answered {
            Ok(answered) => self.metrics_of(&answered.taken),
            Err(_) => &self.entry.chosen().metrics,
        };
        self.record(metrics, outcome);
    }

    /// The numbers of the target that answered. Where there is one candidate, nobody has to be looked for.
    fn metrics_of(&self, taken: &Taken) -> &Arc<RouteMetrics> {
        let candidates = &self.entry.candidates;
        let is_taken = |one: &&Candidate| one.target == taken.target && one.runtime == taken.runtime;
        let found = if candidates.len() > 1 { candidates.iter().find(is_taken) } else { None };
        &found.unwrap_or_else(|| self.entry.chosen()).metrics
    }

    fn record(&self, metrics: &RouteMetrics, outcome: Outcome) {
        metrics.record(outcome, self.began.elapsed());
        if outcome != Outcome::Ok {
            span::fail(&self.span, outcome.as_str());
        }
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        if !self.ended {
            self.record(&self.entry.chosen().metrics, Outcome::Failed(ErrorCode::Cancelled));
        }
    }
}
