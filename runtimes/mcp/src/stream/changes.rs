//! Tells that lists of the other side have changed, and which of its resources.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

const TOOLS: u8 = 1;
const PROMPTS: u8 = 2;
const RESOURCES: u8 = 4;
const ENDED: u8 = 8;

/// Resources that may have been updated before somebody asks. A server that updates more at once is not believed in all of it.
const UPDATED_MAX: usize = 10_000;

/// Tasks of which something may be told before somebody asks, and the bytes of each: whoever misses something asks how its task stands.
const TASKS_MAX: usize = 64;
const TASK_BYTES_MAX: usize = 64 * 1024;

/// What has changed since this was last asked about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changed {
    /// The list of tools.
    pub tools: bool,
    /// The list of prompts.
    pub prompts: bool,
    /// The list of resources.
    pub resources: bool,
    /// Single resources, by their URIs.
    pub updated: BTreeSet<String>,
    /// How tasks stand, by their ids: raw objects.
    pub tasks: BTreeMap<String, Bytes>,
}

impl Changed {
    /// Whether a list is another.
    #[must_use]
    pub const fn lists(&self) -> bool {
        self.tools || self.prompts || self.resources
    }
}

/// The changes of one conversation. Many notifications become one change; none is lost, and none waits in a queue.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    flags: AtomicU8,
    updated: Mutex<BTreeSet<String>>,
    tasks: Mutex<BTreeMap<String, Bytes>>,
    changed: Notify,
}

impl Changes {
    /// Waits for a change; `None` once the conversation has ended. For one reader. Cancel-safe.
    pub async fn next(&self) -> Option<Changed> {
        loop {
            let flags = self.state.flags.fetch_and(ENDED, Ordering::AcqRel);
            let updated = std::mem::take(&mut *self.state.updated.lock());
            let tasks = std::mem::take(&mut *self.state.tasks.lock());
            let is = |flag| flags & flag != 0;
            let changed = Changed { tools: is(TOOLS), prompts: is(PROMPTS), resources: is(RESOURCES), updated, tasks };
            if changed != Changed::default() {
                return Some(changed);
            }
            if flags & ENDED != 0 {
                return None;
            }
            self.state.changed.notified().await;
        }
    }

    /// Takes note of a notification; says whether it was one of a list.
    pub(super) fn note(&self, method: &str) -> bool {
        let flag = match method {
            "notifications/tools/list_changed" => TOOLS,
            "notifications/prompts/list_changed" => PROMPTS,
            "notifications/resources/list_changed" => RESOURCES,
            _ => return false,
        };
        self.raise(flag);
        true
    }

    /// Takes note of a resource that was updated.
    pub(super) fn note_update(&self, uri: String) {
        let mut updated = self.state.updated.lock();
        if updated.len() < UPDATED_MAX {
            updated.insert(uri);
        }
        drop(updated);
        self.state.changed.notify_one();
    }

    /// Takes note of how a task stands; says whether there was room for it.
    pub(super) fn note_task(&self, id: String, task: &[u8]) -> bool {
        let mut tasks = self.state.tasks.lock();
        let has_room = task.len() <= TASK_BYTES_MAX && (tasks.len() < TASKS_MAX || tasks.contains_key(&id));
        if has_room {
            tasks.insert(id, Bytes::copy_from_slice(task));
        }
        drop(tasks);
        self.state.changed.notify_one();
        has_room
    }

    pub(super) fn end(&self) {
        self.raise(ENDED);
    }

    fn raise(&self, flag: u8) {
        self.state.flags.fetch_or(flag, Ordering::AcqRel);
        self.state.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_notifications_are_one_change() {
        let changes = Changes::default();
        (0..1000).for_each(|_| assert!(changes.note("notifications/tools/list_changed")));
        changes.note("notifications/prompts/list_changed");
        assert!(!changes.note("notifications/message"));
        (0..1000).for_each(|_| changes.note_update("x:1".to_owned()));

        assert!(changes.note_task("t".to_owned(), b"{1}") && changes.note_task("t".to_owned(), b"{2}"));
        assert!(!changes.note_task("large".to_owned(), &[b' '; TASK_BYTES_MAX + 1]));

        let updated = BTreeSet::from(["x:1".to_owned()]);
        let tasks = BTreeMap::from([("t".to_owned(), Bytes::from_static(b"{2}"))]);
        assert_eq!(changes.next().await, Some(Changed { tools: true, prompts: true, resources: false, updated, tasks }));
        changes.end();
        assert_eq!(changes.next().await, None);
    }
}
