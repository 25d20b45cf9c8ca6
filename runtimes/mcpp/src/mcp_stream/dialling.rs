//! The dials to one peer that are under way: QUIC first, the other addresses when it failed or has had its time.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId,
    swarm::{
        ConnectionId,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::time::{Sleep, sleep};

use crate::Carrier;

/// What QUIC has for itself before TCP is dialled too. One round trip and its key exchange are enough for a handshake: 300 ms
/// on the longest way on earth, 30 ms more for the first one of a process. Whoever is behind a wall that swallows UDP pays
/// it once for each connection.
const HEAD_START: Duration = Duration::from_millis(500);

/// The dials to one peer. The swarm is told by the [`DialOpts`] that come out.
#[derive(Debug)]
pub(super) struct Dialling {
    peer: PeerId,
    /// Dials that the swarm has not answered: two at most.
    under_way: Vec<ConnectionId>,
    /// Addresses that were not dialled yet, and when they are.
    later: Option<(Vec<Multiaddr>, Pin<Box<Sleep>>)>,
    failures: Vec<String>,
}

impl Dialling {
    /// The first dial to a peer.
    pub(super) fn begin(peer: PeerId, addresses: Vec<Multiaddr>) -> (Self, DialOpts) {
        let (first, later) = in_turn(addresses);
        let later = (!later.is_empty()).then(|| (later, Box::pin(sleep(HEAD_START))));
        let mut dialling = Self { peer, under_way: Vec::new(), later, failures: Vec::new() };
        let opts = dialling.dial(first);
        (dialling, opts)
    }

    /// The second dial, once its time has come.
    pub(super) fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<DialOpts> {
        let Some((_, head_start)) = &mut self.later else { return Poll::Pending };
        ready!(head_start.as_mut().poll(cx));
        self.next().map_or(Poll::Pending, Poll::Ready)
    }

    /// The second dial, whatever the time is.
    pub(super) fn next(&mut self) -> Option<DialOpts> {
        let (addresses, _) = self.later.take()?;
        Some(self.dial(addresses))
    }

    /// Takes note of a dial that failed; `false` when it was none of these.
    pub(super) fn failed(&mut self, id: ConnectionId, reason: String) -> bool {
        let before = self.under_way.len();
        self.under_way.retain(|under_way| *under_way != id);
        let ours = self.under_way.len() < before;
        if ours {
            self.failures.push(reason);
        }
        ours
    }

    /// Whether an answer of the swarm is still to come.
    pub(super) fn is_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Why nothing worked.
    pub(super) fn reason(&self) -> String {
        self.failures.join("; ")
    }

    fn dial(&mut self, addresses: Vec<Multiaddr>) -> DialOpts {
        // The second dial begins while the first is under way, so "being dialled" is no reason against it.
        let opts = DialOpts::peer_id(self.peer).condition(PeerCondition::Disconnected).addresses(addresses).build();
        self.under_way.push(opts.connection_id());
        opts
    }
}

/// Which addresses are dialled at once and which later.
fn in_turn(addresses: Vec<Multiaddr>) -> (Vec<Multiaddr>, Vec<Multiaddr>) {
    let (quic, others): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| Carrier::of(address) == Some(Carrier::Quic));
    if quic.is_empty() { (others, quic) } else { (quic, others) }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn quic_is_dialled_first_and_the_rest_only_after_it() {
        let (tcp, quic, named) = ("/ip4/192.0.2.7/tcp/1", "/ip4/192.0.2.7/udp/1/quic-v1", "/dnsaddr/peers.example");
        let cases: [(&[&str], &[&str], &[&str]); 5] = [
            (&[], &[], &[]),
            (&[tcp], &[tcp], &[]),
            (&[quic], &[quic], &[]),
            (&[tcp, quic], &[quic], &[tcp]),
            (&[named, quic, tcp], &[quic], &[named, tcp]),
        ];
        for (given, first, later) in cases {
            assert_eq!(in_turn(addresses(given)), (addresses(first), addresses(later)), "{given:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tcp_waits_for_the_head_start_and_no_longer() {
        let both = addresses(&["/ip4/192.0.2.7/tcp/1", "/ip4/192.0.2.7/udp/1/quic-v1"]);
        let (mut dialling, first) = Dialling::begin(PeerId::random(), both);
        let began = tokio::time::Instant::now();

        let second = poll_fn(|cx| dialling.poll_due(cx)).await;

        assert_eq!(began.elapsed(), HEAD_START);
        assert!(dialling.next().is_none(), "each address is dialled once");
        assert!(dialling.failed(first.connection_id(), "no QUIC".to_owned()) && dialling.is_under_way());
        assert!(!dialling.failed(first.connection_id(), "again".to_owned()), "a dial fails once");
        assert!(dialling.failed(second.connection_id(), "no TCP".to_owned()) && !dialling.is_under_way());
        assert_eq!(dialling.reason(), "no QUIC; no TCP");
    }
}
