//! What was turned away, and why: nothing is refused without being counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why something of a peer was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// A stream above the peer's quota.
    StreamQuota,
    /// Streams opened faster than the peer may.
    OpenRate,
    /// A stream while as many wait to be taken as may wait.
    AcceptQueueFull,
    /// A frame with a declared length above the limit.
    FrameTooLarge,
    /// A frame of no bytes.
    FrameEmpty,
    /// A stream that ended inside the length of a frame.
    IncompletePrefix,
    /// A stream that ended inside the body of a frame.
    IncompleteBody,
    /// A body that is not UTF-8.
    InvalidUtf8,
    /// A body that is not JSON.
    InvalidJson,
    /// JSON, but not one message: an array, a number, a message without what the protocol wants.
    NotAMessage,
    /// An answer to nothing that was asked.
    UnknownId,
    /// An answer to a call that nobody waits for any more.
    LateAnswer,
    /// A call that the peer is not allowed to make.
    Authority,
}

impl Refusal {
    /// Every reason, in the order of [`Refusal::as_str`] in metrics.
    pub const ALL: [Self; 13] = [
        Self::StreamQuota,
        Self::OpenRate,
        Self::AcceptQueueFull,
        Self::FrameTooLarge,
        Self::FrameEmpty,
        Self::IncompletePrefix,
        Self::IncompleteBody,
        Self::InvalidUtf8,
        Self::InvalidJson,
        Self::NotAMessage,
        Self::UnknownId,
        Self::LateAnswer,
        Self::Authority,
    ];

    /// The reason as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StreamQuota => "stream_quota",
            Self::OpenRate => "open_rate",
            Self::AcceptQueueFull => "accept_queue_full",
            Self::FrameTooLarge => "declared_frame_too_large",
            Self::FrameEmpty => "frame_empty",
            Self::IncompletePrefix => "incomplete_prefix",
            Self::IncompleteBody => "incomplete_body",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::InvalidJson => "invalid_json",
            Self::NotAMessage => "not_a_message",
            Self::UnknownId => "unknown_id",
            Self::LateAnswer => "late_answer",
            Self::Authority => "authority",
        }
    }
}

/// One counter for each [`Refusal`]; counting takes no lock.
#[derive(Debug, Default)]
pub struct RefusalCounters {
    counts: [AtomicU64; Refusal::ALL.len()],
}

impl RefusalCounters {
    /// Counts one.
    pub fn count(&self, refusal: Refusal) {
        self.counts[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many were counted so far.
    #[must_use]
    pub fn get(&self, refusal: Refusal) -> u64 {
        self.counts[refusal as usize].load(Ordering::Relaxed)
    }

    /// Every reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        Refusal::ALL.into_iter().map(|refusal| (refusal, self.get(refusal)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter_and_name() {
        let counters = RefusalCounters::default();
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index);
            (0..=index).for_each(|_| counters.count(refusal));
        }

        let counts: Vec<_> = counters.iter().map(|(_, count)| count).collect();
        assert_eq!(counts, (1..=Refusal::ALL.len() as u64).collect::<Vec<_>>());
        let names: std::collections::HashSet<_> = Refusal::ALL.map(Refusal::as_str).into_iter().collect();
        assert_eq!(names.len(), Refusal::ALL.len());
    }
}
