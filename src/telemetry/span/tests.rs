//! Spans as a collector would see them.

use std::{future::ready, sync::Arc};

use opentelemetry::trace::{SpanKind, Status};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use parking_lot::Mutex;
use tracing_subscriber::layer::SubscriberExt;

use super::*;
use crate::telemetry::export;

const INCOMING: TraceContext = TraceContext { trace_id: 7, span_id: 9, sampled: true, state: None, baggage: None };

const ABOUT: Entrance<'static> = Entrance {
    method: "tools/call",
    name: Some("near.echo"),
    spoken: Some(Spoken { era: Era::Modern, protocol_version: "2026-07-28", request_id: "17" }),
    transport: "tcp",
    session: None,
};

const HOP: Hop<'static> = Hop {
    method: Method::ToolsCall,
    name: "echo",
    runtime: "http",
    target: "near",
    reason: "only_candidate",
    transport: Some("tcp"),
    server_address: Some("127.0.0.1"),
};

/// Keeps what it is given.
#[derive(Debug, Clone, Default)]
struct Collector(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Collector {
    fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        self.0.lock().extend(batch);
        ready(Ok(()))
    }
}

/// What is exported while `work` runs.
fn exported(work: impl FnOnce()) -> Vec<SpanData> {
    let collector = Collector::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(collector.clone()).build();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(export::layer_of(&provider)), work);
    collector.0.lock().clone()
}

fn attribute(span: &SpanData, key: &str) -> Option<String> {
    span.attributes.iter().find(|pair| pair.key.as_str() == key).map(|pair| pair.value.to_string())
}

#[test]
fn a_hop_hangs_below_the_entrance_and_the_entrance_below_the_client() {
    let mut sent_on = TraceContext::default();

    let spans = exported(|| {
        let entrance = entrance(Some(&INCOMING), &ABOUT);
        let hop = hop(&entrance, &HOP);
        sent_on = context_of(&hop, &INCOMING);
        fail(&hop, "unavailable");
    });

    let [hop, entrance] = spans.as_slice() else { panic!("two spans, not {spans:?}") };
    assert_eq!(entrance.name, "tools/call near.echo");
    assert_eq!(entrance.span_kind, SpanKind::Server);
    assert_eq!(entrance.parent_span_id, SpanId::from_bytes(9_u64.to_be_bytes()));
    assert_eq!(entrance.span_context.trace_id(), TraceId::from_bytes(7_u128.to_be_bytes()));
    assert_eq!(attribute(entrance, "mcp.method.name").as_deref(), Some("tools/call"));
    assert_eq!(attribute(entrance, "gen_ai.tool.name").as_deref(), Some("near.echo"));
    assert_eq!(attribute(entrance, "jsonrpc.request.id").as_deref(), Some("17"));
    assert_eq!(attribute(entrance, "mcp.session.id"), None);

    assert_eq!(hop.name, "tools/call echo");
    assert_eq!(hop.span_kind, SpanKind::Client);
    assert_eq!(hop.parent_span_id, entrance.span_context.span_id());
    assert_eq!(attribute(hop, "twinway.route.reason").as_deref(), Some("only_candidate"));
    assert_eq!(attribute(hop, "error.type").as_deref(), Some("unavailable"));
    assert!(matches!(hop.status, Status::Error { .. }), "{:?}", hop.status);

    assert_eq!(sent_on.trace_id, 7);
    assert_eq!(sent_on.span_id.to_be_bytes(), hop.span_context.span_id().to_bytes());
    assert!(sent_on.sampled);
}

#[test]
fn a_call_without_a_trace_begins_one() {
    let spans = exported(|| drop(entrance(None, &Entrance { name: None, method: "tools/list", ..ABOUT })));

    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].name, "tools/list");
    assert_eq!(spans[0].parent_span_id, SpanId::INVALID);
}

#[test]
fn no_entrance_span_means_no_hop_span_and_the_context_stays() {
    let spans = exported(|| {
        let hop = hop(&Span::none(), &HOP);

        assert!(hop.is_none());
        assert_eq!(context_of(&hop, &INCOMING), INCOMING);
    });

    assert!(spans.is_empty());
}

#[test]
fn spans_of_libraries_are_not_exported() {
    let spans = exported(|| drop(tracing::info_span!("poll")));

    assert!(spans.is_empty());
}

#[test]
fn an_untraced_call_has_an_identity_that_is_not_sampled() {
    let fresh = new_unsampled(None);

    assert!(fresh.exists() && !fresh.sampled);
    assert_eq!(new_unsampled(Some(&INCOMING)), INCOMING);
}
