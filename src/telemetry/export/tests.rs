//! A real collector receives what is exported.

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tonic::{Request, Response, Status, transport::Server};
use tracing_subscriber::layer::SubscriberExt;

use super::*;

struct Collector(mpsc::Sender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send(request.into_inner()).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_sends_the_spans_that_are_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, mut received) = mpsc::channel(1);
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let mut tasks = JoinSet::new();
    tasks.spawn(Server::builder().add_service(TraceServiceServer::new(Collector(sender))).serve_with_incoming(incoming));
    let exporter = Exporter::new(&format!("http://{address}").parse().unwrap(), "gateway-under-test").unwrap();
    let subscriber = tracing_subscriber::registry().with(exporter.layer());
    tracing::subscriber::with_default(subscriber, || drop(tracing::info_span!(target: span::TARGET, "call")));

    exporter.shutdown(Duration::from_secs(5)).await.unwrap();

    let request = received.recv().await.unwrap();
    let resource = &request.resource_spans[0];
    let name = resource.resource.as_ref().unwrap().attributes.iter().find(|pair| pair.key == "service.name").unwrap();
    assert!(format!("{:?}", name.value).contains("gateway-under-test"));
    assert_eq!(resource.scope_spans[0].spans[0].name, "call");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_not_there_holds_nobody_up() {
    let exporter = Exporter::new(&"http://127.0.0.1:1".parse().unwrap(), "gateway-under-test").unwrap();
    let subscriber = tracing_subscriber::registry().with(exporter.layer());
    tracing::subscriber::with_default(subscriber, || drop(tracing::info_span!(target: span::TARGET, "call")));

    let within = tokio::time::timeout(Duration::from_secs(10), exporter.shutdown(Duration::from_millis(200))).await;

    assert!(within.is_ok(), "shutdown has a deadline");
}
