//! The HTTP way in: Streamable HTTP at `/mcp` and `/mcp/{upstream}`, REST at `/tools`, health and metrics.
//!
//! One current_thread runtime for each core, each with its own listener on the same port (SO_REUSEPORT): a call that
//! stays on HTTP never crosses threads and wakes nobody else.

mod admin;
mod body;
mod budget;
mod guard;
mod health;
mod mcp;
mod old_sse;
mod read;
mod rest;
mod worker;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use runtime_api::{PartError, Transport};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{sync::oneshot, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{accept::BindError, auth::Auth, tls::Tls};
use crate::{
    config::{self, Config},
    mcp::Server,
    readiness::Readiness,
};
use budget::Budget;
use guard::Guard;

/// Connections that wait to be accepted; the kernel's own limit is usually 4096.
const BACKLOG: i32 = 1024;

/// The bound HTTP transport.
#[derive(Debug)]
pub struct Http {
    address: SocketAddr,
    listeners: Vec<TcpListener>,
    front: Arc<Front>,
    drain_timeout: Duration,
    tls: Option<Tls>,
}

/// What every worker shares.
#[derive(Debug)]
pub(crate) struct Front {
    server: Server,
    auth: Auth,
    limits: ArcSwap<Limits>,
    budget: Arc<Budget>,
    readiness: Readiness,
    old_sse: Arc<old_sse::Streams>,
}

/// What a new configuration may change. Whoever looks takes what it needs at once and waits for nothing meanwhile.
#[derive(Debug)]
struct Limits {
    guard: Guard,
    body_bytes_max: usize,
}

/// A way to change the way in while it serves. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Entrance {
    address: SocketAddr,
    front: Arc<Front>,
}

impl Entrance {
    /// From which hosts and origins may come in what, and how large a body. Requests that are in stay in.
    pub(crate) fn replace(&self, http: &config::Http) {
        self.front.limits.store(Arc::new(Limits::new(http, self.address)));
    }
}

impl Limits {
    fn new(http: &config::Http, address: SocketAddr) -> Self {
        Self { guard: Guard::new(http, address), body_bytes_max: http.body_bytes_max.get() }
    }
}

impl Http {
    /// Takes the sockets; nothing is accepted yet. With port 0 the system chooses one.
    ///
    /// # Errors
    /// [`BindError`].
    pub(crate) fn bind(config: &Config, server: Server, auth: Auth, readiness: Readiness) -> Result<Self, BindError> {
        let http = &config.http;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let workers = http.workers.map_or(cores, std::num::NonZeroUsize::get);
        let refused = |source| BindError { address: http.listen, source };
        let first = listen(http.listen, true).map_err(refused)?;
        let address = first.local_addr().map_err(refused)?;
        let mut listeners = vec![first];
        for _ in 1..workers {
            listeners.push(listen(address, false).map_err(refused)?);
        }
        let front = Front {
            server,
            auth,
            limits: ArcSwap::from_pointee(Limits::new(http, address)),
            budget: Arc::default(),
            readiness,
            old_sse: Arc::new(old_sse::Streams::new(http.sessions_max.get())),
        };
        Ok(Self { address, listeners, front: Arc::new(front), drain_timeout: http.drain_timeout, tls: None })
    }

    /// Speaks HTTPS from the first connection on.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<Tls>) -> Self {
        self.tls = tls;
        self
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A way to change it while it serves.
    pub(crate) fn entrance(&self) -> Entrance {
        Entrance { address: self.address, front: Arc::clone(&self.front) }
    }
}

impl Transport for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    fn local_addr(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    fn serve(self: Box<Self>, stop: CancellationToken) -> BoxFuture<'static, Result<(), PartError>> {
        Box::pin(async move {
            let mut workers = Vec::new();
            // Dropping the set ends the task: it owns nothing that must be put in order.
            let mut watching = JoinSet::new();
            if let Some(tls) = &self.tls {
                watching.spawn(tls.clone().watch(stop.clone()));
            }
            for (index, listener) in self.listeners.into_iter().enumerate() {
                let (done, ended) = oneshot::channel();
                let worker = worker::Worker {
                    index,
                    listener,
                    front: Arc::clone(&self.front),
                    stop: stop.clone(),
                    drain_timeout: self.drain_timeout,
                    tls: self.tls.clone(),
                };
                let thread = std::thread::Builder::new().name(format!("http-{index}"));
                let spawned = thread.spawn(move || {
                    let result = worker.run();
                    // Nobody listens only when the whole transport was given up.
                    done.send(result).ok();
                });
                spawned.map_err(failed)?;
                workers.push(ended);
            }
            for ended in workers {
                match ended.await {
                    Ok(result) => result.map_err(failed)?,
                    Err(_) => return Err(failed(io::Error::other("a worker panicked"))),
                }
            }
            Ok(())
        })
    }
}

fn failed(source: io::Error) -> PartError {
    PartError { part: "http".into(), source: source.into() }
}

/// A listener that shares its port with the other workers of this process. The first one looks whether the port is free:
/// SO_REUSEPORT would let two gateways of one user share a port and take turns in answering.
fn listen(address: SocketAddr, first: bool) -> io::Result<TcpListener> {
    if first && address.port() != 0 {
        drop(TcpListener::bind(address)?);
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
