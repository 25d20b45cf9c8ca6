//! The gRPC way in: peers, health and reflection over HTTP/2.
//!
//! ```text
//! connection -> entrance (which service, who, which trace, how long) -> service -> answer or google.rpc.Status
//! ```
//!
//! Clear-text HTTP/2 with prior knowledge only, which no browser speaks: so Host and Origin need no look.

mod entrance;
mod health;
mod peers;
mod reflection;
mod status;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use runtime_api::{PartError, Transport};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    BindError,
    accept::{PING_INTERVAL, PING_TIMEOUT, accept_until, is_http2},
};
use crate::{config, peers::Peers, readiness::Readiness, telemetry::Metrics, transports::auth::Auth};
use entrance::Entrance;

/// Connections at one time. Each may hold `grpc.streams_max` requests; operators and their probes need a handful.
const CONNECTIONS_MAX: usize = 1024;

/// Time for a client to send the preface of HTTP/2; slower ones hold a connection for nothing.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// Headers of a request in bytes: a token, a trace and some metadata; the default of gRPC's implementations.
const HEADER_BYTES_MAX: u32 = 8 * 1024;

/// What somebody gets who comes with HTTP/1.1: RFC 9110, section 15.5.22, says what is spoken here.
const WRONG_PROTOCOL: &[u8] = b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: h2c\r\nConnection: Upgrade, close\r\n\
    Content-Type: text/plain\r\n\r\nThis port speaks gRPC. MCP is at the address of `[http]`, at /mcp.\n";

/// The bound gRPC transport.
#[derive(Debug)]
pub struct Grpc {
    address: SocketAddr,
    listener: TcpListener,
    entrance: Arc<Entrance>,
    health: health::Health,
    streams_max: u32,
    drain_timeout: Duration,
}

/// What stands behind it.
#[derive(Debug)]
pub struct Parts {
    /// Who may ask, as over HTTP.
    pub(crate) auth: Auth,
    /// The table of peers.
    pub peers: Peers,
    /// Whether requests should be sent here.
    pub readiness: Readiness,
    /// Where refusals are counted.
    pub metrics: Metrics,
}

impl Grpc {
    /// Takes the socket; nothing is accepted yet. With port 0 the system chooses one.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(config: &config::Config, grpc: &config::Grpc, parts: Parts) -> Result<Self, BindError> {
        let refused = |source| BindError { address: grpc.listen, source };
        let listener = TcpListener::bind(grpc.listen).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let Parts { auth, peers, readiness, metrics } = parts;
        let (health, health_service) = health::new(readiness);
        let (v1, v1alpha) = reflection::services();
        let routes = tonic::service::Routes::new(health_service)
            .add_service(v1)
            .add_service(v1alpha)
            .add_service(peers::service(peers, grpc.message_bytes_max.get()));
        let entrance = Arc::new(Entrance::new(config, grpc, auth, metrics, routes.prepare()));
        let (streams_max, drain_timeout) = (grpc.streams_max.get(), config.http.drain_timeout);
        Ok(Self { address, listener, entrance, health, streams_max, drain_timeout })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let serve = |stream, connections: &mut JoinSet<()>| {
            let (entrance, watcher, stop) = (Arc::clone(&self.entrance), graceful.watcher(), stop.clone());
            connections.spawn(serve_connection(stream, entrance, self.streams_max, watcher, stop));
        };
        let accepting = accept_until(listener, &stop, &mut connections, CONNECTIONS_MAX, serve);
        tokio::join!(accepting, self.health.follow(&stop));
        if tokio::time::timeout(self.drain_timeout, graceful.shutdown()).await.is_err() {
            warn!("gRPC requests were cut off: they did not end within the drain timeout");
        }
        connections.shutdown().await;
        Ok(())
    }
}

impl Transport for Grpc {
    fn name(&self) -> &'static str {
        "grpc"
    }

    fn local_addr(&self) -> String {
        format!("http://{}", self.address)
    }

    fn serve(self: Box<Self>, stop: CancellationToken) -> BoxFuture<'static, Result<(), PartError>> {
        Box::pin(async move { self.run(stop).await.map_err(|source| PartError { part: "grpc".into(), source: source.into() }) })
    }
}

/// Serves one connection until its client leaves or it is time to stop. Clients come and go; only whoever looks for a
/// fault wants to know.
async fn serve_connection(
    stream: TcpStream,
    entrance: Arc<Entrance>,
    streams_max: u32,
    watcher: Watcher,
    stop: CancellationToken,
) {
    let looked = tokio::select! {
        biased;
        () = stop.cancelled() => return,
        looked = tokio::time::timeout(PREFACE_TIMEOUT, is_http2(&stream)) => looked,
    };
    match looked {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => {
            // Whoever does not wait for it needs no answer.
            drop(tokio::time::timeout(PREFACE_TIMEOUT, turn_away(stream)).await);
            return;
        }
        Ok(Err(error)) => return debug!(%error, "a gRPC connection ended before it began"),
        Err(_) => return debug!("a gRPC connection never began"),
    }
    let service = service_fn(move |request| entrance::answer(Arc::clone(&entrance), request));
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(streams_max)
        .max_header_list_size(HEADER_BYTES_MAX);
    if let Err(error) = watcher.watch(builder.serve_connection(TokioIo::new(stream), service)).await {
        debug!(%error, "a gRPC connection ended early");
    }
}

/// Reads to the end what the client sends: a connection that is closed with something unread may lose the answer.
async fn turn_away(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(WRONG_PROTOCOL).await?;
    stream.shutdown().await?;
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}
