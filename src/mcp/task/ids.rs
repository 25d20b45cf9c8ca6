//! The ids of tasks: a target's own, and those that a client gets for them.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use runtime_api::{Era, Method, Party, Principal, TargetId};
use twinway_proto::{
    envelope::{Edit, splice},
    json::{self, elements, members},
    meta::key,
    rope::{Builder, Rope},
};

use super::{
    super::{Seal, Session},
    Made, text,
};
use crate::catalog::Catalog;

/// What an id is sealed for.
const PURPOSE: &str = "task";

/// Longest id that is looked at. Ours have some 120 bytes where targets use UUIDs; a modern client repeats it in a header.
const ID_BYTES_MAX: usize = 4096;

/// Seals and opens ids for one client. An id holds its target's name and the id there, and is good for the same principal, view and
/// era only. Twice the same task has the same id, because clients compare them.
#[derive(Debug, Clone)]
pub(in super::super) struct TaskIds {
    seal: Arc<Seal>,
    principal: Principal,
    view: Box<str>,
    era: Era,
    /// The target's id and the client's, where the client has named it: it may be sealed with an older key.
    known: Option<(Box<str>, Box<str>)>,
    /// What this client has made.
    made: Arc<Made>,
    /// The session that is told how its tasks stand.
    told: Option<(Catalog, Arc<Session>)>,
}

/// Where a message of a target names a task, beside `_meta`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Names {
    /// Nowhere.
    Nothing,
    /// In `taskId`.
    Itself,
    /// In `task`.
    Created,
}

impl TaskIds {
    pub(super) fn new(seal: Arc<Seal>, made: Arc<Made>, principal: Principal, view: &str, era: Era) -> Self {
        Self { seal, principal, view: view.into(), era, known: None, made, told: None }
    }

    /// The same for a session that is told of the tasks which are made or asked for in it.
    pub(super) fn telling(self, catalog: &Catalog, session: &Arc<Session>) -> Self {
        Self { told: Some((catalog.clone(), Arc::clone(session))), ..self }
    }

    /// Whose tasks they are.
    pub(super) const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The same for the task that the client has named.
    pub(super) fn knowing(self, own: &str, public: &str) -> Self {
        Self { known: Some((own.into(), public.into())), ..self }
    }

    /// The target of a task and its id there; `None` for an id that is not ours, or of another client.
    pub(super) fn open(&self, public: &str) -> Option<(String, String)> {
        if public.len() > ID_BYTES_MAX {
            return None;
        }
        let plain = self.bound(|bound_to| self.seal.open(public, bound_to))?;
        let plain = String::from_utf8(plain).ok()?;
        let (target, own) = plain.split_once('\0')?;
        Some((target.to_owned(), own.to_owned()))
    }

    /// The result of a target with the ids that this client knows.
    pub(in super::super) fn of_result(&self, method: Method, is_task: bool, target: &TargetId, result: Rope) -> Rope {
        let names = match (method, self.era) {
            (Method::ToolsCall, Era::Legacy) => Names::Created,
            // Any other result is what the call itself gives.
            (Method::ToolsCall, Era::Modern) if !is_task => return result,
            (Method::ToolsCall, Era::Modern) | (Method::TasksGet | Method::TasksCancel, _) => Names::Itself,
            _ => Names::Nothing,
        };
        let result = result.into_bytes();
        if names == Names::Created {
            self.note(&result, target);
        }
        if let Some((known, public)) = self.known.as_ref().filter(|_| method != Method::TasksCancel) {
            self.watch(target, known, public);
        }
        self.public(&result, names, target)
    }

    /// Remembers a task that a call of this client has become.
    fn note(&self, result: &Bytes, target: &TargetId) {
        let raw = text(result);
        let Some(own) = at(raw, &["task", "taskId"]).and_then(|range| json::string(&raw[range])) else { return };
        let ttl = at(raw, &["task", "ttl"]).and_then(|range| raw[range].parse().ok()).map(Duration::from_millis);
        self.made.note(&self.principal, target, &own, ttl);
        self.watch(target, &own, &self.seal(target, &own));
    }

    /// Has the session told how this task stands, from now on.
    fn watch(&self, target: &TargetId, own: &str, public: &str) {
        let Some((catalog, session)) = &self.told else { return };
        let snapshot = catalog.load();
        let Some(known) = snapshot.target(target) else { return };
        let by = Party { principal: self.principal.clone(), session: Some(session.life()) };
        session.tasks().add(public, |watcher| known.interest.tasks(Era::Legacy).watch(by, own, public, watcher));
    }

    /// Those tasks of a target's list that this client has made.
    pub(super) fn own_of(&self, list: &Bytes, target: &TargetId) -> Vec<Bytes> {
        let raw = text(list);
        let is_own = |task: &str| {
            let own = at(task, &["taskId"]).and_then(|range| json::string(&task[range]));
            own.is_some_and(|own| self.made.is_of(&self.principal, target, &own))
        };
        let own = elements(raw).flatten().filter(|range| is_own(&raw[range.clone()]));
        own.map(|range| self.public(&list.slice(range), Names::Itself, target).into_bytes()).collect()
    }

    /// A notification of a target, or its question, with the ids that this client knows. `None` for what it must not hear.
    pub(in super::super) fn of_event(&self, method: &str, target: &TargetId, params: &Bytes) -> Option<Rope> {
        let is_status = method == runtime_mcp::client::TASK_STATUS;
        if is_status && self.era == Era::Modern {
            return None;
        }
        let names = if is_status { Names::Itself } else { Names::Nothing };
        Some(self.public(params, names, target))
    }

    /// An object of a target in which each of its ids is the client's.
    pub(super) fn public(&self, raw: &Bytes, names: Names, target: &TargetId) -> Rope {
        let mut edits: Vec<(Range<usize>, String)> = places(text(raw), names)
            .into_iter()
            .filter_map(|range| {
                let own = json::string(&text(raw)[range.clone()])?;
                Some((range, format!("\"{}\"", self.seal(target, &own))))
            })
            .collect();
        if edits.is_empty() {
            return raw.clone().into();
        }
        edits.sort_unstable_by_key(|(range, _)| range.start);
        let edits: Vec<Edit<'_>> = edits.iter().map(|(range, id)| (range.clone(), id.as_bytes())).collect();
        let mut out = Builder::with_capacity(raw.len().min(4096) + edits.len() * 192);
        splice(raw, &edits, &mut out);
        out.finish()
    }

    /// An object of the client in which the task that it belongs to has its target's own id.
    pub(super) fn own_related(&self, raw: Bytes) -> Bytes {
        let named = related(text(&raw)).and_then(|range| {
            let (_, own) = self.open(&json::string(&text(&raw)[range.clone()])?)?;
            Some((range, own))
        });
        let Some((range, own)) = named else { return raw };
        let mut quoted = Vec::with_capacity(own.len() + 2);
        json::write_string(&mut quoted, &own);
        let mut out = Builder::with_capacity(raw.len() + quoted.len());
        splice(&raw, &[(range, &quoted)], &mut out);
        out.finish().into_bytes()
    }

    fn seal(&self, target: &TargetId, own: &str) -> String {
        if let Some((_, public)) = self.known.as_ref().filter(|(known, _)| **known == *own) {
            return public.to_string();
        }
        // No name of a target holds a zero byte.
        let plain = format!("{target}\0{own}");
        self.bound(|bound_to| self.seal.seal_alike(plain.as_bytes(), bound_to))
    }

    fn bound<T>(&self, with: impl FnOnce(&[&str]) -> T) -> T {
        with(&[PURPOSE, self.principal.as_str(), &self.view, self.era.as_str()])
    }
}

/// Where ids of tasks stand in a message of a target.
fn places(object: &str, names: Names) -> Vec<Range<usize>> {
    let mut places: Vec<_> = related(object).into_iter().collect();
    match names {
        Names::Nothing => {}
        Names::Itself => places.extend(at(object, &["taskId"])),
        Names::Created => places.extend(at(object, &["task", "taskId"])),
    }
    places
}

/// Where a message names the task that it belongs to (2025-11-25, tasks: associating messages).
fn related(object: &str) -> Option<Range<usize>> {
    at(object, &["_meta", key::RELATED_TASK, "taskId"])
}

/// Where the value at the end of this path of members lies.
fn at(object: &str, path: &[&str]) -> Option<Range<usize>> {
    path.iter().try_fold(0..object.len(), |whole, name| {
        let member = members(&object[whole.clone()]).flatten().find(|member| member.key.is(name))?;
        Some(whole.start + member.range.start..whole.start + member.range.end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Http;

    fn ids(seal: &Arc<Seal>, principal: &str, view: &str, era: Era) -> TaskIds {
        TaskIds::new(Arc::clone(seal), Arc::new(Made::new(true)), Principal(principal.into()), view, era)
    }

    fn seal() -> Arc<Seal> {
        Arc::new(Seal::new(&Http::default()).expect("an ephemeral key"))
    }

    #[test]
    fn an_id_is_good_for_its_own_client_view_and_era_only_and_always_the_same() {
        let seal = seal();
        let alice = ids(&seal, "alice", "", Era::Legacy);
        let id = alice.seal(&"up".into(), "t-1");

        assert_eq!(alice.open(&id), Some(("up".to_owned(), "t-1".to_owned())));
        assert_eq!(alice.seal(&"up".into(), "t-1"), id);
        for other in ["other", "up"].map(TargetId::from) {
            assert_ne!(alice.seal(&other, "t-2"), id);
        }
        assert_ne!(alice.seal(&"other".into(), "t-1"), id, "two targets may use the same ids");
        let strangers =
            [ids(&seal, "bob", "", Era::Legacy), ids(&seal, "alice", "up", Era::Legacy), ids(&seal, "alice", "", Era::Modern)];
        for stranger in strangers {
            assert_eq!(stranger.open(&id), None, "{stranger:?}");
        }
        let mut changed = id.into_bytes();
        changed[30] = if changed[30] == b'A' { b'B' } else { b'A' };
        assert_eq!(alice.open(&String::from_utf8(changed).expect("ASCII")), None);
        assert_eq!(alice.open("t-1"), None);
    }

    #[test]
    fn every_id_of_a_message_is_the_client_s_and_nothing_else_changes() {
        let seal = seal();
        let ids = ids(&seal, "alice", "", Era::Legacy).knowing("t", "KNOWN");
        let cases = [
            (Names::Itself, r#"{"taskId":"t","x":1.0}"#, r#"{"taskId":"KNOWN","x":1.0}"#),
            (
                Names::Created,
                r#"{"task":{"a":1,"taskId":"t"},"taskId":"t"}"#,
                r#"{"task":{"a":1,"taskId":"KNOWN"},"taskId":"t"}"#,
            ),
            (Names::Itself, r#"{"taskId":"\u0074"}"#, r#"{"taskId":"KNOWN"}"#),
            (
                Names::Nothing,
                r#"{"taskId":"t","_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t"}}}"#,
                r#"{"taskId":"t","_meta":{"io.modelcontextprotocol/related-task":{"taskId":"KNOWN"}}}"#,
            ),
            (Names::Created, r#"{"content":[]}"#, r#"{"content":[]}"#),
        ];
        for (names, raw, expected) in cases {
            let renamed = ids.public(&Bytes::from_static(raw.as_bytes()), names, &"up".into()).into_bytes();

            assert_eq!(renamed, expected, "{names:?}");
        }
    }

    #[test]
    fn a_client_s_answer_goes_back_under_the_target_s_own_id() {
        let ids = ids(&seal(), "alice", "", Era::Legacy);
        let id = ids.seal(&"up".into(), "t \"1\"");
        let answer =
            |id: &str| format!(r#"{{"action":"accept","_meta":{{"io.modelcontextprotocol/related-task":{{"taskId":{id}}}}}}}"#);

        let own = ids.own_related(answer(&format!("\"{id}\"")).into());

        assert_eq!(own, answer(r#""t \"1\"""#));
        assert_eq!(ids.own_related(answer("\"x\"").into()), answer("\"x\""));
    }
}
