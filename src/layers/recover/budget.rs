//! How many retries a target can bear: a share of its calls, and a few in reserve.

use std::sync::atomic::{AtomicI64, Ordering};

/// Ten: a target that is seldom called may be tried again as often as one call may ask for.
const RESERVE: i64 = 10;

/// What is saved up at most. A hundred retries after a quiet hour are a burst that any target bears.
const SAVED_MAX: i64 = 100;

/// Parts of one retry, so that shares need no fractions.
const PARTS: i64 = 100;

/// A bucket of retries: each call of a tool with a retry policy puts a share of one in, each retry takes one out. When a target
/// is down it is asked that share more than usual, instead of as many times more as the policies allow.
#[derive(Debug)]
pub struct Budget {
    percent: u8,
    parts: AtomicI64,
}

impl Budget {
    /// A bucket that gets `percent` of a retry with each call.
    #[must_use]
    pub fn new(percent: u8) -> Self {
        let reserve = if percent == 0 { 0 } else { RESERVE };
        Self { percent, parts: AtomicI64::new(reserve * PARTS) }
    }

    /// Puts in what one call is worth.
    pub(super) fn deposit(&self) {
        let more = |parts: i64| Some((parts + i64::from(self.percent)).min(SAVED_MAX * PARTS));
        self.parts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok();
    }

    /// Takes one retry out, if there is one.
    pub(super) fn withdraw(&self) -> bool {
        let less = |parts: i64| (parts >= PARTS).then_some(parts - PARTS);
        self.parts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_share_of_the_calls_beyond_the_reserve() {
        let budget = Budget::new(20);
        let mut made = 0;
        for _ in 0..1000 {
            budget.deposit();
            made += i64::from(budget.withdraw());
        }

        assert_eq!(made, RESERVE + 200);
    }

    #[test]
    fn without_a_share_there_is_no_retry_and_savings_are_bounded() {
        assert!(!Budget::new(0).withdraw());

        let budget = Budget::new(100);
        (0..10_000).for_each(|_| budget.deposit());
        let saved = (0..10_000).filter(|_| budget.withdraw()).count();

        assert_eq!(saved, usize::try_from(SAVED_MAX).expect("it is small"));
    }
}
