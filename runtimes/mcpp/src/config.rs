//! The `[p2p]` and `[[peer]]` tables.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use twinway_proto::frame;

use crate::{Carrier, quotas::Quotas, text};

/// The `[p2p]` table: this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen, as multiaddresses. Empty: only calls out.
    #[schemars(with = "Vec<String>")]
    pub listen: Vec<Multiaddr>,
    /// The identity, made when it does not exist.
    pub key_file: PathBuf,
    /// Who may call the tools of this node.
    pub authority: AuthorityMode,
    /// Which peers may call which tools, when `authority = "allowlist"`.
    pub allow: Vec<Allow>,
    /// Largest frame, in and out. At most 16 MiB.
    pub frame_bytes_max: NonZeroU32,
    /// Tell other peers only the address they see, not the ones this node listens on.
    pub hide_listen_addrs: bool,
    /// New connections are refused while the process uses more than this share of the memory.
    pub memory_percent_max: u8,
    /// What to make of a legacy session that names no MCP++ binding.
    pub legacy_binding_id: LegacyBindingId,
    /// Limits for each peer.
    pub quotas: Quotas,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            key_file: "twinway.key".into(),
            // A PeerId says who, never what they may do: nothing until the owner says so.
            authority: AuthorityMode::Deny,
            allow: Vec::new(),
            frame_bytes_max: NonZeroU32::new(frame::FRAME_BYTES_MAX as u32).expect("not zero"),
            hide_listen_addrs: false,
            // The other fifth keeps the node answering while it refuses.
            memory_percent_max: 80,
            legacy_binding_id: LegacyBindingId::Baseline,
            quotas: Quotas::default(),
        }
    }
}

/// Who may call the tools of this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AuthorityMode {
    /// Nobody.
    #[default]
    Deny,
    /// Whoever `allow` names.
    Allowlist,
    /// Whoever is connected directly from a loopback address: for demonstrations.
    OpenLoopback,
}

/// One line of the allowlist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// Whom.
    #[serde(with = "text::display")]
    #[schemars(with = "String")]
    pub peer: PeerId,
    /// Globs over tool names. `*` does not include administrative tools.
    pub tools: Vec<String>,
}

/// What to make of a legacy session that names no MCP++ binding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LegacyBindingId {
    /// Plain MCP with no MCP++ profiles: what the peers out there speak.
    #[default]
    Baseline,
    /// Refuse it, as the binding's text has it.
    Strict,
}

/// One `[[peer]]` table: a peer whose tools are called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PeerConfig {
    /// Its name in the catalogue.
    pub name: String,
    /// Where it listens, over TCP and QUIC, each with its PeerId: `/ip4/192.0.2.7/tcp/4001/p2p/12D3KooW…`
    #[schemars(with = "Vec<String>")]
    pub addresses: Vec<Multiaddr>,
    /// Calls out to it at once; more wait within their deadline.
    #[serde(default = "calls_in_flight_max")]
    pub calls_in_flight_max: NonZeroU32,
    /// How often its tools are listed anew without being told of a change.
    #[serde(default = "refresh", with = "text::duration")]
    #[schemars(with = "String")]
    pub refresh: Duration,
}

/// What a peer grants by default (`Quotas::calls_in_flight_max`): more would only wait over there.
fn calls_in_flight_max() -> NonZeroU32 {
    Quotas::default().calls_in_flight_max
}

/// Half of the 60 s after which a peer closes an idle stream: the refresh keeps the pooled stream warm.
const fn refresh() -> Duration {
    Duration::from_secs(30)
}

/// More often than once a second a change is better told by `notifications/tools/list_changed`.
const REFRESH_MIN: Duration = Duration::from_secs(1);

/// Addresses of one peer: each costs a dial at every connect, and a machine has two transports on a few networks.
const ADDRESSES_MAX: usize = 16;

/// What is wrong with a table although each value is of its type.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A peer that nobody can dial.
    #[error("a peer needs an `address`, or several `addresses`")]
    NoAddress,
    /// More than anybody has.
    #[error("{0} addresses for one peer, and {ADDRESSES_MAX} are allowed")]
    TooManyAddresses(usize),
    /// Two addresses cannot be the same peer.
    #[error("address `{address}` names another PeerId than the peer's first address, which names {expected}")]
    OtherPeerId {
        /// The address.
        address: Multiaddr,
        /// Whom the first one names.
        expected: PeerId,
    },
    /// Neither of the transports there are.
    #[error("address `{0}` is neither TCP (`/tcp/4001`) nor QUIC (`/udp/4001/quic-v1`)")]
    UnknownTransport(Multiaddr),
    /// A transport that this build leaves out.
    #[error("address `{0}` is QUIC, which this program was built without (its cargo feature is `quic`)")]
    NoQuic(Multiaddr),
    /// A peer cannot be dialled safely without knowing its key.
    #[error("address `{0}` does not end in /p2p/ and the PeerId")]
    NoPeerId(Multiaddr),
    /// Listing without a pause.
    #[error("refresh is {0:?}, it must be 1 s at least")]
    Refresh(Duration),
    /// A relayed address, which this node cannot dial.
    #[error("address `{0}` goes over a relay, which is not supported")]
    Relayed(Multiaddr),
    /// Above what the wire format allows.
    #[error("frame_bytes_max is {0}, the protocol allows at most 16777216")]
    FrameTooLarge(u32),
    /// Not a percentage.
    #[error("memory_percent_max is {0}, it must be 1 to 100")]
    MemoryPercent(u8),
    /// Lines that nothing reads are a mistake.
    #[error("`allow` has lines, but `authority` is not \"allowlist\"")]
    AllowUnused,
    /// Not a glob.
    #[error("`{glob}` in the tools of peer {peer} is not a glob")]
    Glob {
        /// The line's peer.
        peer: PeerId,
        /// The text.
        glob: String,
    },
}

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first [`ConfigError`].
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.frame_bytes_max.get() as usize > frame::FRAME_BYTES_MAX {
            return Err(ConfigError::FrameTooLarge(self.frame_bytes_max.get()));
        }
        if !(1..=100).contains(&self.memory_percent_max) {
            return Err(ConfigError::MemoryPercent(self.memory_percent_max));
        }
        if !self.allow.is_empty() && self.authority != AuthorityMode::Allowlist {
            return Err(ConfigError::AllowUnused);
        }
        self.listen.iter().try_for_each(check_transport)?;
        crate::authority::Authority::new(self).map(drop)
    }
}

impl PeerConfig {
    /// A peer with the default limits.
    #[must_use]
    pub fn new(name: impl Into<String>, addresses: Vec<Multiaddr>) -> Self {
        Self { name: name.into(), addresses, calls_in_flight_max: calls_in_flight_max(), refresh: refresh() }
    }

    /// The key that the first address names.
    ///
    /// # Errors
    /// [`ConfigError::NoAddress`], [`ConfigError::NoPeerId`]
    pub fn peer_id(&self) -> Result<PeerId, ConfigError> {
        named(self.addresses.first().ok_or(ConfigError::NoAddress)?)
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first [`ConfigError`].
    pub fn validate(&self) -> Result<(), ConfigError> {
        let expected = self.peer_id()?;
        if self.addresses.len() > ADDRESSES_MAX {
            return Err(ConfigError::TooManyAddresses(self.addresses.len()));
        }
        for address in &self.addresses {
            if address.iter().any(|part| part == Protocol::P2pCircuit) {
                return Err(ConfigError::Relayed(address.clone()));
            }
            if named(address)? != expected {
                return Err(ConfigError::OtherPeerId { address: address.clone(), expected });
            }
            check_transport(address)?;
        }
        if self.refresh < REFRESH_MIN {
            return Err(ConfigError::Refresh(self.refresh));
        }
        Ok(())
    }
}

impl ConfigError {
    /// The address that is wrong, when it is one.
    #[must_use]
    pub const fn address(&self) -> Option<&Multiaddr> {
        match self {
            Self::NoPeerId(address)
            | Self::Relayed(address)
            | Self::OtherPeerId { address, .. }
            | Self::UnknownTransport(address)
            | Self::NoQuic(address) => Some(address),
            _ => None,
        }
    }
}

/// The key that an address ends in.
fn named(address: &Multiaddr) -> Result<PeerId, ConfigError> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Ok(peer),
        _ => Err(ConfigError::NoPeerId(address.clone())),
    }
}

/// A `/dnsaddr` says only when it is resolved where it leads.
fn check_transport(address: &Multiaddr) -> Result<(), ConfigError> {
    match Carrier::of(address) {
        Some(carrier) if carrier.is_built_in() => Ok(()),
        Some(_) => Err(ConfigError::NoQuic(address.clone())),
        None if address.iter().any(|part| matches!(part, Protocol::Dnsaddr(_))) => Ok(()),
        None => Err(ConfigError::UnknownTransport(address.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

    fn peer(address: &str) -> PeerConfig {
        PeerConfig::new("far", vec![address.parse().unwrap()])
    }

    #[test]
    fn an_empty_table_is_the_default_and_denies() {
        let config: Config = serde_json::from_str("{}").unwrap();

        assert_eq!(config, Config::default());
        assert_eq!(config.authority, AuthorityMode::Deny);
        config.validate().unwrap();
    }

    #[test]
    fn the_table_survives_being_printed() {
        let text = format!(
            r#"{{"listen":["/ip4/127.0.0.1/tcp/4001"],"authority":"allowlist","allow":[{{"peer":"{PEER}","tools":["add*"]}}],
                "quotas":{{"stream_idle":"2m"}}}}"#
        );
        let config: Config = serde_json::from_str(&text).unwrap();
        config.validate().unwrap();

        let printed = serde_json::to_string(&config).unwrap();

        assert_eq!(serde_json::from_str::<Config>(&printed).unwrap(), config);
        assert!(printed.contains(r#""stream_idle":"2m""#), "{printed}");
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let cases = [
            (r#"{"frame_bytes_max":16777217}"#, ConfigError::FrameTooLarge(16_777_217)),
            (r#"{"memory_percent_max":0}"#, ConfigError::MemoryPercent(0)),
            (&format!(r#"{{"allow":[{{"peer":"{PEER}","tools":[]}}]}}"#), ConfigError::AllowUnused),
        ];
        for (text, expected) in cases {
            let config: Config = serde_json::from_str(text).unwrap();

            assert_eq!(config.validate().unwrap_err(), expected);
        }
        for unknown in [r#"{"listn":[]}"#, r#"{"quotas":{"streams":1}}"#, r#"{"authority":"open"}"#] {
            assert!(serde_json::from_str::<Config>(unknown).is_err(), "{unknown}");
        }
    }

    #[test]
    fn a_peer_is_dialled_by_key_only() {
        let good = peer(&format!("/ip4/192.0.2.7/tcp/4001/p2p/{PEER}"));
        good.validate().unwrap();
        assert_eq!(good.peer_id().unwrap().to_string(), PEER);

        assert!(matches!(peer("/ip4/192.0.2.7/tcp/4001").validate(), Err(ConfigError::NoPeerId(_))));
        let relayed = peer(&format!("/ip4/192.0.2.7/tcp/4001/p2p/{PEER}/p2p-circuit/p2p/{PEER}"));
        assert!(matches!(relayed.validate(), Err(ConfigError::Relayed(_))));
        let restless = PeerConfig { refresh: Duration::ZERO, ..good };
        assert_eq!(restless.validate(), Err(ConfigError::Refresh(Duration::ZERO)));
    }

    #[test]
    fn a_peers_addresses_are_of_one_key_and_of_known_transports() {
        let over = |rest: &str| -> Multiaddr { format!("/ip4/192.0.2.7/{rest}").parse().unwrap() };
        let (tcp, quic) = (over(&format!("tcp/4001/p2p/{PEER}")), over(&format!("udp/4001/quic-v1/p2p/{PEER}")));
        let with = |addresses: Vec<Multiaddr>| PeerConfig { addresses, ..peer(&tcp.to_string()) }.validate();
        let other = over(&format!("tcp/4001/p2p/{}", PeerId::random()));
        let web = over(&format!("tcp/4001/ws/p2p/{PEER}"));

        let quic_in_this_build = if cfg!(feature = "quic") { Ok(()) } else { Err(ConfigError::NoQuic(quic.clone())) };
        assert_eq!(with(vec![tcp.clone(), quic]), quic_in_this_build);
        assert_eq!(with(Vec::new()), Err(ConfigError::NoAddress));
        assert_eq!(with(vec![tcp.clone(); 17]), Err(ConfigError::TooManyAddresses(17)));
        assert_eq!(with(vec![tcp.clone(), web.clone()]), Err(ConfigError::UnknownTransport(web)));
        assert!(
            matches!(with(vec![tcp.clone(), other.clone()]), Err(ConfigError::OtherPeerId { address, .. }) if address == other)
        );
        assert_eq!(with(vec![tcp.clone(), over("tcp/1")]), Err(ConfigError::NoPeerId(over("tcp/1"))));
    }
}
