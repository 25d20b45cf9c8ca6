//! `/health`, `/health/ready`, `/health/runtime`.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::catalog::Catalog;

/// Whether requests should be sent here.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    ready: Arc<std::sync::atomic::AtomicBool>,
    draining: CancellationToken,
}

impl Readiness {
    /// Not ready; not again once `draining` is cancelled.
    #[must_use]
    pub fn new(draining: CancellationToken) -> Self {
        Self { ready: Arc::default(), draining }
    }

    /// Says that listeners are bound and targets had their chance to answer.
    pub fn set_ready(&self) {
        self.ready.store(true, std::sync::atomic::Ordering::Release);
    }

    /// `ready`, `starting` or `draining`.
    #[must_use]
    pub fn status(&self) -> &'static str {
        if self.draining.is_cancelled() {
            "draining"
        } else if self.ready.load(std::sync::atomic::Ordering::Acquire) {
            "ready"
        } else {
            "starting"
        }
    }
}

/// Each runtime and its targets.
pub(super) fn runtimes(catalog: &Catalog) -> Value {
    let snapshot = catalog.load();
    let mut runtimes: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (runtime, target) in snapshot.targets() {
        runtimes.entry(runtime.as_str()).or_default().push(json!({
            "target": target.target.as_str(),
            "state": target.state.as_str(),
            "reason": target.state.reason(),
            "tools": target.tools.len(),
            "eras": { "modern": format!("{:?}", target.eras.modern).to_lowercase(), "legacy": format!("{:?}", target.eras.legacy).to_lowercase() },
        }));
    }
    let refused = snapshot.refused.iter().map(
        |refused| json!({ "tool": &*refused.public, "target": refused.target.as_str(), "held_by": refused.holder.as_str() }),
    );
    json!({ "runtimes": runtimes, "refused": refused.collect::<Vec<_>>() })
}
