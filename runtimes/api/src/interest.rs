//! Which resources of a target somebody wants to hear of, and the news of them.
//!
//! ```text
//! client ──subscribes──► Interest ──wanted()──► runtime asks the target for updates of these URIs, and no others
//!   ▲                       │
//!   └──── Subscriber ◄──────┴──updated(uri)──── runtime heard of an update
//! ```
//!
//! Updates that come while a client does not read are told once, so nothing piles up.

mod demand;
mod tasks;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Bound,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

pub use demand::{Demand, Standing};
pub use tasks::{TaskInterest, TaskWatcher, WatchedTask};

use crate::{Era, Party};
use demand::Unsettled;

/// URIs that are wanted of one target, however many clients want them. Upstreams keep a record for each.
const URIS_MAX: usize = 10_000;

/// Updates that wait for a client to read before parts of a resource are told as the whole.
const NEWS_MAX: usize = 1_000;

/// Longest news of a task of a session: ten times what servers of the SDKs say. Each session may have some of 64 tasks.
const LEGACY_TASK_BYTES_MAX: usize = 4 * 1024;

/// Each session is told of so many tasks at most, and there are only so many sessions: no client leaves less for another.
const LEGACY_TASKS_MAX: usize = usize::MAX;

/// Longest news of a task of the extension, which has the result in it when the task has ended.
const MODERN_TASK_BYTES_MAX: usize = 64 * 1024;

/// Tasks of the extension that are watched: their ids are sent to the target together. Who comes too late sees it in the acknowledgement.
const MODERN_TASKS_MAX: usize = 1_000;

/// What clients want to hear of one target. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub struct Interest(Arc<Shared>);

struct Shared {
    /// By the target's own URI.
    registered: Mutex<BTreeMap<Arc<str>, Vec<Registered>>>,
    wanted: watch::Sender<Arc<BTreeSet<Arc<str>>>>,
    /// Somebody wants another resource than before, or one less, or waits to know how a subscription stands.
    changed: watch::Sender<()>,
    /// Those who wait to know how a subscription stands: at most [`URIS_MAX`].
    unsettled: Mutex<Vec<Unsettled>>,
    /// Tasks of sessions (2025-11-25).
    legacy_tasks: TaskInterest,
    /// Tasks of the extension (2026-07-28).
    modern_tasks: TaskInterest,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            registered: Mutex::default(),
            wanted: watch::Sender::default(),
            changed: watch::Sender::default(),
            unsettled: Mutex::default(),
            legacy_tasks: TaskInterest::new(LEGACY_TASK_BYTES_MAX, LEGACY_TASKS_MAX),
            modern_tasks: TaskInterest::new(MODERN_TASK_BYTES_MAX, MODERN_TASKS_MAX),
        }
    }
}

struct Registered {
    /// The URI as the client knows it.
    public: Arc<str>,
    by: Party,
    subscriber: Weak<News>,
}

/// One client that wants to hear of resources, of any targets. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Subscriber(Arc<News>);

#[derive(Debug, Default)]
struct News {
    /// As the client knows them.
    updated: Mutex<BTreeSet<Arc<str>>>,
    come: Notify,
}

/// A subscription; dropping it ends it.
pub struct Subscribed {
    interest: Interest,
    uri: Arc<str>,
    by: Party,
    subscriber: Weak<News>,
}

impl Interest {
    /// A client wants to hear of the resource that the target knows by `uri`. `None` when as many are wanted as may be.
    #[must_use]
    pub fn subscribe(&self, uri: &str, public: Arc<str>, by: Party, subscriber: &Subscriber) -> Option<Subscribed> {
        let uri: Arc<str> = uri.into();
        let mut registered = self.0.registered.lock();
        let is_new = !registered.contains_key(&uri);
        if is_new && registered.len() >= URIS_MAX {
            return None;
        }
        let subscriber = Arc::downgrade(&subscriber.0);
        let one = Registered { public, by: by.clone(), subscriber: Weak::clone(&subscriber) };
        registered.entry(Arc::clone(&uri)).or_default().push(one);
        if is_new {
            self.publish(&registered);
        }
        self.0.changed.send_replace(());
        Some(Subscribed { interest: self.clone(), uri, by, subscriber })
    }

    /// What everybody wants, for whoever asks the target.
    #[must_use]
    pub fn demand(&self) -> Demand {
        Demand::new(self.clone(), None)
    }

    /// The same for a conversation that is for these parties only.
    #[must_use]
    pub fn demand_of(&self, whose: impl Fn(&Party) -> bool + Send + Sync + 'static) -> Demand {
        Demand::new(self.clone(), Some(Box::new(whose)))
    }

    /// The URIs that are wanted, now and whenever that changes: the target's own.
    #[must_use]
    pub fn wanted(&self) -> watch::Receiver<Arc<BTreeSet<Arc<str>>>> {
        self.0.wanted.subscribe()
    }

    /// Tells of each change of who wants what.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// The parties that want to hear of anything, each as often as it has subscribed.
    #[must_use]
    pub fn parties(&self) -> Vec<Party> {
        self.0.registered.lock().values().flatten().map(|one| one.by.clone()).collect()
    }

    /// The URIs that these parties want: the target's own.
    #[must_use]
    pub fn wanted_by(&self, whose: impl Fn(&Party) -> bool) -> BTreeSet<Arc<str>> {
        let registered = self.0.registered.lock();
        let theirs = registered.iter().filter(|(_, all)| all.iter().any(|one| whose(&one.by)));
        theirs.map(|(uri, _)| Arc::clone(uri)).collect()
    }

    /// The target says that this resource of its is another. That may be a part of one that is wanted (2025-11-25, resources).
    pub fn updated(&self, uri: &str) {
        self.updated_for(uri, |_| true);
    }

    /// The same, said where it is meant for these parties only.
    pub fn updated_for(&self, uri: &str, whose: impl Fn(&Party) -> bool) {
        let registered = self.0.registered.lock();
        let whole = registered.get_key_value(uri);
        let containers = registered
            .range::<str, (Bound<&str>, Bound<&str>)>((Bound::Unbounded, Bound::Excluded(uri)))
            .filter(|(wanted, _)| contains(wanted, uri));
        for (wanted, all) in whole.into_iter().chain(containers) {
            for one in all.iter().filter(|one| whose(&one.by)) {
                let Some(news) = one.subscriber.upgrade() else { continue };
                news.add(&one.public, &uri[wanted.len()..]);
            }
        }
    }

    /// What they want to hear of its tasks of that era.
    #[must_use]
    pub fn tasks(&self, era: Era) -> &TaskInterest {
        match era {
            Era::Legacy => &self.0.legacy_tasks,
            Era::Modern => &self.0.modern_tasks,
        }
    }

    fn publish(&self, registered: &BTreeMap<Arc<str>, Vec<Registered>>) {
        self.0.wanted.send_replace(Arc::new(registered.keys().cloned().collect()));
    }
}

fn contains(whole: &str, part: &str) -> bool {
    part.strip_prefix(whole).is_some_and(|rest| rest.starts_with('/') || whole.ends_with('/'))
}

impl News {
    /// A part of a resource that is wanted was updated. What follows the URI that is wanted is the same for the client.
    fn add(&self, public: &Arc<str>, part: &str) {
        let mut updated = self.updated.lock();
        let tells_parts = !part.is_empty() && updated.len() < NEWS_MAX;
        updated.insert(if tells_parts { format!("{public}{part}").into() } else { Arc::clone(public) });
        drop(updated);
        self.come.notify_one();
    }
}

impl Subscriber {
    /// These resources may be others than the client knows, by the URIs that it knows.
    pub fn updated(&self, uris: impl IntoIterator<Item = Arc<str>>) {
        self.0.updated.lock().extend(uris);
        self.0.come.notify_one();
    }

    /// The resources that were updated since this was asked last, as the client knows them. For one reader; cancel-safe.
    pub async fn next(&self) -> BTreeSet<Arc<str>> {
        loop {
            let updated = std::mem::take(&mut *self.0.updated.lock());
            if !updated.is_empty() {
                return updated;
            }
            self.0.come.notified().await;
        }
    }
}

impl Subscribed {
    /// Waits until the target has taken note of it, or is known not to. Nothing ends the wait when the target is silent: the caller sets
    /// the time. What the target has said before to somebody else is told at once.
    pub fn standing(&self) -> impl Future<Output = Standing> + Send + use<> {
        let told = self.interest.ask_standing(Arc::clone(&self.uri), self.by.clone());
        async move {
            match told.await {
                Ok(standing) => standing,
                // Nobody is there any more who could say it.
                Err(_) => std::future::pending().await,
            }
        }
    }
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        let mut registered = self.interest.0.registered.lock();
        let Some(all) = registered.get_mut(&self.uri) else { return };
        if let Some(place) = all.iter().position(|one| one.subscriber.ptr_eq(&self.subscriber)) {
            all.swap_remove(place);
        }
        if all.is_empty() {
            registered.remove(&self.uri);
            self.interest.publish(&registered);
        }
        drop(registered);
        self.interest.0.changed.send_replace(());
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interest").field("uris", &self.0.registered.lock().len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Subscribed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subscribed").field(&self.uri).finish()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::{Principal, SessionLife};

    fn nobody() -> Party {
        Party { principal: Principal::anonymous(), session: None }
    }

    fn wanted(interest: &Interest) -> Vec<String> {
        interest.wanted().borrow().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_uri_is_wanted_as_long_as_somebody_wants_it() {
        let (interest, a, b) = (Interest::default(), Subscriber::default(), Subscriber::default());
        let of_a = interest.subscribe("x:1", "x:1".into(), nobody(), &a);
        let of_b = interest.subscribe("x:1", "x:1".into(), nobody(), &b);
        assert_eq!(wanted(&interest), ["x:1"]);

        drop(of_a);
        assert_eq!(wanted(&interest), ["x:1"]);
        drop(of_b);
        assert!(wanted(&interest).is_empty());
    }

    #[test]
    fn each_subscriber_hears_of_its_own_by_its_own_name_and_many_updates_are_one() {
        let (interest, a, b) = (Interest::default(), Subscriber::default(), Subscriber::default());
        let _of_a = interest.subscribe("x:1", "twinway://up/x:1".into(), nobody(), &a);
        let _of_b = interest.subscribe("x:2", "x:2".into(), nobody(), &b);

        (0..1000).for_each(|_| interest.updated("x:1"));
        interest.updated("x:1/part");
        interest.updated("x:10");

        let heard = a.next().now_or_never().expect("news");
        assert_eq!(heard.iter().map(|uri| &**uri).collect::<Vec<_>>(), ["twinway://up/x:1", "twinway://up/x:1/part"]);
        assert!(a.next().now_or_never().is_none());
        assert!(b.next().now_or_never().is_none());
    }
    #[test]
    fn what_is_said_to_one_session_is_heard_by_that_session_only_and_each_change_is_told() {
        let (interest, a, b) = (Interest::default(), Subscriber::default(), Subscriber::default());
        let lives = [SessionLife::new(1), SessionLife::new(2)];
        let [first, second] = lives.each_ref().map(|life| Party { session: Some(life.session()), ..nobody() });
        let mut changes = interest.changes();
        let of_a = interest.subscribe("x:1", "x:1".into(), first.clone(), &a);
        assert!(changes.has_changed().expect("interest lives"));
        changes.mark_unchanged();
        let _of_b = interest.subscribe("x:1", "x:1".into(), second.clone(), &b);
        assert!(changes.has_changed().expect("interest lives"), "another party, though the same URI");

        interest.updated_for("x:1", |party| *party == first);

        assert!(a.next().now_or_never().is_some());
        assert!(b.next().now_or_never().is_none());
        assert_eq!(interest.parties(), [first.clone(), second.clone()]);
        changes.mark_unchanged();
        drop(of_a);
        assert!(changes.has_changed().expect("interest lives"));
        assert!(interest.wanted_by(|party| *party == first).is_empty());
        assert_eq!(interest.wanted_by(|party| *party == second).len(), 1);
    }

    #[test]
    fn sessions_that_watch_many_tasks_leave_as_much_for_the_others_as_before() {
        let (interest, watcher) = (Interest::default(), TaskWatcher::default());
        let watch = |era, task: usize| interest.tasks(era).watch(nobody(), &task.to_string(), "T", &watcher);

        let of_sessions: Vec<_> = (0..=MODERN_TASKS_MAX).map(|task| watch(Era::Legacy, task)).collect();
        let of_listeners: Vec<_> = (0..=MODERN_TASKS_MAX).map(|task| watch(Era::Modern, task)).collect();

        assert!(of_sessions.iter().all(Option::is_some));
        assert_eq!(of_listeners.iter().flatten().count(), MODERN_TASKS_MAX);
    }
}
