//! The result of a run: every case with its percentiles, its rounds and its place beside the baseline.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use crate::comparison::{Comparison, Spread, added_p50_us};
use crate::goal::{self, Verdict};
use crate::machine::Machine;
use crate::round::{Round, merged, quantile_us};
use crate::scenario::Scenario;

/// One case and all its rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    #[serde(skip)]
    pub(crate) scenario: Scenario,
    pub(crate) rounds: Vec<Round>,
}

/// The file `target/bench/runtime_latency.json`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RunReport {
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) seconds_per_round: f64,
    pub(crate) warm_up_seconds_per_round: f64,
    /// Spans that the trace collector received over the whole run.
    pub(crate) spans_received: u64,
    pub(crate) cases: Vec<CaseReport>,
    pub(crate) goals: Vec<Verdict>,
}

/// One case; times in microseconds, percentiles over the calls of all rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CaseReport {
    #[serde(skip)]
    pub(crate) scenario: Scenario,
    pub(crate) name: String,
    pub(crate) payload_bytes: usize,
    pub(crate) in_flight: usize,
    pub(crate) pinned: bool,
    pub(crate) calls: u64,
    /// Reason -> count.
    pub(crate) failures: BTreeMap<String, u64>,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) calls_per_second: Option<Spread>,
    pub(crate) cpu_seconds_per_1000_calls: Option<Spread>,
    /// The most of any round.
    pub(crate) rss_bytes: u64,
    pub(crate) added_p50_us: Option<Spread>,
    pub(crate) against_baseline: Option<Comparison>,
    pub(crate) rounds: Vec<Round>,
}

impl CaseReport {
    fn of(case: &Case, cases: &[Case]) -> anyhow::Result<Self> {
        let latencies = merged(&case.rounds)?;
        let mut failures = BTreeMap::new();
        for (reason, count) in case.rounds.iter().flat_map(|round| &round.failures) {
            *failures.entry(reason.clone()).or_default() += count;
        }
        let measured = || case.rounds.iter().filter(|round| round.is_measured());
        Ok(Self {
            scenario: case.scenario,
            name: case.name.clone(),
            payload_bytes: case.scenario.payload_bytes,
            in_flight: case.scenario.in_flight,
            pinned: case.scenario.is_pinned,
            calls: latencies.len(),
            failures,
            p50_us: quantile_us(&latencies, 0.5),
            p90_us: quantile_us(&latencies, 0.9),
            p99_us: quantile_us(&latencies, 0.99),
            p999_us: quantile_us(&latencies, 0.999),
            calls_per_second: Spread::of(measured().map(|round| round.calls_per_second).collect()),
            cpu_seconds_per_1000_calls: Spread::of(measured().map(|round| round.cpu_seconds_per_1000_calls).collect()),
            rss_bytes: measured().map(|round| round.rss_bytes).max().unwrap_or(0),
            added_p50_us: added_p50_us(case, cases),
            against_baseline: Comparison::of(case, cases),
            rounds: case.rounds.clone(),
        })
    }
}

/// What the run knows besides its cases.
pub(crate) struct RunFacts {
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) seconds_per_round: f64,
    pub(crate) warm_up_seconds_per_round: f64,
    pub(crate) spans_received: u64,
}

impl RunReport {
    pub(crate) fn new(facts: RunFacts, cases: &[Case]) -> anyhow::Result<Self> {
        let cases = cases.iter().map(|case| CaseReport::of(case, cases)).collect::<anyhow::Result<Vec<_>>>()?;
        let goals = goal::judge(&cases);
        let RunFacts { machine, rounds, seconds_per_round, warm_up_seconds_per_round, spans_received } = facts;
        Ok(Self { machine, rounds, seconds_per_round, warm_up_seconds_per_round, spans_received, cases, goals })
    }

    pub(crate) fn failure_count(&self) -> u64 {
        self.cases.iter().flat_map(|case| &case.rounds).map(Round::failure_count).sum()
    }

    pub(crate) fn write_json(&self, path: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_vec_pretty(self)?;
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
    }
}
