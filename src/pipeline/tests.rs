//! Looks for the effect of each layer in the whole stack.

use std::{
    future::ready,
    num::NonZeroUsize,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use bytes::Bytes;
use futures_util::FutureExt;
use runtime_api::{CallError, Caller, Client, Kind, Method, Params, Principal, Priority, Reply, TraceContext, erase};
use tokio::time::Instant;
use tower::{Service, ServiceExt, service_fn};
use twinway_proto::headers::ParamHeaders;

use super::*;
use crate::{
    config::{self, Admission, Backoff, Config, Retry, Routing},
    layers::{Caching, Definition, Guards, door_of},
    metadata::Metadata,
    router,
    telemetry::{self, Metrics, latency::Latencies},
};

const TIMEOUT: Duration = Duration::from_secs(1);

/// A call of a tool of which nothing is known.
fn routed(metrics: &Metrics) -> Routed {
    let guards = Guards::new(&Config::default(), metrics.clone());
    of_tool(metrics, &guards, &["up"], Metadata::default())
}

/// A call of a tool that these targets offer.
fn of_tool(metrics: &Metrics, guards: &Guards, targets: &[&str], metadata: Metadata) -> Routed {
    let nobody = erase(service_fn(|_: Call| async { Ok::<_, CallError>(Reply::new(Bytes::new())) }));
    let runtime = RuntimeId("http".into());
    let candidate = |target: &&str| {
        let guard = guards.of(&runtime, &(*target).into());
        Candidate {
            runtime: runtime.clone(),
            target: (*target).into(),
            name: "tool".into(),
            service: nobody.clone(),
            metrics: metrics.route("http", target, "general"),
            classes: guard.doors(&metadata),
            guard,
            ready: true,
            modern: true,
            average: None,
            latencies: Arc::new(Latencies::new(telemetry::latency::Budget::default())),
        }
    };
    let candidates: Vec<_> = targets.iter().map(candidate).collect();
    let runtimes = vec!["http"; targets.len()];
    let route = router::choose("up.tool", &metadata, &runtimes, &Routing::default());
    let entry = Entry {
        kind: Kind::Tool,
        public: "up.tool".into(),
        full: None,
        definition: Bytes::new(),
        metadata,
        candidates,
        route,
        caching: None,
        deprecated: None,
        decisions: None,
        mirrored: ParamHeaders::default(),
        free_output: false,
    };
    let call = Call {
        method: Method::ToolsCall,
        target: "up".into(),
        name: "tool".into(),
        params: Params::default(),
        principal: Principal::anonymous(),
        client: Client::Modern,
        session: None,
        deadline: Instant::now() + TIMEOUT,
        priority: Priority::default(),
        trace: TraceContext::default(),
        caller: Caller::none(),
    };
    Routed::new(Arc::new(entry), call, Span::none())
}

fn cache(metrics: &Metrics) -> Cache {
    Cache::new(&config::Cache::default(), metrics)
}

/// A stack over a service that never answers: whatever comes back was made by a layer.
fn stack(
    metrics: &Metrics,
) -> impl Service<Routed, Response = Answered, Error = CallError, Future = impl Send> + Clone + Send + 'static {
    let silent = service_fn(|_: Routed| std::future::pending::<Result<Answered, CallError>>());
    let one = NonZeroUsize::new(1).expect("not zero");
    build_over(
        silent,
        &door_of(&Admission { in_flight_max: one, queue_max: 0, ..Admission::default() }, metrics),
        &cache(metrics),
    )
}

#[tokio::test(start_paused = true)]
async fn every_layer_is_in_the_stack() {
    let metrics = Metrics::new(None);
    let _held = metrics.route("http", "up", "general");
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
    // The numbers of a target are kept while somebody holds it, as the catalogue does.
    let _held = metrics.route("http", "up", "general");
    let stack = stack(&metrics);
    let mut dropped = Box::pin(stack.clone().oneshot(routed(&metrics)));
    assert!(dropped.as_mut().now_or_never().is_none());
    drop(dropped);

    assert!(stack.oneshot(routed(&metrics)).now_or_never().is_none(), "the place is free");
    assert!(metrics.render().contains(r#"outcome="cancelled",category="general"} 2"#));
}

/// A stack over a service that fails as often as it is told and then answers; it counts how often it is asked.
fn failing(
    metrics: &Metrics,
    times: usize,
    fail: impl Fn() -> CallError + Clone + Send + Sync + 'static,
) -> (impl Service<Routed, Response = Answered, Error = CallError, Future = impl Send> + Clone + Send + 'static, Arc<AtomicUsize>)
{
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let service = service_fn(move |routed: Routed| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let (runtime, target) = (routed.candidate().runtime.clone(), routed.candidate().target.clone());
        let taken = Taken { runtime, target, reason: routed.reason.as_str() };
        let answered =
            Answered { reply: Reply::new(Bytes::new()), taken, hop: Duration::ZERO, cache: None, attempts: Vec::new() };
        ready(if number < times { Err(fail()) } else { Ok(answered) })
    });
    (build_over(service, &door_of(&Admission::default(), metrics), &cache(metrics)), asked)
}

fn unreachable() -> CallError {
    CallError::runtime(ErrorCode::Unavailable, Delivery::NotSent, "refused")
}

fn broken() -> CallError {
    CallError::runtime(ErrorCode::Disconnected, Delivery::Unknown, "broken")
}

#[tokio::test(start_paused = true)]
async fn the_recover_layer_makes_a_call_again_by_its_policy_and_the_delivery_rule() {
    let retry = || Some(Retry { attempts: 3, ..Retry::new(Backoff::Fixed) });
    type Fail = fn() -> CallError;
    let cases: [(&str, Metadata, usize, Fail, bool, usize); 7] = [
        ("no policy", Metadata::default(), 1, unreachable, false, 1),
        ("not sent", Metadata { retry: retry(), ..Metadata::default() }, 2, unreachable, true, 3),
        ("as often as it says", Metadata { retry: retry(), ..Metadata::default() }, 3, unreachable, false, 3),
        ("it may have run", Metadata { retry: retry(), ..Metadata::default() }, 1, broken, false, 1),
        ("it may run twice", Metadata { retry: retry(), idempotent: true, ..Metadata::default() }, 2, broken, true, 3),
        ("it changes nothing", Metadata { retry: retry(), read_only: true, ..Metadata::default() }, 2, broken, true, 3),
        ("idempotent without a policy", Metadata { idempotent: true, ..Metadata::default() }, 1, broken, false, 1),
    ];
    for (what, metadata, times, fail, succeeds, asked) in cases {
        let metrics = Metrics::new(None);
        let guards = Guards::new(&Config::default(), metrics.clone());
        let (stack, count) = failing(&metrics, times, fail);

        let answered = stack.oneshot(of_tool(&metrics, &guards, &["up"], metadata)).await;

        assert_eq!((answered.is_ok(), count.load(Ordering::Relaxed)), (succeeds, asked), "{what}");
        let retries = format!(r#"twinway_call_retries_total{{runtime="http",target="up"}} {}"#, asked - 1);
        assert!(metrics.render().contains(&retries), "{what}: {}", metrics.render());
        assert_eq!(answered.map_or(asked - 1, |answered| answered.attempts.len()), asked - 1, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_cache_layer_answers_the_second_call_of_a_tool_whose_results_are_kept() {
    let metrics = Metrics::new(None);
    let guards = Guards::new(&Config::default(), metrics.clone());
    let definition = Arc::new(Definition::new("http", "up", "tool", b"{}"));
    for (kept, asked) in [(false, 2), (true, 1)] {
        let (stack, count) = failing(&metrics, 0, unreachable);
        let caching =
            || kept.then(|| Caching { ttl: TIMEOUT, definitions: [Arc::clone(&definition)].into(), per_session: false });
        for _ in 0..2 {
            let mut call = of_tool(&metrics, &guards, &["up"], Metadata::default());
            Arc::get_mut(&mut call.entry).expect("nobody else has it").caching = caching();
            stack.clone().oneshot(call).await.expect("an answer");
        }
        assert_eq!(count.load(Ordering::Relaxed), asked, "kept: {kept}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_longer_than_the_rest_of_the_time_is_not_begun() {
    let metrics = Metrics::new(None);
    let guards = Guards::new(&Config::default(), metrics.clone());
    let retry = Some(Retry::new(Backoff::Fixed));
    let (stack, count) = failing(&metrics, 1, || unreachable().with_retry_after(TIMEOUT * 2));
    let began = Instant::now();

    let error = stack.oneshot(of_tool(&metrics, &guards, &["up"], Metadata { retry, ..Metadata::default() })).await;

    assert_eq!(error.expect_err("it is not made again").code(), ErrorCode::Unavailable);
    assert_eq!((count.load(Ordering::Relaxed), began.elapsed()), (1, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_call_falls_back_to_another_candidate_only_if_the_first_did_not_run_it() {
    let cases = [
        ("not sent", Metadata::default(), unreachable as fn() -> CallError, true),
        ("it may have run", Metadata::default(), broken, false),
        ("it may run twice", Metadata { idempotent: true, ..Metadata::default() }, broken, true),
    ];
    for (what, metadata, fail, falls_back) in cases {
        let metrics = Metrics::new(None);
        let guards = Guards::new(&Config::default(), metrics.clone());
        let (stack, count) = failing(&metrics, 1, fail);

        let answered = stack.oneshot(of_tool(&metrics, &guards, &["near", "far"], metadata)).await;

        assert_eq!(count.load(Ordering::Relaxed), 1 + usize::from(falls_back), "{what}");
        let Ok(answered) = answered else {
            assert!(!falls_back, "{what}");
            continue;
        };
        assert_eq!((answered.taken.reason, answered.attempts.len()), ("fallback", 1), "{what}");
        assert_ne!(answered.taken.target, answered.attempts[0].target, "{what}");
        let failed = &answered.attempts[0].target;
        let fallback = format!(r#"twinway_call_fallbacks_total{{runtime="http",target="{failed}"}} 1"#);
        assert!(metrics.render().contains(&fallback), "{what}: {}", metrics.render());
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_one_that_may_have_run_does_not_say_that_nothing_was_sent() {
    let metrics = Metrics::new(None);
    let guards = Guards::new(&Config::default(), metrics.clone());
    let first = Arc::new(AtomicBool::new(true));
    let (stack, _) = failing(&metrics, 9, move || if first.swap(false, Ordering::Relaxed) { broken() } else { unreachable() });

    let metadata = Metadata { idempotent: true, ..Metadata::default() };
    let error = stack.oneshot(of_tool(&metrics, &guards, &["near", "far"], metadata)).await.expect_err("both fail");

    assert_eq!(error.delivery(), Delivery::Unknown);
}

#[tokio::test(start_paused = true)]
async fn the_class_layer_lets_only_so_many_heavy_calls_of_a_target_run_and_plain_ones_pass() {
    let heavy = [
        Metadata { memory_intensive: true, ..Metadata::default() },
        Metadata { cpu_intensive: true, ..Metadata::default() },
        Metadata { io_intensive: true, ..Metadata::default() },
    ];
    for (metadata, places) in heavy.into_iter().zip([2, 4, 64]) {
        let metrics = Metrics::new(None);
        let guards = Guards::new(&Config::default(), metrics.clone());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let silent = service_fn(move |_: Routed| {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<Result<Answered, CallError>>()
        });
        let stack = build_over(silent, &door_of(&Admission::default(), &metrics), &cache(&metrics));
        let begin = |target, metadata: &Metadata| {
            let mut call = Box::pin(stack.clone().oneshot(of_tool(&metrics, &guards, &[target], metadata.clone())));
            assert!(call.as_mut().now_or_never().is_none());
            call
        };

        let mut calls: Vec<_> = (0..places + 1).map(|_| begin("up", &metadata)).collect();
        assert_eq!(asked.load(Ordering::Relaxed), places, "{metadata:?}");
        let _others = [begin("up", &Metadata::default()), begin("other", &metadata)];
        assert_eq!(asked.load(Ordering::Relaxed), places + 2, "plain tools and other targets do not wait");

        calls.swap_remove(0);
        assert!(calls.iter_mut().all(|call| call.as_mut().now_or_never().is_none()));
        assert_eq!(asked.load(Ordering::Relaxed), places + 3, "whoever waited has the place that became free");
    }
}

#[tokio::test(start_paused = true)]
async fn the_breaker_layer_leaves_a_target_alone_that_cannot_be_reached() {
    let metrics = Metrics::new(None);
    let guards = Guards::new(&Config::default(), metrics.clone());
    let (stack, count) = failing(&metrics, usize::MAX, unreachable);
    let call = || stack.clone().oneshot(of_tool(&metrics, &guards, &["up"], Metadata::default()));
    for _ in 0..5 {
        call().await.expect_err("it fails");
    }

    let refused = call().await.expect_err("it is left alone");

    assert_eq!(count.load(Ordering::Relaxed), 5, "the target was not asked");
    assert!(refused.to_string().contains("`up` could not be reached 5 times in a row"), "{refused}");
    let rendered = metrics.render();
    for line in ["breaker_state", "breaker_opened_total", "breaker_refused_total"].into_iter().zip([2, 1, 1]) {
        let line = format!(r#"twinway_{}{{runtime="http",target="up"}} {}"#, line.0, line.1);
        assert!(rendered.contains(&line), "{line} is missing from\n{rendered}");
    }
}
