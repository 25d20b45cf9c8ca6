//! Changes the upstreams of a runtime while it runs.
//!
//! ```text
//! upstreams -> plan (may fail, changes nothing) -> apply (cannot fail)
//!                 unchanged: the target as it is, with its connections and sessions
//!                 new, changed: a new target            removed, changed: the old one drains
//! ```

use runtime_api::{Roster, RosterPlan};
use tokio_util::task::TaskTracker;

use crate::{runtime::SetupError, settings::Upstream, target::Target};

/// A way to a runtime's upstreams. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct HttpControl {
    pub(crate) targets: Roster<Target>,
    pub(crate) background: TaskTracker,
}

/// Upstreams that were checked and not put in force yet. Dropping it changes nothing.
#[derive(Debug)]
pub struct Plan(RosterPlan<Target>);

impl HttpControl {
    /// What it takes to have these upstreams and no others; their names are unique. Opens no connection.
    ///
    /// # Errors
    /// [`SetupError`] when one cannot be used. Nothing has changed then.
    pub fn plan(&self, upstreams: Vec<Upstream>) -> Result<Plan, SetupError> {
        let wanted = upstreams.into_iter().map(|upstream| (upstream.target.clone(), upstream));
        let make = |upstream: Upstream| {
            let target = upstream.target.clone();
            Target::new(upstream, self.background.clone()).map_err(|what| SetupError { target, what })
        };
        self.targets.plan(wanted, |target, upstream| target.site.settings == *upstream, make).map(Plan)
    }

    /// Puts a plan in force. New calls go to the new targets; calls in flight on those that are gone finish where they are.
    pub fn apply(&self, plan: Plan) {
        self.targets.apply(plan.0);
    }
}
