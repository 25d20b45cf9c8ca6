//! How long to wait before a target that is gone is tried again.

use std::time::Duration;

/// The first wait: short, because most losses are a restart.
const FIRST: Duration = Duration::from_millis(250);

/// The longest wait: a try every half minute costs nothing and finds a machine that was switched on soon enough.
const LONGEST: Duration = Duration::from_secs(30);

/// Doubles with each failure; each wait is cut by chance to between half and all of it, so that the peers of a node that
/// comes back do not all dial it in the same moment.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure.
    #[must_use]
    pub fn wait(&mut self) -> Duration {
        let longest = after(self.failures);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// The target answered.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

fn after(failures: u32) -> Duration {
    FIRST.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_start_anew() {
        assert_eq!(
            [after(0), after(1), after(3), after(30), after(u32::MAX)],
            [FIRST, Duration::from_millis(500), Duration::from_secs(2), LONGEST, LONGEST]
        );
        let mut backoff = Backoff::default();
        for failures in 0..40 {
            let wait = backoff.wait();
            assert!(wait >= after(failures) / 2 && wait <= after(failures), "{failures}: {wait:?}");
        }

        backoff.reset();

        assert!(backoff.wait() <= FIRST);
    }
}
