//! `tools/call`: finds the tool, makes the call, and writes its reply in the client's era.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use runtime_api::{Call, CallError, Caller, CallerEvents, Delivery, Era, ErrorCode, Method, Params, Reply, TraceContext};
use tokio::time::Instant;
use tower::ServiceExt;
use tracing::Span;
use twinway_proto::{
    envelope::{self, ParamsIndex, Request, splice},
    json::{self, Key},
    meta::{RequestMeta, key, rewrite},
    rope::{Builder, Rope},
};

use super::{
    Answer, Inbound, Outgoing, Running, Server, Way,
    answer::{self, HEADER_MISMATCH, with_meta},
    deprecation::with_notice,
    era::Spoken,
    listing::unknown_view,
    rest,
};
use crate::{
    catalog::Entry,
    pipeline::{Answered, Attempt, Routed},
    telemetry::{
        Decision,
        headers::{self, BAGGAGE, BAGGAGE_BYTES_MAX, TRACESTATE_BYTES_MAX, is_passed_on},
        span,
    },
};

/// What the reply needs of the request.
struct Asked {
    form: Form,
    explain: bool,
    /// A deprecated tool whose client has to be told.
    deprecated: Option<Arc<Entry>>,
    bytes_max: usize,
    began: Instant,
}

/// How the reply is written.
pub(super) enum Form {
    /// As an answer of JSON-RPC in the client's era.
    JsonRpc { id: Box<str>, era: Era },
    /// As REST clients know it; it names the tool.
    Rest(Arc<Entry>),
}

impl Server {
    pub(super) fn call_tool(&self, inbound: &Inbound<'_>, request: &Request<'_>, spoken: &Spoken) -> Answer {
        let invalid = |what: &str| answer::error(200, Some(request.id), -32602, what, None);
        let Some(index) = &request.params else { return invalid("`tools/call` has no `params`") };
        let raw = inbound.message.slice(index.range.clone());
        let Some(name) = index.name.clone().and_then(|range| json::string(text(&raw[range]))) else {
            return invalid("`params.name` is not a string");
        };
        if index.arguments.clone().is_some_and(|range| raw[range.start] != b'{') {
            return invalid("`params.arguments` is not an object");
        }
        let entry = {
            let snapshot = self.shared.catalog.load();
            let Some(view) = snapshot.view(inbound.view) else { return unknown_view(request.id, inbound.view) };
            view.get(&name).cloned()
        };
        let Some(entry) = entry else { return invalid(&answer::no_tool(&name)) };
        if !inbound.scope.allows(&entry) {
            return answer::denied(request.id, &name);
        }
        if let (Way::Http { headers }, Era::Modern) = (&inbound.way, spoken.era()) {
            let arguments = index.arguments.clone().map_or("{}", |range| text(&raw[range]));
            if let Err(fault) = entry.mirrored.check(headers, arguments) {
                self.shared.metrics.request_refused("header_mismatch");
                return answer::error(400, Some(request.id), HEADER_MISMATCH, &fault.to_string(), None);
            }
        }
        let form = Form::JsonRpc { id: request.id.into(), era: spoken.era() };
        self.begin(&Found { inbound, request, spoken, entry, index, raw: &raw }, form)
    }

    /// Begins a call whose tool was found, however it was asked for.
    pub(super) fn begin(&self, found: &Found<'_>, form: Form) -> Answer {
        let Found { inbound, request, spoken, entry, index, raw } = found;
        let meta = &request.meta;
        let (span, trace) = self.trace(found, &form, incoming_trace(inbound, meta));
        let token = meta.progress_token.map(|token| inbound.message.slice_ref(token.as_bytes()));
        let (caller, events) = way_back(token.as_ref());
        let asked = Asked {
            form,
            explain: meta.explain == Some("true"),
            deprecated: entry.deprecated.is_some().then(|| self.deprecated(found)).flatten(),
            bytes_max: inbound.answer_bytes_max,
            began: Instant::now(),
        };
        let deadline = asked.began + time_for(entry.metadata.timeout.min(inbound.time_max), meta.deadline_ms);
        let params = Params {
            raw: Bytes::clone(raw),
            name: index.name.clone(),
            arguments: index.arguments.clone(),
            meta: index.meta.clone(),
            meta_passes: !meta.of_one_hop,
        };
        let call = Call {
            method: Method::ToolsCall,
            target: entry.chosen().target.clone(),
            name: Arc::clone(&entry.chosen().name),
            params,
            principal: inbound.principal.clone(),
            client: spoken.client(),
            deadline,
            priority: entry.metadata.priority,
            trace,
            caller,
        };
        let answering = self.shared.pipeline.clone().oneshot(Routed::new(Arc::clone(entry), call, span));
        let finished = Box::pin(async move { asked.finish(answering.await) });
        let running = Running::new(finished, events.zip(token), deadline, self.shared.left_behind.clone());
        Answer::Running(Box::new(match (spoken, &inbound.way) {
            (Spoken::Legacy { session, .. }, _) => running.in_session(session, request.id),
            // On a stream a modern client cancels by a notification too, as over stdio.
            (_, Way::Stream { session, .. }) => running.in_session(session, request.id).ends_with_its_holder(),
            (_, Way::Http { .. }) => running,
        }))
    }

    /// Counts a call of a deprecated tool, and says whether its client has to be told.
    #[cold]
    fn deprecated(&self, found: &Found<'_>) -> Option<Arc<Entry>> {
        let Found { inbound, request, spoken, entry, .. } = found;
        self.shared.told.count(entry, inbound.principal, spoken, request.meta.client_info).then(|| Arc::clone(entry))
    }

    /// Decides whether this call is traced, before any span exists.
    fn trace(&self, found: &Found<'_>, form: &Form, incoming: TraceContext) -> (Span, TraceContext) {
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
                    name: Some(&found.entry.public),
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

/// A call whose tool was found.
pub(super) struct Found<'a> {
    pub(super) inbound: &'a Inbound<'a>,
    pub(super) request: &'a Request<'a>,
    pub(super) spoken: &'a Spoken,
    pub(super) entry: Arc<Entry>,
    pub(super) index: &'a ParamsIndex,
    pub(super) raw: &'a Bytes,
}

impl Asked {
    fn finish(self, answered: Result<Answered, CallError>) -> Outgoing {
        let bytes_max = self.bytes_max;
        let outgoing = match &self.form {
            Form::JsonRpc { id, era } => self.write(id, *era, answered),
            Form::Rest(entry) => rest::write(entry, answered),
        };
        if outgoing.message.len() <= bytes_max {
            return outgoing;
        }
        match &self.form {
            Form::JsonRpc { id, era } => answer::failed(id, &answer::too_large(bytes_max), *era),
            Form::Rest(_) => rest::failed(&answer::too_large(bytes_max)),
        }
    }

    fn write(&self, id: &str, era: Era, answered: Result<Answered, CallError>) -> Outgoing {
        match answered {
            Ok(answered) if era == Era::Legacy && is_unfinished(&answered.reply) => answer::failed(id, &unfinished(), era),
            Ok(answered) => Outgoing::new(200, envelope::response(id, self.result(era, answered))),
            Err(error) => answer::failed(id, &error, era),
        }
    }

    /// The result as this client's era has it. In the same era, and unless asked to explain, it is the same bytes.
    fn result(&self, era: Era, answered: Answered) -> Rope {
        let reply = if self.explain { explained(answered, self.began.elapsed()) } else { answered.reply };
        let reply = match &self.deprecated {
            Some(entry) => with_notice(reply, entry),
            None => reply,
        };
        match (era, &reply.result_type) {
            (Era::Modern, None) => with_result_type(&reply.result),
            // Strict legacy clients refuse members that their revision does not know.
            (Era::Legacy, Some(_)) => without(&reply.result, "resultType"),
            _ => reply.result.into(),
        }
    }
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

/// The time for a call: the tool's, or less if the client says so.
fn time_for(timeout: Duration, deadline_ms: Option<&str>) -> Duration {
    let asked = deadline_ms.and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
    asked.map_or(timeout, |asked| asked.min(timeout))
}

fn way_back(token: Option<&Bytes>) -> (Caller, Option<CallerEvents>) {
    match token {
        Some(_) => {
            let (caller, events) = Caller::channel();
            (caller, Some(events))
        }
        None => (Caller::none(), None),
    }
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

fn with_result_type(result: &Bytes) -> Rope {
    let mut out = Builder::with_capacity(32 + result.len().min(4096));
    let empty = !result[1..result.len() - 1].iter().any(|byte| !byte.is_ascii_whitespace());
    let member: &[u8] = if empty { b"\"resultType\":\"complete\"" } else { b"\"resultType\":\"complete\"," };
    splice(result, &[(1..1, member)], &mut out);
    out.finish()
}

fn without(result: &Bytes, name: &str) -> Rope {
    let rewritten = rewrite(Some(text(result)), |key: &Key<'_>| !key.is(name), &[]);
    rewritten.map_or_else(|_| result.clone().into(), Rope::from)
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

/// Messages were checked to be UTF-8 as a whole.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Taken;

    fn finished(era: Era, result: &'static str, result_type: bool) -> String {
        let form = Form::JsonRpc { id: "1".into(), era };
        let asked = Asked { form, explain: false, deprecated: None, bytes_max: usize::MAX, began: Instant::now() };
        let mut reply = Reply::new(Bytes::from_static(result.as_bytes()));
        reply.result_type = result_type.then(|| result.find("\"complete\"").map_or(0..0, |at| at..at + 10));
        let taken = Taken { runtime: runtime_api::RuntimeId("http".into()), target: "up".into(), reason: "only_candidate" };
        let rope = asked.result(era, Answered { reply, taken, hop: Duration::ZERO, cache: None, attempts: Vec::new() });
        String::from_utf8(rope.into_bytes().to_vec()).expect("UTF-8")
    }

    #[test]
    fn each_era_gets_the_result_it_knows() {
        let plain = r#"{"content":[],"x":1e400}"#;
        let modern = r#"{"content":[],"resultType":"complete","x":1e400}"#;

        assert_eq!(finished(Era::Legacy, plain, false), plain);
        assert_eq!(finished(Era::Modern, modern, true), modern);
        assert_eq!(finished(Era::Modern, plain, false), r#"{"resultType":"complete","content":[],"x":1e400}"#);
        assert_eq!(finished(Era::Modern, "{ }", false), r#"{"resultType":"complete" }"#);
        assert_eq!(finished(Era::Legacy, modern, true), plain);
    }

    #[test]
    fn a_client_can_shorten_the_time_of_a_call_but_not_lengthen_it() {
        let timeout = Duration::from_secs(30);

        assert_eq!(time_for(timeout, Some("500")), Duration::from_millis(500));
        assert_eq!(time_for(timeout, Some("60000")), timeout);
        assert_eq!(time_for(timeout, Some("\"x\"")), timeout);
        assert_eq!(time_for(timeout, None), timeout);
    }
}
