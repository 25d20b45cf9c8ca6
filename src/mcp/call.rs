//! `tools/call` and whatever else one target answers: finds it, makes the call, and writes its reply in the client's era.

use std::{iter, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use runtime_api::{
    Call, CallError, Caller, Declared, Delivery, Era, ErrorCode, Kind, Losses, Method, Params, Reply, TraceContext,
};
use tokio::time::Instant;
use tower::ServiceExt;
use tracing::Span;
use twinway_proto::{
    envelope::{self, ParamsIndex, Request},
    json::{self, text},
    meta::{RequestMeta, key},
    rope::Rope,
};

use super::{
    Answer, Inbound, Outgoing, Running, Server, Way,
    answer::{self, HEADER_MISMATCH, with_meta},
    deprecation::with_notice,
    era::Spoken,
    fault::{self, Reader, Told},
    find::{self, Named},
    listing::unknown_view,
    rest, result,
    task::{self, TaskIds},
};
use crate::{
    catalog::Entry,
    pipeline::{Answered, Attempt, Pipeline, Routed},
    telemetry::{
        Decision,
        headers::{self, BAGGAGE, BAGGAGE_BYTES_MAX, TRACESTATE_BYTES_MAX, is_passed_on},
        span,
    },
};

/// What the reply needs of the request.
struct Asked {
    form: Form,
    method: Method,
    names: Names,
    explain: bool,
    /// A deprecated tool whose client has to be told.
    deprecated: Option<Arc<Entry>>,
    /// Present when the answer may name tasks.
    tasks: Option<Box<TaskIds>>,
    /// Whether the client can be sent to a URL. A modern target has seen itself what the client declares.
    takes_urls: bool,
    /// What the client answers to what it was asked before.
    responses: Option<Bytes>,
    /// What the client is not told before the answer.
    losses: Losses,
    bytes_max: usize,
    began: Instant,
}

/// What a call names.
struct Names {
    /// As the client knows it.
    public: Arc<str>,
    /// As the target knows it.
    own: Arc<str>,
}

/// How the reply is written.
pub(super) enum Form {
    /// As an answer of JSON-RPC in the client's era.
    JsonRpc { id: Box<str>, era: Era, revision: &'static str },
    /// As REST clients know it; it names the tool.
    Rest(Arc<Entry>),
}

impl Server {
    /// A request that names something of a target, which answers it.
    pub(super) fn call(&self, method: Method, inbound: &Inbound<'_>, request: &Request<'_>, spoken: &Spoken) -> Answer {
        let found = match self.look_up(method, inbound, request, spoken) {
            Ok(found) => found,
            Err(answer) => return *answer,
        };
        if let (Way::Http { headers }, Era::Modern) = (&inbound.way, spoken.era()) {
            let arguments = found.index.arguments.clone().map_or("{}", |range| text(&found.raw[range]));
            if let Err(fault) = found.named.entry.mirrored.check(headers, arguments) {
                self.shared.metrics.request_refused("header_mismatch");
                return answer::error(400, Some(request.id), HEADER_MISMATCH, &fault.to_string(), None);
            }
        }
        self.make(&found)
    }

    /// The same for a call that came within another one: the headers of that one mirror nothing of it.
    pub(super) fn call_within(&self, method: Method, inbound: &Inbound<'_>, request: &Request<'_>, spoken: &Spoken) -> Answer {
        self.look_up(method, inbound, request, spoken).map_or_else(|answer| *answer, |found| self.make(&found))
    }

    /// What a request names; or the answer that says what is wrong with it.
    fn look_up<'a>(
        &self,
        method: Method,
        inbound: &'a Inbound<'a>,
        request: &'a Request<'a>,
        spoken: &'a Spoken,
    ) -> Result<Found<'a>, Box<Answer>> {
        let invalid = |what: &str| Err(Box::new(answer::error(200, Some(request.id), -32602, what, None)));
        let Some(index) = &request.params else { return invalid(&format!("`{method}` has no `params`")) };
        let raw = inbound.message.slice(index.range.clone());
        let place = match find::place_of(method, index, &raw) {
            Ok(place) => place,
            Err(wrong) => return invalid(wrong),
        };
        if index.arguments.clone().is_some_and(|range| raw[range.start] != b'{') {
            return invalid("`params.arguments` is not an object");
        }
        let name = place.name(&raw);
        let named = {
            let snapshot = self.shared.catalog.load();
            let Some(view) = snapshot.view(inbound.view) else {
                return Err(Box::new(unknown_view(request.id, inbound.view)));
            };
            place.look_up(view, &name).ok_or_else(|| {
                Box::new(match place.withheld(view, &name, &inbound.scope) {
                    Some(withheld) => Answer::Message(answer::failed(request.id, &withheld, spoken.era())),
                    None => place.missing(view, &inbound.scope, (request.id, &name), spoken.era()),
                })
            })?
        };
        if !inbound.scope.allows(&named.entry) {
            return Err(Box::new(answer::denied(request.id, &name)));
        }
        drop(name);
        Ok(Found { inbound, request, spoken, method, named, place: Some(place.range), index, raw })
    }

    /// Makes the call, or goes on with it where it was left.
    fn make(&self, found: &Found<'_>) -> Answer {
        let Found { request, spoken, index, .. } = found;
        if index.request_state.is_some()
            && spoken.era() == Era::Modern
            && let Some(resumed) = self.resume(found)
        {
            return resumed;
        }
        self.begin(found, Form::JsonRpc { id: request.id.into(), era: spoken.era(), revision: spoken.revision() })
    }

    /// Begins a call of something that was found, however it was asked for.
    pub(super) fn begin(&self, found: &Found<'_>, form: Form) -> Answer {
        let Found { inbound, request, spoken, method, named, index, .. } = found;
        let (meta, entry) = (&request.meta, &named.entry);
        let (span, trace) = self.traced(found, &form);
        let wants = self.wants(found);
        let takes_urls = entry.chosen().modern || wants.requests.has(Declared::ELICITATION_URL);
        let task = task::as_task(found);
        let tasks = self.task_ids_for(found, task).map(Box::new);
        let (caller, events) = if wants.is_nothing() {
            (Caller::none(), None)
        } else {
            let waits_for = (*method == Method::TasksResult).then(|| Arc::clone(&named.name));
            let (caller, events) = Caller::channel_about(wants, waits_for, self.shared.parked.timeout());
            let events = self.events(found, !wants.requests.is_none(), events);
            (caller, Some(events.with_tasks(tasks.as_deref(), entry)))
        };
        let asked = Asked {
            form,
            method: *method,
            names: Names::of(found),
            explain: meta.explain == Some("true"),
            deprecated: entry.deprecated.is_some().then(|| self.deprecated(found)).flatten(),
            tasks,
            takes_urls,
            responses: index.input_responses.clone().map(|range| found.raw.slice(range)),
            losses: caller.losses(),
            bytes_max: inbound.answer_bytes_max,
            began: Instant::now(),
        };
        let deadline = asked.began + time_for(entry.metadata.timeout.min(inbound.time_max), meta.deadline_ms);
        let mut call = found.call(trace, caller, deadline);
        call.params.task = task;
        let pipeline = self.shared.pipeline.clone();
        let finished: BoxFuture<'static, Outgoing> = if named.others.is_empty() {
            let answering = pipeline.oneshot(Routed::new(Arc::clone(entry), call, span));
            Box::pin(async move { asked.finish(answering.await) })
        } else {
            let asking = iter::once(entry).chain(&named.others).cloned().collect();
            Box::pin(async move { asked.finish(ask_each(pipeline, asking, call, span).await) })
        };
        let running = Running::new(finished, events, deadline, self.shared.left_behind.clone());
        under_way(running, inbound, request, spoken)
    }

    /// Counts a call of a deprecated tool, and says whether its client has to be told.
    #[cold]
    fn deprecated(&self, found: &Found<'_>) -> Option<Arc<Entry>> {
        let Found { inbound, request, spoken, named, .. } = found;
        let entry = &named.entry;
        self.shared.told.count(entry, inbound.principal, spoken, request.meta.client_info).then(|| Arc::clone(entry))
    }

    /// Decides whether this call is traced, before any span exists.
    pub(super) fn traced(&self, found: &Found<'_>, form: &Form) -> (Span, TraceContext) {
        let incoming = incoming_trace(found.inbound, &found.request.meta);
        let known = incoming.exists().then_some(&incoming);
        match self.shared.sampler.decide(known) {
            Decision::PassOn => (Span::none(), incoming),
            Decision::Skip => (Span::none(), span::new_unsampled(known)),
            Decision::Record => {
                let session = found.spoken.session_id();
                let spoken = match form {
                    Form::JsonRpc { era, .. } => {
                        Some(span::Spoken { era: *era, protocol_version: found.spoken.revision(), request_id: found.request.id })
                    }
                    Form::Rest(_) => None,
                };
                let about = span::Entrance {
                    method: &found.request.method,
                    name: Some(&found.named.entry.public),
                    spoken,
                    transport: found.inbound.way.transport(),
                    session: session.as_deref(),
                };
                let span = span::entrance(known, &about);
                let context = span::context_of(&span, &incoming);
                (span, context)
            }
        }
    }
}

/// A call of something that was found.
pub(super) struct Found<'a> {
    pub(super) inbound: &'a Inbound<'a>,
    pub(super) request: &'a Request<'a>,
    pub(super) spoken: &'a Spoken,
    pub(super) method: Method,
    pub(super) named: Named,
    /// Where the parameters name it.
    pub(super) place: Option<Range<usize>>,
    pub(super) index: &'a ParamsIndex,
    /// The parameters.
    pub(super) raw: Bytes,
}

/// A request that is under way, and that its client can cancel in the way of its era.
pub(super) fn under_way(running: Running, inbound: &Inbound<'_>, request: &Request<'_>, spoken: &Spoken) -> Answer {
    Answer::Running(Box::new(match (spoken, &inbound.way) {
        (Spoken::Legacy { session, .. }, _) => running.in_session(session, request.id),
        // On a stream a modern client cancels by a notification too, as over stdio.
        (_, Way::Stream { session, .. }) => running.in_session(session, request.id).ends_with_its_holder(),
        (_, Way::Http { .. }) => running,
    }))
}

impl Found<'_> {
    /// The call as it goes on, which becomes no task.
    pub(super) fn call(&self, trace: TraceContext, caller: Caller, deadline: Instant) -> Call {
        let Found { inbound, request, spoken, method, named, place, index, raw } = self;
        let params = Params {
            raw: Bytes::clone(raw),
            name: place.clone(),
            arguments: index.arguments.clone(),
            meta: index.meta.clone(),
            meta_passes: !request.meta.of_one_hop,
            of_a_round: index.request_state.is_some() || index.input_responses.is_some(),
            ..Params::default()
        };
        Call {
            method: *method,
            target: named.entry.chosen().target.clone(),
            name: Arc::clone(&named.name),
            params,
            principal: inbound.principal.clone(),
            client: spoken.client(),
            session: spoken.session(),
            deadline,
            priority: named.entry.metadata.priority,
            trace,
            caller,
        }
    }
}

impl Asked {
    fn finish(self, answered: Result<Answered, CallError>) -> Outgoing {
        let bytes_max = self.bytes_max;
        let outgoing = match &self.form {
            Form::JsonRpc { id, era, revision } => self.write(id, *era, revision, answered).with_lost(self.losses.count()),
            Form::Rest(entry) => rest::write(entry, answered),
        };
        if outgoing.message.len() <= bytes_max {
            return outgoing;
        }
        match &self.form {
            Form::JsonRpc { id, era, .. } => answer::failed(id, &answer::too_large(bytes_max), *era),
            Form::Rest(_) => rest::failed(&answer::too_large(bytes_max)),
        }
    }

    fn write(&self, id: &str, era: Era, revision: &str, answered: Result<Answered, CallError>) -> Outgoing {
        match answered {
            Ok(answered) if self.tasks.is_none() && is_task(&answered.reply) => answer::failed(id, &unwanted_task(), era),
            Ok(answered) if era == Era::Legacy && is_unfinished(&answered.reply) => answer::failed(id, &unfinished(), era),
            Ok(answered) => Outgoing::new(200, envelope::response(id, self.result(era, revision, answered))),
            Err(error) => self.fail(id, &error, era),
        }
    }

    /// The target's own error in the client's era, or ours.
    fn fail(&self, id: &str, error: &CallError, era: Era) -> Outgoing {
        let outgoing = answer::failed(id, error, era);
        let Some(answer) = error.answer() else { return outgoing };
        let reader = Reader {
            method: self.method,
            era,
            name: &self.names.public,
            takes_urls: self.takes_urls,
            responses: self.responses.as_ref(),
        };
        let (status, message) = match fault::for_client(answer, &reader) {
            Told::Error(told) if told == *answer => return outgoing,
            Told::Error(told) => (answer::status_of(&told, era), envelope::failure(Some(id), told)),
            Told::Result(result) => (outgoing.status, envelope::response(id, result.into())),
        };
        Outgoing { status, message, ..outgoing }
    }

    /// The result as this client's revision has it. In the same era, and unless asked to explain, it is the same bytes.
    fn result(&self, era: Era, revision: &str, answered: Answered) -> Rope {
        let tasks = self.tasks.as_ref().map(|ids| (ids, answered.taken.target.clone(), is_task(&answered.reply)));
        let reply = if self.explain { explained(answered, self.began.elapsed()) } else { answered.reply };
        let reply = match &self.deprecated {
            Some(entry) => with_notice(reply, entry),
            None => reply,
        };
        let result = result::for_client(reply, self.method, era, revision);
        if self.method == Method::ResourcesRead && self.names.public != self.names.own {
            return result::with_uri(result, &self.names.own, &self.names.public);
        }
        if let Some((ids, target, is_task)) = tasks {
            return ids.of_result(self.method, is_task, &target, result);
        }
        result
    }
}

impl Names {
    fn of(found: &Found<'_>) -> Self {
        let own = Arc::clone(&found.named.name);
        let public = match (&found.place, found.named.entry.kind) {
            // A template is no name: the URI that was asked for is.
            (Some(place), Kind::Template) => {
                json::string(text(&found.raw[place.clone()])).map_or_else(|| own.clone(), Into::into)
            }
            _ => Arc::clone(&found.named.entry.public),
        };
        Self { public, own }
    }
}

/// Asks one after the other for a resource that nobody lists, until one knows it.
async fn ask_each(pipeline: Pipeline, asking: Vec<Arc<Entry>>, call: Call, span: Span) -> Result<Answered, CallError> {
    let mut answered = None;
    for entry in asking {
        let call = Call { target: entry.chosen().target.clone(), ..call.clone() };
        let outcome = pipeline.clone().oneshot(Routed::new(entry, call, span.clone())).await;
        if !outcome.as_ref().is_err_and(does_not_know) {
            return outcome;
        }
        answered = Some(outcome);
    }
    answered.unwrap_or_else(|| Err(CallError::gateway(ErrorCode::UnknownName, "nobody has resources")))
}

/// Whether a target has answered that it has no such resource.
fn does_not_know(error: &CallError) -> bool {
    let code = error.answer().and_then(|answer| runtime_mcp::era::error_code(answer));
    matches!(code, Some(-32002 | -32602))
}

/// A result that only a modern client can go on with.
pub(super) fn is_unfinished(reply: &Reply) -> bool {
    reply.result_type.clone().is_some_and(|range| &reply.result[range] != b"\"complete\"")
}

/// What such a result is for the others.
pub(super) fn unfinished() -> CallError {
    let message = "the target asks for more input, which this client has no way to be asked for";
    CallError::runtime(ErrorCode::Unsupported, Delivery::Answered, message)
}

/// A task in the place of a result (2026-07-28, tasks).
fn is_task(reply: &Reply) -> bool {
    reply.result_type.clone().is_some_and(|range| &reply.result[range] == b"\"task\"")
}

/// What such a result is for a client that has not declared that it takes it.
fn unwanted_task() -> CallError {
    let message = "the target has made a task of the call, which this client cannot ask for later on";
    CallError::runtime(ErrorCode::Unsupported, Delivery::Answered, message)
}

/// The time for a call: the tool's, or less if the client says so.
pub(super) fn time_for(timeout: Duration, deadline_ms: Option<&str>) -> Duration {
    let asked = deadline_ms.and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
    asked.map_or(timeout, |asked| asked.min(timeout))
}

/// The client's trace; what stands in `_meta` wins over headers, because it belongs to this request alone.
fn incoming_trace(inbound: &Inbound<'_>, meta: &RequestMeta<'_>) -> TraceContext {
    let headers = match &inbound.way {
        Way::Http { headers } => Some(*headers),
        Way::Stream { .. } => None,
    };
    let member = |raw: Option<&str>| raw.and_then(json::string).map(|text| Bytes::copy_from_slice(text.as_bytes()));
    let mut trace = match member(meta.traceparent).and_then(|parent| TraceContext::parse(&parent)) {
        Some(trace) => {
            let state = member(meta.tracestate).filter(|state| is_passed_on(state, TRACESTATE_BYTES_MAX));
            TraceContext { state, ..trace }
        }
        None => headers.and_then(headers::trace_of).unwrap_or_default(),
    };
    let header = || Some(Bytes::copy_from_slice(headers?.get(&BAGGAGE)?.as_bytes()));
    trace.baggage = member(meta.baggage).or_else(header).filter(|baggage| is_passed_on(baggage, BAGGAGE_BYTES_MAX));
    trace
}

/// Adds to `_meta` which way the call took, why, where the time went, and which tries failed before.
fn explained(answered: Answered, total: Duration) -> Reply {
    let Answered { reply, taken, hop, cache, attempts } = answered;
    let cache = cache.map(|used| format!(r#""cache":"{used}","#)).unwrap_or_default();
    let mut explanation = format!(
        r#"{{"runtime":"{}","target":"{}","reason":"{}",{cache}"total_us":{},"gateway_us":{},"runtime_us":{}"#,
        taken.runtime,
        taken.target,
        taken.reason,
        total.as_micros(),
        total.saturating_sub(hop).as_micros(),
        hop.as_micros()
    );
    if !attempts.is_empty() {
        let attempts: Vec<_> = attempts.iter().map(attempt).collect();
        explanation.push_str(&format!(r#","attempts":[{}]"#, attempts.join(",")));
    }
    explanation.push('}');
    with_meta(reply, key::EXPLAIN, explanation.as_bytes())
}

fn attempt(attempt: &Attempt) -> String {
    let Attempt { runtime, target, code, delivery } = attempt;
    let (error, delivery) = (code.row().name, delivery.as_str());
    format!(r#"{{"runtime":"{runtime}","target":"{target}","error":"{error}","delivery":"{delivery}"}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_can_shorten_the_time_of_a_call_but_not_lengthen_it() {
        let timeout = Duration::from_secs(30);

        assert_eq!(time_for(timeout, Some("500")), Duration::from_millis(500));
        assert_eq!(time_for(timeout, Some("60000")), timeout);
        assert_eq!(time_for(timeout, Some("\"x\"")), timeout);
        assert_eq!(time_for(timeout, None), timeout);
    }
}
