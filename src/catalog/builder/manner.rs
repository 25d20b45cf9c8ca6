//! How the tools of a target appear, as its configuration says.

use std::collections::HashMap;

use runtime_api::TargetId;

use crate::config::{Config, PinMode, Prefix, Share, Trust};

/// How one target's tools appear.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) prefix: Prefix,
    pub(super) trust: Trust,
    pub(super) pin: PinMode,
    /// What it answers may depend on the session.
    pub(super) per_session: bool,
}

/// See [`Builder::manner`].
pub(super) fn manner(manners: &HashMap<String, Manner>, target: &TargetId) -> Manner {
    let stranger = Manner { prefix: Prefix::Always, trust: Trust::None, pin: PinMode::Off, per_session: false };
    manners.get(target.as_str()).copied().unwrap_or(stranger)
}

pub(super) fn manners(config: &Config) -> HashMap<String, Manner> {
    let upstreams = config.upstream.iter().map(|one| {
        let per_session = one.share == Some(Share::Session);
        (&one.name, Manner { prefix: one.prefix, trust: one.trust, pin: one.pin, per_session })
    });
    let peers = config.peer.iter().map(|one| {
        let (prefix, trust, pin) = (one.prefix, one.trust, one.pin);
        (&one.name, Manner { prefix, trust, pin, per_session: false })
    });
    upstreams.chain(peers).map(|(name, manner)| (name.as_str().to_owned(), manner)).collect()
}
