//! The libp2p node: one task owns the swarm, everybody else holds a [`NodeHandle`].
//!
//! Architecture invariant: nothing in the event arm awaits. Streams, once open, do not pass through this task.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder,
    core::transport::ListenerId,
    multiaddr::Protocol,
    noise, ping,
    swarm::{ConnectionId, SwarmEvent},
    tcp, yamux,
};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    behaviour::{Behaviour, BehaviourEvent},
    config::Config,
    identity::Identity,
    mcp_stream::{IncomingStreams, OpenError, OpenRequest, OutboundStream},
    presence::{Presence, Sighting},
    refusals::RefusalCounters,
};

/// Streams that may be open on one connection: over TCP of both sides and all protocols (the peer's 32, ours, ping and
/// identify), over QUIC of the other side. Over TCP it also bounds what an unread connection can buffer (yamux gives each
/// stream a window of 256 KiB, so 16 MiB); over QUIC the connection's own window of 15 MB does.
const STREAMS_MAX: usize = 64;

/// Streams of the other side that are being negotiated: as many as it may open, so that none is dropped uncounted.
const NEGOTIATING_INBOUND_MAX: usize = STREAMS_MAX;

/// A connection without any stream is closed after so long; a pooled stream keeps its connection.
const CONNECTION_IDLE: Duration = Duration::from_secs(60);

/// Listening is a system call or two; a name that must be resolved first is not allowed here.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Commands that wait for the swarm's task; whoever asks waits within its deadline when it is full.
const COMMANDS_WAITING_MAX: usize = 64;

/// One lost ping may be a busy machine, two in a row are a dead peer.
const PINGS_LOST_MAX: u8 = 2;

/// A node that listens. Nothing moves until [`Node::run`].
pub struct Node {
    swarm: Swarm<Behaviour>,
    commands: mpsc::Receiver<Command>,
    handle: NodeHandle,
    pings_lost: HashMap<ConnectionId, u8>,
}

/// A way to the node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NodeHandle {
    commands: mpsc::Sender<Command>,
    facts: Arc<Facts>,
}

#[derive(Debug)]
struct Facts {
    peer_id: PeerId,
    listen_addrs: ArcSwap<Vec<Multiaddr>>,
    refusals: Arc<RefusalCounters>,
    presence: Presence,
}

/// Why a node cannot listen.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// The transport could not be set up.
    #[error("the libp2p transport could not be set up")]
    Transport(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What the machine says of its name servers could not be read.
    #[error("the name servers of this machine cannot be read from /etc/resolv.conf")]
    NameServers(#[source] std::io::Error),
    /// An address could not be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address as configured.
        address: Multiaddr,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

#[derive(Debug)]
enum Command {
    Open { peer: PeerId, addresses: Vec<Multiaddr>, request: OpenRequest },
}

impl Node {
    /// Takes the listening sockets. Port 0 takes a free port: [`NodeHandle::listen_addrs`] has it. The streams of peers
    /// come out of the returned [`IncomingStreams`]; dropping them refuses every stream.
    ///
    /// # Errors
    /// [`BindError`]
    pub async fn bind(config: &Config, identity: Identity) -> Result<(Self, IncomingStreams), BindError> {
        let refusals = Arc::new(RefusalCounters::default());
        let peer_id = identity.peer_id();
        let (swarm, incoming) = build(config, identity, Arc::clone(&refusals))?;
        let (sender, commands) = mpsc::channel(COMMANDS_WAITING_MAX);
        let facts = Facts { peer_id, listen_addrs: ArcSwap::default(), refusals, presence: Presence::default() };
        let handle = NodeHandle { commands: sender, facts: Arc::new(facts) };
        let mut node = Self { swarm, commands, handle, pings_lost: HashMap::new() };
        node.listen(&config.listen).await?;
        Ok((node, incoming))
    }

    /// A way to the node.
    #[must_use]
    pub fn handle(&self) -> NodeHandle {
        self.handle.clone()
    }

    /// Drives the swarm until `stop`, then closes all connections.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(command) = self.commands.recv() => self.on_command(command),
                event = self.swarm.select_next_some() => self.on_event(event),
            }
        }
    }

    async fn listen(&mut self, addresses: &[Multiaddr]) -> Result<(), BindError> {
        let deadline = Instant::now() + LISTEN_TIMEOUT;
        for address in addresses {
            let failed = |source| BindError::Listen { address: address.clone(), source };
            claim(address).map_err(|error| failed(error.into()))?;
            let listener = self.swarm.listen_on(address.clone()).map_err(|error| failed(error.into()))?;
            let listening = timeout_at(deadline, self.listening(listener)).await;
            listening.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|error| failed(error.into()))?;
        }
        Ok(())
    }

    /// Until the listener has its first address.
    async fn listening(&mut self, wanted: ListenerId) -> io::Result<()> {
        loop {
            let event = self.swarm.select_next_some().await;
            let outcome = match &event {
                SwarmEvent::NewListenAddr { listener_id, .. } if *listener_id == wanted => Some(Ok(())),
                SwarmEvent::ListenerClosed { listener_id, reason, .. } if *listener_id == wanted => {
                    let kind = reason.as_ref().err().map_or(io::ErrorKind::NotConnected, io::Error::kind);
                    Some(Err(kind.into()))
                }
                _ => None,
            };
            self.on_event(event);
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Open { peer, addresses, request } => {
                self.handle.facts.presence.wanted(peer);
                self.swarm.behaviour_mut().mcp_stream.open(peer, addresses, request);
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => self.on_ping(&event),
            SwarmEvent::NewListenAddr { .. } | SwarmEvent::ExpiredListenAddr { .. } | SwarmEvent::ListenerClosed { .. } => {
                self.handle.facts.listen_addrs.store(Arc::new(self.swarm.listeners().cloned().collect()));
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.handle.facts.presence.opened(peer_id, connection_id, &endpoint, SystemTime::now());
                tracing::debug!(peer = %peer_id, address = %endpoint.get_remote_address(), "a connection is open");
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                self.pings_lost.remove(&connection_id);
                self.handle.facts.presence.closed(&peer_id, connection_id);
                tracing::debug!(peer = %peer_id, cause = cause.map(tracing::field::display), "a connection closed");
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(address = %send_back_addr, %error, "a connection of a peer failed");
            }
            _ => {}
        }
    }

    /// A connection that does not answer pings is closed, so that calls on it fail rather than hang.
    fn on_ping(&mut self, event: &ping::Event) {
        match &event.result {
            Ok(round_trip) => {
                self.pings_lost.remove(&event.connection);
                self.swarm.behaviour_mut().mcp_stream.measured(&event.peer, event.connection, *round_trip);
                self.handle.facts.presence.measured(&event.peer, event.connection, *round_trip, SystemTime::now());
            }
            // A peer without ping is told dead by its transport alone.
            Err(ping::Failure::Unsupported) => {}
            Err(_) => {
                let lost = self.pings_lost.entry(event.connection).or_default();
                *lost += 1;
                if *lost >= PINGS_LOST_MAX {
                    self.swarm.close_connection(event.connection);
                }
            }
        }
    }
}

/// Fails when somebody listens there already. The transport itself would not notice: it shares its ports (SO_REUSEPORT),
/// and then every second connection would go to the other process. A port of UDP is taken by one alone.
fn claim(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => std::net::TcpListener::bind((ip, port)).map(drop),
        _ => Ok(()),
    }
}

fn build(
    config: &Config,
    identity: Identity,
    refusals: Arc<RefusalCounters>,
) -> Result<(Swarm<Behaviour>, IncomingStreams), BindError> {
    let keypair = identity.into_keypair();
    let (behaviour, incoming) = Behaviour::new(config, &keypair, refusals);
    let muxer = || {
        let mut muxer = yamux::Config::default();
        muxer.set_max_num_streams(STREAMS_MAX);
        muxer
    };
    let builder = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, muxer)
        .map_err(|error| BindError::Transport(error.into()))?;
    #[cfg(feature = "quic")]
    let builder = builder.with_quic_config(|mut quic| {
        quic.max_concurrent_stream_limit = STREAMS_MAX as u32;
        quic
    });
    let swarm = builder
        .with_dns()
        .map_err(BindError::NameServers)?
        .with_behaviour(|_| behaviour)
        .expect("the behaviour is already made")
        .with_swarm_config(|swarm| {
            swarm
                .with_idle_connection_timeout(CONNECTION_IDLE)
                .with_max_negotiating_inbound_streams(NEGOTIATING_INBOUND_MAX)
                .with_smart_dial()
        })
        .build();
    Ok((swarm, incoming))
}

impl NodeHandle {
    /// Who this node is.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.facts.peer_id
    }

    /// Where it listens, with real ports.
    #[must_use]
    pub fn listen_addrs(&self) -> Arc<Vec<Multiaddr>> {
        self.facts.listen_addrs.load_full()
    }

    /// What this node has seen of a peer since it started.
    #[must_use]
    pub fn sighting(&self, peer: &PeerId) -> Sighting {
        self.facts.presence.sighting(peer)
    }

    /// What was turned away so far.
    #[must_use]
    pub fn refusals(&self) -> Arc<RefusalCounters> {
        Arc::clone(&self.facts.refusals)
    }

    /// Opens a stream to a peer; dials `addresses` when there is no connection. Dropping it gives the stream up.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was sent to the peer's application.
    pub async fn open_stream(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        deadline: Instant,
    ) -> Result<OutboundStream, OpenError> {
        let opening = async {
            let (answer, answered) = oneshot::channel();
            let command = Command::Open { peer, addresses, request: OpenRequest { answer } };
            self.commands.send(command).await.map_err(|_| OpenError::Stopped)?;
            answered.await.unwrap_or(Err(OpenError::ConnectionClosed))
        };
        timeout_at(deadline, opening).await.unwrap_or(Err(OpenError::DeadlineExceeded))
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("peer_id", &self.handle.facts.peer_id).finish_non_exhaustive()
    }
}
