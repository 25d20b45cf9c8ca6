//! The floor: a bare hyper reverse proxy that forwards bytes without looking at them.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Error, Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Listens with one single-threaded runtime per core, so that no call moves between threads, and never returns.
pub(crate) fn serve(upstream: SocketAddr, announce: impl FnOnce(SocketAddr)) -> Result<()> {
    let mut listeners = vec![listen(0)?];
    let address = listeners[0].local_addr()?;
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

fn listen(port: u16) -> Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(1024)?; // as std does; more than the load generator ever opens at once
    Ok(socket.into())
}

fn serve_core(listener: std::net::TcpListener, upstream: SocketAddr) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let pool: &Pool = Box::leak(Box::new(Pool { upstream, idle: Mutex::default(), drivers: Mutex::default() }));
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let forward = service_fn(|request| pool.forward(request));
            connections.spawn(Builder::new().serve_connection(TokioIo::new(stream), forward));
            while connections.try_join_next().is_some() {}
        }
    })
}

struct Pool {
    upstream: SocketAddr,
    idle: Mutex<Vec<SendRequest<Incoming>>>,
    drivers: Mutex<JoinSet<()>>,
}

impl Pool {
    async fn forward(&'static self, request: Request<Incoming>) -> Result<Response<impl Body<Data = Bytes, Error = Error>>> {
        let mut sender = self.take().await?;
        let response = sender.send_request(request).await?;
        let lease = Lease { sender: Some(sender), pool: self };
        // The closure holds the lease as long as the body lives.
        Ok(response.map(|body| body.map_err(move |error| (&lease, error).1)))
    }

    async fn take(&self) -> Result<SendRequest<Incoming>> {
        let idle = self.idle.lock().pop();
        if let Some(mut sender) = idle
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        self.drivers.lock().spawn(async { connection.await.unwrap_or_default() });
        Ok(sender)
    }
}

/// Gives a connection back when the response body that holds it is dropped.
struct Lease {
    sender: Option<SendRequest<Incoming>>,
    pool: &'static Pool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.idle.lock().extend(self.sender.take());
    }
}
