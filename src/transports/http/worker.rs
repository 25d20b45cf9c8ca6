//! One worker: a thread, its runtime, its listener and its connections.

use std::{io, net::TcpListener, sync::Arc, time::Duration};

use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Front, mcp};
use crate::transports::{
    accept::{PING_INTERVAL, PING_TIMEOUT, accept_until, is_http2},
    tls::{self, Tls},
};

/// Time for a client to send a request's head; slower ones hold a connection for nothing.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections of one worker. Each costs some 10 KiB and a file descriptor.
const CONNECTIONS_MAX: usize = 16 * 1024;

pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) listener: TcpListener,
    pub(super) front: Arc<Front>,
    pub(super) stop: CancellationToken,
    pub(super) drain_timeout: Duration,
    pub(super) tls: Option<Tls>,
}

impl Worker {
    /// Serves until `stop`, then lets what is in flight finish.
    pub(super) fn run(self) -> io::Result<()> {
        runtime_http::enter_worker(self.index);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        self.front.server.metrics().count_tasks(&format!("http-{}", self.index), runtime.handle());
        runtime.block_on(self.serve())
    }

    async fn serve(self) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let serve = |stream, connections: &mut JoinSet<()>| {
            let (front, watcher, stop) = (Arc::clone(&self.front), graceful.watcher(), self.stop.clone());
            match &self.tls {
                None => connections.spawn(accept(stream, front, watcher, stop)),
                Some(tls) => connections.spawn(accept_secured(stream, tls.clone(), front, watcher, stop)),
            };
        };
        accept_until(listener, &self.stop, &mut connections, CONNECTIONS_MAX, serve).await;
        let until = Instant::now() + self.drain_timeout;
        if tokio::time::timeout_at(until, graceful.shutdown()).await.is_err() {
            warn!("calls were cut off: they did not end within the drain timeout");
        }
        // Calls of sessions whose clients are gone run on this thread too, and so do their connections.
        self.front.server.drain(until.saturating_duration_since(Instant::now())).await;
        connections.shutdown().await;
        Ok(())
    }
}

/// Serves one connection without TLS.
async fn accept(stream: TcpStream, front: Arc<Front>, watcher: Watcher, stop: CancellationToken) {
    // Clients come and go; only whoever looks for a fault wants to know.
    let looked = tokio::select! {
        biased;
        () = stop.cancelled() => return,
        looked = tokio::time::timeout(HEADER_TIMEOUT, is_http2(&stream)) => looked,
    };
    match looked {
        Ok(Ok(is_http2)) => serve_connection(stream, is_http2, front, watcher).await,
        Ok(Err(error)) => debug!(%error, "a connection ended before it began"),
        Err(_) => debug!("a connection never began"),
    }
}

/// Serves one connection with TLS: what the client speaks was agreed on in the handshake.
async fn accept_secured(stream: TcpStream, tls: Tls, front: Arc<Front>, watcher: Watcher, stop: CancellationToken) {
    let secured = tokio::select! {
        biased;
        () = stop.cancelled() => return,
        secured = tls.accept(stream) => secured,
    };
    match secured {
        Ok(stream) => {
            let is_http2 = tls::is_http2(&stream);
            serve_connection(stream, is_http2, front, watcher).await;
        }
        Err(refused) => {
            front.server.metrics().request_refused(refused.reason());
            let error: &dyn std::error::Error = &refused;
            debug!(error, "a connection was not secured");
        }
    }
}

async fn serve_connection<I>(stream: I, is_http2: bool, front: Arc<Front>, watcher: Watcher)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| mcp::handle(Arc::clone(&front), request));
    let io = TokioIo::new(stream);
    let served = if is_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(PING_INTERVAL).keep_alive_timeout(PING_TIMEOUT);
        watcher.watch(builder.serve_connection(io, service)).await
    } else {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        watcher.watch(builder.serve_connection(io, service)).await
    };
    if let Err(error) = served {
        debug!(%error, "a connection ended early");
    }
}
