//! Changes the upstreams of a runtime while it runs.
//!
//! ```text
//! upstreams -> plan (may fail, changes nothing) -> apply (cannot fail)
//!                 unchanged: the target as it is, with its connections and sessions
//!                 new, changed: a new target            removed, changed: the old one drains
//! ```

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use runtime_api::{Eras, Offers, TargetId, TargetOffers, TargetState};
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use crate::{
    runtime::SetupError,
    settings::Upstream,
    target::Target,
    targets::{ByName, Targets},
};

/// Why the tools of an upstream whose settings changed are those that were known before.
const CHANGED: &str = "its configuration has changed and it has not answered since";

/// A way to a runtime's upstreams. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpControl {
    pub(crate) targets: Targets,
    pub(crate) offers: watch::Sender<Arc<Offers>>,
    pub(crate) background: TaskTracker,
    pub(crate) arrivals: Arc<Arrivals>,
}

/// Upstreams that were checked and not put in force yet. Dropping it changes nothing.
#[derive(Debug)]
pub struct Plan {
    targets: ByName,
    order: Vec<TargetId>,
    fresh: Vec<Arc<Target>>,
}

/// Targets that nobody keeps yet; the runtime takes them as soon as it runs.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    waiting: Mutex<Vec<Arc<Target>>>,
    added: Notify,
}

impl HttpControl {
    pub(crate) fn new() -> Self {
        let (offers, _) = watch::channel(Arc::default());
        Self { targets: Targets::default(), offers, background: TaskTracker::new(), arrivals: Arc::default() }
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
        // Before the offers, so that a target that leaves cannot overwrite what stands there after it.
        leaving.iter().for_each(|target| target.retired.cancel());
        self.offers.send_modify(|offers| {
            let known = |id: &TargetId| offers.targets.iter().find(|known| known.target == *id).cloned();
            let offered = |id: &TargetId| match known(id) {
                Some(known) if is_fresh(id) => Arc::new(carried_over(&known)),
                Some(known) => known,
                None => Arc::new(unheard_of(id.clone())),
            };
            *offers = Arc::new(Offers { targets: order.iter().map(offered).collect() });
        });
        self.arrivals.add(fresh);
    }
}

impl Arrivals {
    fn add(&self, targets: Vec<Arc<Target>>) {
        self.waiting.lock().extend(targets);
        self.added.notify_one();
    }

    pub(crate) fn take(&self) -> Vec<Arc<Target>> {
        std::mem::take(&mut *self.waiting.lock())
    }

    /// Waits until there may be some. Cancel-safe.
    pub(crate) async fn come(&self) {
        self.added.notified().await;
    }
}

/// Clients keep the tools they know until the upstream has answered under its new settings.
fn carried_over(known: &TargetOffers) -> TargetOffers {
    let state = match known.state {
        TargetState::Ready | TargetState::Stale(_) => TargetState::Stale(CHANGED.into()),
        TargetState::Connecting | TargetState::Failed(_) => TargetState::Connecting,
    };
    TargetOffers { state, ..known.clone() }
}

fn unheard_of(target: TargetId) -> TargetOffers {
    TargetOffers { target, state: TargetState::Connecting, eras: Eras::default(), server_info: None, tools: Arc::new([]) }
}
