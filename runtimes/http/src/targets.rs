//! The upstreams of the runtime by name.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use runtime_api::TargetId;

use crate::target::Target;

pub(crate) type ByName = HashMap<TargetId, Arc<Target>>;

/// Shared by the runtime, its services and its control. Replaced whole, read without a lock.
#[derive(Debug, Clone, Default)]
pub(crate) struct Targets(Arc<ArcSwap<ByName>>);

impl Targets {
    pub(crate) fn get(&self, id: &TargetId) -> Option<Arc<Target>> {
        self.0.load().get(id).map(Arc::clone)
    }

    pub(crate) fn all(&self) -> Arc<ByName> {
        self.0.load_full()
    }

    /// Puts others in their place and returns those that were there.
    pub(crate) fn replace(&self, targets: ByName) -> Arc<ByName> {
        self.0.swap(Arc::new(targets))
    }
}
