//! How long calls of one tool took on one route: a histogram that costs one atomic step a call.
//!
//! The histograms of `/metrics` have labels from the configuration only, because a label for each tool has no bound. These
//! here are for each tool, and only so many routes are measured: those that are called first.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::metrics::Outcome;

/// Buckets within each doubling: a bucket is at most 1/16 wide of what it holds.
const STEPS: u64 = 16;

/// Doublings above the first 16 us: the last begins at 67 s, and takes everything that is longer.
const DOUBLINGS: u64 = 23;

/// 3 KiB for each route.
const BUCKETS: usize = (STEPS + DOUBLINGS * STEPS) as usize;

/// Routes that are measured at one time: 2,048 are 6 MiB, and more tools than anybody compares.
const ROUTES_MAX: usize = 2_048;

/// How many routes may still be measured. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Budget(Arc<AtomicUsize>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(ROUTES_MAX)))
    }
}

/// The calls of one tool on one route. Takes memory only once it is called.
pub struct Latencies {
    budget: Budget,
    /// `None` inside: there was no budget left when the first call came.
    buckets: OnceLock<Option<Box<[AtomicU64; BUCKETS]>>>,
    tool_errors: AtomicU64,
    failures: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Measured {
    /// Whether calls are measured here at all; not when too many other routes are already.
    pub is_measured: bool,
    /// Replies without `isError`, by the longest time that a bucket holds, in microseconds; only buckets that hold any.
    pub buckets: Vec<(u64, u64)>,
    /// Replies with `isError`.
    pub tool_errors: u64,
    /// Calls without a reply.
    pub failures: u64,
}

impl Latencies {
    /// A route that nobody called yet.
    #[must_use]
    pub const fn new(budget: Budget) -> Self {
        Self { budget, buckets: OnceLock::new(), tool_errors: AtomicU64::new(0), failures: AtomicU64::new(0) }
    }

    /// Records a call that ended. Only what went well is timed: how fast something fails says nothing of how fast it works.
    pub fn record(&self, outcome: Outcome, took: Duration) {
        match outcome {
            Outcome::Ok => {
                if let Some(buckets) = self.buckets.get_or_init(|| self.budget.take()) {
                    buckets[place(micros(took))].fetch_add(1, Ordering::Relaxed);
                }
            }
            Outcome::ToolError => _ = self.tool_errors.fetch_add(1, Ordering::Relaxed),
            Outcome::Failed(_) => _ = self.failures.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// What was measured so far. Calls that end meanwhile may be in it or not.
    #[must_use]
    pub fn read(&self) -> Measured {
        let buckets = self.buckets.get();
        let counts = buckets.into_iter().flatten().flat_map(|buckets| buckets.iter().enumerate());
        let counted = counts.map(|(place, count)| (longest(place), count.load(Ordering::Relaxed)));
        Measured {
            is_measured: !matches!(buckets, Some(None)),
            buckets: counted.filter(|(_, count)| *count > 0).collect(),
            tool_errors: self.tool_errors.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Latencies {
    fn drop(&mut self) {
        if let Some(Some(_)) = self.buckets.get() {
            self.budget.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latencies").field("measured", &self.buckets.get().is_some()).finish_non_exhaustive()
    }
}

impl Budget {
    fn take(&self) -> Option<Box<[AtomicU64; BUCKETS]>> {
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        taken.ok().map(|_| Box::new([const { AtomicU64::new(0) }; BUCKETS]))
    }
}

impl Measured {
    /// Replies that were timed.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// The time in microseconds that this share of the calls stayed within; `None` when nothing was timed.
    #[must_use]
    pub fn quantile_us(&self, share: f64) -> Option<u64> {
        let rank = (share * self.count() as f64).ceil().max(1.0) as u64;
        let mut below = 0;
        let reached = self.buckets.iter().find(|(_, count)| {
            below += count;
            below >= rank
        });
        reached.map(|(longest, _)| *longest)
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// The bucket for a time. Below 16 us each microsecond has its own.
fn place(us: u64) -> usize {
    let place = match us.checked_ilog2().map(u64::from).filter(|_| us >= STEPS) {
        None => us,
        // `us >> (power - 4)` is within 16..32: the step within the doubling.
        Some(power) => (power - 4) * STEPS + (us >> (power - 4)),
    };
    usize::try_from(place).map_or(BUCKETS - 1, |place| place.min(BUCKETS - 1))
}

/// The longest time in a bucket, in microseconds; the last one has none, and says where it begins to end.
fn longest(place: usize) -> u64 {
    let place = place as u64;
    if place < STEPS {
        return place;
    }
    let doubling = place / STEPS - 1;
    ((place % STEPS + STEPS + 1) << doubling) - 1
}

#[cfg(test)]
mod tests {
    use runtime_api::ErrorCode;

    use super::*;

    #[test]
    fn every_time_is_in_a_bucket_that_is_not_much_wider_than_it() {
        let times = (0..70_000).chain((16..27).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 12_345]));
        for us in times {
            let longest = longest(place(us));

            assert!(us <= longest && longest <= us + us / 16, "{us} is in the bucket up to {longest}");
        }
        assert_eq!(place(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for bucket in 1..BUCKETS {
            assert_eq!(place(longest(bucket - 1) + 1), bucket);
        }
    }

    #[test]
    fn shares_are_read_off_and_failures_are_not_timed() {
        let latencies = Latencies::new(Budget::default());
        for us in 1..=10 {
            latencies.record(Outcome::Ok, Duration::from_micros(us));
        }
        latencies.record(Outcome::ToolError, Duration::from_secs(9));
        latencies.record(Outcome::Failed(ErrorCode::Unavailable), Duration::from_secs(9));

        let measured = latencies.read();

        assert_eq!((measured.count(), measured.tool_errors, measured.failures), (10, 1, 1));
        assert_eq!([0.0, 0.5, 0.9, 0.99, 1.0].map(|share| measured.quantile_us(share)), [1, 5, 9, 10, 10].map(Some));
        assert_eq!(Measured::default().quantile_us(0.5), None);
    }

    #[test]
    fn only_so_many_routes_are_measured_and_one_that_goes_makes_room() {
        let budget = Budget(Arc::new(AtomicUsize::new(1)));
        let route = || Latencies::new(budget.clone());
        let (first, second, third) = (route(), route(), route());
        first.record(Outcome::Ok, Duration::ZERO);
        second.record(Outcome::Ok, Duration::ZERO);

        assert_eq!((first.read().count(), second.read().count()), (1, 0));
        assert!(!second.read().is_measured);
        drop(first);
        third.record(Outcome::Ok, Duration::ZERO);

        assert_eq!(third.read().count(), 1);
    }
}
