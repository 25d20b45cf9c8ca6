//! How long the calls of a round took.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// 1,000 s: no call takes longer, for whoever waits for it gives up before.
const LATENCY_NS_MAX: u64 = 1_000_000_000_000;

/// 0.1 % of the value, finer than the spread of any round.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Latencies of successful calls. As JSON, a list of (nanoseconds, count).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_max(LATENCY_NS_MAX, SIGNIFICANT_DIGITS).expect("the digits are within 0 to 5"))
    }
}

impl Latencies {
    /// Takes one call.
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Takes the calls of `other` too.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }

    /// Forgets all calls.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// How many calls.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time within which that part of the calls was answered, in microseconds; 0 without calls.
    #[must_use]
    pub fn quantile_us(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }
}

impl From<Vec<(u64, u64)>> for Latencies {
    fn from(steps: Vec<(u64, u64)>) -> Self {
        let mut latencies = Self::default();
        for (nanoseconds, count) in steps {
            latencies.0.saturating_record_n(nanoseconds, count);
        }
        latencies
    }
}

impl From<Latencies> for Vec<(u64, u64)> {
    fn from(latencies: Latencies) -> Self {
        latencies.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_survive_the_way_through_json() {
        let mut latencies = Latencies::default();
        (1..=1000).for_each(|milliseconds| latencies.record(Duration::from_millis(milliseconds)));

        let json = serde_json::to_string(&latencies).expect("numbers always serialize");
        let read: Latencies = serde_json::from_str(&json).expect("it was just written");

        for (quantile, expected_us) in [(0.5, 500_000.0), (0.9, 900_000.0), (0.99, 990_000.0), (0.999, 999_000.0)] {
            let found = read.quantile_us(quantile);
            assert!((found / expected_us - 1.0).abs() < 0.002, "{quantile}: {found}");
        }
        assert_eq!(read.count(), 1000);
    }
}
