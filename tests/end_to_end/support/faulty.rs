//! A TCP proxy that breaks connections: before the request, in the middle of it, after it, or by silence.

use std::{
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::Instant,
};

/// When connections break.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Not before they are so old.
    pub(crate) age_min: Duration,
    /// After so many bytes more.
    pub(crate) bytes: Range<usize>,
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It is reset before anything is passed on.
    AtOnce,
    /// It is reset after so many bytes towards the server: before or within a request.
    Up(usize),
    /// It is reset after so many bytes from the server: after a request, before or within its answer.
    Down(usize),
    /// Nothing is passed on any more after so many bytes towards the server.
    Silence(usize),
}

/// Longer than the calls of the tests that use it have.
const SILENCE: Duration = Duration::from_millis(400);

/// Kinds of faults.
const KINDS: usize = 4;

impl Fault {
    fn draw(rng: &mut StdRng, bytes: &Range<usize>) -> Self {
        let after = rng.random_range(bytes.clone());
        match rng.random_range(0..20) {
            0..2 => Self::AtOnce,
            2..10 => Self::Up(after),
            10..18 => Self::Down(after),
            _ => Self::Silence(after),
        }
    }

    /// After how many bytes towards the server it strikes.
    fn up(self) -> Option<usize> {
        match self {
            Self::AtOnce => Some(0),
            Self::Up(at) | Self::Silence(at) => Some(at),
            Self::Down(_) => None,
        }
    }

    /// After how many bytes from the server it strikes.
    fn down(self) -> Option<usize> {
        if let Self::Down(at) = self { Some(at) } else { None }
    }

    fn kind(self) -> usize {
        match self {
            Self::AtOnce => 0,
            Self::Up(_) => 1,
            Self::Down(_) => 2,
            Self::Silence(_) => 3,
        }
    }
}

/// A running proxy. Dropping it closes its connections.
pub(crate) struct Faulty {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    to: SocketAddr,
    plan: Plan,
    breaks: AtomicBool,
    injected: [AtomicUsize; KINDS],
}

impl Faulty {
    /// Starts one before `to`. Each connection breaks as planned, once [`Faulty::begin`] was called.
    pub(crate) async fn start(to: SocketAddr, plan: Plan, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared =
            Arc::new(Shared { to, plan, breaks: AtomicBool::new(false), injected: [const { AtomicUsize::new(0) }; KINDS] });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared), StdRng::seed_from_u64(seed)));
        Self { address, shared, _tasks: tasks }
    }

    /// From now on connections break.
    pub(crate) fn begin(&self) {
        self.shared.breaks.store(true, Ordering::Relaxed);
    }

    /// From now on they do not.
    pub(crate) fn end(&self) {
        self.shared.breaks.store(false, Ordering::Relaxed);
    }

    /// How many it broke: before anything, towards the server, from the server, by silence.
    pub(crate) fn injected(&self) -> [usize; KINDS] {
        self.shared.injected.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, mut rng: StdRng) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let fault = Fault::draw(&mut rng, &shared.plan.bytes);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(shared.to).await else { return };
            let ends = Ends { client, server };
            ends.carry(fault, &shared).await;
        });
    }
}

struct Ends {
    client: TcpStream,
    server: TcpStream,
}

impl Ends {
    async fn carry(mut self, fault: Fault, shared: &Shared) {
        let (mut up, mut down) = (0, 0);
        let (mut from_client, mut from_server) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
        self.client.set_nodelay(true).ok();
        self.server.set_nodelay(true).ok();
        let began = Instant::now();
        let is_due = || shared.breaks.load(Ordering::Relaxed) && began.elapsed() >= shared.plan.age_min;
        if fault == Fault::AtOnce && is_due() {
            return self.reset(fault, shared);
        }
        loop {
            tokio::select! {
                read = self.client.read(&mut from_client) => {
                    let Ok(length @ 1..) = read else { return };
                    let part = within(is_due(), up, length, fault.up());
                    if self.server.write_all(&from_client[..part]).await.is_err() {
                        return;
                    }
                    up += if is_due() { part } else { 0 };
                    if part < length {
                        return self.strike(fault, shared).await;
                    }
                }
                read = self.server.read(&mut from_server) => {
                    let Ok(length @ 1..) = read else { return };
                    let part = within(is_due(), down, length, fault.down());
                    if self.client.write_all(&from_server[..part]).await.is_err() {
                        return;
                    }
                    down += if is_due() { part } else { 0 };
                    if part < length {
                        return self.strike(fault, shared).await;
                    }
                }
            }
        }
    }

    async fn strike(self, fault: Fault, shared: &Shared) {
        let wait = match fault {
            // Until whoever waits has given up.
            Fault::Silence(_) => SILENCE,
            // What was passed on shall arrive before the reset does, or it would be as if it had never been sent.
            Fault::AtOnce | Fault::Up(_) | Fault::Down(_) => Duration::from_millis(1),
        };
        tokio::time::sleep(wait).await;
        self.reset(fault, shared);
    }

    fn reset(self, fault: Fault, shared: &Shared) {
        shared.count(fault);
        for stream in [&self.client, &self.server] {
            socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).ok();
        }
    }
}

impl Shared {
    fn count(&self, fault: Fault) {
        self.injected[fault.kind()].fetch_add(1, Ordering::Relaxed);
    }
}

/// How much of what came is passed on.
fn within(is_due: bool, before: usize, length: usize, at: Option<usize>) -> usize {
    match at {
        Some(at) if is_due => length.min(at.saturating_sub(before)),
        _ => length,
    }
}
