//! Tells that lists of the other side have changed.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use tokio::sync::Notify;

const TOOLS: u8 = 1;
const PROMPTS: u8 = 2;
const RESOURCES: u8 = 4;
const ENDED: u8 = 8;

/// Which lists have changed since they were last asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "each field is the list of the same name")]
pub struct Changed {
    pub tools: bool,
    pub prompts: bool,
    pub resources: bool,
}

/// The changes of one conversation. Many notifications become one change; none is lost, and none waits in a queue.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    flags: AtomicU8,
    changed: Notify,
}

impl Changes {
    /// Waits for a change; `None` once the conversation has ended. For one reader. Cancel-safe.
    pub async fn next(&self) -> Option<Changed> {
        loop {
            let flags = self.state.flags.fetch_and(ENDED, Ordering::AcqRel);
            let changed = Changed { tools: flags & TOOLS != 0, prompts: flags & PROMPTS != 0, resources: flags & RESOURCES != 0 };
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

        assert_eq!(changes.next().await, Some(Changed { tools: true, prompts: true, resources: false }));
        changes.end();
        assert_eq!(changes.next().await, None);
    }
}
