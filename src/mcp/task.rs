//! Calls that become tasks, whose results are fetched later (2025-11-25, tasks; the extension of tasks of 2026-07-28).
//!
//! ```text
//! tools/call ──► target makes a task ──► its id, sealed for this client ──► client
//! tasks/get, result, update, cancel with that id ──► opened: which target, which id there ──► the same session as the call
//! ```
//!
//! An id says itself where its task is, and nobody but its client can use it. Only for `tasks/list` it is remembered who made what.

mod ids;
mod listing;
mod made;
mod news;

use std::sync::Arc;

use bytes::Bytes;
use runtime_api::{AsTask, Era, Method};
use runtime_mcp::client::{TASKS, has_tasks_extension};
use twinway_proto::{
    envelope::Request,
    json::{self, text},
    meta::RequestMeta,
    revision,
};

pub(super) use ids::TaskIds;
pub(super) use made::Made;
pub(super) use news::{Listener, Watched, watch_all};

use super::{
    Answer, Inbound, Server, answer,
    call::{Form, Found},
    era::Spoken,
    find::Named,
    listing::unknown_view,
};
use crate::catalog::{TaskSource, Tasks};

/// `MissingRequiredClientCapability` (2026-07-28).
const MISSING_CAPABILITY: i32 = -32021;

impl Server {
    /// A request about a task: its target answers.
    pub(super) fn task(&self, method: Method, inbound: &Inbound<'_>, request: &Request<'_>, spoken: &Spoken) -> Answer {
        let invalid = |what: &str| answer::error(200, Some(request.id), -32602, what, None);
        let offered = self.shared.catalog.load().view(inbound.view).map(|view| view.capabilities.tasks);
        let Some(offered) = offered else { return unknown_view(request.id, inbound.view) };
        if !has_method(method, spoken, offered) {
            return answer::unknown_method(request.id, &request.method, spoken.era());
        }
        if spoken.era() == Era::Modern && !declares_tasks(&request.meta) {
            return lacks_extension(request.id);
        }
        if method == Method::TasksList {
            return self.list_tasks(inbound, request, spoken);
        }
        let index = request.params.clone().unwrap_or_default();
        let raw = inbound.message.slice(index.range.clone());
        let place = index.task_id.clone().filter(|range| raw[range.start] == b'"');
        let Some(place) = place else { return invalid("`params.taskId` is not a string") };
        let id = json::string(text(&raw[place.clone()])).unwrap_or_default();
        let Some((target, own)) = self.task_ids(inbound, spoken.era()).open(&id) else {
            self.shared.metrics.request_refused("task_unknown");
            return invalid("there is no task with this id, or it belongs to somebody else");
        };
        let source = self.shared.catalog.load().view(inbound.view).and_then(|view| view.task_source(&target).cloned());
        let Some(source) = source.filter(|source| serves(spoken.era(), source.tasks)) else {
            return invalid(&format!("`{target}`, which has this task, is not there any more or has no tasks"));
        };
        let TaskSource { entry, waiting, .. } = source;
        let entry = if method == Method::TasksResult { waiting } else { entry };
        let named = Named { entry, name: own.into(), others: Vec::new() };
        let form = Form::JsonRpc { id: request.id.into(), era: spoken.era(), revision: spoken.revision() };
        self.begin(&Found { inbound, request, spoken, method, named, place: Some(place), index: &index, raw }, form)
    }

    /// What seals the ids of tasks for the client of this message, and opens them.
    pub(super) fn task_ids(&self, inbound: &Inbound<'_>, era: Era) -> TaskIds {
        TaskIds::new(self.shared.sessions.seal(), Arc::clone(&self.shared.made), inbound.principal.clone(), inbound.view, era)
    }

    /// The same for the answer to a call; `None` when no task can come of it.
    pub(super) fn task_ids_for(&self, found: &Found<'_>, task: AsTask) -> Option<TaskIds> {
        let ids = || {
            let ids = self.task_ids(found.inbound, found.spoken.era());
            match found.spoken {
                Spoken::Legacy { session, .. } => ids.telling(&self.shared.catalog, session),
                Spoken::Modern | Spoken::Opening => ids,
            }
        };
        match (found.method, &found.place) {
            (Method::ToolsCall, _) => (task == AsTask::May).then(ids),
            (Method::TasksGet | Method::TasksResult | Method::TasksUpdate | Method::TasksCancel, Some(place)) => {
                let public = json::string(text(&found.raw[place.clone()])).unwrap_or_default();
                Some(ids().knowing(&found.named.name, &public))
            }
            _ => None,
        }
    }

    /// A client's answer to a question that belongs to a task, with the target's own id of it instead of the client's.
    pub(super) fn with_own_task(&self, inbound: &Inbound<'_>, answer: Bytes) -> Bytes {
        self.task_ids(inbound, Era::Legacy).own_related(answer)
    }
}

/// Whether a call may become a task.
pub(super) fn as_task(found: &Found<'_>) -> AsTask {
    if found.method != Method::ToolsCall {
        return AsTask::No;
    }
    let (wished, can) = match found.spoken {
        Spoken::Legacy { client, .. } => (found.index.task.is_some(), client.revision == revision::LATEST_LEGACY),
        Spoken::Modern | Spoken::Opening => {
            let declared = declares_tasks(&found.request.meta);
            (declared || found.index.task.is_some(), declared)
        }
    };
    match (wished, can && found.inbound.scope.is_everything()) {
        (false, _) => AsTask::No,
        (true, true) => AsTask::May,
        // Peers are given tools alone, and cannot ask for a task later on.
        (true, false) => AsTask::MustNot,
    }
}

/// Whether a modern client takes tasks, as it declares with each request.
pub(super) fn declares_tasks(meta: &RequestMeta<'_>) -> bool {
    // Nearly no request declares anything.
    meta.client_capabilities.is_some_and(|declared| declared != "{}" && has_tasks_extension(declared))
}

/// The answer to a modern client that asks for tasks and has not declared them (2026-07-28, tasks: error handling).
pub(super) fn lacks_extension(id: &str) -> Answer {
    let data = format!(r#"{{"requiredCapabilities":{{"extensions":{{"{TASKS}":{{}}}}}}}}"#);
    let message = "this client has not declared the extension of tasks";
    answer::error(400, Some(id), MISSING_CAPABILITY, message, Some(data.as_bytes()))
}

fn has_method(method: Method, spoken: &Spoken, offered: Tasks) -> bool {
    match spoken {
        Spoken::Legacy { client, .. } if client.revision == revision::LATEST_LEGACY => match method {
            Method::TasksList => offered.list,
            Method::TasksCancel => offered.cancel,
            _ => offered.calls,
        },
        Spoken::Legacy { .. } | Spoken::Opening => false,
        Spoken::Modern => offered.extension,
    }
}

const fn serves(era: Era, tasks: Tasks) -> bool {
    match era {
        Era::Legacy => tasks.calls,
        Era::Modern => tasks.extension,
    }
}
