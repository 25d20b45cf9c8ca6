//! What every routed call passes through, in this order, with the reason for each layer.

use std::{sync::Arc, time::Duration};

use runtime_api::{Call, RuntimeId, TargetId};
use tower::ServiceBuilder;
use tracing::Span;

use crate::{
    catalog::Entry,
    config::Admission,
    layers::{Admit, AdmitLayer, Admitting, Cache, CacheLayer, CacheUse, Cached, Deadline, DeadlineLayer, Record, RecordLayer},
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
    /// What the cache did; absent for a tool whose results are not kept.
    pub cache: Option<CacheUse>,
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
pub type Stack<S> = Record<Deadline<Admitting<Cached<S>>>>;

/// Builds the stack. Written once, here; a test looks for the effect of each layer.
#[must_use]
pub fn build(admission: &Admission, cache: &Cache, metrics: &Metrics) -> Pipeline {
    build_over(Router, admission, cache, metrics)
}

/// The stack over another innermost service, for tests.
pub fn build_over<S>(inner: S, admission: &Admission, cache: &Cache, metrics: &Metrics) -> Stack<S> {
    ServiceBuilder::new()
        // Outermost, so that every call is seen, however it ends: replied, failed, shed, out of time or dropped.
        .layer(RecordLayer)
        // Before the clock of the call decides, so that time in the queue counts: whoever waits too long is not served late.
        .layer(DeadlineLayer)
        // Bounds the work in progress, the most urgent first; what cannot be served soon is refused at once.
        .layer(AdmitLayer::new(Admit::new(admission, metrics)))
        // Within the door, because a hit is work too; above everything that reaches for a target.
        .layer(CacheLayer::new(cache.clone()))
        .service(inner)
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroUsize, time::Duration};

    use bytes::Bytes;
    use futures_util::FutureExt;
    use runtime_api::{CallError, Caller, Client, ErrorCode, Method, Params, Principal, Priority, Reply, TraceContext, erase};
    use tokio::time::Instant;
    use tower::{Service, ServiceExt, service_fn};
    use twinway_proto::headers::ParamHeaders;

    use super::*;
    use crate::{
        config,
        metadata::Metadata,
        router::{Candidate, Reason},
        telemetry::latency::{Budget, Latencies},
    };

    const TIMEOUT: Duration = Duration::from_secs(1);

    fn routed(metrics: &Metrics) -> Routed {
        let nobody = erase(service_fn(|_: Call| async { Ok::<_, CallError>(Reply::new(Bytes::new())) }));
        let runtime = RuntimeId("http".into());
        let candidate = Candidate {
            runtime,
            target: "up".into(),
            name: "tool".into(),
            service: nobody,
            metrics: metrics.route("http", "up", "general"),
            latencies: Arc::new(Latencies::new(Budget::default())),
        };
        let entry = Entry {
            public: "up.tool".into(),
            definition: Bytes::new(),
            metadata: Metadata { timeout: TIMEOUT, ..Metadata::default() },
            candidates: vec![candidate],
            route: Ok((0, Reason::OnlyCandidate)),
            caching: None,
            deprecated: None,
            decisions: None,
            mirrored: ParamHeaders::default(),
        };
        let call = Call {
            method: Method::ToolsCall,
            target: "up".into(),
            name: "tool".into(),
            params: Params::default(),
            principal: Principal::anonymous(),
            client: Client::Modern,
            deadline: Instant::now() + TIMEOUT,
            priority: Priority::default(),
            trace: TraceContext::default(),
            caller: Caller::none(),
        };
        Routed { entry: Arc::new(entry), call, span: Span::none() }
    }

    /// A stack over a service that never answers: whatever comes back was made by a layer.
    fn stack(
        metrics: &Metrics,
    ) -> impl Service<Routed, Response = Answered, Error = CallError, Future = impl Send> + Clone + Send + 'static {
        let silent = service_fn(|_: Routed| std::future::pending::<Result<Answered, CallError>>());
        let one = NonZeroUsize::new(1).expect("not zero");
        let cache = Cache::new(&config::Cache::default(), metrics);
        build_over(silent, &Admission { in_flight_max: one, queue_max: 0, ..Admission::default() }, &cache, metrics)
    }

    #[tokio::test(start_paused = true)]
    async fn every_layer_is_in_the_stack() {
        let metrics = Metrics::new(None);
        let stack = stack(&metrics);
        let mut first = Box::pin(stack.clone().oneshot(routed(&metrics)));
        assert!(first.as_mut().now_or_never().is_none());

        let shed = stack.oneshot(routed(&metrics)).await.expect_err("the admit layer refuses the second");
        let late = first.await.expect_err("the deadline layer ends the first");

        assert_eq!(shed.code(), ErrorCode::Overloaded);
        assert!(shed.retry_after().is_some());
        assert_eq!(late.code(), ErrorCode::DeadlineExceeded);
        let rendered = metrics.render();
        for outcome in ["overloaded", "deadline_exceeded"] {
            let count = format!(
                r#"twinway_call_duration_seconds_count{{runtime="http",target="up",outcome="{outcome}",category="general"}} 1"#
            );
            assert!(rendered.contains(&count), "the record layer saw no `{outcome}`:\n{rendered}");
        }
    }

    #[tokio::test]
    async fn a_call_that_is_dropped_is_counted_as_cancelled_and_gives_its_place_back() {
        let metrics = Metrics::new(None);
        let stack = stack(&metrics);
        let mut dropped = Box::pin(stack.clone().oneshot(routed(&metrics)));
        assert!(dropped.as_mut().now_or_never().is_none());
        drop(dropped);

        assert!(stack.oneshot(routed(&metrics)).now_or_never().is_none(), "the place is free");
        assert!(metrics.render().contains(r#"outcome="cancelled",category="general"} 2"#));
    }
}
