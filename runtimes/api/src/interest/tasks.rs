//! Which tasks of a target somebody wants to hear of, and how they stand.
//!
//! ```text
//! client ──watches──► TaskInterest ──wanted()──► runtime asks a modern target to tell of these tasks
//!   ▲                      │
//!   └──── TaskWatcher ◄────┴──told(task)──────── runtime heard how one stands
//! ```
//!
//! Of each task only what was told last waits for a client that does not read, so nothing piles up.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::Party;

/// What clients want to hear of the tasks of one target. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct TaskInterest(Arc<Shared>);

struct Shared {
    /// Longest news of a task that waits for a client. Whoever is told nothing of a longer one asks for it.
    news_bytes_max: usize,
    /// Tasks that are watched, however many clients watch them.
    tasks_max: usize,
    /// By the target's own id.
    watched: Mutex<HashMap<Arc<str>, Vec<Registered>>>,
    wanted: watch::Sender<Arc<BTreeSet<Arc<str>>>>,
    /// Somebody watches another task than before, or one less.
    changed: watch::Sender<()>,
}

struct Registered {
    by: Party,
    /// The id as the client knows it.
    public: Arc<str>,
    watcher: Weak<News>,
}

/// One client that wants to hear of tasks, of any targets. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct TaskWatcher(Arc<News>);

#[derive(Debug, Default)]
struct News {
    /// What was told last of each task, by the id that the client knows.
    told: Mutex<BTreeMap<Arc<str>, Bytes>>,
    come: Notify,
}

/// A task that is watched; dropping it ends that, and what was told of the task and not read yet is forgotten.
pub struct WatchedTask {
    interest: TaskInterest,
    own: Arc<str>,
    public: Arc<str>,
    watcher: Weak<News>,
}

impl TaskInterest {
    /// Nobody wants anything. News of a task may have so many bytes, and so many tasks may be watched.
    pub(super) fn new(news_bytes_max: usize, tasks_max: usize) -> Self {
        let (watched, wanted, changed) = (Mutex::default(), watch::Sender::default(), watch::Sender::default());
        Self(Arc::new(Shared { news_bytes_max, tasks_max, watched, wanted, changed }))
    }

    /// A client wants to hear of the task that the target knows by `own`. `None` when as many are watched as may be.
    #[must_use]
    pub fn watch(&self, by: Party, own: &str, public: &str, watcher: &TaskWatcher) -> Option<WatchedTask> {
        let (own, public): (Arc<str>, Arc<str>) = (own.into(), public.into());
        let mut watched = self.0.watched.lock();
        let is_new = !watched.contains_key(&own);
        if is_new && watched.len() >= self.0.tasks_max {
            return None;
        }
        let watcher = Arc::downgrade(&watcher.0);
        let registered = Registered { by, public: Arc::clone(&public), watcher: Weak::clone(&watcher) };
        watched.entry(Arc::clone(&own)).or_default().push(registered);
        if is_new {
            self.publish(&watched);
        }
        self.0.changed.send_replace(());
        Some(WatchedTask { interest: self.clone(), own, public, watcher })
    }

    /// The tasks that are watched, now and whenever that changes: the target's own ids.
    #[must_use]
    pub fn wanted(&self) -> watch::Receiver<Arc<BTreeSet<Arc<str>>>> {
        let wanted = self.0.wanted.subscribe();
        self.publish(&self.0.watched.lock());
        wanted
    }

    /// Tells of each change of who watches what.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// The parties that watch any task, each as often as it watches one.
    #[must_use]
    pub fn parties(&self) -> Vec<Party> {
        self.0.watched.lock().values().flatten().map(|one| one.by.clone()).collect()
    }

    /// The tasks that these parties watch: the target's own ids.
    #[must_use]
    pub fn wanted_by(&self, whose: impl Fn(&Party) -> bool) -> BTreeSet<Arc<str>> {
        let watched = self.0.watched.lock();
        let theirs = watched.iter().filter(|(_, all)| all.iter().any(|one| whose(&one.by)));
        theirs.map(|(own, _)| Arc::clone(own)).collect()
    }

    /// The target says in `task` how one stands, where that is meant for these parties only: another may have a task of the same id, in
    /// another session or process of the target.
    pub fn told(&self, whose: impl Fn(&Party) -> bool, own: &str, task: &[u8]) {
        if task.len() > self.0.news_bytes_max {
            return;
        }
        let watched = self.0.watched.lock();
        for one in watched.get(own).into_iter().flatten() {
            let Some(news) = one.watcher.upgrade() else { continue };
            if whose(&one.by) {
                // Copied: it may be a small part of a large buffer, and waits for a client.
                news.told.lock().insert(Arc::clone(&one.public), Bytes::copy_from_slice(task));
                news.come.notify_one();
            }
        }
    }

    fn publish(&self, watched: &HashMap<Arc<str>, Vec<Registered>>) {
        // Of sessions nobody asks: their servers tell unasked.
        if self.0.wanted.receiver_count() > 0 {
            self.0.wanted.send_replace(Arc::new(watched.keys().cloned().collect()));
        }
    }
}

impl TaskWatcher {
    /// How tasks stand of which something was told since this was asked last, by the ids that the client knows: raw objects of their
    /// target. For one reader; cancel-safe.
    pub async fn next(&self) -> BTreeMap<Arc<str>, Bytes> {
        loop {
            let told = std::mem::take(&mut *self.0.told.lock());
            if !told.is_empty() {
                return told;
            }
            self.0.come.notified().await;
        }
    }
}

impl Registered {
    fn is(&self, watched: &WatchedTask) -> bool {
        self.watcher.ptr_eq(&watched.watcher) && self.public == watched.public
    }
}

impl Drop for WatchedTask {
    fn drop(&mut self) {
        let mut watched = self.interest.0.watched.lock();
        let Some(all) = watched.get_mut(&self.own) else { return };
        if let Some(place) = all.iter().position(|one| one.is(self)) {
            all.swap_remove(place);
        }
        // A client that reads no news may come to watch one task after the other.
        if let Some(news) = self.watcher.upgrade().filter(|_| !all.iter().any(|one| one.is(self))) {
            news.told.lock().remove(&self.public);
        }
        if all.is_empty() {
            watched.remove(&self.own);
            self.interest.publish(&watched);
        }
        drop(watched);
        self.interest.0.changed.send_replace(());
    }
}

impl fmt::Debug for TaskInterest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskInterest").field("tasks", &self.0.watched.lock().len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for WatchedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WatchedTask").field(&self.own).finish()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::Principal;

    const TASKS_MAX: usize = 3;

    fn of(name: &str) -> Party {
        Party { principal: Principal(name.into()), session: None }
    }

    #[test]
    fn a_watcher_hears_how_its_own_tasks_stood_last_and_nothing_of_a_task_of_another_principal() {
        let (interest, ann, bob) = (TaskInterest::new(8, TASKS_MAX), TaskWatcher::default(), TaskWatcher::default());
        let _of_ann = interest.watch(of("ann"), "t-1", "ANN", &ann);
        let _of_bob = interest.watch(of("bob"), "t-1", "BOB", &bob);

        interest.told(|party| *party == of("ann"), "t-1", b"{1}");
        interest.told(|party| *party == of("ann"), "t-1", b"{2}");
        interest.told(|_| true, "t-2", b"{3}");
        interest.told(|_| true, "t-1", &[b' '; 9]);

        let heard = ann.next().now_or_never().expect("news");
        assert_eq!(heard, BTreeMap::from([("ANN".into(), Bytes::from_static(b"{2}"))]));
        assert!(ann.next().now_or_never().is_none());
        assert!(bob.next().now_or_never().is_none());
        interest.told(|_| true, "t-1", b"{4}");
        assert!(bob.next().now_or_never().is_some(), "a server that tells of a task by its id alone has but one such");
    }

    #[test]
    fn a_task_is_wanted_as_long_as_somebody_watches_it_and_only_so_many_are() {
        let (interest, watcher) = (TaskInterest::new(8, TASKS_MAX), TaskWatcher::default());
        let watch = |own: &str| interest.watch(of("ann"), own, own, &watcher);
        let wanted = || interest.wanted().borrow().len();
        let (first, second) = (watch("t"), watch("t"));
        assert_eq!(wanted(), 1);

        drop(first);
        assert_eq!(wanted(), 1);
        drop(second);
        assert_eq!(wanted(), 0);

        let all: Vec<_> = (0..=TASKS_MAX).map(|number| watch(&number.to_string())).collect();
        assert_eq!(all.iter().flatten().count(), TASKS_MAX);
    }

    #[test]
    fn of_a_task_that_is_watched_no_longer_nothing_waits_for_a_client_that_does_not_read() {
        let (interest, watcher) = (TaskInterest::new(8, TASKS_MAX), TaskWatcher::default());
        let watch = |own: &str, public: &str| interest.watch(of("ann"), own, public, &watcher).expect("room");
        let waits = || watcher.0.told.lock().keys().cloned().collect::<Vec<_>>();
        let (first, again, other) = (watch("t-1", "A"), watch("t-1", "A"), watch("t-1", "B"));
        interest.told(|_| true, "t-1", b"{}");

        drop(first);
        assert_eq!(waits(), ["A".into(), "B".into()], "it is watched once more");
        drop(again);
        assert_eq!(waits(), ["B".into()]);
        drop(other);
        assert!(waits().is_empty());
    }

    #[test]
    fn two_parties_that_watch_a_task_of_the_same_id_want_one_each_and_each_change_is_told() {
        let (interest, watcher) = (TaskInterest::new(8, TASKS_MAX), TaskWatcher::default());
        let mut changes = interest.changes();
        let has_changed = |changes: &mut watch::Receiver<()>| {
            let has_changed = changes.has_changed().expect("interest lives");
            changes.mark_unchanged();
            has_changed
        };
        let of_ann = interest.watch(of("ann"), "t", "ANN", &watcher);
        assert!(has_changed(&mut changes));
        let _of_bob = interest.watch(of("bob"), "t", "BOB", &watcher);
        assert!(has_changed(&mut changes), "another party, though the same id");
        assert_eq!(interest.parties(), [of("ann"), of("bob")]);

        drop(of_ann);

        assert!(has_changed(&mut changes));
        assert!(interest.wanted_by(|party| *party == of("ann")).is_empty());
        assert_eq!(interest.wanted_by(|party| *party == of("bob")), BTreeSet::from(["t".into()]));
    }
}
