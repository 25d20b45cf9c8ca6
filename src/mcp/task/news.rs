//! Tells clients how their tasks stand, without being asked: a session of the tasks that it has made or asked for (2025-11-25, tasks), and
//! on `subscriptions/listen` of those that it names (2026-07-28, the extension of tasks).

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use runtime_api::{Caller, CallerGone, Era, Party, TaskWatcher, WatchedTask};
use runtime_mcp::{
    client::{TASK_NEWS, TASK_STATUS},
    handshake::part,
};
use twinway_proto::{
    json::{Key, write_string},
    meta::{key, rewrite},
};

use super::{TaskIds, text};
use crate::catalog::Snapshot;

/// Tasks of which one client is told. Of each, 4 KiB may wait for a session, and 64 KiB for a client that listens.
pub(in super::super) const WATCHED_MAX: usize = 64;

/// Tasks of which a session is told: the last ones that it has made or asked for.
#[derive(Debug, Default)]
pub(in super::super) struct Watched {
    pub(in super::super) watcher: TaskWatcher,
    tasks: Mutex<VecDeque<(Box<str>, WatchedTask)>>,
}

impl Watched {
    /// The session is told of this task from now on, too.
    pub(super) fn add(&self, public: &str, watch: impl FnOnce(&TaskWatcher) -> Option<WatchedTask>) {
        let mut tasks = self.tasks.lock();
        if tasks.iter().any(|(known, _)| **known == *public) {
            return;
        }
        let Some(watched) = watch(&self.watcher) else { return };
        if tasks.len() >= WATCHED_MAX {
            tasks.pop_front();
        }
        tasks.push_back((public.into(), watched));
    }

    /// The session has ended.
    pub(in super::super) fn clear(&self) {
        self.tasks.lock().clear();
    }
}

/// The tasks that a listening client names and can be told of, by the ids that it knows: `named` is a raw array of them.
pub(in super::super) fn watch_all(
    named: &Bytes,
    ids: &TaskIds,
    snapshot: &Snapshot,
    view: &str,
    watcher: &TaskWatcher,
) -> Vec<(String, WatchedTask)> {
    let named: Vec<Cow<'_, str>> = serde_json::from_str(text(named)).unwrap_or_default();
    let watch = |public: Cow<'_, str>| {
        let (target, own) = ids.open(&public)?;
        snapshot.view(view)?.task_source(&target).filter(|source| source.tasks.extension)?;
        let interest = &snapshot.target(&target.as_str().into())?.interest;
        let by = Party { principal: ids.principal().clone(), session: None };
        let watched = interest.tasks(Era::Modern).watch(by, &own, &public, watcher)?;
        Some((public.into_owned(), watched))
    };
    named.into_iter().take(WATCHED_MAX).filter_map(watch).collect()
}

/// Whom to tell, and in which way.
#[derive(Clone, Copy)]
pub(in super::super) struct Listener<'a> {
    pub(in super::super) caller: &'a Caller,
    /// The raw id of its `subscriptions/listen`; none in a session.
    pub(in super::super) subscription: Option<&'a str>,
}

impl Listener<'_> {
    /// Tells how each task stands of which something was heard.
    pub(in super::super) async fn tell_tasks(self, told: BTreeMap<Arc<str>, Bytes>) -> Result<(), CallerGone> {
        let method = if self.subscription.is_some() { TASK_NEWS } else { TASK_STATUS };
        for (public, task) in told {
            // What is no object was never told by a sound server.
            let Some(params) = params(&task, &public, self.subscription) else { continue };
            self.caller.notify(method, params).await?;
        }
        Ok(())
    }
}

/// The task by the client's id, for its subscription.
fn params(task: &Bytes, public: &str, subscription: Option<&str>) -> Option<Bytes> {
    let mut id = Vec::with_capacity(public.len() + 2);
    write_string(&mut id, public);
    let old = part(task, "_meta");
    let meta = subscription.map(|subscription| {
        let is_other = |key: &Key<'_>| !key.is(key::SUBSCRIPTION_ID);
        rewrite(old.as_deref().map(text), is_other, &[(key::SUBSCRIPTION_ID, subscription.as_bytes())])
    });
    let meta = meta.transpose().ok()?;
    let mut added = vec![("taskId", &id[..])];
    added.extend(meta.as_deref().map(|meta| ("_meta", meta)));
    let stays = |key: &Key<'_>| !added.iter().any(|(replaced, _)| key.is(replaced));
    rewrite(Some(text(task)), stays, &added).ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_told_by_the_client_s_id_and_for_its_subscription() {
        let task = Bytes::from_static(br#"{"taskId":"t","status":"completed","result":{"n":1.0},"_meta":{"x":1}}"#);
        let cases = [
            (None, r#"{"status":"completed","result":{"n":1.0},"_meta":{"x":1},"taskId":"PUBLIC"}"#),
            (
                Some("7"),
                r#"{"status":"completed","result":{"n":1.0},"taskId":"PUBLIC","_meta":{"x":1,"io.modelcontextprotocol/subscriptionId":7}}"#,
            ),
        ];
        for (subscription, expected) in cases {
            assert_eq!(params(&task, "PUBLIC", subscription).unwrap(), expected);
        }
        assert_eq!(params(&Bytes::from_static(b"[]"), "PUBLIC", None), None);
    }
}
