//! `[[peer]]`: a libp2p peer to call tools on.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use runtime_mcpp::{Multiaddr, PeerConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Breaker, Name, PinMode, Prefix, TargetLimits, Trust, duration, limits};

/// A libp2p peer to call tools on.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its name, unique among upstreams and peers.
    pub name: Name,
    /// Where it listens, ending in its key: `/ip4/192.0.2.7/tcp/4001/p2p/12D3KooW…`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub address: Option<Multiaddr>,
    /// Further addresses of the same peer, over QUIC for example: `/ip4/192.0.2.7/udp/4001/quic-v1/p2p/12D3KooW…`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub addresses: Vec<Multiaddr>,
    /// Whether its tools carry its name in the merged view.
    #[serde(default)]
    pub prefix: Prefix,
    /// How far its word about its tools is believed. A peer is somebody else's machine, so by default not at all.
    #[serde(default = "distrust")]
    pub trust: Trust,
    /// Which of its tools are kept from clients until their definition is accepted.
    #[serde(default)]
    pub pin: PinMode,
    /// Calls out to it at one time; more wait within their deadline. Absent: what a peer grants by default.
    #[serde(default)]
    pub concurrency: Option<NonZeroU32>,
    /// How often its tools are listed anew without being told of a change. Absent: often enough to keep its stream warm.
    #[serde(default, with = "duration::option")]
    #[schemars(with = "Option<String>")]
    pub refresh: Option<Duration>,
    /// Calls of `memory_intensive` tools to it at one time; a few more wait within their deadline.
    #[serde(default = "limits::default::memory_intensive")]
    pub memory_intensive: NonZeroUsize,
    /// Calls of `cpu_intensive` tools to it at one time.
    #[serde(default = "limits::default::cpu_intensive")]
    pub cpu_intensive: NonZeroUsize,
    /// Calls of `io_intensive` tools to it at one time.
    #[serde(default = "limits::default::io_intensive")]
    pub io_intensive: NonZeroUsize,
    /// When it is left alone because it cannot be reached.
    #[serde(default)]
    pub breaker: Breaker,
    /// Retries for each hundred calls of its tools that have a retry policy, 0 to 100.
    #[serde(default = "limits::default::retry_budget_percent")]
    #[schemars(range(max = 100))]
    pub retry_budget_percent: u8,
}

const fn distrust() -> Trust {
    Trust::None
}

impl Peer {
    /// A peer with every default.
    #[must_use]
    pub fn new(name: Name, address: Multiaddr) -> Self {
        Self {
            name,
            address: Some(address),
            addresses: Vec::new(),
            prefix: Prefix::default(),
            trust: distrust(),
            pin: PinMode::default(),
            concurrency: None,
            refresh: None,
            memory_intensive: limits::default::memory_intensive(),
            cpu_intensive: limits::default::cpu_intensive(),
            io_intensive: limits::default::io_intensive(),
            breaker: Breaker::default(),
            retry_budget_percent: limits::default::retry_budget_percent(),
        }
    }

    /// What the MCP++ runtime needs to know of it.
    #[must_use]
    pub fn to_runtime(&self) -> PeerConfig {
        let addresses = self.address.iter().chain(&self.addresses).cloned().collect();
        let mut config = PeerConfig::new(self.name.as_str(), addresses);
        config.calls_in_flight_max = self.concurrency.unwrap_or(config.calls_in_flight_max);
        config.refresh = self.refresh.unwrap_or(config.refresh);
        config
    }

    /// What it is asked at most.
    #[must_use]
    pub fn limits(&self) -> TargetLimits {
        TargetLimits {
            memory_intensive: self.memory_intensive,
            cpu_intensive: self.cpu_intensive,
            io_intensive: self.io_intensive,
            breaker: self.breaker.clone(),
            retry_budget_percent: self.retry_budget_percent,
        }
    }
}
