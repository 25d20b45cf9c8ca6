//! `tasks/list` (2025-11-25): the lists of all targets of a view as one, as far as the client has made what stands there, with a cursor that
//! holds all of theirs and remembers nothing.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use runtime_api::{Call, CallError, Caller, Era, Method, Params, TargetId};
use runtime_mcp::handshake::part;
use tokio::time::Instant;
use tower::ServiceExt;
use twinway_proto::{
    envelope::{self, Request},
    json::{self, members},
    meta::rewrite,
    rope::{Builder, Rope},
};

use super::{
    super::{
        Answer, Inbound, Outgoing, Running, Seal, Server, answer,
        call::{Form, Found, time_for},
        era::Spoken,
        find::Named,
    },
    TaskIds, text,
};
use crate::{
    catalog::TaskSource,
    pipeline::{Answered, Pipeline, Routed},
};

/// What a cursor is sealed for: it holds what targets have told the gateway.
const PURPOSE: &str = "tasks/list";

/// Targets that are asked at one time.
const ASKED_AT_ONCE: usize = 16;

/// How long a target may take, where the client has no shorter deadline. One that is slow is left out, and named.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Longest cursor of a target that is carried; there may be one of each.
const CURSOR_BYTES_MAX: usize = 1024;

/// Longest cursor of ours that is looked at: some hundred targets with long ones.
const WHOLE_BYTES_MAX: usize = 256 * 1024;

/// Where each target goes on, by its name: raw JSON strings.
type Cursors = Vec<(String, String)>;

/// A request for one page, as the answer to it needs it.
struct Page {
    ids: TaskIds,
    seal: Arc<Seal>,
    bound_to: [Box<str>; 2],
    id: Box<str>,
    bytes_max: usize,
}

impl Server {
    pub(super) fn list_tasks(&self, inbound: &Inbound<'_>, request: &Request<'_>, spoken: &Spoken) -> Answer {
        let index = request.params.clone().unwrap_or_default();
        let raw = if index.range.is_empty() { Bytes::from_static(b"{}") } else { inbound.message.slice(index.range.clone()) };
        let page = Page {
            ids: self.task_ids(inbound, spoken.era()),
            seal: self.shared.sessions.seal(),
            bound_to: [inbound.principal.as_str().into(), inbound.view.into()],
            id: request.id.into(),
            bytes_max: inbound.answer_bytes_max,
        };
        let cursor = index.cursor.clone().map(|range| &raw[range]).filter(|cursor| *cursor != b"null");
        let Ok(cursors) = cursor.map(|cursor| page.read(text(cursor)).ok_or(())).transpose() else {
            return answer::error(200, Some(request.id), -32602, "this cursor is not one of ours", None);
        };
        let sources = self.shared.catalog.load().view(inbound.view).map(|view| view.task_sources.clone()).unwrap_or_default();
        let asked: Vec<_> = sources
            .into_iter()
            .filter(|source| source.tasks.list)
            .filter_map(|source| {
                let target = &source.entry.chosen().target;
                match &cursors {
                    None => Some((source, None)),
                    Some(cursors) => {
                        let cursor = cursors.iter().find(|(name, _)| name == target.as_str())?.1.clone();
                        Some((source, Some(cursor)))
                    }
                }
            })
            .collect();
        let Some((first, _)) = asked.first() else { return answer::result(request.id, b"{\"tasks\":[]}".to_vec().into()) };
        let named = Named { entry: Arc::clone(&first.entry), name: "".into(), others: Vec::new() };
        let found =
            Found { inbound, request, spoken, method: Method::TasksList, named, place: None, index: &index, raw: raw.clone() };
        let form = Form::JsonRpc { id: request.id.into(), era: spoken.era(), revision: spoken.revision() };
        let (span, trace) = self.traced(&found, &form);
        let deadline = Instant::now() + time_for(TIMEOUT.min(inbound.time_max), request.meta.deadline_ms);
        // What the client takes says which of its sessions at the target is meant; nothing comes back but the list.
        let (caller, _) = Caller::channel(self.wants(&found));
        let call = found.call(trace, caller, deadline);
        let calls = asked.into_iter().map(|(source, cursor)| {
            let call = Call {
                target: source.entry.chosen().target.clone(),
                params: with_cursor(&raw, cursor.as_deref()),
                ..call.clone()
            };
            (source, call)
        });
        let asking = ask_all(self.shared.pipeline.clone(), calls.collect(), span);
        let answer = Box::pin(async move { page.write(asking.await) });
        let running = Running::new(answer, None, deadline, self.shared.left_behind.clone());
        Answer::Running(Box::new(match spoken {
            Spoken::Legacy { session, .. } => running.in_session(session, request.id),
            Spoken::Modern | Spoken::Opening => running,
        }))
    }
}

/// What each target says, in the order of the targets.
async fn ask_all(
    pipeline: Pipeline,
    calls: Vec<(TaskSource, Call)>,
    span: tracing::Span,
) -> Vec<(TargetId, Result<Answered, CallError>)> {
    let ask = |(source, call): (TaskSource, Call)| {
        let (pipeline, span) = (pipeline.clone(), span.clone());
        async move {
            let target = call.target.clone();
            (target, pipeline.oneshot(Routed::new(source.entry, call, span)).await)
        }
    };
    stream::iter(calls).map(ask).buffered(ASKED_AT_ONCE).collect().await
}

/// The parameters for one target: those of the client, with that target's own cursor.
fn with_cursor(raw: &Bytes, cursor: Option<&str>) -> Params {
    let added = cursor.map(|cursor| ("cursor", cursor.as_bytes()));
    let raw = rewrite(Some(text(raw)), |key| !key.is("cursor"), added.as_slice()).unwrap_or_else(|_| b"{}".to_vec());
    let meta = members(text(&raw)).flatten().find(|member| member.key.is("_meta")).map(|member| member.range);
    Params { meta, raw: raw.into(), ..Params::default() }
}

impl Page {
    /// What all of them say, in one list. Whoever says nothing is left out and named; where nobody says anything, the first says why.
    fn write(&self, answers: Vec<(TargetId, Result<Answered, CallError>)>) -> Outgoing {
        let (mut tasks, mut cursors, mut silent) = (Vec::new(), Cursors::new(), Vec::new());
        let (mut failure, mut says_something) = (None, false);
        for (target, answered) in answers {
            match answered {
                Ok(answered) => {
                    says_something = true;
                    let result = answered.reply.result;
                    tasks.extend(self.ids.own_of(&part(&result, "tasks").unwrap_or_default(), &target));
                    match next_cursor(&result) {
                        Some(cursor) if cursor.len() <= CURSOR_BYTES_MAX => cursors.push((target.to_string(), cursor)),
                        Some(_) => silent.push(target),
                        None => {}
                    }
                }
                Err(error) => {
                    silent.push(target);
                    failure.get_or_insert(error);
                }
            }
        }
        match failure {
            Some(error) if !says_something => answer::failed(&self.id, &error, Era::Legacy),
            _ => self.bounded(envelope::response(&self.id, self.result(tasks, &cursors, &silent))),
        }
    }

    fn result(&self, tasks: Vec<Bytes>, cursors: &Cursors, silent: &[TargetId]) -> Rope {
        let mut out = Builder::with_capacity(256);
        out.push_slice(b"{\"tasks\":[");
        for (place, task) in tasks.into_iter().enumerate() {
            if place > 0 {
                out.push_slice(b",");
            }
            out.push_bytes(task);
        }
        out.push_slice(b"]");
        if !cursors.is_empty() {
            out.push_slice(b",\"nextCursor\":\"").push_slice(self.seal(cursors).as_bytes()).push_slice(b"\"");
        }
        if !silent.is_empty() {
            let silent: Vec<_> = silent.iter().map(|target| format!("\"{target}\"")).collect();
            out.push_slice(format!(r#","_meta":{{"twinway/missing":[{}]}}"#, silent.join(",")).as_bytes());
        }
        out.push_slice(b"}");
        out.finish()
    }

    fn bounded(&self, message: Rope) -> Outgoing {
        if message.len() <= self.bytes_max {
            return Outgoing::new(200, message);
        }
        answer::failed(&self.id, &answer::too_large(self.bytes_max), Era::Legacy)
    }

    fn seal(&self, cursors: &Cursors) -> String {
        let plain = serde_json::to_vec(cursors).expect("strings always serialize");
        self.seal.seal(&plain, &[PURPOSE, &self.bound_to[0], &self.bound_to[1]])
    }

    fn read(&self, raw: &str) -> Option<Cursors> {
        let sealed = json::string(raw).filter(|sealed| sealed.len() <= WHOLE_BYTES_MAX)?;
        let plain = self.seal.open(&sealed, &[PURPOSE, &self.bound_to[0], &self.bound_to[1]])?;
        serde_json::from_slice(&plain).ok()
    }
}

/// The raw cursor of a target that has more.
fn next_cursor(result: &Bytes) -> Option<String> {
    let cursor = part(result, "nextCursor").filter(|cursor| cursor.starts_with(b"\""))?;
    Some(text(&cursor).to_owned())
}
