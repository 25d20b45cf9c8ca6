//! What carries a connection of libp2p: TCP or QUIC.

use libp2p::{Multiaddr, multiaddr::Protocol};

/// A transport of libp2p that this node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Carrier {
    /// QUIC version 1. First: streams do not wait for one another, and many small calls were measured four times as fast.
    Quic,
    /// TCP with Noise and Yamux, which every peer speaks.
    Tcp,
}

impl Carrier {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::Quic, Self::Tcp];

    /// What an address asks for; `None` when it is neither, or leaves it open.
    #[must_use]
    pub fn of(address: &Multiaddr) -> Option<Self> {
        let mut carrier = None;
        for part in address {
            match part {
                Protocol::Tcp(_) => carrier = Some(Self::Tcp),
                Protocol::QuicV1 => carrier = Some(Self::Quic),
                Protocol::Ip4(_)
                | Protocol::Ip6(_)
                | Protocol::Dns(_)
                | Protocol::Dns4(_)
                | Protocol::Dns6(_)
                | Protocol::Dnsaddr(_)
                | Protocol::Udp(_)
                | Protocol::P2p(_)
                | Protocol::P2pCircuit => {}
                // WebSockets, WebTransport and the like lie above a part that looks familiar.
                _ => return None,
            }
        }
        carrier
    }

    /// `tcp` or `quic`, as the OpenTelemetry conventions have `network.transport`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }

    /// The name of what carries a connection to or from this address; `unknown` when the address does not say.
    #[must_use]
    pub fn name_of(address: &Multiaddr) -> &'static str {
        Self::of(address).map_or("unknown", Self::as_str)
    }

    /// Whether this build has it.
    #[must_use]
    pub const fn is_built_in(self) -> bool {
        match self {
            Self::Quic => cfg!(feature = "quic"),
            Self::Tcp => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_what_carries_it() {
        let cases = [
            ("/ip4/192.0.2.7/tcp/4001", Some(Carrier::Tcp)),
            ("/dns4/gpu.example/tcp/4001", Some(Carrier::Tcp)),
            ("/ip6/::1/udp/4001/quic-v1", Some(Carrier::Quic)),
            ("/ip4/192.0.2.7/udp/4001/quic-v1/webtransport", None),
            ("/ip4/192.0.2.7/tcp/443/wss", None),
            ("/ip4/192.0.2.7/udp/4001/quic", None),
            ("/ip4/192.0.2.7/udp/4001", None),
            ("/dnsaddr/peers.example", None),
        ];
        for (address, expected) in cases {
            assert_eq!(Carrier::of(&address.parse().unwrap()), expected, "{address}");
        }
    }
}
