//! What every routed call passes through, in this order, with the reason for each layer.

use std::{sync::Arc, time::Duration};

use runtime_api::{Call, CallError, RuntimeId, TargetId};
use tower::{Service, ServiceBuilder, util::BoxCloneSyncService};
use tracing::Span;

use crate::{
    catalog::Entry,
    config::Admission,
    layers::{Admit, AdmitLayer, DeadlineLayer, RecordLayer},
    router::Router,
    telemetry::Metrics,
};

/// A call whose tool was found.
#[derive(Debug)]
pub struct Routed {
    /// The tool.
    pub entry: Arc<Entry>,
    /// The call; the router sets its target and its name there.
    pub call: Call,
    /// The span of the entrance; none when the call is not traced.
    pub span: Span,
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

/// The whole stack.
pub type Pipeline = BoxCloneSyncService<Routed, Answered, CallError>;

/// Builds the stack. Written once, here; a test looks for the effect of each layer.
#[must_use]
pub fn build(admission: &Admission, metrics: &Metrics) -> Pipeline {
    build_over(Router, admission, metrics)
}

/// The stack over another innermost service, for tests.
pub fn build_over<S>(inner: S, admission: &Admission, metrics: &Metrics) -> Pipeline
where
    S: Service<Routed, Response = Answered, Error = CallError> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let stack = ServiceBuilder::new()
        // Outermost, so that every call is seen, however it ends: replied, failed, shed, out of time or dropped.
        .layer(RecordLayer)
        // Before the clock of the call decides, so that time in the queue counts: whoever waits too long is not served late.
        .layer(DeadlineLayer)
        // Bounds the work in progress, the most urgent first; what cannot be served soon is refused at once.
        .layer(AdmitLayer::new(Admit::new(admission, metrics)))
        .service(inner);
    BoxCloneSyncService::new(stack)
}
