//! Metrics of one target, resolved when its route is built.

use std::{
    array,
    sync::{Arc, OnceLock},
    time::Duration,
};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};
use runtime_api::{Delivery, ErrorCode};

use super::{ByDelivery, ByOutcome, ByRoute, Families, Histograms, seat::Seat};

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With a result.
    Ok,
    /// With a result that says `isError`.
    ToolError,
    /// Without a reply.
    Failed(ErrorCode),
}

/// `Ok`, `ToolError`, and each error code.
const OUTCOMES: usize = 2 + ErrorCode::Internal as usize + 1;

impl Outcome {
    /// The value of the label, and of `error.type` where it is an error.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ToolError => "tool_error",
            Self::Failed(code) => code.row().name,
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Ok => 0,
            Self::ToolError => 1,
            Self::Failed(code) => 2 + code as usize,
        }
    }
}

/// The handles of one target, for tools of one category. Recording looks no label up, except for the first call with a new outcome.
#[derive(Debug)]
pub struct RouteMetrics {
    seat: Arc<Seat>,
    category: Box<str>,
    durations: Histograms,
    /// Made when first needed: most targets see two or three of the outcomes in their life.
    by_outcome: [OnceLock<Histogram>; OUTCOMES],
    in_flight: Gauge,
    failures: [Counter; 3],
    retries: Counter,
    fallbacks: Counter,
}

impl RouteMetrics {
    pub(super) fn new(families: &Families, seat: Arc<Seat>, category: &str) -> Self {
        let labels = seat.labels();
        let failures = [Delivery::NotSent, Delivery::Answered, Delivery::Unknown].map(|delivery| {
            let ByRoute { runtime, target } = labels.clone();
            families.failures.get_or_create_owned(&ByDelivery { runtime, target, delivery: delivery.as_str() })
        });
        Self {
            durations: families.durations.clone(),
            by_outcome: array::from_fn(|_| OnceLock::new()),
            in_flight: families.in_flight.get_or_create_owned(labels),
            failures,
            retries: families.retries.get_or_create_owned(labels),
            fallbacks: families.fallbacks.get_or_create_owned(labels),
            seat,
            category: category.into(),
        }
    }

    /// Counts a call as in flight for as long as the guard lives: a call that is cancelled is counted out as well.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.inc();
        InFlight(Arc::clone(self))
    }

    /// Records a call that ended.
    pub fn record(&self, outcome: Outcome, took: Duration) {
        self.by_outcome[outcome.index()].get_or_init(|| self.histogram(outcome)).observe(took.as_secs_f64());
    }

    /// Counts a call without a reply, by whether the tool may have run.
    pub fn failed(&self, delivery: Delivery) {
        let [not_sent, answered, unknown] = &self.failures;
        match delivery {
            Delivery::NotSent => not_sent.inc(),
            Delivery::Answered => answered.inc(),
            Delivery::Unknown => unknown.inc(),
        };
    }

    /// Counts a call that is made once more here.
    pub fn retried(&self) {
        self.retries.inc();
    }

    /// Counts a call that failed here and is made on another target.
    pub fn fell_back(&self) {
        self.fallbacks.inc();
    }

    fn histogram(&self, outcome: Outcome) -> Histogram {
        let ByRoute { runtime, target } = self.seat.labels().clone();
        let category = self.category.to_string();
        let labels = ByOutcome { runtime, target, outcome: outcome.as_str(), category };
        self.seat.note(labels.clone());
        self.durations.get_or_create_owned(&labels)
    }
}

/// The handles of one target's breaker.
#[derive(Debug)]
pub struct BreakerMetrics {
    /// 0 closed, 1 probing, 2 open.
    pub state: Gauge,
    /// Times that it opened.
    pub opened: Counter,
    /// Calls that it did not let through.
    pub refused: Counter,
    _seat: Arc<Seat>,
}

impl BreakerMetrics {
    pub(super) fn new(families: &Families, seat: Arc<Seat>) -> Self {
        let labels = seat.labels();
        let state = families.breaker_state.get_or_create_owned(labels);
        // There may have been another before it.
        state.set(0);
        Self {
            state,
            opened: families.breaker_opened.get_or_create_owned(labels),
            refused: families.breaker_refused.get_or_create_owned(labels),
            _seat: seat,
        }
    }
}

/// A call in flight.
#[derive(Debug)]
pub struct InFlight(Arc<RouteMetrics>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}
