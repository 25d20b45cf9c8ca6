//! `compare`: how long the calls of one tool took on each of its routes, side by side.
//!
//! Only routes of one tool stand side by side, each with its own histogram and its number of samples. There is no average
//! over tools or routes: it would compare what is not alike.

use serde::Serialize;

use super::{AdminError, Query, view};
use crate::{
    catalog::{Entry, Snapshot},
    router::Candidate,
    telemetry::latency::Measured,
};

/// Tools in one answer. A route with all buckets in use is some 15 KB.
const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 100;

/// A page of tools.
#[derive(Debug, Serialize)]
pub(super) struct Document<'s> {
    /// What is timed.
    unit: &'static str,
    tools: Vec<Tool<'s>>,
    /// `after` for the next page.
    next: Option<&'s str>,
}

#[derive(Debug, Serialize)]
struct Tool<'s> {
    tool: &'s str,
    /// Calls went over more than one runtime, so that there is something to compare.
    comparable: bool,
    routes: Vec<Route<'s>>,
}

#[derive(Debug, Serialize)]
struct Route<'s> {
    runtime: &'s str,
    target: &'s str,
    /// Replies without `isError`: what the latencies are of.
    samples: u64,
    tool_errors: u64,
    failures: u64,
    /// Why there are no latencies.
    note: Option<&'static str>,
    latency_us: Option<Latency>,
}

/// Each share of the calls stayed within so many microseconds, read off the histogram: up to 1/16 too much.
#[derive(Debug, Serialize)]
struct Latency {
    p50: u64,
    p90: u64,
    p95: u64,
    p99: u64,
    max: u64,
    histogram: Vec<Bucket>,
}

/// Calls that took at most so long, and longer than the bucket before holds.
#[derive(Debug, Serialize)]
struct Bucket {
    le_us: u64,
    count: u64,
}

pub(super) fn document<'s>(snapshot: &'s Snapshot, query: &Query) -> Result<Document<'s>, AdminError> {
    let view = view(snapshot, query)?;
    if let Some(name) = query.tool.as_ref().filter(|name| view.tools.get(name).is_none()) {
        return Err(AdminError::UnknownTool(name.clone()));
    }
    let (entries, next) =
        view.tools.select(query.after.as_deref(), query.limit(LIMIT_DEFAULT, LIMIT_MAX), |entry| query.wants(entry));
    let tools = entries.into_iter().map(|entry| tool(entry)).collect();
    Ok(Document { unit: "from the router to the reply, in microseconds; replies without isError only", tools, next })
}

fn tool(entry: &Entry) -> Tool<'_> {
    let routes: Vec<_> = entry.candidates.iter().map(route).collect();
    let first = routes.iter().find(|route| route.samples > 0);
    let comparable = first.is_some_and(|first| routes.iter().any(|route| route.samples > 0 && route.runtime != first.runtime));
    Tool { tool: &entry.public, comparable, routes }
}

fn route(candidate: &Candidate) -> Route<'_> {
    let measured = candidate.latencies.read();
    Route {
        runtime: candidate.runtime.as_str(),
        target: candidate.target.as_str(),
        samples: measured.count(),
        tool_errors: measured.tool_errors,
        failures: measured.failures,
        note: note(&measured),
        latency_us: latency(&measured),
    }
}

fn note(measured: &Measured) -> Option<&'static str> {
    match (measured.is_measured, measured.count()) {
        (false, _) => Some("not measured: as many other routes as are measured at one time were called before"),
        (true, 0) => Some("nothing recorded"),
        (true, _) => None,
    }
}

fn latency(measured: &Measured) -> Option<Latency> {
    let within = |share| measured.quantile_us(share);
    Some(Latency {
        p50: within(0.5)?,
        p90: within(0.9)?,
        p95: within(0.95)?,
        p99: within(0.99)?,
        max: within(1.0)?,
        histogram: measured.buckets.iter().map(|(le_us, count)| Bucket { le_us: *le_us, count: *count }).collect(),
    })
}
