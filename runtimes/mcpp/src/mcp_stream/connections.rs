//! The connections there are, and which of them a new stream uses.

use std::{collections::HashMap, time::Duration};

use libp2p::{PeerId, swarm::ConnectionId};

use crate::Carrier;

/// What is known of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) relayed: bool,
    /// None when its address does not say.
    pub(super) carrier: Option<Carrier>,
    /// The last ping, once there was one.
    pub(super) round_trip: Option<Duration>,
}

/// All connections by peer. A peer without a connection has no entry.
#[derive(Debug, Default)]
pub(super) struct Connections {
    by_peer: HashMap<PeerId, Vec<Connection>>,
}

impl Connections {
    pub(super) fn add(&mut self, peer: PeerId, connection: Connection) {
        self.by_peer.entry(peer).or_default().push(connection);
    }

    pub(super) fn remove(&mut self, peer: &PeerId, id: ConnectionId) {
        let Some(connections) = self.by_peer.get_mut(peer) else { return };
        connections.retain(|connection| connection.id != id);
        if connections.is_empty() {
            self.by_peer.remove(peer);
        }
    }

    pub(super) fn measured(&mut self, peer: &PeerId, id: ConnectionId, round_trip: Duration) {
        let connections = self.by_peer.get_mut(peer).into_iter().flatten();
        connections.filter(|connection| connection.id == id).for_each(|found| found.round_trip = Some(round_trip));
    }

    pub(super) fn contains(&self, peer: &PeerId) -> bool {
        self.by_peer.contains_key(peer)
    }

    /// The connection for a new stream.
    pub(super) fn best(&self, peer: &PeerId) -> Option<ConnectionId> {
        choose(self.by_peer.get(peer)?)
    }
}

/// Direct before relayed (a relay ends a circuit after 2 minutes or 128 KiB), then the clearly nearer, then QUIC before TCP,
/// then the older.
fn choose(connections: &[Connection]) -> Option<ConnectionId> {
    let rank = |connection: &&Connection| {
        (connection.relayed, distance(connection.round_trip), connection.carrier.is_none(), connection.carrier)
    };
    connections.iter().min_by_key(rank).map(|connection| connection.id)
}

/// Round trips in powers of two of a millisecond: two transports on one way differ by noise, and only a wall that slows one
/// of them down, or a detour, makes twice as much. What was not measured yet is far.
fn distance(round_trip: Option<Duration>) -> u32 {
    round_trip.map_or(u32::MAX, |measured| measured.as_millis().max(1).ilog2())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(id: usize, relayed: bool, round_trip_ms: Option<u64>) -> Connection {
        let round_trip = round_trip_ms.map(Duration::from_millis);
        Connection { id: ConnectionId::new_unchecked(id), relayed, carrier: Some(Carrier::Tcp), round_trip }
    }

    fn quic(connection: Connection) -> Connection {
        Connection { carrier: Some(Carrier::Quic), ..connection }
    }

    #[test]
    fn direct_comes_before_relayed_and_near_before_far_and_quic_before_tcp() {
        let cases: [(&[Connection], Option<usize>); 10] = [
            (&[], None),
            (&[connection(1, true, Some(1)), connection(2, false, Some(90))], Some(2)),
            (&[connection(1, false, Some(9)), connection(2, false, Some(3))], Some(2)),
            (&[connection(1, false, None), connection(2, false, Some(3))], Some(2)),
            (&[connection(1, false, None), connection(2, false, None)], Some(1)),
            (&[connection(1, false, None), quic(connection(2, false, None))], Some(2)),
            (&[connection(1, false, Some(20)), quic(connection(2, false, Some(22)))], Some(2)),
            (&[connection(1, false, Some(20)), quic(connection(2, false, Some(90)))], Some(1)),
            (&[connection(1, false, Some(20)), quic(connection(2, true, Some(20)))], Some(1)),
            (&[Connection { carrier: None, ..connection(1, false, Some(1)) }, connection(2, false, Some(1))], Some(2)),
        ];
        for (connections, expected) in cases {
            assert_eq!(choose(connections), expected.map(ConnectionId::new_unchecked), "{connections:?}");
        }
    }

    #[test]
    fn a_peer_whose_last_connection_closed_leaves_nothing_behind() {
        let mut connections = Connections::default();
        let peer = PeerId::random();
        connections.add(peer, connection(1, false, None));
        connections.add(peer, connection(2, true, None));

        connections.remove(&peer, ConnectionId::new_unchecked(1));
        assert_eq!(connections.best(&peer), Some(ConnectionId::new_unchecked(2)));
        connections.remove(&peer, ConnectionId::new_unchecked(2));

        assert!(connections.by_peer.is_empty());
    }
}
