//! What a view may promise of its lists, and of what it says of itself: for how long a client may keep them, and who else may be given
//! them (2026-07-28, caching).

use std::time::Duration;

use runtime_api::{CacheScope, Cacheable, Freshness, Kind, TargetOffers};
use tokio::time::Instant;

/// What is promised of what nobody has said anything of. Most servers say nothing, and a list is not asked for in each step of a model.
const TTL_DEFAULT: Duration = Duration::from_secs(5);

/// The longest promise, whatever the targets say: rules and targets of the gateway change too, and a client that does not listen for
/// that must not call for long what is no longer there.
const TTL_MAX: Duration = Duration::from_secs(5 * 60);

/// What may be promised of one result. What does not depend on the clock is found out once.
#[derive(Debug)]
pub struct Promise {
    what: Cacheable,
    scope: CacheScope,
    ttl_max: Duration,
    /// Of the targets that say how long their parts are good.
    said: Vec<Freshness>,
}

/// The promises of one view.
#[derive(Debug)]
pub(super) struct Promises {
    about: Promise,
    /// In the order of [`Kind::ALL`].
    lists: [Promise; Kind::ALL.len()],
}

impl Promise {
    /// Of a result that is put together from these targets.
    fn of(what: Cacheable, targets: &[impl AsRef<TargetOffers>]) -> Self {
        let parts = targets.iter().map(|target| &target.as_ref().freshness);
        let parts: Vec<_> = parts.filter_map(|freshness| Some((freshness, freshness.hints().of(what)?))).collect();
        let is_public = !parts.is_empty() && parts.iter().all(|(_, hint)| hint.scope == CacheScope::Public);
        let said: Vec<_> = parts.iter().filter(|(_, hint)| hint.fresh_until.is_some()).collect();
        let all_say = !parts.is_empty() && said.len() == parts.len();
        Self {
            what,
            scope: if is_public { CacheScope::Public } else { CacheScope::Private },
            ttl_max: if all_say { TTL_MAX } else { TTL_DEFAULT },
            said: said.into_iter().map(|(freshness, _)| (*freshness).clone()).collect(),
        }
    }

    /// Of what comes from no target.
    #[must_use]
    pub const fn of_own(what: Cacheable) -> Self {
        Self { what, scope: CacheScope::Private, ttl_max: TTL_DEFAULT, said: Vec::new() }
    }

    /// For how long it is good from now on: as long as the part that is good for the shortest time. Linear in the targets.
    #[must_use]
    pub fn ttl(&self, now: Instant) -> Duration {
        let until = self.said.iter().filter_map(|freshness| freshness.hints().of(self.what)?.fresh_until);
        until.map(|until| until.saturating_duration_since(now)).fold(self.ttl_max, Duration::min)
    }

    /// For whom it is, as far as the targets say: for everybody if each of its parts is.
    #[must_use]
    pub const fn scope(&self) -> CacheScope {
        self.scope
    }
}

impl Promises {
    pub(super) fn of(targets: &[impl AsRef<TargetOffers>]) -> Self {
        Self {
            about: Promise::of(Cacheable::About, targets),
            lists: Kind::ALL.map(|kind| Promise::of(Cacheable::List(kind), targets)),
        }
    }

    pub(super) const fn of_result(&self, what: Cacheable) -> &Promise {
        match what {
            Cacheable::About => &self.about,
            Cacheable::List(kind) => &self.lists[kind as usize],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use runtime_api::{CacheHint, CacheHints};

    use super::*;

    const LIST: Cacheable = Cacheable::List(Kind::Prompt);

    /// A target that says this of its prompts: milliseconds from then on, and whether they are for everybody.
    fn target(now: Instant, said: Option<(Option<u64>, bool)>) -> Arc<TargetOffers> {
        let mut hints = CacheHints::without_lists(CacheHint::default());
        if let Some((ttl_ms, is_public)) = said {
            let scope = if is_public { CacheScope::Public } else { CacheScope::Private };
            hints.set(Kind::Prompt, CacheHint { fresh_until: ttl_ms.map(|ttl_ms| now + Duration::from_millis(ttl_ms)), scope });
        }
        Arc::new(TargetOffers { freshness: Freshness::new(hints), ..TargetOffers::unheard_of("up".into()) })
    }

    #[test]
    fn a_list_is_promised_for_as_long_and_for_as_many_as_each_of_its_parts_is() {
        let now = Instant::now();
        let (public, private) = (CacheScope::Public, CacheScope::Private);
        let default = 5_000;
        let cases: [(&[_], u64, u64, CacheScope); 10] = [
            (&[], 0, default, private),
            (&[None, None], 0, default, private),
            (&[Some((Some(60_000), true))], 0, 60_000, public),
            (&[Some((Some(60_000), true))], 59_000, 1_000, public),
            (&[Some((Some(60_000), true))], 61_000, 0, public),
            (&[Some((Some(60_000), true)), Some((Some(70_000), true)), None], 1_000, 59_000, public),
            (&[Some((Some(60_000), true)), Some((Some(9_000), false))], 0, 9_000, private),
            (&[Some((Some(60_000), true)), Some((None, false))], 0, default, private),
            (&[Some((Some(2_000), true)), Some((None, true))], 0, 2_000, public),
            (&[Some((Some(86_400_000), true))], 0, 300_000, public),
        ];
        for (said, later_ms, ttl_ms, scope) in cases {
            let targets: Vec<_> = said.iter().map(|said| target(now, *said)).collect();

            let promise = Promise::of(LIST, &targets);

            let ttl = promise.ttl(now + Duration::from_millis(later_ms));
            assert_eq!((ttl, promise.scope()), (Duration::from_millis(ttl_ms), scope), "{said:?} after {later_ms} ms");
        }
    }

    #[test]
    fn of_a_target_that_has_not_answered_nothing_is_promised() {
        let promises = Promises::of(&[Arc::new(TargetOffers::unheard_of("up".into()))]);

        for what in [Cacheable::About, LIST] {
            let promise = promises.of_result(what);
            assert_eq!((promise.ttl(Instant::now()), promise.scope()), (TTL_DEFAULT, CacheScope::Private), "{what:?}");
        }
    }
}
