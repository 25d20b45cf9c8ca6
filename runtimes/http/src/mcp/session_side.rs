//! What a server of both eras tells in sessions alone: that calls of its tools can become tasks (2025-11-25, tasks). Revision 2026-07-28
//! has other tasks, and its discovery and its tools say nothing of these.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use runtime_api::{About, CallError, Caller, Item, Kind, Support};
use runtime_mcp::{
    handshake::part,
    listing::{Listing, Next},
};
use tokio::time::{Instant, timeout};
use tracing::debug;
use twinway_proto::meta::rewrite;

use super::{
    Ask, EndsWithCall, McpServer,
    fault::{AskError, refuses_sessions},
    session::{Owner, Session},
};
use crate::settings::EraChoice;

/// The member of a tool that says whether a call of it can become a task.
const EXECUTION: &str = "execution";

/// The part of the time for a look that may go to sessions. Of a server that hangs there, the rest is served all the same.
const PART_OF_THE_LOOK: u32 = 4;

/// Pauses before a server that failed to tell is asked again. One that was busy has not long to wait; one that always fails opens few
/// sessions for nothing.
const PAUSE_MIN: Duration = Duration::from_secs(30);
const PAUSE_MAX: Duration = Duration::from_secs(60 * 60);

/// What came of the last session that was opened to find out.
#[derive(Debug, Default)]
pub(super) struct Known {
    hasher: RandomState,
    /// Of which server, by its digest.
    outcome: Mutex<Option<(u64, Outcome)>>,
}

#[derive(Debug)]
enum Outcome {
    Told(Arc<InSessions>),
    /// It failed then, and is asked again after that pause.
    Failed {
        at: Instant,
        pause: Duration,
    },
}

/// What is to be done about what a server tells in sessions.
#[derive(Debug)]
enum Plan {
    Use(Arc<InSessions>),
    Ask,
    Wait,
}

/// What a server tells in a session.
#[derive(Debug, Default)]
struct InSessions {
    capabilities: Option<Bytes>,
    /// `execution` of its tools, by their names; none where no call can become a task.
    executions: HashMap<Arc<str>, Bytes>,
}

impl Known {
    /// Which server it is, as far as it shows in what it told without a session.
    fn digest(&self, about: &About, tools: &[Item]) -> u64 {
        let definitions: Vec<&Bytes> = tools.iter().map(|tool| &tool.definition).collect();
        self.hasher.hash_one((&about.server_info, &about.capabilities, &about.instructions, definitions))
    }

    fn plan(&self, digest: u64) -> Plan {
        match self.outcome.lock().as_ref().filter(|(of, _)| *of == digest) {
            Some((_, Outcome::Told(told))) => Plan::Use(Arc::clone(told)),
            Some((_, Outcome::Failed { at, pause })) if at.elapsed() < *pause => Plan::Wait,
            _ => Plan::Ask,
        }
    }

    fn told(&self, digest: u64, told: Arc<InSessions>) {
        *self.outcome.lock() = Some((digest, Outcome::Told(told)));
    }

    fn failed(&self, digest: u64) {
        let mut outcome = self.outcome.lock();
        let pause = match *outcome {
            Some((of, Outcome::Failed { pause, .. })) if of == digest => (pause * 2).min(PAUSE_MAX),
            _ => PAUSE_MIN,
        };
        *outcome = Some((digest, Outcome::Failed { at: Instant::now(), pause }));
    }
}

impl McpServer {
    /// Adds what a modern server tells in sessions, if it serves any. One session is opened for that, and ended; not again until the
    /// server tells something else without one or, where it failed to tell, a pause is over. Whether there are sessions the first client finds
    /// out that has one: a server of the modern revision alone never gets an `initialize` for nobody.
    pub(super) async fn add_what_sessions_tell(&self, about: &mut About, tools: &mut Arc<[Item]>) {
        if self.era != EraChoice::Auto || self.modern.get() != Support::Yes || self.legacy.get() != Support::Yes {
            return;
        }
        let digest = self.known.digest(about, tools);
        let told = match self.known.plan(digest) {
            Plan::Use(told) => told,
            Plan::Wait => return,
            Plan::Ask => {
                let Some(told) = self.ask_in_a_session().await.map(Arc::new) else { return self.known.failed(digest) };
                self.known.told(digest, Arc::clone(&told));
                told
            }
        };
        about.legacy_capabilities.clone_from(&told.capabilities);
        if !told.executions.is_empty() {
            *tools = tools.iter().map(|tool| with_execution(tool, &told.executions)).collect();
        }
    }

    /// `None` where there are no sessions, or nobody knows for now.
    async fn ask_in_a_session(&self) -> Option<InSessions> {
        let (patience, target) = (self.site.settings.list_timeout / PART_OF_THE_LOOK, &self.site.settings.target);
        let told = timeout(patience, async {
            let session = match self.open_session(&Owner::gateway()).await {
                Ok(session) => Arc::new(session),
                Err(error) => {
                    if refuses_sessions(&error) {
                        self.legacy.set(Support::No);
                    }
                    return Err(error);
                }
            };
            let _ends = EndsWithCall { site: &self.site, session: &session };
            let has_tasks = session.facts.has("tasks");
            let executions = if has_tasks { self.executions(&session).await? } else { HashMap::new() };
            Ok(InSessions { capabilities: session.facts.about.capabilities.clone(), executions })
        });
        match told.await {
            Ok(Ok(told)) => return Some(told),
            Ok(Err(error)) => debug!(target_name = %target, %error, "what the upstream tells in sessions is not known"),
            Err(_) => debug!(target_name = %target, "the upstream takes too long to say what it does in sessions"),
        }
        None
    }

    async fn executions(&self, session: &Arc<Session>) -> Result<HashMap<Arc<str>, Bytes>, CallError> {
        let (mut listing, mut members, caller) = (Listing::new(Kind::Tool), String::new(), Caller::none());
        loop {
            let (id, params) = (self.next_id(), format!("{{{members}}}").into_bytes().into());
            let (method, head) = (Kind::Tool.list_method(), session.head.begin());
            let ask = Ask { id, method, params: Some(params), head, caller: &caller, session: Some(session) };
            match listing.take(&self.ask(ask).await.map_err(AskError::finally)?)? {
                Next::Page(cursor) => members = format!(r#""cursor":{cursor}"#),
                Next::Done => break,
            }
        }
        let executions = listing.finish().into_iter().filter_map(|tool| Some((tool.name, part(&tool.definition, EXECUTION)?)));
        Ok(executions.collect())
    }
}

/// The tool as its definition in sessions has it, as far as tasks go.
fn with_execution(tool: &Item, executions: &HashMap<Arc<str>, Bytes>) -> Item {
    let added = executions.get(&tool.name).filter(|_| part(&tool.definition, EXECUTION).is_none());
    let raw = std::str::from_utf8(&tool.definition).unwrap_or_default();
    let definition = added.and_then(|execution| rewrite(Some(raw), |_| true, &[(EXECUTION, execution)]).ok());
    Item { name: Arc::clone(&tool.name), definition: definition.map_or_else(|| tool.definition.clone(), Bytes::from) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_gets_what_only_sessions_tell_of_its_tasks_and_keeps_what_it_says_itself() {
        let executions = HashMap::from([(Arc::from("t"), Bytes::from_static(br#"{"taskSupport":"required"}"#))]);
        let cases = [
            ("t", r#"{"name":"t", "x":1.0}"#, r#"{"name":"t","x":1.0,"execution":{"taskSupport":"required"}}"#),
            ("t", r#"{ "name":"t","execution":{} }"#, r#"{ "name":"t","execution":{} }"#),
            ("other", r#"{ "name":"other" }"#, r#"{ "name":"other" }"#),
        ];
        for (name, definition, expected) in cases {
            let tool = Item { name: name.into(), definition: Bytes::from_static(definition.as_bytes()) };

            assert_eq!(with_execution(&tool, &executions).definition, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_fails_to_tell_is_asked_again_after_pauses_that_double_and_another_at_once() {
        let (known, expected) = (Known::default(), [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert!(matches!(known.plan(1), Plan::Ask));
        for pause in expected.map(Duration::from_secs) {
            known.failed(1);
            tokio::time::advance(pause - Duration::from_millis(1)).await;
            assert!(matches!(known.plan(1), Plan::Wait), "{pause:?}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(matches!(known.plan(1), Plan::Ask), "{pause:?}");
        }

        known.failed(1);
        assert!(matches!(known.plan(2), Plan::Ask), "another server stands there now");
        known.failed(2);
        tokio::time::advance(PAUSE_MIN).await;
        assert!(matches!(known.plan(2), Plan::Ask));
        known.told(2, Arc::default());

        assert!(matches!(known.plan(2), Plan::Use(_)));
    }
}
