//! What a runtime's targets offer at this moment.

use std::sync::Arc;

use bytes::Bytes;

use crate::TargetId;

/// A snapshot of everything a runtime offers. Published whole through a watch channel.
#[derive(Debug, Clone, Default)]
pub struct Offers {
    /// One entry for each configured or discovered target, in a stable order.
    pub targets: Vec<Arc<TargetOffers>>,
}

/// What one target offers.
#[derive(Debug, Clone)]
pub struct TargetOffers {
    /// The target's name.
    pub target: TargetId,
    /// Whether it answers.
    pub state: TargetState,
    /// Which eras it serves, as far as probed.
    pub eras: Eras,
    /// The raw `serverInfo` object it gave.
    pub server_info: Option<Bytes>,
    /// Its tools, in the order it lists them.
    pub tools: Arc<[Tool]>,
}

/// Whether a target answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetState {
    /// Not yet heard of.
    Connecting,
    /// It answers.
    Ready,
    /// It does not answer now; its last known list is served. Holds the reason.
    Stale(Arc<str>),
    /// It never answered. Holds the reason.
    Failed(Arc<str>),
}

impl TargetState {
    /// `connecting`, `ready`, `stale` or `failed`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Ready => "ready",
            Self::Stale(_) => "stale",
            Self::Failed(_) => "failed",
        }
    }

    /// Why it does not answer.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Connecting | Self::Ready => None,
            Self::Stale(reason) | Self::Failed(reason) => Some(reason),
        }
    }
}

/// One tool as its target defines it.
#[derive(Debug, Clone)]
pub struct Tool {
    /// Its name at the target.
    pub name: Arc<str>,
    /// The whole definition as raw JSON, byte for byte.
    pub definition: Bytes,
}

/// The eras of a target. Probed apart, because many servers serve both and say so nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Eras {
    /// Serves revision 2026-07-28.
    pub modern: Support,
    /// Serves `initialize`.
    pub legacy: Support,
}

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Support {
    /// Not asked yet.
    #[default]
    Unknown,
    /// It does.
    Yes,
    /// It does not.
    No,
}
