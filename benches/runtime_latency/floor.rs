//! The floor: a bare hyper reverse proxy that forwards bytes without looking at them.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Listens on every core with a runtime of its own, the shape that was fastest, and never returns.
pub(crate) fn serve(upstream: SocketAddr, announce: impl FnOnce(SocketAddr)) -> anyhow::Result<()> {
    let first = listen(0)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..std::thread::available_parallelism()?.get() {
        listeners.push(listen(address.port())?);
    }
    announce(address);
    std::thread::scope(|scope| {
        for listener in listeners {
            scope.spawn(move || serve_core(listener, upstream).expect("the floor serves until it is killed"));
        }
    });
    Ok(())
}

fn listen(port: u16) -> std::io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(1024)?; // as std does; more than the load generator ever opens at once
    Ok(socket.into())
}

fn serve_core(listener: std::net::TcpListener, upstream: SocketAddr) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let pool = Arc::new(Pool { upstream, idle: Mutex::default(), drivers: Mutex::default() });
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let pool = pool.clone();
            let forward = service_fn(move |request| pool.clone().forward(request));
            connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), forward));
            while connections.try_join_next().is_some() {}
        }
    })
}

type Sender = client::SendRequest<Incoming>;

struct Pool { upstream: SocketAddr, idle: Mutex<Vec<Sender>>, drivers: Mutex<JoinSet<()>> }

impl Pool {
    async fn forward(self: Arc<Self>, request: Request<Incoming>) -> anyhow::Result<Response<Pooled>> {
        let mut sender = self.take().await?;
        let response = sender.send_request(request).await?;
        Ok(response.map(|body| Pooled { body, sender: Some(sender), pool: self }))
    }

    async fn take(&self) -> anyhow::Result<Sender> {
        loop {
            let Some(mut sender) = self.idle.lock().pop() else { break };
            if sender.ready().await.is_ok() { return Ok(sender) }
        }
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = client::handshake(TokioIo::new(stream)).await?;
        self.drivers.lock().spawn(async { connection.await.unwrap_or_default() });
        Ok(sender)
    }
}

/// A response body that gives its connection back at its end.
struct Pooled { body: Incoming, sender: Option<Sender>, pool: Arc<Pool> }

impl Drop for Pooled {
    fn drop(&mut self) { self.pool.idle.lock().extend(self.sender.take()) }
}

impl Body for Pooled {
    type Data = Bytes;
    type Error = hyper::Error;
    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }
    fn is_end_stream(&self) -> bool { self.body.is_end_stream() }
    fn size_hint(&self) -> SizeHint { self.body.size_hint() }
}
