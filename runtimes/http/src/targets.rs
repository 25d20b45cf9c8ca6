//! The upstreams of the runtime by name.

use std::{collections::HashMap, sync::Arc};

use runtime_api::TargetId;

use crate::target::Target;

/// Shared by the runtime and its services.
#[derive(Debug, Clone)]
pub(crate) struct Targets(Arc<HashMap<TargetId, Arc<Target>>>);

impl Targets {
    pub(crate) fn new(targets: impl Iterator<Item = Target>) -> Self {
        Self(Arc::new(targets.map(|target| (target.site.settings.target.clone(), Arc::new(target))).collect()))
    }

    pub(crate) fn get(&self, id: &TargetId) -> Option<Arc<Target>> {
        self.0.get(id).map(Arc::clone)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.0.values()
    }
}
