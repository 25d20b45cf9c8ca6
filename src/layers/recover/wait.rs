//! How long to wait before a call is made again.

use std::time::Duration;

use crate::config::{Backoff, Retry};

/// The wait after so many rounds (one or more). `chance` is within 0 to 1, and shortens the wait by at most the jitter.
pub(super) fn before_round(retry: &Retry, rounds: u32, chance: f64) -> Duration {
    let factor = match retry.policy {
        Backoff::None | Backoff::Fixed => 1,
        Backoff::Linear => rounds,
        Backoff::Exponential => 2_u32.saturating_pow(rounds.saturating_sub(1)),
    };
    let whole = retry.delay.saturating_mul(factor).min(retry.max_delay);
    whole.mul_f64(1.0 - retry.jitter * chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_grows_as_it_says_up_to_the_longest_wait() {
        let waits = |policy| {
            let retry = Retry { delay: Duration::from_secs(1), max_delay: Duration::from_secs(5), ..Retry::new(policy) };
            [1, 2, 3, 4, 40].map(|round| before_round(&retry, round, 0.0).as_secs())
        };

        assert_eq!(waits(Backoff::Fixed), [1, 1, 1, 1, 1]);
        assert_eq!(waits(Backoff::Linear), [1, 2, 3, 4, 5]);
        assert_eq!(waits(Backoff::Exponential), [1, 2, 4, 5, 5]);
    }

    #[test]
    fn jitter_shortens_a_wait_by_its_part_at_most() {
        let retry = Retry { jitter: 0.5, ..Retry::new(Backoff::Fixed) };

        assert_eq!(before_round(&retry, 1, 1.0), retry.delay / 2);
        assert_eq!(before_round(&retry, 1, 0.0), retry.delay);
    }
}
