//! The protocols that this node speaks, put together.

use std::{sync::Arc, time::Duration};

use libp2p::{
    connection_limits::{self, ConnectionLimits},
    identify,
    identity::Keypair,
    memory_connection_limits, ping,
    swarm::NetworkBehaviour,
};

use crate::{
    config::Config,
    mcp_stream::{self, IncomingStreams},
    refusals::RefusalCounters,
};

/// Handshakes of others at once: each costs a key exchange, and a flood of them must not starve the calls.
const PENDING_INCOMING_MAX: u32 = 16;
/// Dials of ours at once: twice as many, because they are known peers.
const PENDING_OUTGOING_MAX: u32 = 32;
/// Connections of others: about 70 KiB each, 20 MiB in all.
const ESTABLISHED_INCOMING_MAX: u32 = 256;
/// Connections of ours: places that inbound connections cannot fill.
const ESTABLISHED_OUTGOING_MAX: u32 = 128;
/// One of each transport in each direction, and two more while dead ones have not been noticed.
const ESTABLISHED_PER_PEER_MAX: u32 = 6;

/// A dead peer is noticed within about 15 s; a ping is 32 bytes.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Far above any round trip on earth.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything the swarm runs. `mcp_stream` first: it is polled first.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) mcp_stream: mcp_stream::Behaviour,
    pub(crate) ping: ping::Behaviour,
    identify: identify::Behaviour,
    connection_limits: connection_limits::Behaviour,
    memory_limits: memory_connection_limits::Behaviour,
}

impl Behaviour {
    pub(crate) fn new(config: &Config, keypair: &Keypair, refusals: Arc<RefusalCounters>) -> (Self, IncomingStreams) {
        let (mcp_stream, incoming) = mcp_stream::Behaviour::new(config.quotas.clone(), refusals);
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(PENDING_INCOMING_MAX))
            .with_max_pending_outgoing(Some(PENDING_OUTGOING_MAX))
            .with_max_established_incoming(Some(ESTABLISHED_INCOMING_MAX))
            .with_max_established_outgoing(Some(ESTABLISHED_OUTGOING_MAX))
            .with_max_established_per_peer(Some(ESTABLISHED_PER_PEER_MAX));
        let identify = identify::Config::new("/twinway/1".to_owned(), keypair.public())
            .with_agent_version(concat!("twinway/", env!("CARGO_PKG_VERSION")).to_owned())
            .with_hide_listen_addrs(config.hide_listen_addrs);
        let ping = ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT);
        let memory_share = f64::from(config.memory_percent_max) / 100.0;
        let behaviour = Self {
            mcp_stream,
            ping: ping::Behaviour::new(ping),
            identify: identify::Behaviour::new(identify),
            connection_limits: connection_limits::Behaviour::new(limits),
            memory_limits: memory_connection_limits::Behaviour::with_max_percentage(memory_share),
        };
        (behaviour, incoming)
    }
}
