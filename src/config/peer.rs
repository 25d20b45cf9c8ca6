//! `[[peer]]`: a libp2p peer to call tools on.

use std::{num::NonZeroU32, time::Duration};

use runtime_mcpp::{Multiaddr, PeerConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Name, Prefix, Trust, duration};

/// A libp2p peer to call tools on.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its name, unique among upstreams and peers.
    pub name: Name,
    /// Where it listens, ending in its key: `/ip4/192.0.2.7/tcp/4001/p2p/12D3KooW…`
    #[schemars(with = "String")]
    pub address: Multiaddr,
    /// Whether its tools carry its name in the merged view.
    #[serde(default)]
    pub prefix: Prefix,
    /// How far its word about its tools is believed. A peer is somebody else's machine, so by default not at all.
    #[serde(default = "distrust")]
    pub trust: Trust,
    /// Calls out to it at one time; more wait within their deadline. Absent: what a peer grants by default.
    #[serde(default)]
    pub calls_in_flight_max: Option<NonZeroU32>,
    /// How often its tools are listed anew without being told of a change. Absent: often enough to keep its stream warm.
    #[serde(default, with = "duration::option")]
    #[schemars(with = "Option<String>")]
    pub refresh: Option<Duration>,
}

const fn distrust() -> Trust {
    Trust::None
}

impl Peer {
    /// A peer with every default.
    #[must_use]
    pub fn new(name: Name, address: Multiaddr) -> Self {
        Self { name, address, prefix: Prefix::default(), trust: distrust(), calls_in_flight_max: None, refresh: None }
    }

    /// What the MCP++ runtime needs to know of it.
    #[must_use]
    pub fn to_runtime(&self) -> PeerConfig {
        let mut config = PeerConfig::new(self.name.as_str(), self.address.clone());
        config.calls_in_flight_max = self.calls_in_flight_max.unwrap_or(config.calls_in_flight_max);
        config.refresh = self.refresh.unwrap_or(config.refresh);
        config
    }
}
