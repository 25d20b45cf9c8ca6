//! The two spans of a call: one at the entrance, one for each hop to a target.
//!
//! Make them only for a call whose [`super::Decision`] is `Record`; a [`Span::none`] parent gives `Span::none()` hops.

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use runtime_api::{Era, Method, TraceContext};
use tracing::{Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::field;

/// The target of our spans: only these are exported, not those that libraries make for themselves.
pub(super) const TARGET: &str = "twinway::call";

/// What is known of a request at the entrance.
#[derive(Debug, Clone, Copy)]
pub struct Entrance<'a> {
    /// The method of MCP, `tools/call` for example.
    pub method: &'a str,
    /// The tool's public name, or another name the method is about.
    pub name: Option<&'a str>,
    /// How the client speaks MCP; a REST client does not.
    pub spoken: Option<Spoken<'a>>,
    /// `tcp` for HTTP, `tcp` or `quic` for libp2p, `pipe` for stdio.
    pub transport: &'static str,
    /// An identifier of the session, not the handle that opens it.
    pub session: Option<&'a str>,
}

/// What a request of MCP says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Spoken<'a> {
    /// How the client speaks.
    pub era: Era,
    /// The revision it speaks.
    pub protocol_version: &'a str,
    /// The raw id of the request.
    pub request_id: &'a str,
}

/// What is known of a call on its way to a target.
#[derive(Debug, Clone, Copy)]
pub struct Hop<'a> {
    /// The method of MCP.
    pub method: Method,
    /// The name as the target knows it.
    pub name: &'a str,
    /// `http` or `mcpp`.
    pub runtime: &'a str,
    /// The upstream or peer.
    pub target: &'a str,
    /// Why this route was chosen.
    pub reason: &'static str,
    /// What carries the call, when that is known before it is made; otherwise the runtime records it.
    pub transport: Option<&'static str>,
    /// Where the target is, when known.
    pub server_address: Option<&'a str>,
}

/// Opens the span of a request. `incoming` is its parent, if it names one.
#[must_use]
pub fn entrance(incoming: Option<&TraceContext>, about: &Entrance<'_>) -> Span {
    let span = info_span!(
        target: TARGET,
        parent: None,
        "entrance",
        otel.name = Empty,
        otel.kind = "server",
        otel.status_code = Empty,
        { field::METHOD } = about.method,
        { field::TOOL } = about.name,
        { field::SESSION } = about.session,
        { field::PROTOCOL_VERSION } = about.spoken.map(|spoken| spoken.protocol_version),
        { field::TRANSPORT } = about.transport,
        { field::REQUEST_ID } = about.spoken.map(|spoken| spoken.request_id),
        { field::ERA } = about.spoken.map_or("rest", |spoken| spoken.era.as_str()),
        { field::ERROR_TYPE } = Empty,
    );
    match about.name {
        Some(name) => span.record("otel.name", tracing::field::display(format_args!("{} {name}", about.method))),
        None => span.record("otel.name", about.method),
    };
    follow(&span, incoming);
    span
}

/// Opens the span of a gRPC request. `incoming` is its parent, if it names one.
#[must_use]
pub fn rpc(incoming: Option<&TraceContext>, service: &str, method: &str) -> Span {
    let span = info_span!(
        target: TARGET,
        parent: None,
        "rpc",
        otel.name = %format_args!("{service}/{method}"),
        otel.kind = "server",
        otel.status_code = Empty,
        { field::RPC_SYSTEM } = "grpc",
        { field::RPC_SERVICE } = service,
        { field::RPC_METHOD } = method,
        { field::RPC_STATUS } = Empty,
        { field::TRANSPORT } = "tcp",
        { field::ERROR_TYPE } = Empty,
    );
    follow(&span, incoming);
    span
}

/// Makes a span the child of the one that the client names.
fn follow(span: &Span, incoming: Option<&TraceContext>) {
    if let Some(parent) = incoming.filter(|context| context.exists()) {
        // It fails only if nothing is exported, and then nobody looks for a parent.
        drop(span.set_parent(Context::new().with_remote_span_context(to_otel(parent))));
    }
}

/// Opens the span of one hop below `parent`, the span of the entrance.
#[must_use]
pub fn hop(parent: &Span, about: &Hop<'_>) -> Span {
    if parent.is_none() {
        return Span::none();
    }
    info_span!(
        target: TARGET,
        parent: parent,
        "hop",
        otel.name = %format_args!("{} {}", about.method, about.name),
        otel.kind = "client",
        otel.status_code = Empty,
        { field::METHOD } = about.method.as_str(),
        { field::TOOL } = about.name,
        { field::RUNTIME } = about.runtime,
        { field::TARGET } = about.target,
        { field::ROUTE_REASON } = about.reason,
        { field::TRANSPORT } = about.transport,
        { field::SERVER_ADDRESS } = about.server_address,
        { field::ERROR_TYPE } = Empty,
    )
}

/// Marks a span as failed, with a name of the table of error codes or `tool_error`.
pub fn fail(span: &Span, error_type: &str) {
    span.record(field::ERROR_TYPE, error_type);
    span.record("otel.status_code", "error");
}

/// The context to send on from inside `span`: its ids, and the state and baggage that came with the call.
///
/// A span that is not exported gives `incoming` back.
#[must_use]
pub fn context_of(span: &Span, incoming: &TraceContext) -> TraceContext {
    let context = span.context();
    let inside = context.span().span_context().clone();
    if !inside.is_valid() {
        return incoming.clone();
    }
    TraceContext {
        trace_id: u128::from_be_bytes(inside.trace_id().to_bytes()),
        span_id: u64::from_be_bytes(inside.span_id().to_bytes()),
        sampled: inside.is_sampled(),
        state: incoming.state.clone(),
        baggage: incoming.baggage.clone(),
    }
}

/// The context of a call that is not traced: the one it came with, or a new one with the sampled flag off, so that
/// everybody further down agrees not to trace it and logs can still name it.
#[must_use]
pub fn new_unsampled(incoming: Option<&TraceContext>) -> TraceContext {
    match incoming {
        Some(context) if context.exists() => context.clone(),
        Some(_) | None => TraceContext {
            // Zero means "none"; one bit set makes it a trace without a loop.
            trace_id: rand::random::<u128>() | 1,
            span_id: rand::random::<u64>() | 1,
            ..TraceContext::default()
        },
    }
}

fn to_otel(context: &TraceContext) -> SpanContext {
    let flags = if context.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let state = context.state.as_deref().and_then(|state| std::str::from_utf8(state).ok()?.parse::<TraceState>().ok());
    SpanContext::new(
        TraceId::from_bytes(context.trace_id.to_be_bytes()),
        SpanId::from_bytes(context.span_id.to_be_bytes()),
        flags,
        true,
        state.unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests;
