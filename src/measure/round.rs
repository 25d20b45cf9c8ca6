//! What one round measured, and what all rounds of a case say together.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Latencies, Outcome, Spread};

/// One round; times in microseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Round {
    /// Successful calls.
    pub calls: u64,
    /// Reason -> count.
    pub failures: BTreeMap<String, u64>,
    /// The median.
    pub p50_us: f64,
    /// 99 % were answered within this.
    pub p99_us: f64,
    /// Successful calls per second.
    pub calls_per_second: f64,
    /// What it cost the process under test, when that can be seen.
    #[serde(flatten)]
    pub cost: Option<Cost>,
    /// Of the successful calls.
    #[serde(skip)]
    pub latencies: Latencies,
}

/// What a round cost a process.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    /// Run time of all its threads for 1,000 successful calls.
    pub cpu_seconds_per_1000_calls: f64,
    /// Resident memory at the end of the round.
    pub rss_bytes: u64,
}

impl Round {
    /// The round with this outcome.
    #[must_use]
    pub fn new(outcome: Outcome) -> Self {
        let latencies = outcome.latencies;
        let calls = latencies.count();
        Self {
            calls,
            failures: outcome.failures,
            p50_us: latencies.quantile_us(0.5),
            p99_us: latencies.quantile_us(0.99),
            calls_per_second: calls as f64 / outcome.seconds,
            cost: None,
            latencies,
        }
    }

    /// The same round with what it cost: CPU time in nanoseconds, memory in bytes.
    #[must_use]
    pub fn costing(self, cpu_ns: u64, rss_bytes: u64) -> Self {
        let cpu_seconds_per_1000_calls = cpu_ns as f64 / 1e6 / (self.calls.max(1) as f64);
        Self { cost: Some(Cost { cpu_seconds_per_1000_calls, rss_bytes }), ..self }
    }

    /// A round in which nothing could be measured.
    #[must_use]
    pub fn failed(reason: String) -> Self {
        Self { failures: BTreeMap::from([(reason, 1)]), ..Self::default() }
    }

    /// How many calls failed.
    #[must_use]
    pub fn failure_count(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Whether anything was measured.
    #[must_use]
    pub const fn is_measured(&self) -> bool {
        self.calls > 0
    }
}

/// All rounds of one case; times in microseconds, percentiles over the calls of all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Successful calls.
    pub calls: u64,
    /// Reason -> count.
    pub failures: BTreeMap<String, u64>,
    /// The median.
    pub p50_us: f64,
    /// 90 % were answered within this.
    pub p90_us: f64,
    /// 99 % were answered within this.
    pub p99_us: f64,
    /// 99.9 % were answered within this.
    pub p999_us: f64,
    /// By round.
    pub calls_per_second: Option<Spread>,
    /// By round.
    pub cpu_seconds_per_1000_calls: Option<Spread>,
    /// The most of any round.
    pub rss_bytes: Option<u64>,
}

impl Summary {
    /// Sums up these rounds.
    #[must_use]
    pub fn of(rounds: &[Round]) -> Self {
        let mut latencies = Latencies::default();
        let mut failures = BTreeMap::new();
        for round in rounds {
            latencies.add(&round.latencies);
            for (reason, count) in &round.failures {
                *failures.entry(reason.clone()).or_default() += count;
            }
        }
        let measured = || rounds.iter().filter(|round| round.is_measured());
        let costs = || measured().filter_map(|round| round.cost);
        Self {
            calls: latencies.count(),
            failures,
            p50_us: latencies.quantile_us(0.5),
            p90_us: latencies.quantile_us(0.9),
            p99_us: latencies.quantile_us(0.99),
            p999_us: latencies.quantile_us(0.999),
            calls_per_second: Spread::of(measured().map(|round| round.calls_per_second).collect()),
            cpu_seconds_per_1000_calls: Spread::of(costs().map(|cost| cost.cpu_seconds_per_1000_calls).collect()),
            rss_bytes: costs().map(|cost| cost.rss_bytes).max(),
        }
    }

    /// How many calls failed.
    #[must_use]
    pub fn failure_count(&self) -> u64 {
        self.failures.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn round(milliseconds: &[u64], failures: u64) -> Round {
        let mut outcome = Outcome { seconds: 2.0, ..Outcome::default() };
        milliseconds.iter().for_each(|time| outcome.latencies.record(Duration::from_millis(*time)));
        if failures > 0 {
            outcome.failures.insert("refused".to_owned(), failures);
        }
        Round::new(outcome)
    }

    #[test]
    fn a_summary_holds_the_calls_of_all_rounds_and_every_failure() {
        let rounds = [
            round(&[1, 1, 1], 0).costing(3_000_000, 5),
            round(&[9], 2).costing(1_000_000, 7),
            Round::failed("no connection".to_owned()),
        ];

        let summary = Summary::of(&rounds);

        assert_eq!((summary.calls, summary.failure_count(), summary.rss_bytes), (4, 3, Some(7)));
        assert_eq!(summary.calls_per_second.expect("two rounds measured something").rounds, [1.5, 0.5]);
        assert_eq!(summary.cpu_seconds_per_1000_calls.expect("both cost something").rounds, [1.0, 1.0]);
        assert!(summary.p50_us < 1_010.0 && summary.p90_us > 8_900.0, "{} {}", summary.p50_us, summary.p90_us);
    }
}
