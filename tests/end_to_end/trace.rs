//! One call, one trace, however many gateways it passes: seen by a real OTLP collector.

use std::{collections::BTreeMap, net::SocketAddr};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};
use twinway_proto::grpc::peer::{GetRequest, peer_service_client::PeerServiceClient};

use crate::support::{Act, Gateway, Script, Scripted, Serves, Setup, within};

/// The trace of the client: its id, the client's own span, sampled.
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT_SPAN: &str = "00f067aa0ba902b7";

/// What carries peers in this build, and where to listen for it.
#[cfg(feature = "quic")]
const TRANSPORTS: [(&str, &str); 2] = [("tcp", "/ip4/127.0.0.1/tcp/0"), ("quic", "/ip4/127.0.0.1/udp/0/quic-v1")];
#[cfg(not(feature = "quic"))]
const TRANSPORTS: [(&str, &str); 1] = [("tcp", "/ip4/127.0.0.1/tcp/0")];

const ARGUMENTS: &str = r#"{"text":"walrus"}"#;

/// A span as the collector got it; ids in hexadecimal digits.
#[derive(Debug, Clone)]
struct Seen {
    service: String,
    trace: String,
    id: String,
    parent: String,
    name: String,
    kind: SpanKind,
    failed: bool,
    attributes: BTreeMap<String, String>,
}

/// An OTLP collector over gRPC.
struct Collector {
    address: SocketAddr,
    seen: watch::Receiver<Vec<Seen>>,
    _serving: JoinSet<()>,
}

/// The service behind it.
struct Store(watch::Sender<Vec<Seen>>);

#[tonic::async_trait]
impl TraceService for Store {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let about = attributes(resource.resource.map(|resource| resource.attributes).unwrap_or_default());
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let seen: Vec<_> = spans.map(|span| Seen::new(&about["service.name"], span)).collect();
            self.0.send_modify(|all| all.extend(seen));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Seen {
    fn new(service: &str, span: Span) -> Self {
        Self {
            service: service.to_owned(),
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            kind: span.kind(),
            failed: span.status.is_some_and(|status| status.code() == StatusCode::Error),
            name: span.name,
            attributes: attributes(span.attributes),
        }
    }

    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (store, seen) = watch::channel(Vec::new());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let service = TraceServiceServer::new(Store(store));
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpIncoming::from(listener))
                .await
                .unwrap();
        });
        Self { address, seen, _serving: serving }
    }

    /// Waits for so many spans and returns all that came.
    async fn spans(&mut self, count: usize) -> Vec<Seen> {
        within("spans", self.seen.wait_for(|seen| seen.len() >= count)).await.unwrap().clone()
    }

    /// A gateway that sends its spans here, and soon.
    fn setup(&self, service: &str) -> Setup {
        let table = format!("[telemetry]\notlp = \"http://{}\"\nservice_name = \"{service}\"\n", self.address);
        Setup::new().tables(&table).variable("OTEL_BSP_SCHEDULE_DELAY", "50")
    }
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: any_value::Value| match value {
        any_value::Value::StringValue(text) => text,
        any_value::Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    pairs.into_iter().filter_map(|pair| Some((pair.key, text(pair.value?.value?)))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE_ID}-{CLIENT_SPAN}-{flags}")
}

fn find<'a>(spans: &'a [Seen], service: &str, kind: SpanKind) -> &'a Seen {
    let found = spans.iter().find(|span| span.service == service && span.kind == kind);
    found.unwrap_or_else(|| panic!("{service} sent a {kind:?} span: {spans:?}"))
}

/// A gateway before this upstream that sends its spans to this collector.
async fn gateway(service: &str, collector: &Collector, upstream: &Scripted) -> Gateway {
    let p2p = format!("[p2p]\nlisten = {:?}\nauthority = \"open-loopback\"\n", TRANSPORTS.map(|(_, listen)| listen));
    let setup = collector.setup(service).upstream_with("up", upstream.url(), "era = \"modern\"").tables(&p2p);
    let gateway = Gateway::start(setup).await;
    gateway.target_is("up", "ready").await;
    gateway
}

/// A server with tools that work, fail and refuse.
async fn upstream() -> Scripted {
    let failed = r#"{"content":[{"type":"text","text":"no"}],"isError":true}"#;
    let script = Script::new(Serves::Modern)
        .tool("echo", Act::Echo)
        .tool("fail", Act::Result(failed.to_owned()))
        .tool("refuse", Act::Error(r#"{"code":-32000,"message":"no"}"#.to_owned()));
    Scripted::start(script).await
}

#[tokio::test]
async fn a_call_on_an_http_server_is_one_trace_from_the_client_to_the_server() {
    let mut collector = Collector::start().await;
    let upstream = upstream().await;
    let gateway = gateway("near", &collector, &upstream).await;

    gateway.modern().tool("up.echo", ARGUMENTS).header("traceparent", &traceparent("01")).send().await.result();
    let spans = collector.spans(2).await;

    assert_eq!(spans.len(), 2, "one span at the entrance, one for the hop: {spans:?}");
    let (entrance, hop) = (find(&spans, "near", SpanKind::Server), find(&spans, "near", SpanKind::Client));
    assert_eq!((&*entrance.trace, &*entrance.parent), (TRACE_ID, CLIENT_SPAN));
    assert_eq!((&*hop.trace, &hop.parent), (TRACE_ID, &entrance.id));
    assert_eq!((&*entrance.name, &*hop.name), ("tools/call up.echo", "tools/call echo"));
    for (span, tool) in [(entrance, "up.echo"), (hop, "echo")] {
        assert_eq!(span.attribute("mcp.method.name"), Some("tools/call"));
        assert_eq!(span.attribute("gen_ai.tool.name"), Some(tool));
        assert_eq!(span.attribute("error.type"), None);
        assert!(!span.failed);
    }
    assert_eq!(entrance.attribute("network.transport"), Some("tcp"));
    assert_eq!(entrance.attribute("mcp.protocol.version"), Some("2026-07-28"));
    assert_eq!((hop.attribute("twinway.runtime"), hop.attribute("twinway.target")), (Some("http"), Some("up")));
    assert!(!format!("{spans:?}").contains("walrus"), "arguments are not exported");
    let seen = upstream.calls().pop().unwrap();
    let expected = format!("00-{TRACE_ID}-{}-01", hop.id);
    assert_eq!(seen.header("traceparent"), expected);
    assert_eq!(seen.json()["params"]["_meta"]["traceparent"], expected);
}

#[tokio::test]
async fn a_call_over_a_peer_is_one_trace_through_two_gateways() {
    for (transport, _) in TRANSPORTS {
        one_trace_through_two_gateways(transport).await;
    }
}

async fn one_trace_through_two_gateways(transport: &str) {
    let mut collector = Collector::start().await;
    let upstream = upstream().await;
    let far = gateway("far", &collector, &upstream).await;
    let addresses: Vec<String> = serde_json::from_value(far.ready["p2p"].clone()).unwrap();
    let address = addresses.iter().find(|address| address.contains("/quic-v1/") == (transport == "quic")).unwrap();
    let peer = format!("[p2p]\n[[peer]]\nname = \"far\"\naddress = \"{address}\"\n");
    let near = Gateway::start(collector.setup("near").tables(&peer)).await;
    near.target_is("far", "ready").await;
    // What stands in `_meta` belongs to this request alone, so it wins over the header.
    let meta = format!(r#""traceparent":"{}","tracestate":"vendor=1""#, traceparent("01"));
    let other = format!("00-{}-{CLIENT_SPAN}-01", "1".repeat(32));

    near.modern().tool("far.up.echo", ARGUMENTS).meta(&meta).header("traceparent", &other).send().await.result();
    let spans = collector.spans(4).await;

    assert_eq!(spans.len(), 4, "{spans:?}");
    let mut parent = CLIENT_SPAN;
    for (service, kind, name, carrier) in [
        ("near", SpanKind::Server, "tools/call far.up.echo", "tcp"),
        ("near", SpanKind::Client, "tools/call up.echo", transport),
        ("far", SpanKind::Server, "tools/call up.echo", transport),
        ("far", SpanKind::Client, "tools/call echo", "tcp"),
    ] {
        let span = find(&spans, service, kind);
        assert_eq!((&*span.trace, &*span.parent, &*span.name), (TRACE_ID, parent, name));
        assert_eq!(span.attribute("network.transport"), Some(carrier), "{service} {kind:?}");
        parent = &span.id;
    }
    assert_eq!(find(&spans, "near", SpanKind::Client).attribute("twinway.runtime"), Some("mcpp"));
    let seen = upstream.calls().pop().unwrap();
    assert_eq!(seen.json()["params"]["_meta"]["traceparent"], format!("00-{TRACE_ID}-{parent}-01"));
    assert_eq!(seen.json()["params"]["_meta"]["tracestate"], "vendor=1");
}

#[tokio::test]
async fn a_trace_that_its_client_does_not_sample_is_passed_on_and_not_exported() {
    let mut collector = Collector::start().await;
    let upstream = upstream().await;
    let gateway = gateway("near", &collector, &upstream).await;

    gateway.modern().tool("up.echo", ARGUMENTS).header("traceparent", &traceparent("00")).send().await.result();
    let unsampled = upstream.calls().pop().unwrap();
    // Spans are sent in the order in which they end: once this one is there, an earlier one would be, too.
    let sampled = format!("00-{}-{CLIENT_SPAN}-01", "2".repeat(32));
    gateway.modern().tool("up.echo", ARGUMENTS).header("traceparent", &sampled).send().await.result();
    let spans = collector.spans(2).await;

    assert_eq!(unsampled.header("traceparent"), traceparent("00"));
    assert!(spans.iter().all(|span| span.trace == "2".repeat(32)), "{spans:?}");
}

#[tokio::test]
async fn a_call_that_fails_says_how_in_its_spans() {
    let mut collector = Collector::start().await;
    let upstream = upstream().await;
    let gateway = gateway("near", &collector, &upstream).await;
    let client = gateway.modern();

    client.tool("up.fail", "{}").header("traceparent", &traceparent("01")).send().await.result();
    let spans = collector.spans(2).await;
    let entrance = find(&spans, "near", SpanKind::Server);
    assert_eq!((entrance.attribute("error.type"), entrance.failed), (Some("tool_error"), true));

    client.tool("up.refuse", "{}").header("traceparent", &traceparent("01")).send().await.error();
    let spans = collector.spans(4).await;
    for span in &spans[2..] {
        assert_eq!((span.attribute("error.type"), span.failed), (Some("upstream_error"), true), "{span:?}");
    }
}

#[tokio::test]
async fn a_target_that_cannot_be_reached_is_named_in_the_trace_of_a_session() {
    let mut collector = Collector::start().await;
    let upstream = upstream().await;
    let gateway = gateway("near", &collector, &upstream).await;
    let client = gateway.legacy().await;
    upstream.stop().await;

    let error = client.tool("up.echo", ARGUMENTS).header("traceparent", &traceparent("01")).send().await.error();
    let spans = collector.spans(2).await;

    assert_eq!(error["data"]["delivery"], "not_sent", "{error}");
    for span in &spans {
        assert_eq!((span.attribute("error.type"), span.failed), (Some("unavailable"), true), "{span:?}");
    }
    let entrance = find(&spans, "near", SpanKind::Server);
    assert_eq!(entrance.attribute("mcp.protocol.version"), Some("2025-11-25"));
    let session = entrance.attribute("mcp.session.id").expect("it has a session");
    assert_ne!(Some(session), client.session.as_deref(), "the handle itself opens the session, so it is not exported");
}

#[tokio::test]
async fn a_grpc_request_belongs_to_the_trace_in_its_metadata() {
    let mut collector = Collector::start().await;
    let gateway = Gateway::start(collector.setup("near").tables("[grpc]\nlisten = \"127.0.0.1:0\"\n")).await;
    let mut client = PeerServiceClient::connect(format!("http://{}", gateway.grpc())).await.unwrap();
    let request = |sampled: &str| {
        let mut request = Request::new(GetRequest { peer_id: "nobody".to_owned() });
        request.metadata_mut().insert("traceparent", traceparent(sampled).parse().unwrap());
        request
    };

    client.get(request("00")).await.unwrap_err();
    client.get(request("01")).await.unwrap_err();
    let spans = collector.spans(1).await;

    assert_eq!(spans.len(), 1, "what the client does not sample is not exported: {spans:?}");
    let span = find(&spans, "near", SpanKind::Server);
    assert_eq!((&*span.trace, &*span.parent, &*span.name), (TRACE_ID, CLIENT_SPAN, "twinway.peer.v1.PeerService/Get"));
    assert_eq!((span.attribute("rpc.system"), span.attribute("rpc.method")), (Some("grpc"), Some("Get")));
    assert_eq!((span.attribute("rpc.grpc.status_code"), span.failed), (Some("5"), true), "{span:?}");
}
