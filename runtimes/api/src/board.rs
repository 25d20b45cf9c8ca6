//! Where a runtime publishes what its targets offer.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{About, CacheHints, Eras, Freshness, Interest, Item, Items, Kind, Offers, TargetId, TargetOffers, TargetState};

/// One place for each target. Only what differs is published, because each publication makes the catalogue anew. Cheap to
/// clone.
#[derive(Debug, Clone, Default)]
pub struct Board {
    offers: watch::Sender<Arc<Offers>>,
}

/// What a target has answered.
#[derive(Debug, Clone)]
pub struct Heard {
    /// What carries its calls, as spans name it.
    pub transport: &'static str,
    /// Which eras it serves, as far as probed.
    pub eras: Eras,
    /// What it says of itself.
    pub about: About,
    /// What it lists.
    pub items: Items,
    /// For how long, and for whom, it says that this is good.
    pub hints: CacheHints,
}

impl Board {
    /// What is offered, now and whenever that changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Offers>> {
        self.offers.subscribe()
    }

    /// Gives these targets a place each, in this order, and others none.
    pub fn relist(&self, targets: &[TargetId], fresh: impl Fn(&TargetId) -> bool) {
        self.offers.send_modify(|offers| *offers = Arc::new(offers.of(targets, fresh)));
    }

    /// Which resources of a target somebody wants to hear of. Of one that has no place nobody wants anything.
    #[must_use]
    pub fn interest(&self, target: &TargetId) -> Interest {
        let offers = self.offers.borrow();
        let known = offers.targets.iter().find(|known| known.target == *target);
        known.map(|known| known.interest.clone()).unwrap_or_default()
    }

    /// The target answers. Returns the name of its state when that is another than before. Of a target that is `retired`
    /// nothing is published: whoever comes after it may have published already.
    pub fn answers(&self, target: &TargetId, retired: &CancellationToken, heard: Heard) -> Option<&'static str> {
        let Heard { transport, eras, about, mut items, hints } = heard;
        self.edit(target, retired, |known| TargetOffers {
            target: known.target.clone(),
            interest: known.interest.clone(),
            state: TargetState::Ready,
            transport: Some(transport),
            eras,
            about,
            items: {
                for kind in Kind::ALL {
                    let (known, found) = (known.items.of(kind), items.of_mut(kind));
                    if same(known, found) {
                        *found = Arc::clone(known);
                    }
                }
                items
            },
            freshness: Freshness::new(hints),
        })
    }

    /// The target does not answer; its last known tools stay. Returns as [`Self::answers`] does.
    pub fn fails(&self, target: &TargetId, retired: &CancellationToken, reason: &Arc<str>) -> Option<&'static str> {
        self.edit(target, retired, |known| {
            let reason = Arc::clone(reason);
            let state = match known.state {
                TargetState::Connecting | TargetState::Failed(_) => TargetState::Failed(reason),
                TargetState::Ready | TargetState::Stale(_) => TargetState::Stale(reason),
            };
            TargetOffers { state, transport: None, ..known.clone() }
        })
    }

    fn edit(
        &self,
        target: &TargetId,
        retired: &CancellationToken,
        change: impl FnOnce(&TargetOffers) -> TargetOffers,
    ) -> Option<&'static str> {
        let mut entered = None;
        self.offers.send_if_modified(|offers| {
            // Looked at within the lock, so that one that is replaced cannot overwrite what stands there after it.
            if retired.is_cancelled() {
                return false;
            }
            let Some(place) = offers.targets.iter().position(|known| known.target == *target) else { return false };
            let before = &offers.targets[place];
            let after = change(before);
            entered = (after.state.as_str() != before.state.as_str()).then(|| after.state.as_str());
            let (said, says) = (before.freshness.hints(), after.freshness.hints());
            let differs = after.state != before.state
                || after.transport != before.transport
                || after.eras != before.eras
                || after.about != before.about
                || !says.differs_in_time_only(&said)
                || Kind::ALL.into_iter().any(|kind| !Arc::ptr_eq(after.items.of(kind), before.items.of(kind)));
            if differs {
                // Whoever still holds the offers before these is told nothing new of them: they are no longer good.
                Arc::make_mut(offers).targets[place] = Arc::new(after);
            } else {
                before.freshness.renew(says);
            }
            differs
        });
        entered
    }
}

fn same(before: &[Item], after: &[Item]) -> bool {
    before.len() == after.len() && before.iter().zip(after).all(|(before, after)| before.definition == after.definition)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::time::{Duration, Instant};

    use super::*;
    use crate::{CacheHint, CacheScope};

    fn heard(tools: &[&str]) -> Heard {
        let tool = |name: &&str| Item { name: Arc::from(*name), definition: Bytes::from(format!(r#"{{"name":"{name}"}}"#)) };
        let items = Items::of_tools(tools.iter().map(tool).collect::<Vec<_>>());
        Heard { transport: "tcp", eras: Eras::default(), about: About::default(), items, hints: CacheHints::default() }
    }

    #[test]
    fn only_what_differs_is_published() {
        let (board, target, used) = (Board::default(), TargetId::from("a"), CancellationToken::new());
        board.relist(std::slice::from_ref(&target), |_| true);
        let mut offers = board.subscribe();

        assert_eq!(board.answers(&target, &used, heard(&["x"])), Some("ready"));
        assert!(offers.has_changed().unwrap());
        offers.mark_unchanged();
        assert_eq!(board.answers(&target, &used, heard(&["x"])), None);
        assert_eq!(board.answers(&TargetId::from("b"), &used, heard(&["x"])), None);
        assert!(!offers.has_changed().unwrap());
        assert_eq!(board.answers(&target, &used, heard(&["y"])), None, "the state is the same");
        assert!(offers.has_changed().unwrap());
    }

    #[test]
    fn what_a_target_says_again_of_the_same_offers_is_known_without_a_publication_and_says_nothing_of_older_offers() {
        let (board, target, used) = (Board::default(), TargetId::from("a"), CancellationToken::new());
        board.relist(std::slice::from_ref(&target), |_| true);
        let mut offers = board.subscribe();
        let now = Instant::now();
        let mut say = |tools: &[&str], seconds, scope| {
            let about = CacheHint { fresh_until: Some(now + Duration::from_secs(seconds)), scope };
            board.answers(&target, &used, Heard { hints: CacheHints::without_lists(about), ..heard(tools) });
            let is_published = offers.has_changed().unwrap();
            let freshness = offers.borrow_and_update().targets[0].freshness.clone();
            (is_published, freshness)
        };
        let seconds = |freshness: &Freshness| (freshness.hints().about.fresh_until.unwrap() - now).as_secs();

        let (is_published, first) = say(&["x"], 1, CacheScope::Private);
        assert!(is_published);
        let (is_published, _) = say(&["x"], 2, CacheScope::Private);
        assert!(!is_published && seconds(&first) == 2);
        let (is_published, other) = say(&["y"], 3, CacheScope::Private);
        assert!(is_published && seconds(&first) == 2 && seconds(&other) == 3);
        let (is_published, public) = say(&["y"], 4, CacheScope::Public);
        assert!(is_published && seconds(&other) == 3 && seconds(&public) == 4);
    }

    #[test]
    fn a_target_that_fails_keeps_what_it_offered_and_a_retired_one_says_nothing() {
        let (board, target, used) = (Board::default(), TargetId::from("a"), CancellationToken::new());
        board.relist(std::slice::from_ref(&target), |_| true);
        let reason: Arc<str> = "gone".into();

        assert_eq!(board.fails(&target, &used, &reason), Some("failed"));
        board.answers(&target, &used, heard(&["x"]));
        assert_eq!(board.fails(&target, &used, &reason), Some("stale"));
        used.cancel();
        assert_eq!(board.answers(&target, &used, heard(&[])), None);

        let offered = Arc::clone(&board.subscribe().borrow().targets[0]);
        assert_eq!((offered.state.reason(), offered.items.tools.len(), offered.transport), (Some("gone"), 1, None));
    }
}
