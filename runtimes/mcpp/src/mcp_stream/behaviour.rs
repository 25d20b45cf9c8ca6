//! The part of the protocol that lives with the swarm.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        ConnectionDenied, ConnectionId, DialError, DialFailure, FromSwarm, NetworkBehaviour, NotifyHandler, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    ACCEPTED_WAITING_MAX, IncomingStreams, OpenError, OpenRequest,
    connections::{Connection, Connections},
    dialling::Dialling,
    handler::{Acceptor, Facts, Handler},
};
use crate::{
    Carrier,
    quotas::{PeerQuota, Quotas},
    refusals::RefusalCounters,
};

/// Streams wanted of one peer while it is being dialled: as many as a handler takes afterwards.
const WAITING_FOR_DIAL_MAX: usize = 64;

/// Peers whose quotas are remembered after they left, so that reconnecting does not wash a full bucket.
const QUOTAS_REMEMBERED_MAX: usize = 1024;

/// Opens and accepts streams.
#[derive(Debug)]
pub(crate) struct Behaviour {
    connections: Connections,
    waiting_for_dial: HashMap<PeerId, Vec<OpenRequest>>,
    /// Peers that are being dialled.
    dialling: HashMap<PeerId, Dialling>,
    /// Bounded by the bounds on requests: each entry carries or serves one.
    to_swarm: VecDeque<ToSwarm<Infallible, OpenRequest>>,
    quotas: Quotas,
    quota_by_peer: HashMap<PeerId, Arc<PeerQuota>>,
    acceptor: Acceptor,
}

impl Behaviour {
    pub(crate) fn new(quotas: Quotas, refusals: Arc<RefusalCounters>) -> (Self, IncomingStreams) {
        let (accepted, streams) = mpsc::channel(ACCEPTED_WAITING_MAX);
        let behaviour = Self {
            connections: Connections::default(),
            waiting_for_dial: HashMap::new(),
            dialling: HashMap::new(),
            to_swarm: VecDeque::new(),
            quotas,
            quota_by_peer: HashMap::new(),
            acceptor: Acceptor { accepted, refusals },
        };
        (behaviour, IncomingStreams { streams })
    }

    /// Opens a stream, over a new connection when there is none. The swarm must be polled afterwards.
    pub(crate) fn open(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, request: OpenRequest) {
        if let Some(connection) = self.connections.best(&peer) {
            return self.hand_over(peer, connection, request);
        }
        let waiting = self.waiting_for_dial.entry(peer).or_default();
        waiting.retain(|waiting| !waiting.is_abandoned());
        if waiting.len() >= WAITING_FOR_DIAL_MAX {
            return request.fail(OpenError::Busy);
        }
        waiting.push(request);
        if let Entry::Vacant(place) = self.dialling.entry(peer) {
            // Only "not connected" makes a dial; otherwise the event of that connection serves who waits.
            let (dialling, opts) = Dialling::begin(peer, addresses);
            place.insert(dialling);
            self.to_swarm.push_back(ToSwarm::Dial { opts });
        }
    }

    /// Takes note of a ping.
    pub(crate) fn measured(&mut self, peer: &PeerId, connection: ConnectionId, round_trip: Duration) {
        self.connections.measured(peer, connection, round_trip);
    }

    fn hand_over(&mut self, peer_id: PeerId, connection: ConnectionId, request: OpenRequest) {
        self.to_swarm.push_back(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event: request });
    }

    fn handler(&mut self, peer: PeerId, connection: ConnectionId, remote_addr: &Multiaddr) -> Handler {
        self.forget_idle_quotas();
        let quota = self.quota_by_peer.entry(peer).or_insert_with(|| Arc::new(PeerQuota::new(&self.quotas, Instant::now())));
        let relayed = remote_addr.iter().any(|part| part == Protocol::P2pCircuit);
        let facts = Facts { peer, connection, relayed, remote_addr: remote_addr.clone(), quota: Arc::clone(quota) };
        Handler::new(facts, self.acceptor.clone())
    }

    fn forget_idle_quotas(&mut self) {
        if self.quota_by_peer.len() >= QUOTAS_REMEMBERED_MAX {
            self.quota_by_peer.retain(|_, quota| !quota.is_idle());
        }
    }

    fn on_connected(&mut self, peer: PeerId) {
        self.dialling.remove(&peer);
        let Some(connection) = self.connections.best(&peer) else { return };
        for request in self.waiting_for_dial.remove(&peer).unwrap_or_default() {
            self.hand_over(peer, connection, request);
        }
    }

    fn on_dial_failure(&mut self, failure: &DialFailure<'_>) {
        let Some(peer) = failure.peer_id else { return };
        let Some(dialling) = self.dialling.get_mut(&peer) else { return };
        if !dialling.failed(failure.connection_id, describe(&peer, failure.error)) {
            return;
        }
        let is_connected = matches!(failure.error, DialError::DialPeerConditionFalse(_));
        if !is_connected {
            // What has failed needs no head start any more.
            if let Some(opts) = dialling.next() {
                return self.to_swarm.push_back(ToSwarm::Dial { opts });
            }
            if dialling.is_under_way() {
                return;
            }
        }
        let reason: Arc<str> = dialling.reason().into();
        self.dialling.remove(&peer);
        // A connection that is just being reported serves who waits by its own event.
        if is_connected || self.connections.contains(&peer) {
            return;
        }
        for request in self.waiting_for_dial.remove(&peer).unwrap_or_default() {
            request.fail(OpenError::Dial(Arc::clone(&reason)));
        }
    }
}

/// The error in one line: the addresses are in the configuration, the cause is what is missing.
fn describe(peer: &PeerId, error: &DialError) -> String {
    match error {
        DialError::Transport(attempts) => {
            let causes: Vec<_> = attempts.iter().map(|(_, cause)| innermost(cause)).collect();
            causes.join("; ")
        }
        DialError::WrongPeerId { obtained, .. } => format!("it has the key {obtained}, the configured address names {peer}"),
        other => other.to_string(),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local_addr: &Multiaddr,
        remote_addr: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let mut handler = self.handler(peer, connection, remote_addr);
        // Over a relay it is the local address of the connection that says so.
        handler.also_relayed(local_addr.iter().any(|part| part == Protocol::P2pCircuit));
        Ok(handler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, connection, addr))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                let relayed = established.endpoint.is_relayed();
                let carrier = Carrier::of(established.endpoint.get_remote_address());
                let connection = Connection { id: established.connection_id, relayed, carrier, round_trip: None };
                self.connections.add(established.peer_id, connection);
                self.on_connected(established.peer_id);
            }
            FromSwarm::ConnectionClosed(closed) => self.connections.remove(&closed.peer_id, closed.connection_id),
            FromSwarm::DialFailure(failure) => self.on_dial_failure(&failure),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        for dialling in self.dialling.values_mut() {
            if let Poll::Ready(opts) = dialling.poll_due(cx) {
                self.to_swarm.push_back(ToSwarm::Dial { opts });
            }
        }
        // No other waker is needed: the queue is filled by `open`, after which the node polls the swarm, or by an event of it.
        self.to_swarm.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
