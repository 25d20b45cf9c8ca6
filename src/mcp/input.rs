//! What a target asks of a client, and the answers that come back: by requests in a session, or by rounds of a modern call.

use std::sync::Arc;

use bytes::Bytes;
use runtime_api::{CallerEvents, Declared, LogLevel, Logging, Wants};
use runtime_mcp::{client, handshake::part};
use twinway_proto::{
    envelope::{self, Request},
    json,
    meta::RequestMeta,
};

use super::{
    Answer, Inbound, Outgoing, Running, Server, Shared, Way, answer,
    call::Found,
    era::Spoken,
    parked::{Bound, Left, Question},
    running::{Asks, Events, OfTasks},
};

/// What it takes to leave a call and to find it again.
pub(super) struct Parking {
    shared: Arc<Shared>,
    bound: Bound,
    /// Raw id of the request that is answered with the question.
    id: Box<str>,
}

impl Parking {
    /// Parks the call that `leave` gives, and returns the answer that asks its client. Where there is no room `leave` is not
    /// called.
    pub(super) fn park(&self, method: &str, params: &Bytes, leave: impl FnOnce() -> Left) -> Option<Outgoing> {
        let seal = self.shared.sessions.seal();
        let Some(state) = self.shared.parked.park(&seal, &self.bound, leave) else {
            self.shared.metrics.request_refused("parked_full");
            return None;
        };
        let result = Question::write(method, params, &state);
        Some(Outgoing::new(200, envelope::response(&self.id, result.into())))
    }
}

impl Server {
    /// What the client of this call takes beside its reply.
    pub(super) fn wants(&self, found: &Found<'_>) -> Wants {
        let meta = &found.request.meta;
        let progress = meta.progress_token.is_some();
        match found.spoken {
            Spoken::Legacy { session, client } => {
                let requests = if takes_a_stream(found.inbound) { client.declared } else { Declared::NONE };
                Wants { progress, logging: session.logging(), requests }
            }
            Spoken::Modern if found.named.entry.chosen().modern => {
                // A modern target asks by its answer, which goes to the client as it is.
                Wants { progress, logging: logging(meta), requests: Declared::NONE }
            }
            Spoken::Modern => {
                let declared = meta.client_capabilities.filter(|raw| *raw != "{}").map(client::declared);
                Wants { progress, logging: logging(meta), requests: declared.unwrap_or_default() }
            }
            Spoken::Opening => Wants::default(),
        }
    }

    /// How the client of this call hears what its target says before the answer.
    pub(super) fn events(&self, found: &Found<'_>, may_ask: bool, events: CallerEvents) -> Events {
        let inbound = found.inbound;
        let token = found.request.meta.progress_token.map(|token| inbound.message.slice_ref(token.as_bytes()));
        let asks = match found.spoken {
            _ if !may_ask => Asks::Nobody,
            Spoken::Legacy { session, .. } => Asks::Session(Arc::clone(session), found.request.id.into()),
            Spoken::Modern | Spoken::Opening => {
                let bound = bound(found);
                Asks::Parking(Box::new(Parking { shared: Arc::clone(&self.shared), bound, id: found.request.id.into() }))
            }
        };
        Events { events, token, asks, tasks: OfTasks::Nothing }
    }

    /// Goes on with a call that was parked, if this is a retry of one. `None` when the call has to be made as it is.
    pub(super) fn resume(&self, found: &Found<'_>) -> Option<Answer> {
        let raw_state = found.index.request_state.clone().map(|range| &found.raw[range])?;
        let state = std::str::from_utf8(raw_state).ok().and_then(json::string);
        let seal = self.shared.sessions.seal();
        let bound = bound(found);
        let Some(left) = state.and_then(|state| self.shared.parked.take(&seal, &bound, &state)) else {
            // A modern target has states of its own.
            let is_the_target_s = found.named.entry.chosen().modern;
            return (!is_the_target_s).then(|| {
                self.shared.metrics.request_refused("state_unknown");
                let message = "this `requestState` is not known, was used before, has expired, or belongs to another call";
                answer::error(200, Some(found.request.id), -32602, message, None)
            });
        };
        let responses = found.index.input_responses.clone().map(|range| found.raw.slice(range));
        Some(self.go_on(found, bound, left, responses.as_ref()))
    }

    fn go_on(&self, found: &Found<'_>, bound: Bound, left: Left, responses: Option<&Bytes>) -> Answer {
        let Left { state, deadline, question } = left;
        let id = found.request.id;
        let Some(response) = question.answered_by(responses) else {
            // An answer is missing: the client is asked again.
            let parking = Parking { shared: Arc::clone(&self.shared), bound, id: id.into() };
            let (method, params) = (question.method.clone(), question.params.clone());
            let asked = parking.park(&method, &params, || Left { state, deadline, question });
            return Answer::Message(asked.unwrap_or_else(|| {
                let message = "the answer to what the tool asked is missing, and too many calls wait for input to ask again";
                Outgoing::new(200, envelope::failure(Some(id), envelope::error_object(-32603, message, None)))
            }));
        };
        // The target may have given up meanwhile; the call says so itself.
        question.answer.send(Ok(response)).ok();
        let running =
            Running::resumed(state, id, |events| self.events(found, true, events), deadline, self.shared.left_behind.clone());
        Answer::Running(Box::new(match &found.inbound.way {
            Way::Stream { session, .. } => running.in_session(session, id).ends_with_its_holder(),
            Way::Http { .. } => running,
        }))
    }

    /// `logging/setLevel`: from which level on log lines of later calls are wanted.
    pub(super) fn set_log_level(&self, inbound: &Inbound<'_>, request: &Request<'_>, spoken: &Spoken) -> Answer {
        let params = request.params.as_ref().map(|params| inbound.message.slice(params.range.clone())).unwrap_or_default();
        let level = part(&params, "level").and_then(|raw| json::string(std::str::from_utf8(&raw).ok()?).map(Into::into));
        match (level.and_then(|name: String| LogLevel::named(&name)), spoken) {
            (Some(level), Spoken::Legacy { session, .. }) => {
                session.set_log_level(level);
                answer::result(request.id, b"{}".to_vec().into())
            }
            _ => answer::error(200, Some(request.id), -32602, "`params.level` is not one of the eight levels of RFC 5424", None),
        }
    }
}

/// A modern client names the level with each request.
fn logging(meta: &RequestMeta<'_>) -> Logging {
    let level = meta.log_level.and_then(json::string).and_then(|name| LogLevel::named(&name));
    level.map_or(Logging::Off, Logging::From)
}

/// Whether a question can be put before the answer: a client that takes nothing but JSON cannot be asked.
fn takes_a_stream(inbound: &Inbound<'_>) -> bool {
    let Way::Http { headers } = &inbound.way else { return true };
    headers.get(http::header::ACCEPT).is_none_or(|accept| {
        let accept = accept.as_bytes();
        [&b"text/event-stream"[..], b"*/*"].iter().any(|kind| memchr::memmem::find(accept, kind).is_some())
    })
}

fn bound(found: &Found<'_>) -> Bound {
    Bound {
        principal: found.inbound.principal.clone(),
        view: found.inbound.view.into(),
        method: found.method,
        params: found.raw.clone(),
    }
}
