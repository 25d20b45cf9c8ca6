//! Changes the peers that are called while the runtime runs.
//!
//! As with upstreams: a plan may fail and changes nothing, applying it cannot fail. A peer whose settings are the same stays
//! as it is, with its streams; one that is gone or changed finishes its calls and is dialled no more.

use std::sync::Arc;

use runtime_api::{Roster, RosterPlan, TargetId};

use crate::{
    config::{Config, ConfigError, PeerConfig},
    node::NodeHandle,
    peer::Peer,
};

/// A way to a runtime's peers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PeersControl {
    pub(crate) node: NodeHandle,
    /// The table `[p2p]` as it was when the node was bound.
    pub(crate) config: Arc<Config>,
    pub(crate) peers: Roster<Peer>,
}

/// Peers that were checked and not put in force yet. Dropping it changes nothing.
#[derive(Debug)]
pub struct PeersPlan(RosterPlan<Peer>);

impl PeersControl {
    pub(crate) fn new(node: NodeHandle, config: &Config) -> Self {
        Self { node, config: Arc::new(config.clone()), peers: Roster::default() }
    }

    /// What it takes to call these peers and no others; their names are unique. Dials nobody.
    ///
    /// # Errors
    /// [`ConfigError`] when one cannot be used. Nothing has changed then.
    pub fn plan(&self, peers: &[PeerConfig]) -> Result<PeersPlan, ConfigError> {
        let wanted = peers.iter().map(|settings| (TargetId::from(settings.name.as_str()), settings));
        let make = |settings: &PeerConfig| Peer::new(&self.config, settings, self.node.clone());
        self.peers.plan(wanted, |peer, settings| peer.settings() == *settings, make).map(PeersPlan)
    }

    /// Puts a plan in force. New calls go to the new peers; calls in flight to those that are gone finish.
    pub fn apply(&self, plan: PeersPlan) {
        self.peers.apply(plan.0);
    }
}
