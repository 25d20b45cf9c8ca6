//! Changes the upstreams of a runtime while it runs.
//!
//! ```text
//! upstreams -> plan (may fail, changes nothing) -> apply (cannot fail)
//!                 unchanged: the target as it is, with its connections and sessions
//!                 new, changed: a new target            removed, changed: the old one drains
//! ```

use std::{collections::HashMap, sync::Arc};

use runtime_api::{Arrivals, Board, TargetId};
use tokio_util::task::TaskTracker;

use crate::{
    runtime::SetupError,
    settings::Upstream,
    target::Target,
    targets::{ByName, Targets},
};

/// A way to a runtime's upstreams. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpControl {
    pub(crate) targets: Targets,
    pub(crate) board: Board,
    pub(crate) background: TaskTracker,
    /// Targets that nobody keeps yet.
    pub(crate) arrivals: Arrivals<Arc<Target>>,
}

/// Upstreams that were checked and not put in force yet. Dropping it changes nothing.
#[derive(Debug)]
pub struct Plan {
    targets: ByName,
    order: Vec<TargetId>,
    fresh: Vec<Arc<Target>>,
}

impl HttpControl {
    pub(crate) fn new() -> Self {
        let (targets, board, arrivals) = (Targets::default(), Board::default(), Arrivals::default());
        Self { targets, board, background: TaskTracker::new(), arrivals }
    }

    /// What it takes to have these upstreams and no others; their names are unique. Opens no connection.
    ///
    /// # Errors
    /// [`SetupError`] when one cannot be used. Nothing has changed then.
    pub fn plan(&self, upstreams: Vec<Upstream>) -> Result<Plan, SetupError> {
        let current = self.targets.all();
        let mut plan = Plan { targets: HashMap::with_capacity(upstreams.len()), order: Vec::new(), fresh: Vec::new() };
        for upstream in upstreams {
            let id = upstream.target.clone();
            plan.order.push(id.clone());
            let kept = current.get(&id).filter(|target| target.site.settings == upstream);
            let target = match kept {
                Some(target) => Arc::clone(target),
                None => {
                    let target = Target::new(upstream, self.background.clone());
                    let target = Arc::new(target.map_err(|what| SetupError { target: id.clone(), what })?);
                    plan.fresh.push(Arc::clone(&target));
                    target
                }
            };
            plan.targets.insert(id, target);
        }
        Ok(plan)
    }

    /// Puts a plan in force. New calls go to the new targets; calls in flight on those that are gone finish where they are.
    pub fn apply(&self, plan: Plan) {
        let Plan { targets, order, fresh } = plan;
        let stays = |target: &Arc<Target>| targets.get(&target.site.settings.target).is_some_and(|now| Arc::ptr_eq(now, target));
        let leaving: Vec<_> = self.targets.all().values().filter(|target| !stays(target)).cloned().collect();
        let is_fresh = |id: &TargetId| fresh.iter().any(|target| target.site.settings.target == *id);
        self.targets.replace(targets.clone());
        // Before the board, so that a target that leaves cannot overwrite what stands there after it.
        leaving.iter().for_each(|target| target.retired.cancel());
        self.board.relist(&order, is_fresh);
        self.arrivals.add(fresh);
    }
}
