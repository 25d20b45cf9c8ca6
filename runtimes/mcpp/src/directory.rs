//! The configured peers as this runtime knows them at this moment: for lists of peers, not for calls.

use std::sync::Arc;

use libp2p::{Multiaddr, PeerId};
use runtime_api::{Offers, Roster, TargetOffers};
use tokio::sync::watch;

use crate::{NodeHandle, peer::Peer, presence::Sighting};

/// Tells of the configured peers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Directory {
    pub(crate) peers: Roster<Peer>,
    pub(crate) offers: watch::Receiver<Arc<Offers>>,
    pub(crate) node: NodeHandle,
}

/// One configured peer.
#[derive(Debug, Clone)]
pub struct KnownPeer {
    /// Who it is.
    pub id: PeerId,
    /// Where the configuration says that it is, without its PeerId.
    pub addresses: Vec<Multiaddr>,
    /// Its name, its state and its tools.
    pub offers: Arc<TargetOffers>,
    /// What this node has seen of it.
    pub sighting: Sighting,
}

impl Directory {
    /// Every configured peer, in the order of the configuration.
    #[must_use]
    pub fn peers(&self) -> Vec<KnownPeer> {
        let offers = Arc::clone(&self.offers.borrow());
        let known = |offers: &Arc<TargetOffers>| {
            let peer = self.peers.get(&offers.target)?;
            let (id, addresses) = (peer.id(), peer.addresses());
            Some(KnownPeer { id, addresses, offers: Arc::clone(offers), sighting: self.node.sighting(&id) })
        };
        offers.targets.iter().filter_map(known).collect()
    }
}
