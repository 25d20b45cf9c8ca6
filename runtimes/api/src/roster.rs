//! The targets of a runtime, and how others are put in their place while it runs.

use std::{collections::HashMap, fmt, sync::Arc};

use arc_swap::ArcSwap;

use crate::{Arrivals, Board, TargetId};

/// A target that a roster holds.
pub trait Member: Send + Sync + 'static {
    /// Its name, unique in the roster.
    fn target(&self) -> &TargetId;

    /// The configuration does not name it any more, or with other settings: it finishes what it began and publishes nothing.
    fn retire(&self);
}

/// All targets of a runtime by name, read without a lock; what they offer; and those that nobody drives yet. Cheap to clone.
pub struct Roster<M> {
    members: Arc<ArcSwap<ByName<M>>>,
    board: Board,
    arrivals: Arrivals<Arc<M>>,
}

type ByName<M> = HashMap<TargetId, Arc<M>>;

/// Targets that were checked and not put in force yet. Dropping it changes nothing.
pub struct RosterPlan<M> {
    members: ByName<M>,
    order: Vec<TargetId>,
    fresh: Vec<Arc<M>>,
}

impl<M> Roster<M> {
    /// The target with that name.
    #[must_use]
    pub fn get(&self, target: &TargetId) -> Option<Arc<M>> {
        self.members.load().get(target).map(Arc::clone)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<M>> {
        self.members.load().values().map(Arc::clone).collect()
    }

    /// Where they publish what they offer.
    #[must_use]
    pub const fn board(&self) -> &Board {
        &self.board
    }

    /// Those that nobody drives yet.
    #[must_use]
    pub const fn arrivals(&self) -> &Arrivals<Arc<M>> {
        &self.arrivals
    }
}

impl<M: Member> Roster<M> {
    /// What it takes to have these targets and no others, each with its settings. One that is there and `fits` them stays as it
    /// is, with its connections.
    ///
    /// # Errors
    /// The first of `make`. Nothing has changed then.
    pub fn plan<S, E>(
        &self,
        wanted: impl IntoIterator<Item = (TargetId, S)>,
        fits: impl Fn(&M, &S) -> bool,
        mut make: impl FnMut(S) -> Result<M, E>,
    ) -> Result<RosterPlan<M>, E> {
        let current = self.members.load();
        let mut plan = RosterPlan { members: HashMap::new(), order: Vec::new(), fresh: Vec::new() };
        for (target, settings) in wanted {
            let member = match current.get(&target).filter(|member| fits(member, &settings)) {
                Some(member) => Arc::clone(member),
                None => {
                    let member = Arc::new(make(settings)?);
                    plan.fresh.push(Arc::clone(&member));
                    member
                }
            };
            plan.order.push(target.clone());
            plan.members.insert(target, member);
        }
        Ok(plan)
    }

    /// Puts a plan in force. New calls go to the new targets; calls in flight on those that are gone finish where they are.
    pub fn apply(&self, plan: RosterPlan<M>) {
        let RosterPlan { members, order, fresh } = plan;
        let stays = |member: &Arc<M>| members.get(member.target()).is_some_and(|now| Arc::ptr_eq(now, member));
        let is_fresh = |target: &TargetId| fresh.iter().any(|member| member.target() == target);
        let before = self.members.swap(Arc::new(members.clone()));
        // Before the board, so that one that leaves cannot overwrite what stands there after it.
        before.values().filter(|member| !stays(member)).for_each(|member| member.retire());
        self.board.relist(&order, is_fresh);
        self.arrivals.add(fresh);
    }
}

impl<M> Default for Roster<M> {
    fn default() -> Self {
        let members = Arc::new(ArcSwap::from_pointee(HashMap::new()));
        Self { members, board: Board::default(), arrivals: Arrivals::default() }
    }
}

impl<M> Clone for Roster<M> {
    fn clone(&self) -> Self {
        Self { members: Arc::clone(&self.members), board: self.board.clone(), arrivals: self.arrivals.clone() }
    }
}

impl<M> fmt::Debug for Roster<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roster").field("members", &self.members.load().len()).finish_non_exhaustive()
    }
}

impl<M> fmt::Debug for RosterPlan<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RosterPlan").field("order", &self.order).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    struct Server {
        target: TargetId,
        setting: u8,
        retired: AtomicBool,
    }

    impl Member for Server {
        fn target(&self) -> &TargetId {
            &self.target
        }

        fn retire(&self) {
            self.retired.store(true, Ordering::Relaxed);
        }
    }

    fn plan(roster: &Roster<Server>, wanted: &[(&str, u8)]) -> Result<RosterPlan<Server>, &'static str> {
        let wanted = wanted.iter().map(|(name, setting)| (TargetId::from(*name), (TargetId::from(*name), *setting)));
        roster.plan(
            wanted,
            |server, (_, setting)| server.setting == *setting,
            |(target, setting)| match setting {
                0 => Err("no such setting"),
                setting => Ok(Server { target, setting, retired: AtomicBool::new(false) }),
            },
        )
    }

    #[test]
    fn what_is_the_same_stays_and_what_is_not_is_retired() {
        let roster = Roster::default();
        roster.apply(plan(&roster, &[("same", 1), ("changed", 1), ("gone", 1)]).unwrap());
        let before = ["same", "changed", "gone"].map(|name| roster.get(&name.into()).unwrap());
        assert_eq!(roster.arrivals().take().len(), 3);

        roster.apply(plan(&roster, &[("new", 1), ("changed", 2), ("same", 1)]).unwrap());

        assert_eq!(before.each_ref().map(|server| server.retired.load(Ordering::Relaxed)), [false, true, true]);
        assert!(Arc::ptr_eq(&before[0], &roster.get(&"same".into()).unwrap()));
        assert!(roster.get(&"gone".into()).is_none());
        let fresh: Vec<_> = roster.arrivals().take().iter().map(|server| server.target.to_string()).collect();
        assert_eq!(fresh, ["new", "changed"]);
        let offered: Vec<_> = roster.board().subscribe().borrow().targets.iter().map(|one| one.target.to_string()).collect();
        assert_eq!(offered, ["new", "changed", "same"]);
    }

    #[test]
    fn a_plan_that_fails_changes_nothing() {
        let roster = Roster::default();
        roster.apply(plan(&roster, &[("a", 1)]).unwrap());

        assert_eq!(plan(&roster, &[("b", 1), ("a", 0)]).err(), Some("no such setting"));

        assert!(roster.get(&"a".into()).is_some_and(|server| !server.retired.load(Ordering::Relaxed)));
        assert!(roster.get(&"b".into()).is_none());
    }
}
