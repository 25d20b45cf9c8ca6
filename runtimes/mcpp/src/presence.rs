//! Which peers are there, over which connections, and when each was seen.
//!
//! The node's task writes it, whoever asks reads it; no call passes through here.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use libp2p::{Multiaddr, PeerId, core::ConnectedPoint, swarm::ConnectionId};
use parking_lot::Mutex;

/// Peers that are remembered after they left: far more than anybody configures.
const REMEMBERED_MAX: usize = 4096;

/// One open connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    id: ConnectionId,
    /// The other end.
    pub address: Multiaddr,
    /// This node dialled.
    pub outgoing: bool,
    /// It goes over a relay.
    pub relayed: bool,
    /// Since when it is open.
    pub opened: SystemTime,
    /// The last ping, once there was one.
    pub round_trip: Option<Duration>,
}

/// What this node has seen of one peer since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sighting {
    /// When it connected first.
    pub first_seen: Option<SystemTime>,
    /// When it last connected or answered a ping.
    pub last_seen: Option<SystemTime>,
    /// Its connections, the oldest first.
    pub links: Vec<Link>,
}

/// All peers that are connected, and those that this node wants and that were.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    peers: Mutex<HashMap<PeerId, Entry>>,
}

#[derive(Debug, Default)]
struct Entry {
    /// This node asked for it, so it is remembered when it leaves. Strangers are not: whoever has many keys could fill the table.
    wanted: bool,
    sighting: Sighting,
}

impl Presence {
    /// This node asks for that peer.
    pub(crate) fn wanted(&self, peer: PeerId) {
        let mut peers = self.peers.lock();
        if peers.len() >= REMEMBERED_MAX && !peers.contains_key(&peer) {
            peers.retain(|_, entry| !entry.sighting.links.is_empty());
        }
        peers.entry(peer).or_default().wanted = true;
    }

    pub(crate) fn opened(&self, peer: PeerId, id: ConnectionId, end: &ConnectedPoint, now: SystemTime) {
        let address = end.get_remote_address().clone();
        let link = Link { id, address, outgoing: end.is_dialer(), relayed: end.is_relayed(), opened: now, round_trip: None };
        let mut peers = self.peers.lock();
        let sighting = &mut peers.entry(peer).or_default().sighting;
        sighting.links.push(link);
        sighting.first_seen.get_or_insert(now);
        sighting.last_seen = Some(now);
    }

    pub(crate) fn measured(&self, peer: &PeerId, id: ConnectionId, round_trip: Duration, now: SystemTime) {
        let mut peers = self.peers.lock();
        let Some(Entry { sighting, .. }) = peers.get_mut(peer) else { return };
        sighting.last_seen = Some(now);
        sighting.links.iter_mut().filter(|link| link.id == id).for_each(|link| link.round_trip = Some(round_trip));
    }

    pub(crate) fn closed(&self, peer: &PeerId, id: ConnectionId) {
        let mut peers = self.peers.lock();
        let Some(entry) = peers.get_mut(peer) else { return };
        entry.sighting.links.retain(|link| link.id != id);
        if entry.sighting.links.is_empty() && !entry.wanted {
            peers.remove(peer);
        }
    }

    pub(crate) fn sighting(&self, peer: &PeerId) -> Sighting {
        self.peers.lock().get(peer).map(|entry| entry.sighting.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::{Endpoint, transport::PortUse};

    use super::*;

    fn second(count: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(count)
    }

    fn dialled() -> ConnectedPoint {
        let address = "/ip4/192.0.2.7/tcp/4001".parse().unwrap();
        ConnectedPoint::Dialer { address, role_override: Endpoint::Dialer, port_use: PortUse::Reuse }
    }

    #[test]
    fn a_wanted_peer_is_remembered_with_its_times_and_a_stranger_is_forgotten() {
        let presence = Presence::default();
        let (wanted, stranger) = (PeerId::random(), PeerId::random());
        let id = ConnectionId::new_unchecked;
        presence.wanted(wanted);

        presence.opened(wanted, id(1), &dialled(), second(10));
        presence.opened(stranger, id(2), &dialled(), second(10));
        presence.measured(&wanted, id(1), Duration::from_millis(3), second(15));
        let connected = presence.sighting(&wanted);
        presence.closed(&wanted, id(1));
        presence.closed(&stranger, id(2));

        assert_eq!((connected.links.len(), connected.links[0].round_trip), (1, Some(Duration::from_millis(3))));
        assert!(connected.links[0].outgoing && !connected.links[0].relayed);
        let left = presence.sighting(&wanted);
        assert_eq!((left.first_seen, left.last_seen), (Some(second(10)), Some(second(15))));
        assert!(left.links.is_empty());
        assert_eq!(presence.sighting(&stranger), Sighting::default());
        assert_eq!(presence.peers.lock().len(), 1);
    }

    #[test]
    fn a_second_connection_keeps_the_first_sight_and_stays_when_the_first_closes() {
        let presence = Presence::default();
        let peer = PeerId::random();
        presence.opened(peer, ConnectionId::new_unchecked(1), &dialled(), second(1));
        presence.opened(peer, ConnectionId::new_unchecked(2), &dialled(), second(2));

        presence.closed(&peer, ConnectionId::new_unchecked(1));

        let sighting = presence.sighting(&peer);
        assert_eq!((sighting.first_seen, sighting.last_seen), (Some(second(1)), Some(second(2))));
        assert_eq!(sighting.links.iter().map(|link| link.opened).collect::<Vec<_>>(), [second(2)]);
    }

    #[test]
    fn peers_that_were_wanted_once_do_not_grow_without_bound() {
        let presence = Presence::default();
        for _ in 0..=REMEMBERED_MAX {
            presence.wanted(PeerId::random());
        }

        assert!(presence.peers.lock().len() <= REMEMBERED_MAX);
    }
}
