//! A plain libp2p stream (TCP, Noise, Yamux; or QUIC) and its frames: the baseline of the MCP++ runtime, which shares no code with it.

use std::convert::Infallible;
use std::io;
use std::task::{Context, Poll};

use anyhow::Context as _;
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::core::{Endpoint, transport::PortUse};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour, StreamProtocol,
    SubstreamProtocol, Swarm, SwarmEvent, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, Stream, SwarmBuilder, noise, tcp, yamux};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// MCP++ Profile E, section 3.1: the name that the MCP++ runtime asks for.
const PROTOCOL: StreamProtocol = StreamProtocol::new("/mcp+p2p/1.0.0");

/// More than the load generator ever opens at once.
const STREAMS_WAITING_MAX: usize = 64;

/// 16 KiB: yamux cuts what is sent into parts of this size, so a read never brings more at once.
const READ_BYTES_MAX: usize = 16 * 1024;

/// A node and the streams that came to be on it; dropping it closes them.
pub(crate) struct Node {
    pub(crate) streams: mpsc::Receiver<Stream>,
    _driver: JoinSet<()>,
}

/// Listens on free loopback ports; returns the addresses with the node's key, that of TCP first.
pub(crate) async fn listen() -> anyhow::Result<(Node, Vec<Multiaddr>)> {
    let (mut swarm, streams) = swarm(0)?;
    let key = *swarm.local_peer_id();
    let mut addresses = Vec::new();
    for address in LISTEN {
        swarm.listen_on(address.parse()?)?;
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        addresses.push(address.with_p2p(key).ok().context("a listener's own address names no other key")?);
    }
    Ok((drive(swarm, streams), addresses))
}

/// Where the peer listens.
const LISTEN: &[&str] = &[
    "/ip4/127.0.0.1/tcp/0",
    #[cfg(feature = "quic")]
    "/ip4/127.0.0.1/udp/0/quic-v1",
];

/// A node that will open one stream to one peer.
pub(crate) struct Dialler {
    swarm: Swarm<Behaviour>,
    streams: mpsc::Receiver<Stream>,
    address: Multiaddr,
}

impl Dialler {
    pub(crate) fn new(address: Multiaddr) -> anyhow::Result<Self> {
        let (swarm, streams) = swarm(1)?;
        Ok(Self { swarm, streams, address })
    }

    pub(crate) async fn dial(mut self) -> anyhow::Result<(Node, Stream)> {
        self.swarm.dial(self.address)?;
        let mut node = drive(self.swarm, self.streams);
        let stream = node.streams.recv().await.context("no stream could be opened")?;
        Ok((node, stream))
    }
}

fn swarm(opens: usize) -> anyhow::Result<(Swarm<Behaviour>, mpsc::Receiver<Stream>)> {
    let (streams, opened) = mpsc::channel(STREAMS_WAITING_MAX);
    let builder = SwarmBuilder::with_new_identity().with_tokio().with_tcp(
        tcp::Config::default(),
        noise::Config::new,
        yamux::Config::default,
    )?;
    #[cfg(feature = "quic")]
    let builder = builder.with_quic();
    let swarm = builder.with_behaviour(|_| Behaviour { streams, opens })?.build();
    Ok((swarm, opened))
}

fn drive(mut swarm: Swarm<Behaviour>, streams: mpsc::Receiver<Stream>) -> Node {
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    Node { streams, _driver: driver }
}

/// Hands every stream out, and opens `opens` of them on each connection that this side dialled.
struct Behaviour {
    streams: mpsc::Sender<Stream>,
    opens: usize,
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler { streams: self.streams.clone(), opens: 0 })
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler { streams: self.streams.clone(), opens: self.opens })
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

struct Handler {
    streams: mpsc::Sender<Stream>,
    opens: usize,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        let Some(left) = self.opens.checked_sub(1) else { return Poll::Pending };
        self.opens = left;
        let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ());
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), ()>) {
        if let ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. })
        | ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, .. }) = event
        {
            // A stream that nobody takes is reset, and whoever opened it counts a failure.
            self.streams.try_send(stream).ok();
        }
    }
}

/// Reads frames: u32 big-endian length, then the payload.
pub(crate) struct FrameReader<R> {
    source: R,
    arrived: BytesMut,
    chunk: Box<[u8]>,
}

impl<R: futures_util::AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, arrived: BytesMut::new(), chunk: vec![0; READ_BYTES_MAX].into() }
    }

    /// The next payload; `None` when the stream has ended.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(payload) = self.next_arrived() {
                return Ok(Some(payload));
            }
            match self.source.read(&mut self.chunk).await? {
                0 => return Ok(None),
                count => self.arrived.extend_from_slice(&self.chunk[..count]),
            }
        }
    }

    /// The next payload if it is there already.
    pub(crate) fn next_arrived(&mut self) -> Option<Bytes> {
        let prefix = self.arrived.first_chunk::<4>()?;
        let length = u32::from_be_bytes(*prefix) as usize;
        if self.arrived.len() < 4 + length {
            return None;
        }
        self.arrived.advance(4);
        Some(self.arrived.split_to(length).freeze())
    }
}

/// Adds a frame to what will be written.
pub(crate) fn push_frame(out: &mut Vec<u8>, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
}

/// Writes whole frames in one go.
pub(crate) async fn write_frames(sink: &mut (impl futures_util::AsyncWrite + Unpin), frames: &[u8]) -> io::Result<()> {
    sink.write_all(frames).await?;
    sink.flush().await
}
