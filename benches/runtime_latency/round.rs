//! What one round of one case measured.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::load::{Outcome, new_histogram};
use crate::process::Usage;

/// One round; times in microseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Round {
    /// Successful calls.
    pub(crate) calls: u64,
    pub(crate) failures: BTreeMap<String, u64>,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) calls_per_second: f64,
    /// Of the party under test, see [`crate::cluster::Cluster::measure`].
    pub(crate) cpu_seconds_per_1000_calls: f64,
    pub(crate) rss_bytes: u64,
    #[serde(skip)]
    pub(crate) latencies: Vec<(u64, u64)>,
}

impl Round {
    pub(crate) fn new(outcome: &Outcome, before: Usage, after: Usage) -> anyhow::Result<Self> {
        let mut histogram = new_histogram();
        record(&mut histogram, &outcome.latencies)?;
        let calls = histogram.len();
        let cpu_seconds = (after.cpu_ns - before.cpu_ns) as f64 / 1e9;
        Ok(Self {
            calls,
            failures: outcome.failures.clone(),
            p50_us: quantile_us(&histogram, 0.5),
            p99_us: quantile_us(&histogram, 0.99),
            calls_per_second: calls as f64 / outcome.seconds,
            cpu_seconds_per_1000_calls: cpu_seconds * 1000.0 / (calls.max(1) as f64),
            rss_bytes: after.rss_bytes,
            latencies: outcome.latencies.clone(),
        })
    }

    /// A round in which nothing could be measured.
    pub(crate) fn failed(reason: String) -> Self {
        Self { failures: BTreeMap::from([(reason, 1)]), ..Self::default() }
    }

    pub(crate) fn failure_count(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Whether anything was measured.
    pub(crate) const fn is_measured(&self) -> bool {
        self.calls > 0
    }
}

/// The latencies of all rounds together.
pub(crate) fn merged(rounds: &[Round]) -> anyhow::Result<Histogram<u64>> {
    let mut histogram = new_histogram();
    for round in rounds {
        record(&mut histogram, &round.latencies)?;
    }
    Ok(histogram)
}

pub(crate) fn quantile_us(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e3
}

fn record(histogram: &mut Histogram<u64>, latencies: &[(u64, u64)]) -> anyhow::Result<()> {
    for &(nanoseconds, count) in latencies {
        histogram.record_n(nanoseconds, count)?;
    }
    Ok(())
}
