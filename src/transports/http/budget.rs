//! Bounds the bytes of request bodies that are held at the same time.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes of all request bodies together. 256 MiB: sixteen of the largest at once; ordinary ones are a thousandth.
pub(super) const BYTES_MAX: usize = 256 * 1024 * 1024;

/// Bodies up to this size are not counted: sixteen thousand connections of them fit beside the budget.
const FREE_BYTES: usize = 16 * 1024;

/// Bytes in use.
#[derive(Debug, Default)]
pub(super) struct Budget(AtomicUsize);

/// A share that is given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// A share of nothing yet.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), bytes: 0 }
    }
}

impl Share {
    /// Grows to `bytes`; `false` when the budget is used up.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        if bytes <= FREE_BYTES || bytes <= self.bytes {
            return true;
        }
        let more = bytes - self.bytes;
        let taken = self
            .budget
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| used.checked_add(more).filter(|used| *used <= BYTES_MAX));
        if taken.is_ok() {
            self.bytes = bytes;
        }
        taken.is_ok()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_that_is_used_up_refuses_until_something_is_given_back() {
        let budget = Arc::new(Budget::default());
        let mut large = budget.share();
        assert!(large.grow(BYTES_MAX));

        let mut other = budget.share();
        assert!(other.grow(FREE_BYTES));
        assert!(!other.grow(FREE_BYTES + 1));

        drop(large);
        assert!(other.grow(FREE_BYTES + 1));
    }
}
