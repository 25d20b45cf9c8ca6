//! The part of the protocol that lives with one connection.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol,
    core::upgrade::ReadyUpgrade,
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, ConnectionId, StreamUpgradeError, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use tokio::sync::mpsc;

use super::{InboundStream, OpenError, OpenRequest, OutboundStream, PROTOCOL};
use crate::{
    Carrier,
    quotas::PeerQuota,
    refusals::{Refusal, RefusalCounters},
};

/// Negotiations of ours at once on one connection. Each takes a round trip: with one at a time 20 ms away, 44 streams a
/// second was all that could be opened; 8 is more than the pool of one peer asks for at once.
const NEGOTIATING_MAX: usize = 8;

/// Requests that wait for a negotiation to end. Beyond, the peer is clearly slower than we ask.
const WAITING_MAX: usize = 64;

/// A negotiation is two small messages: whoever needs longer is not there.
const NEGOTIATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Where streams of the peer go.
#[derive(Debug, Clone)]
pub(super) struct Acceptor {
    pub(super) accepted: mpsc::Sender<InboundStream>,
    pub(super) refusals: Arc<RefusalCounters>,
}

/// What a stream says of the connection it came on.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
    pub(super) relayed: bool,
    pub(super) remote_addr: Multiaddr,
    pub(super) quota: Arc<PeerQuota>,
}

/// One connection's handler.
#[derive(Debug)]
pub(crate) struct Handler {
    facts: Facts,
    acceptor: Acceptor,
    waiting: VecDeque<OpenRequest>,
    negotiating: usize,
}

impl Handler {
    pub(super) fn new(facts: Facts, acceptor: Acceptor) -> Self {
        Self { facts, acceptor, waiting: VecDeque::new(), negotiating: 0 }
    }

    pub(super) fn also_relayed(&mut self, relayed: bool) {
        self.facts.relayed |= relayed;
    }

    /// Admits a stream of the peer or resets it: dropping a stream that is open resets it.
    fn accept(&self, stream: Stream) {
        if let Err(refusal) = self.try_accept(stream) {
            self.acceptor.refusals.count(refusal);
            tracing::debug!(peer = %self.facts.peer, reason = refusal.as_str(), "a stream of the peer was reset");
        }
    }

    fn try_accept(&self, stream: Stream) -> Result<(), Refusal> {
        let Facts { peer, connection, relayed, remote_addr, quota } = self.facts.clone();
        let permit = quota.admit_stream()?;
        let inbound = InboundStream { peer, connection, relayed, remote_addr, quota, permit, stream };
        self.acceptor.accepted.try_send(inbound).map_err(|_| Refusal::AcceptQueueFull)
    }

    fn enqueue(&mut self, request: OpenRequest) {
        self.waiting.retain(|waiting| !waiting.is_abandoned());
        if self.waiting.len() >= WAITING_MAX {
            request.fail(OpenError::Busy);
        } else {
            self.waiting.push_back(request);
        }
    }

    fn next_to_negotiate(&mut self) -> Option<OpenRequest> {
        if self.negotiating >= NEGOTIATING_MAX {
            return None;
        }
        std::iter::from_fn(|| self.waiting.pop_front()).find(|request| !request.is_abandoned())
    }

    fn finish(&mut self, request: OpenRequest, outcome: Result<Stream, OpenError>) {
        self.negotiating -= 1;
        let transport = Carrier::name_of(&self.facts.remote_addr);
        // Whoever has stopped waiting lets the stream fall, which resets it.
        request.answer.send(outcome.map(|stream| OutboundStream { transport, stream })).ok();
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = OpenRequest;
    type ToBehaviour = Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = OpenRequest;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ()).with_timeout(NEGOTIATION_TIMEOUT)
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>> {
        // No waker is needed: whatever changes `waiting` or `negotiating` is an event after which the connection polls again.
        let Some(request) = self.next_to_negotiate() else { return Poll::Pending };
        self.negotiating += 1;
        let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), request).with_timeout(NEGOTIATION_TIMEOUT);
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
    }

    fn on_behaviour_event(&mut self, request: OpenRequest) {
        self.enqueue(request);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), Self::OutboundOpenInfo>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. }) => self.accept(stream),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, info }) => {
                self.finish(info, Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                self.finish(info, Err(negotiation_error(&error)));
            }
            ConnectionEvent::AddressChange(change) => self.facts.remote_addr = change.new_address.clone(),
            _ => {}
        }
    }
}

fn negotiation_error(error: &StreamUpgradeError<Infallible>) -> OpenError {
    match error {
        StreamUpgradeError::NegotiationFailed => OpenError::Unsupported,
        StreamUpgradeError::Timeout | StreamUpgradeError::Io(_) | StreamUpgradeError::Apply(_) => {
            OpenError::Negotiation(error.to_string().into())
        }
    }
}
