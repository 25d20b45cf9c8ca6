//! Sessions that were ended while their handles are still good: whoever has such a handle is refused.

use std::collections::HashMap;

/// Ended sessions that are remembered: as many as a busy fleet opens and ends within a day; 40 bytes each.
const REMEMBERED_MAX: usize = 100_000;

/// Which handles are refused although they have not expired. Times are seconds of the Unix clock.
#[derive(Debug)]
pub(super) struct Ended {
    /// When each handle expires, by the session's id.
    remembered: HashMap<u128, u64>,
    /// Handles that expire until then are refused altogether: not all ended ones of that age could be remembered.
    refused_until_s: u64,
    remembered_max: usize,
}

impl Ended {
    /// Of a gateway that has ended no session yet.
    pub(super) fn new() -> Self {
        Self { remembered: HashMap::new(), refused_until_s: 0, remembered_max: REMEMBERED_MAX }
    }

    /// A session was ended whose handle expires then.
    ///
    /// When there is no more room, the older half is forgotten, and all handles of their age are refused: then clients whose session
    /// was forgotten as idle have to initialize again, which is better than to take a handle that was ended.
    pub(super) fn add(&mut self, id: u128, expires_s: u64, now_s: u64) {
        if self.remembered.len() >= self.remembered_max {
            self.sweep(now_s);
        }
        if self.remembered.len() >= self.remembered_max {
            let mut expiries: Vec<_> = self.remembered.values().copied().collect();
            let half = expiries.len() / 2;
            self.refused_until_s = *expiries.select_nth_unstable(half).1;
            self.sweep(self.refused_until_s);
        }
        self.remembered.insert(id, expires_s);
    }

    /// Whether that handle is refused.
    pub(super) fn has(&self, id: u128, expires_s: u64) -> bool {
        expires_s <= self.refused_until_s || self.remembered.contains_key(&id)
    }

    /// Forgets the handles that have expired.
    pub(super) fn sweep(&mut self, now_s: u64) {
        self.remembered.retain(|_, expires_s| *expires_s > now_s);
        // What one busy day needed is not held for ever.
        if self.remembered.len() < self.remembered.capacity() / 4 {
            self.remembered.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_that_was_ended_stays_refused_however_many_are_ended() {
        let mut ended = Ended { remembered_max: 8, ..Ended::new() };
        let all = || (0..100_u64).map(|number| (u128::from(number), 1_000 + number));

        for (id, expires_s) in all() {
            ended.add(id, expires_s, 500);

            assert!(ended.remembered.len() <= 8);
        }

        for (id, expires_s) in all() {
            assert!(ended.has(id, expires_s), "{id}");
        }
        assert!(!ended.has(200, 1_100), "who was not ended and is younger than all that were forgotten");
    }

    #[test]
    fn what_has_expired_is_forgotten() {
        let mut ended = Ended::new();
        ended.add(1, 1_000, 500);

        ended.sweep(1_000);

        assert!(ended.remembered.is_empty());
        assert!(!ended.has(2, 1_001), "nobody else is refused for it");
    }
}
