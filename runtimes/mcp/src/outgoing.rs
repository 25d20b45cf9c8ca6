//! Writes a call's parameters for the next hop.
//!
//! Everything the client sent travels on byte for byte, except the name (as the target knows it) and those members of
//! `_meta` that belong to one hop only: the trace parent, the progress token, what is left of the deadline, and our own
//! keys, which no client may set for the next gateway.

use std::{borrow::Cow, ops::Range, time::Duration};

use runtime_api::{AsTask, Call, CallError, Client, Era, ErrorCode, Logging, TraceContext};
use tokio::time::Instant;
use twinway_proto::{
    envelope::{Edit, splice},
    json::{JsonError, Key, members, text},
    meta::{belongs_to_a_hop, key, rewrite, write_member},
    revision,
    rope::{Builder, Rope},
};

use crate::{
    client,
    handshake::CLIENT_INFO,
    input::{OF_A_ROUND, index},
};

/// What a hop is like.
#[derive(Debug, Clone, Copy)]
pub struct Hop {
    /// How the target is spoken to.
    pub era: Era,
    /// The progress token of this hop; `None` when nobody listens for progress.
    pub progress_token: Option<u64>,
    /// The target is a gateway of ours that understands `twinway/*`.
    pub gateway: bool,
    /// The target may see `baggage`.
    pub trusted: bool,
}

/// The `params` for this hop.
///
/// # Errors
/// `InvalidParams` when `_meta` is not an object. Nothing was sent.
pub fn params(call: &Call, hop: Hop) -> Result<Rope, CallError> {
    if let Some(left_out) = left_out(call, hop.era) {
        return params_without(left_out, call, hop);
    }
    let raw = &call.params.raw;
    let name = call.params.name.clone().filter(|range| !names(&raw[range.clone()], &call.name));
    let quoted = name.is_some().then(|| quote(&call.name));
    let meta = meta(call, hop)
        .map_err(|error| CallError::caller(ErrorCode::InvalidParams, "`params._meta` is not an object").with_source(error))?;

    let mut edits: [Edit<'_>; 2] = [(0..0, b""), (0..0, b"")];
    let mut count = 0;
    if let (Some(range), Some(quoted)) = (name, &quoted) {
        edits[count] = (range, quoted);
        count += 1;
    }
    if let Some((range, text)) = &meta {
        edits[count] = (range.clone(), text);
        count += 1;
    }
    if count == 0 {
        return Ok(raw.clone().into());
    }
    edits[..count].sort_unstable_by_key(|(range, _)| range.start);
    let mut out = Builder::with_capacity(raw.len().min(4096) + meta.as_ref().map_or(0, |(_, text)| text.len()) + 64);
    splice(raw, &edits[..count], &mut out);
    Ok(out.finish())
}

/// Members that stay behind, because the target's era does not have them or the client may not use them. Legacy revisions know no
/// rounds, and only 2025-11-25 has a member `task`.
fn left_out(call: &Call, era: Era) -> Option<&'static [&'static str]> {
    let has_round = call.params.of_a_round && era == Era::Legacy;
    let has_task = match (call.params.task, call.client.era()) {
        (AsTask::No, _) => false,
        (AsTask::May, client) => client != era,
        // In the modern revision it is no member of the parameters but of the capabilities.
        (AsTask::MustNot, client) => (client, era) != (Era::Modern, Era::Modern),
    };
    match (has_round, has_task) {
        (false, false) => None,
        (true, false) => Some(&OF_A_ROUND),
        (false, true) => Some(&[TASK]),
        (true, true) => Some(&[OF_A_ROUND[0], OF_A_ROUND[1], TASK]),
    }
}

#[cold]
fn params_without(left_out: &[&str], call: &Call, hop: Hop) -> Result<Rope, CallError> {
    let keep = |key: &Key<'_>| !left_out.iter().any(|name| key.is(name));
    let raw = rewrite(Some(text(&call.params.raw)), keep, &[]);
    let raw = raw.map_err(|error| CallError::caller(ErrorCode::InvalidParams, "`params` is not an object").with_source(error))?;
    params(&Call { params: index(call, raw.into()), ..call.clone() }, hop)
}

/// The capabilities in this `_meta` without the extension of tasks, if it is among them.
#[cold]
fn without_tasks(meta: &str) -> Option<Vec<u8>> {
    let part = |object, name| members(object).flatten().find(|member| member.key.is(name)).map(|member| member.value);
    let capabilities = part(meta, key::CLIENT_CAPABILITIES)?;
    let extensions = rewrite(Some(part(capabilities, "extensions")?), |key| !key.is(client::TASKS), &[]).ok()?;
    rewrite(Some(capabilities), |key| !key.is("extensions"), &[("extensions", &extensions)]).ok()
}

/// The edit that puts the right `_meta` in place; `None` when there is nothing to change.
fn meta(call: &Call, hop: Hop) -> Result<Option<MetaEdit>, JsonError> {
    let raw = call.params.meta.as_ref().map(|range| text(&call.params.raw[range.clone()]));
    let traceparent = call.trace.exists().then(|| quoted_traceparent(&call.trace));
    let tracestate = call.trace.state.as_deref().filter(|_| traceparent.is_some()).map(|state| quote(text(state)));
    let baggage = call.trace.baggage.as_deref().filter(|_| hop.trusted).map(|baggage| quote(text(baggage)));
    let token = hop.progress_token.map(|token| token.to_string());
    let left_ms = hop.gateway.then(|| left(call.deadline).as_millis().to_string());

    // Nothing is declared that the way back could not carry.
    let wants = call.caller.wants();
    let declared = if wants.requests.is_none() { Cow::Borrowed("{}") } else { client::capabilities(wants.requests).into() };
    let log_level = match wants.logging {
        Logging::From(level) => Some(quote(level.as_str())),
        Logging::Off | Logging::Whatever => None,
    };

    let mut added: [(&str, &[u8]); 9] = [("", b""); 9];
    let mut count = 0;
    let mut add = |key, value| {
        added[count] = (key, value);
        count += 1;
    };
    traceparent.iter().for_each(|value| add(key::TRACEPARENT, value));
    tracestate.iter().for_each(|value| add(key::TRACESTATE, value));
    baggage.iter().for_each(|value| add(key::BAGGAGE, value));
    token.iter().for_each(|value| add(key::PROGRESS_TOKEN, value.as_bytes()));
    left_ms.iter().for_each(|value| add(key::DEADLINE_MS, value.as_bytes()));
    if let (Client::Legacy(client), Era::Modern) = (&call.client, hop.era) {
        add(key::PROTOCOL_VERSION, MODERN_QUOTED.as_bytes());
        add(key::CLIENT_INFO, if client.info.is_empty() { CLIENT_INFO.as_bytes() } else { &client.info });
        add(key::CLIENT_CAPABILITIES, declared.as_bytes());
        log_level.iter().for_each(|level| add(key::LOG_LEVEL, level));
    }
    let fewer = raw.filter(|_| call.params.task == AsTask::MustNot && hop.era == Era::Modern).and_then(without_tasks);
    fewer.iter().for_each(|capabilities| add(key::CLIENT_CAPABILITIES, capabilities));
    let Some(raw) = raw else {
        return Ok((count > 0).then(|| insertion(call, &rewrite_added(&added[..count]))));
    };
    let range = call.params.meta.clone().unwrap_or_default();
    if call.params.meta_passes && fewer.is_none() && hop.era == Era::Modern && call.client.era() == Era::Modern {
        return Ok((count > 0).then(|| (range.start + 1..range.start + 1, write_first(raw, &added[..count]))));
    }
    Ok(Some((
        range,
        rewrite(Some(raw), |key| keep(key, hop.era) && !(fewer.is_some() && key.is(key::CLIENT_CAPABILITIES)), &added[..count])?,
    )))
}

/// Members to stand before those of `raw`.
fn write_first(raw: &str, added: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::with_capacity(added.iter().map(|(key, value)| key.len() + value.len() + 4).sum());
    for (place, (key, value)) in added.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write_member(&mut out, key, value);
    }
    let empty = raw[1..raw.len() - 1].bytes().all(|byte| byte.is_ascii_whitespace());
    if !empty {
        out.push(b',');
    }
    out
}

/// Where `_meta` goes and what stands there.
type MetaEdit = (Range<usize>, Vec<u8>);

/// The member of the parameters by which a legacy client makes its call a task (2025-11-25, tasks).
const TASK: &str = "task";

const MODERN_QUOTED: &str = "\"2026-07-28\"";
const _: () = assert!(MODERN_QUOTED.len() == revision::MODERN.len() + 2);

fn keep(key: &Key<'_>, era: Era) -> bool {
    let name = key.text();
    match &*name {
        key::PROTOCOL_VERSION | key::CLIENT_CAPABILITIES | key::CLIENT_INFO | key::LOG_LEVEL => era == Era::Modern,
        name => !belongs_to_a_hop(name),
    }
}

fn rewrite_added(added: &[(&str, &[u8])]) -> Vec<u8> {
    rewrite(None, |_| false, added).expect("nothing is read")
}

/// `_meta` goes before the closing brace of an object that has none.
fn insertion(call: &Call, meta: &[u8]) -> MetaEdit {
    let raw = &call.params.raw;
    let brace = raw.len() - 1;
    let empty = !raw[1..brace].iter().any(|byte| !byte.is_ascii_whitespace());
    let mut member = Vec::with_capacity(meta.len() + 10);
    member.extend_from_slice(if empty { b"\"_meta\":" } else { b",\"_meta\":" });
    member.extend_from_slice(meta);
    (brace..brace, member)
}

fn quoted_traceparent(trace: &TraceContext) -> [u8; TraceContext::TRACEPARENT_LEN + 2] {
    let mut quoted = [b'"'; TraceContext::TRACEPARENT_LEN + 2];
    quoted[1..=TraceContext::TRACEPARENT_LEN].copy_from_slice(&trace.traceparent());
    quoted
}

/// Whether a raw string spells this name. One with escapes counts as different: writing it anew does no harm.
fn names(raw: &[u8], name: &str) -> bool {
    raw.len() == name.len() + 2 && &raw[1..raw.len() - 1] == name.as_bytes() && !raw.contains(&b'\\')
}

fn quote(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    twinway_proto::json::write_string(&mut out, text);
    out
}

/// What is left until the deadline.
#[must_use]
pub fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use runtime_api::{Caller, Declared, LegacyClient, LogLevel, Method, Params, Principal, Priority, TargetId, Wants};
    use twinway_proto::envelope::{Message, parse};

    use super::*;

    const TRACE: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn call(params: &str, client: Client) -> Call {
        let message = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        let Ok(Message::Request(request)) = parse(message.as_bytes()) else { panic!("{message}") };
        let index = request.params.unwrap();
        let raw = Bytes::copy_from_slice(&message.as_bytes()[index.range]);
        Call {
            method: Method::ToolsCall,
            target: TargetId::from("up"),
            name: "tool".into(),
            params: Params {
                raw,
                name: index.name,
                arguments: index.arguments,
                meta: index.meta,
                meta_passes: !request.meta.of_one_hop,
                of_a_round: params.contains("requestState"),
                task: AsTask::No,
            },
            principal: Principal::anonymous(),
            client,
            session: None,
            deadline: Instant::now() + Duration::from_secs(30),
            priority: Priority::default(),
            trace: TraceContext::default(),
            caller: Caller::none(),
        }
    }

    fn legacy() -> Client {
        Client::Legacy(Arc::new(LegacyClient {
            revision: "2025-11-25",
            capabilities: Bytes::from_static(b"{}"),
            info: Bytes::from_static(br#"{"name":"c","version":"1"}"#),
            declared: Declared::NONE,
        }))
    }

    fn hop(era: Era) -> Hop {
        Hop { era, progress_token: None, gateway: false, trusted: false }
    }

    fn written(call: &Call, hop: Hop) -> String {
        String::from_utf8(params(call, hop).unwrap().into_bytes().to_vec()).unwrap()
    }

    #[test]
    fn parameters_that_need_no_change_are_the_same_bytes() {
        let text = r#"{ "arguments":{"n":12345678901234567890123,"n":1e400,"s":"\ud800"}, "name":"tool" }"#;
        let call = call(text, legacy());

        assert_eq!(written(&call, hop(Era::Legacy)), text);
    }

    #[test]
    fn only_the_name_and_the_hop_s_own_members_are_replaced() {
        let text =
            r#"{"_meta":{"x-vendor":[1.0],"progressToken":"mine","twinway/path":["a"]},"name":"up.tool","arguments":{"a":1}}"#;
        let mut call = call(text, legacy());
        call.trace = TraceContext::parse(TRACE).unwrap();
        let hop = Hop { progress_token: Some(9), ..hop(Era::Legacy) };

        let expected = concat!(
            r#"{"_meta":{"x-vendor":[1.0],"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","progressToken":9},"#,
            r#""name":"tool","arguments":{"a":1}}"#
        );
        assert_eq!(written(&call, hop), expected);
    }

    #[test]
    fn what_may_pass_stays_byte_for_byte_behind_what_the_hop_adds() {
        let trace = TraceContext::parse(TRACE).unwrap();
        let cases = [
            (
                r#"{"_meta":{ "x" : [1.0]}}"#,
                r#"{"_meta":{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "x" : [1.0]}}"#,
            ),
            (r#"{"_meta":{ }}"#, r#"{"_meta":{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" }}"#),
            // Spelled with an escape, a member of ours is one of ours still.
            (
                r#"{"_meta":{"twinway\/path":[],"x":1}}"#,
                r#"{"_meta":{"x":1,"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}"#,
            ),
        ];
        for (text, expected) in cases {
            let call = Call { trace: trace.clone(), ..call(text, Client::Modern) };

            assert_eq!(written(&call, hop(Era::Modern)), expected);
        }
    }

    #[test]
    fn a_legacy_client_s_call_gets_what_a_modern_server_must_find() {
        let call = call(r#"{"name":"tool"}"#, legacy());

        let expected = concat!(
            r#"{"name":"tool","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
            r#""io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}"#
        );
        assert_eq!(written(&call, hop(Era::Modern)), expected);
    }

    #[test]
    fn a_modern_client_s_declarations_stay_out_of_a_legacy_session() {
        let text = r#"{"name":"tool","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","x":1}}"#;

        assert_eq!(written(&call(text, Client::Modern), hop(Era::Legacy)), r#"{"name":"tool","_meta":{"x":1}}"#);
        assert_eq!(written(&call(text, Client::Modern), hop(Era::Modern)), text);
    }

    #[test]
    fn a_legacy_client_s_declarations_go_to_a_modern_server_with_each_call() {
        let mut call = call(r#"{"name":"tool"}"#, legacy());
        let requests = Declared::ROOTS.with(Declared::ELICITATION_FORM);
        let wants = Wants { requests, logging: Logging::From(LogLevel::Info), ..Wants::default() };
        call.caller = Caller::channel(wants).0;

        let written = written(&call, hop(Era::Modern));

        assert!(written.contains(r#"clientCapabilities":{"roots":{},"elicitation":{}}"#), "{written}");
        assert!(written.contains(r#"logLevel":"info""#), "{written}");
    }

    #[test]
    fn what_belongs_to_a_round_does_not_go_to_a_legacy_server() {
        let text = r#"{"inputResponses":{"a":{}},"name":"up.tool","requestState":"s","arguments":{"a":1}}"#;
        let call = call(text, Client::Modern);

        assert_eq!(written(&call, hop(Era::Legacy)), r#"{"name":"tool","arguments":{"a":1}}"#);
    }

    #[test]
    fn a_wish_for_a_task_goes_on_only_within_its_era_and_only_where_it_may() {
        use AsTask::{May, MustNot};
        use Era::{Legacy, Modern};
        let asks = r#"{"name":"tool","task":{"ttl":5},"arguments":{}}"#;
        let plain = r#"{"name":"tool","arguments":{}}"#;
        for (task, client, era, goes_on) in [
            (May, legacy(), Legacy, true),
            (MustNot, legacy(), Legacy, false),
            (May, legacy(), Modern, false),
            (May, Client::Modern, Legacy, false),
            (MustNot, Client::Modern, Legacy, false),
            (May, Client::Modern, Modern, true),
        ] {
            let mut call = call(asks, client);
            call.params.task = task;

            let written = written(&call, hop(era));

            assert!(written.starts_with(if goes_on { asks } else { &plain[..plain.len() - 1] }), "{task:?} {era:?}: {written}");
        }
    }

    #[test]
    fn the_extension_is_not_declared_for_a_client_that_may_not_have_tasks() {
        let text = r#"{"name":"tool","_meta":{"io.modelcontextprotocol/clientCapabilities":{"extensions":{"io.modelcontextprotocol\/tasks":{},"x/y":{}},"roots":{}},"x":1}}"#;
        let mut call = call(text, Client::Modern);
        call.params.task = AsTask::MustNot;

        let expected = r#"{"name":"tool","_meta":{"x":1,"io.modelcontextprotocol/clientCapabilities":{"roots":{},"extensions":{"x/y":{}}}}}"#;
        assert_eq!(written(&call, hop(Era::Modern)), expected);
    }

    #[test]
    fn baggage_goes_to_trusted_targets_only() {
        let mut call = call("{}", legacy());
        call.trace = TraceContext { baggage: Some(Bytes::from_static(b"k=v")), ..TraceContext::parse(TRACE).unwrap() };

        assert!(!written(&call, hop(Era::Legacy)).contains("baggage"));
        assert!(written(&call, Hop { trusted: true, ..hop(Era::Legacy) }).contains(r#""baggage":"k=v""#));
    }

    #[test]
    fn a_gateway_is_told_what_is_left_of_the_deadline() {
        let text = written(&call("{}", legacy()), Hop { gateway: true, ..hop(Era::Legacy) });

        assert!(text.starts_with(r#"{"_meta":{"twinway/deadline-ms":29"#) || text.contains(":30000"), "{text}");
    }
}
