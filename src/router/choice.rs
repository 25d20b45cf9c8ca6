//! Chooses among several candidates of one tool, when the call comes: the healthy first, then the quicker of two.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::Candidate;

/// The share of a new measurement in the average is one in so many: the last ten or so calls count.
const WEIGHT: u64 = 5;

/// After so long without a call half of what is remembered of a slow candidate is forgiven, so that it gets another chance.
const HALF_LIFE: Duration = Duration::from_secs(10);

/// Which candidates may answer, as places in the entry's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Those that the reason of the route speaks for.
    pub preferred: Box<[usize]>,
    /// Those that are asked when none of the preferred can answer.
    pub fallback: Box<[usize]>,
}

/// The outcome of a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picked {
    /// The place in the entry's list.
    pub place: usize,
    /// Whether it is one of the preferred.
    pub preferred: bool,
}

impl Choice {
    /// Picks one that was not tried: a healthy one before an unhealthy, a preferred one before a fallback, and among equals the
    /// quicker of two that chance takes out.
    #[must_use]
    pub fn pick(&self, candidates: &[Candidate], tried: &[bool]) -> Option<Picked> {
        let tiers = [(&self.preferred, true), (&self.fallback, false)];
        [true, false].into_iter().find_map(|healthy| {
            tiers.iter().find_map(|(places, preferred)| {
                let left = |place: &usize| !tried[*place] && candidates[*place].is_healthy() == healthy;
                let left: Vec<usize> = places.iter().copied().filter(left).collect();
                let place = quicker_of_two(&left, |place| candidates[place].average_ns().unwrap_or(0))?;
                Some(Picked { place, preferred: *preferred })
            })
        })
    }
}

fn quicker_of_two(places: &[usize], latency: impl Fn(usize) -> u64) -> Option<usize> {
    let one = match places.len() {
        0 => return None,
        1 => return Some(places[0]),
        count => rand::random_range(0..count),
    };
    let other = (one + rand::random_range(1..places.len())) % places.len();
    let (one, other) = (places[one], places[other]);
    Some(if latency(other) < latency(one) { other } else { one })
}

/// A moving average of how long calls of one candidate take. Only kept for tools with several.
#[derive(Debug)]
pub struct Average {
    began: Instant,
    average_ns: AtomicU64,
    /// When it was last measured, after `began`.
    measured_ms: AtomicU64,
}

impl Default for Average {
    fn default() -> Self {
        Self { began: Instant::now(), average_ns: AtomicU64::new(0), measured_ms: AtomicU64::new(0) }
    }
}

impl Average {
    /// Takes one more call in.
    pub fn observe(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let average = self.nanoseconds();
        let new = if average == 0 { took } else { average - average / WEIGHT + took / WEIGHT };
        // Two calls that end at once may lose one of their measurements, which an average does not feel.
        self.average_ns.store(new.max(1), Ordering::Relaxed);
        self.measured_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// The average in nanoseconds. 0 when nothing is known, so that whoever was never asked is asked first.
    #[must_use]
    pub fn nanoseconds(&self) -> u64 {
        let idle_ms = self.now_ms().saturating_sub(self.measured_ms.load(Ordering::Relaxed));
        let halvings = idle_ms / u64::try_from(HALF_LIFE.as_millis()).unwrap_or(u64::MAX);
        self.average_ns.load(Ordering::Relaxed).checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX)).unwrap_or(0)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_the_quicker_is_taken_and_of_many_never_the_slowest() {
        let latencies = [30, 10, 90];

        for _ in 0..100 {
            assert_eq!(quicker_of_two(&[0, 1], |place| latencies[place]), Some(1));
            assert_ne!(quicker_of_two(&[0, 1, 2], |place| latencies[place]), Some(2));
        }
        assert_eq!(quicker_of_two(&[2], |place| latencies[place]), Some(2));
        assert_eq!(quicker_of_two(&[], |place| latencies[place]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_candidate_is_forgiven_with_time() {
        let average = Average::default();
        assert_eq!(average.nanoseconds(), 0);
        average.observe(Duration::from_secs(8));
        average.observe(Duration::from_secs(3));
        assert_eq!(average.nanoseconds(), 7_000_000_000);

        tokio::time::advance(HALF_LIFE * 3).await;

        assert_eq!(average.nanoseconds(), 875_000_000);
    }
}
