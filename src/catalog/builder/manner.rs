//! How the tools of a target appear, as its configuration says.

use std::collections::HashMap;

use runtime_api::TargetId;

use crate::config::{Config, Name, PinMode, Prefix, Trust};

/// How one target's tools appear.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) prefix: Prefix,
    pub(super) trust: Trust,
    pub(super) pin: PinMode,
}

/// See [`Builder::manner`].
pub(super) fn manner(manners: &HashMap<String, Manner>, target: &TargetId) -> Manner {
    let stranger = Manner { prefix: Prefix::Always, trust: Trust::None, pin: PinMode::Off };
    manners.get(target.as_str()).copied().unwrap_or(stranger)
}

pub(super) fn manners(config: &Config) -> HashMap<String, Manner> {
    let upstreams = config.upstream.iter().map(|one| (&one.name, one.prefix, one.trust, one.pin));
    let peers = config.peer.iter().map(|one| (&one.name, one.prefix, one.trust, one.pin));
    let manner = |(name, prefix, trust, pin): (&Name, _, _, _)| (name.as_str().to_owned(), Manner { prefix, trust, pin });
    upstreams.chain(peers).map(manner).collect()
}
