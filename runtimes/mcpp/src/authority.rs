//! Decides whether a peer may call a tool. A PeerId says who calls; only this says what they may do.

use std::collections::HashMap;

use globset::{Glob, GlobSet, GlobSetBuilder};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use crate::config::{AuthorityMode, Config, ConfigError};

/// Tools of the gateway itself begin so. No glob reaches them: they are never offered to peers.
pub const ADMINISTRATIVE_PREFIX: &str = "twinway.";

/// The rules in force.
#[derive(Debug, Clone)]
pub enum Authority {
    /// Nobody may call anything.
    Deny,
    /// A peer may call what its globs name.
    Allowlist(HashMap<PeerId, GlobSet>),
    /// Whoever is connected directly from a loopback address may call every tool that is not administrative.
    OpenLoopback,
}

/// Where a call of a peer comes from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The key that the connection proved.
    pub peer: PeerId,
    /// The address of the other end of the connection.
    pub remote_addr: &'a Multiaddr,
    /// Whether a relay stands between.
    pub relayed: bool,
}

impl Authority {
    /// Compiles the rules of a configuration.
    ///
    /// # Errors
    /// [`ConfigError::Glob`]
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        match config.authority {
            AuthorityMode::Deny => Ok(Self::Deny),
            AuthorityMode::OpenLoopback => Ok(Self::OpenLoopback),
            AuthorityMode::Allowlist => {
                let mut builders: HashMap<PeerId, GlobSetBuilder> = HashMap::new();
                for line in &config.allow {
                    let builder = builders.entry(line.peer).or_insert_with(GlobSet::builder);
                    for text in &line.tools {
                        let wrong = |_| ConfigError::Glob { peer: line.peer, glob: text.clone() };
                        builder.add(Glob::new(text).map_err(wrong)?);
                    }
                }
                let build = |(peer, builder): (PeerId, GlobSetBuilder)| {
                    let wrong = |_| ConfigError::Glob { peer, glob: "all of them together".to_owned() };
                    builder.build().map(|globs| (peer, globs)).map_err(wrong)
                };
                builders.into_iter().map(build).collect::<Result<_, _>>().map(Self::Allowlist)
            }
        }
    }

    /// Whether this peer may call this tool. Whatever is not allowed is denied.
    #[must_use]
    pub fn allows(&self, origin: &Origin<'_>, tool: &str) -> bool {
        if tool.starts_with(ADMINISTRATIVE_PREFIX) {
            return false;
        }
        match self {
            Self::Deny => false,
            Self::Allowlist(peers) => peers.get(&origin.peer).is_some_and(|globs| globs.is_match(tool)),
            Self::OpenLoopback => !origin.relayed && is_loopback(origin.remote_addr),
        }
    }
}

/// A direct address of this machine: the first part is a loopback IP, and no part is a circuit.
fn is_loopback(address: &Multiaddr) -> bool {
    let ip_is_loopback = match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
        _ => false,
    };
    ip_is_loopback && !address.iter().any(|part| part == Protocol::P2pCircuit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Allow;

    fn authority(mode: AuthorityMode, allow: Vec<Allow>) -> Authority {
        Authority::new(&Config { authority: mode, allow, ..Config::default() }).unwrap()
    }

    fn allows(authority: &Authority, peer: PeerId, address: &str, tool: &str) -> bool {
        let remote_addr: Multiaddr = address.parse().unwrap();
        let relayed = remote_addr.iter().any(|part| part == Protocol::P2pCircuit);
        authority.allows(&Origin { peer, remote_addr: &remote_addr, relayed }, tool)
    }

    #[test]
    fn the_default_denies_even_loopback() {
        let authority = authority(AuthorityMode::default(), Vec::new());

        assert!(!allows(&authority, PeerId::random(), "/ip4/127.0.0.1/tcp/1", "echo"));
    }

    #[test]
    fn the_allowlist_as_a_table() {
        let (known, narrow, stranger) = (PeerId::random(), PeerId::random(), PeerId::random());
        let authority = authority(
            AuthorityMode::Allowlist,
            vec![
                Allow { peer: known, tools: vec!["*".into()] },
                Allow { peer: narrow, tools: vec!["gpu_*".into(), "echo".into()] },
            ],
        );
        let cases = [
            (known, "echo", true),
            (known, "files.read", true),
            (known, "twinway.peers", false),
            (narrow, "echo", true),
            (narrow, "echo2", false),
            (narrow, "gpu_run", true),
            (narrow, "files.read", false),
            (stranger, "echo", false),
        ];
        for (peer, tool, expected) in cases {
            assert_eq!(allows(&authority, peer, "/ip4/127.0.0.1/tcp/1", tool), expected, "{peer} {tool}");
        }
    }

    #[test]
    fn open_loopback_means_a_direct_loopback_connection() {
        let authority = authority(AuthorityMode::OpenLoopback, Vec::new());
        let relay = PeerId::random();
        let cases = [
            ("/ip4/127.0.0.1/tcp/1".to_owned(), true),
            ("/ip4/127.9.9.9/tcp/1".to_owned(), true),
            ("/ip6/::1/tcp/1".to_owned(), true),
            ("/ip6/::ffff:127.0.0.1/tcp/1".to_owned(), true),
            ("/ip4/192.0.2.7/tcp/1".to_owned(), false),
            ("/dns4/localhost/tcp/1".to_owned(), false),
            (format!("/ip4/127.0.0.1/tcp/1/p2p/{relay}/p2p-circuit"), false),
            (format!("/p2p/{relay}"), false),
        ];
        for (address, expected) in cases {
            assert_eq!(allows(&authority, PeerId::random(), &address, "echo"), expected, "{address}");
        }
        assert!(!allows(&authority, PeerId::random(), "/ip4/127.0.0.1/tcp/1", "twinway.peers"));
    }

    #[test]
    fn a_bad_glob_is_named() {
        let peer = PeerId::random();
        let allow = vec![Allow { peer, tools: vec!["[".into()] }];
        let config = Config { authority: AuthorityMode::Allowlist, allow, ..Config::default() };

        assert_eq!(config.validate().unwrap_err(), ConfigError::Glob { peer, glob: "[".into() });
    }
}
