//! Changes the peers that are called while the runtime runs.
//!
//! As with upstreams: a plan may fail and changes nothing, applying it cannot fail. A peer whose settings are the same stays
//! as it is, with its streams; one that is gone or changed finishes its calls and is dialled no more.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use runtime_api::{Arrivals, Board, TargetId};

use crate::{
    config::{Config, ConfigError, PeerConfig},
    node::NodeHandle,
    peer::{Actor, Peer},
};

type ByName = HashMap<TargetId, Arc<Peer>>;

/// The peers that are called, by name. Replaced whole, read without a lock.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peers(Arc<ArcSwap<ByName>>);

/// A way to a runtime's peers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PeersControl {
    pub(crate) node: NodeHandle,
    /// The table `[p2p]` as it was when the node was bound.
    pub(crate) config: Arc<Config>,
    pub(crate) peers: Peers,
    pub(crate) board: Board,
    /// Actors that nobody runs yet.
    pub(crate) arrivals: Arrivals<Actor>,
}

/// Peers that were checked and not put in force yet. Dropping it changes nothing.
#[derive(Debug)]
pub struct PeersPlan {
    peers: ByName,
    order: Vec<TargetId>,
    fresh: Vec<Arc<Peer>>,
}

impl Peers {
    pub(crate) fn get(&self, target: &TargetId) -> Option<Arc<Peer>> {
        self.0.load().get(target).map(Arc::clone)
    }
}

impl PeersControl {
    pub(crate) fn new(node: NodeHandle, config: &Config) -> Self {
        let (peers, board, arrivals) = (Peers::default(), Board::default(), Arrivals::default());
        Self { node, config: Arc::new(config.clone()), peers, board, arrivals }
    }

    /// What it takes to call these peers and no others; their names are unique. Dials nobody.
    ///
    /// # Errors
    /// [`ConfigError`] when one cannot be used. Nothing has changed then.
    pub fn plan(&self, peers: &[PeerConfig]) -> Result<PeersPlan, ConfigError> {
        let current = self.peers.0.load();
        let mut plan = PeersPlan { peers: HashMap::with_capacity(peers.len()), order: Vec::new(), fresh: Vec::new() };
        for settings in peers {
            let target = TargetId::from(settings.name.as_str());
            let peer = match current.get(&target).filter(|peer| *peer.settings() == *settings) {
                Some(peer) => Arc::clone(peer),
                None => {
                    let peer = Arc::new(Peer::new(&self.config, settings, self.node.clone())?);
                    plan.fresh.push(Arc::clone(&peer));
                    peer
                }
            };
            plan.order.push(target.clone());
            plan.peers.insert(target, peer);
        }
        Ok(plan)
    }

    /// Puts a plan in force. New calls go to the new peers; calls in flight to those that are gone finish.
    pub fn apply(&self, plan: PeersPlan) {
        let PeersPlan { peers, order, fresh } = plan;
        let is_fresh = |target: &TargetId| fresh.iter().any(|peer| peer.target() == target);
        let stays = |peer: &Arc<Peer>| peers.get(peer.target()).is_some_and(|now| Arc::ptr_eq(now, peer));
        let before = self.peers.0.swap(Arc::new(peers.clone()));
        // Before the board, so that a peer that leaves cannot overwrite what stands there after it.
        before.values().filter(|peer| !stays(peer)).for_each(|peer| peer.retire());
        self.board.relist(&order, is_fresh);
        self.arrivals.add(fresh.into_iter().map(|peer| Actor::new(peer, self.board.clone())));
    }
}
