//! The result of a run: every case with its percentiles, its rounds and its place beside the baseline.

use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use twinway::measure::{Comparison, Machine, Round, Spread, Summary};

use crate::goal::{self, Verdict};
use crate::scenario::Scenario;

/// One case and all its rounds.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) scenario: Scenario,
    pub(crate) rounds: Vec<Round>,
    /// Of its gateway, before the first call.
    pub(crate) idle_rss_bytes: Option<u64>,
}

/// A case that this build or this run cannot measure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Skipped {
    pub(crate) case: String,
    pub(crate) reason: String,
}

/// The file `target/bench/runtime_latency.json`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RunReport {
    #[serde(flatten)]
    pub(crate) facts: RunFacts,
    pub(crate) cases: Vec<CaseReport>,
    pub(crate) goals: Vec<Verdict>,
}

/// What the run knows besides its cases.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RunFacts {
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) seconds_per_round: f64,
    pub(crate) warm_up_seconds_per_round: f64,
    /// Spans that the trace collector received over the whole run.
    pub(crate) spans_received: u64,
    pub(crate) skipped: Vec<Skipped>,
}

/// One case.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CaseReport {
    #[serde(skip)]
    pub(crate) scenario: Scenario,
    pub(crate) name: String,
    pub(crate) payload_bytes: usize,
    pub(crate) in_flight: usize,
    #[serde(flatten)]
    pub(crate) summary: Summary,
    pub(crate) idle_rss_bytes: Option<u64>,
    pub(crate) added_p50_us: Option<Spread>,
    pub(crate) against_baseline: Option<Comparison>,
    pub(crate) rounds: Vec<Round>,
}

impl CaseReport {
    fn of(case: &Case, cases: &[Case]) -> Self {
        let rounds = |scenario: Option<Scenario>| cases.iter().find(|other| Some(other.scenario) == scenario);
        let direct = rounds(case.scenario.direct()).filter(|direct| direct.name != case.name);
        let against_baseline = rounds(case.scenario.baseline()).map(|baseline| {
            let compared = Comparison::of(&case.rounds, &baseline.name, &baseline.rounds);
            match direct {
                Some(direct) => compared.over_direct(&case.rounds, &baseline.rounds, &direct.rounds),
                None => compared,
            }
        });
        Self {
            scenario: case.scenario,
            name: case.name.clone(),
            payload_bytes: case.scenario.payload_bytes,
            in_flight: case.scenario.in_flight,
            summary: Summary::of(&case.rounds),
            idle_rss_bytes: case.idle_rss_bytes,
            added_p50_us: direct.and_then(|direct| Comparison::added_p50_us(&case.rounds, &direct.rounds)),
            against_baseline,
            rounds: case.rounds.clone(),
        }
    }
}

impl RunReport {
    pub(crate) fn new(facts: RunFacts, cases: &[Case]) -> Self {
        let cases: Vec<CaseReport> = cases.iter().map(|case| CaseReport::of(case, cases)).collect();
        let goals = goal::judge(&cases);
        Self { facts, cases, goals }
    }

    pub(crate) fn failure_count(&self) -> u64 {
        self.cases.iter().map(|case| case.summary.failure_count()).sum()
    }

    /// The cases under each heading that they share, in the order in which they were run.
    pub(crate) fn groups(&self) -> Vec<(String, Vec<&CaseReport>)> {
        let mut groups: Vec<(String, Vec<&CaseReport>)> = Vec::new();
        for case in &self.cases {
            let group = case.scenario.group();
            match groups.iter_mut().find(|(name, _)| *name == group) {
                Some((_, cases)) => cases.push(case),
                None => groups.push((group, vec![case])),
            }
        }
        groups
    }

    pub(crate) fn write_json(&self, path: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_vec_pretty(self)?;
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
    }
}
