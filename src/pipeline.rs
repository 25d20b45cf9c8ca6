//! What every routed call passes through, in this order, with the reason for each layer.

use std::{sync::Arc, time::Duration};

use runtime_api::{Call, Delivery, ErrorCode, RuntimeId, TargetId};
use tower::ServiceBuilder;
use tracing::Span;

use crate::{
    catalog::Entry,
    layers::{
        AdmitLayer, Admitting, BreakerLayer, Breaking, Cache, CacheLayer, CacheUse, Cached, ClassLayer, Classed, Deadline,
        DeadlineLayer, Door, Record, RecordLayer, Recover, RecoverLayer,
    },
    router::{Candidate, Reason, Router},
};

/// A call whose tool was found.
#[derive(Debug, Clone)]
pub struct Routed {
    /// The tool.
    pub entry: Arc<Entry>,
    /// The call; the router sets its target and its name there.
    pub call: Call,
    /// The span of the entrance; none when the call is not traced.
    pub span: Span,
    /// The candidate that is asked, as a place in the tool's list.
    pub place: usize,
    /// Why that one.
    pub reason: Reason,
}

impl Routed {
    /// A call on the route that was chosen when the catalogue was built.
    #[must_use]
    pub fn new(entry: Arc<Entry>, call: Call, span: Span) -> Self {
        // Without a route nobody is asked: the router says why.
        let (place, reason) = entry.route.as_ref().map_or((0, Reason::OnlyCandidate), |route| (route.place, route.reason));
        Self { entry, call, span, place, reason }
    }

    /// The candidate that is asked.
    #[must_use]
    pub fn candidate(&self) -> &Candidate {
        &self.entry.candidates[self.place]
    }
}

/// A reply and how it was come by.
#[derive(Debug)]
pub struct Answered {
    /// The reply.
    pub reply: runtime_api::Reply,
    /// The route.
    pub taken: Taken,
    /// Time from the router to the reply.
    pub hop: Duration,
    /// What the cache did; absent for a tool whose results are not kept.
    pub cache: Option<CacheUse>,
    /// The tries that failed before it; empty for nearly every call.
    pub attempts: Vec<Attempt>,
}

/// A try that failed.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Which runtime.
    pub runtime: RuntimeId,
    /// Which target.
    pub target: TargetId,
    /// How it failed.
    pub code: ErrorCode,
    /// Whether the tool may have run.
    pub delivery: Delivery,
}

/// The route of one call.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Which runtime.
    pub runtime: RuntimeId,
    /// Which target.
    pub target: TargetId,
    /// Why.
    pub reason: &'static str,
}

/// The whole stack, over the router. Not erased: what is erased is the service of a runtime, once.
pub type Pipeline = Stack<Router>;

/// The layers over some innermost service.
pub type Stack<S> = Record<Deadline<Admitting<Cached<Recover<Classed<Breaking<S>>>>>>>;

/// Builds the stack. Written once, here; a test looks for the effect of each layer.
#[must_use]
pub fn build(door: &Arc<Door>, cache: &Cache) -> Pipeline {
    build_over(Router, door, cache)
}

/// The stack over another innermost service, for tests.
pub fn build_over<S>(inner: S, door: &Arc<Door>, cache: &Cache) -> Stack<S> {
    ServiceBuilder::new()
        // Outermost, so that every call is seen, however it ends: replied, failed, shed, out of time or dropped.
        .layer(RecordLayer)
        // Before the clock of the call decides, so that time in the queue counts: whoever waits too long is not served late.
        .layer(DeadlineLayer)
        // Bounds the work in progress, the most urgent first; what cannot be served soon is refused at once.
        .layer(AdmitLayer::new(Arc::clone(door)))
        // Within the door, because a hit is work too; above everything that reaches for a target.
        .layer(CacheLayer::new(cache.clone()))
        // Inside its place at the door: a call that is made again is the same work, and does not stand in the queue anew.
        .layer(RecoverLayer)
        // For each try, at the target that is asked: what waits here can still be shed, or be made elsewhere.
        .layer(ClassLayer)
        // Innermost, so that only what was really sent counts, and a probe does not wait in a queue.
        .layer(BreakerLayer)
        .service(inner)
}

#[cfg(test)]
mod tests;
