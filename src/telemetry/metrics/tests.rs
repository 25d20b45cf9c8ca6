//! What `/metrics` says.

use std::time::Duration;

use runtime_api::{Delivery, ErrorCode};
use runtime_mcpp::{Refusal, RefusalCounters};

use super::*;

#[test]
fn a_route_counts_its_calls_by_outcome_with_buckets_below_a_millisecond() {
    let metrics = Metrics::new(None);
    let route = metrics.route("http", "near", "general");

    route.record(Outcome::Ok, Duration::from_micros(80));
    route.record(Outcome::Ok, Duration::from_millis(3));
    route.record(Outcome::Failed(ErrorCode::Unavailable), Duration::from_millis(1));
    route.failed(Delivery::NotSent);

    let text = metrics.render();
    for line in [
        r#"twinway_call_duration_seconds_bucket{le="0.0001",runtime="http",target="near",outcome="ok",category="general"} 1"#,
        r#"twinway_call_duration_seconds_count{runtime="http",target="near",outcome="ok",category="general"} 2"#,
        r#"twinway_call_duration_seconds_count{runtime="http",target="near",outcome="unavailable",category="general"} 1"#,
        r#"twinway_call_failures_total{runtime="http",target="near",delivery="not_sent"} 1"#,
        r#"twinway_call_failures_total{runtime="http",target="near",delivery="unknown"} 0"#,
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is missing from\n{text}");
    }
    assert!(!text.contains("tool_error"), "an outcome that never happened has no buckets");
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn two_handles_of_one_target_count_together() {
    let metrics = Metrics::new(None);
    let (one, other) = (metrics.route("http", "near", "general"), metrics.route("http", "near", "general"));

    one.record(Outcome::ToolError, Duration::from_secs(1));
    other.record(Outcome::ToolError, Duration::from_secs(1));

    let line = r#"twinway_call_duration_seconds_count{runtime="http",target="near",outcome="tool_error",category="general"} 2"#;
    assert!(metrics.render().contains(line));
}

#[test]
fn a_cancelled_call_is_no_longer_in_flight() {
    let metrics = Metrics::new(None);
    let route = metrics.route("mcpp", "far", "general");
    let in_flight = route.enter();
    assert!(metrics.render().contains(r#"twinway_calls_in_flight{runtime="mcpp",target="far"} 1"#));

    drop(in_flight);

    assert!(metrics.render().contains(r#"twinway_calls_in_flight{runtime="mcpp",target="far"} 0"#));
}

#[test]
fn refusals_are_counted_by_reason() {
    let counters = Arc::new(RefusalCounters::default());
    let metrics = Metrics::new(Some(NodeRefusals(Arc::clone(&counters))));

    counters.count(Refusal::StreamQuota);
    metrics.request_refused("body_too_large");
    metrics.shed("queue_full").inc();

    let text = metrics.render();
    for line in [
        r#"twinway_p2p_refused_total{reason="stream_quota"} 1"#,
        r#"twinway_p2p_refused_total{reason="authority"} 0"#,
        r#"twinway_requests_refused_total{reason="body_too_large"} 1"#,
        r#"twinway_calls_shed_total{reason="queue_full"} 1"#,
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is missing from\n{text}");
    }
}

#[tokio::test]
async fn the_tasks_of_an_executor_are_counted_while_they_live() {
    let metrics = Metrics::new(None);
    metrics.count_tasks("main", &Handle::current());
    let mut tasks = tokio::task::JoinSet::new();
    let says = |count: usize| metrics.render().contains(&format!("twinway_tasks{{executor=\"main\"}} {count}\n"));

    tasks.spawn(std::future::pending::<()>());
    assert!(says(1), "{}", metrics.render());

    tasks.shutdown().await;
    assert!(says(0), "{}", metrics.render());
}
