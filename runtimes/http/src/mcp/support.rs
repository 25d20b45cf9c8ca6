//! Whether an upstream serves an era: many calls read it, a probe writes it.

use std::sync::atomic::{AtomicU8, Ordering};

use runtime_api::Support;

/// [`Support`] that many calls read and a probe writes.
#[derive(Debug)]
pub(super) struct AtomicSupport(AtomicU8);

impl AtomicSupport {
    pub(super) fn new(support: Support) -> Self {
        Self(AtomicU8::new(support as u8))
    }

    pub(super) fn get(&self) -> Support {
        Self::read(self.0.load(Ordering::Acquire))
    }

    pub(super) fn set(&self, support: Support) {
        self.0.store(support as u8, Ordering::Release);
    }

    pub(super) fn replace(&self, support: Support) -> Support {
        Self::read(self.0.swap(support as u8, Ordering::AcqRel))
    }

    fn read(found: u8) -> Support {
        match found {
            found if found == Support::Yes as u8 => Support::Yes,
            found if found == Support::No as u8 => Support::No,
            _ => Support::Unknown,
        }
    }
}
