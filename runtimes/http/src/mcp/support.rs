//! Whether an upstream serves an era, and what carries the messages to it: many calls read it, a look writes it.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

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

/// What carries the messages of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// Streamable HTTP.
    Http,
    /// HTTP+SSE (2024-11-05).
    Sse,
}

impl Wire {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Http => Self::Sse,
            Self::Sse => Self::Http,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Sse => "sse",
        }
    }
}

/// [`Wire`] that many calls read and a look writes.
#[derive(Debug)]
pub(super) struct AtomicWire(AtomicBool);

impl AtomicWire {
    pub(super) fn new(wire: Wire) -> Self {
        Self(AtomicBool::new(wire == Wire::Sse))
    }

    pub(super) fn get(&self) -> Wire {
        if self.0.load(Ordering::Acquire) { Wire::Sse } else { Wire::Http }
    }

    pub(super) fn set(&self, wire: Wire) {
        self.0.store(wire == Wire::Sse, Ordering::Release);
    }
}
