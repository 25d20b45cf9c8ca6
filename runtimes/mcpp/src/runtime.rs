//! The MCP++ runtime at the seam.

use std::{collections::HashMap, sync::Arc};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use runtime_api::{Call, CallError, CallService, ErrorCode, Offers, PartError, Reply, Runtime, RuntimeId, TargetId, erase};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, ConfigError, PeerConfig},
    directory::Directory,
    node::{Node, NodeHandle},
    peer::{Actor, Board, Peer},
};

/// Makes calls on the configured peers, and drives the node.
#[derive(Debug)]
pub struct McppRuntime {
    /// Behind a mutex because a swarm is not `Sync`, which [`Runtime`] must be; nobody ever waits for it.
    node: Mutex<Node>,
    handle: NodeHandle,
    peers: Peers,
    actors: Vec<Actor>,
    board: Board,
}

type Peers = Arc<HashMap<TargetId, Arc<Peer>>>;

impl McppRuntime {
    /// A runtime over a bound node. Nothing is dialled before [`Runtime::run`].
    ///
    /// # Errors
    /// The first [`ConfigError`] of a peer.
    pub fn new(node: Node, config: &Config, peers: &[PeerConfig]) -> Result<Self, ConfigError> {
        let target = |peer: &PeerConfig| TargetId::from(peer.name.as_str());
        let board = Board::new(peers.iter().map(target));
        let mut by_target = HashMap::with_capacity(peers.len());
        let mut actors = Vec::with_capacity(peers.len());
        for (place, settings) in peers.iter().enumerate() {
            let peer = Arc::new(Peer::new(config, settings, node.handle())?);
            actors.push(Actor::new(Arc::clone(&peer), board.clone(), place));
            by_target.insert(target(settings), peer);
        }
        Ok(Self { handle: node.handle(), node: Mutex::new(node), peers: Arc::new(by_target), actors, board })
    }

    /// A way to the node.
    #[must_use]
    pub fn node(&self) -> NodeHandle {
        self.handle.clone()
    }

    /// Tells of the configured peers.
    #[must_use]
    pub fn directory(&self) -> Directory {
        Directory { peers: Arc::clone(&self.peers), offers: self.board.subscribe(), node: self.handle.clone() }
    }
}

impl Runtime for McppRuntime {
    fn id(&self) -> RuntimeId {
        RuntimeId("mcpp".into())
    }

    fn offers(&self) -> watch::Receiver<Arc<Offers>> {
        self.board.subscribe()
    }

    fn service(&self) -> CallService {
        let peers = Arc::clone(&self.peers);
        erase(tower::service_fn(move |call| call_peer(Arc::clone(&peers), call)))
    }

    fn run(self: Box<Self>, stop: CancellationToken) -> BoxFuture<'static, Result<(), PartError>> {
        Box::pin(async move {
            let Self { node, actors, .. } = *self;
            // The node goes last: the actors still close their streams over it.
            let stop_node = CancellationToken::new();
            let mut node_task = JoinSet::new();
            node_task.spawn(node.into_inner().run(stop_node.clone()));
            let mut tasks: JoinSet<()> = actors.into_iter().map(|actor| actor.run(stop.child_token())).collect();
            stop.cancelled().await;
            let actors = join(&mut tasks).await;
            stop_node.cancel();
            actors.and(join(&mut node_task).await)
        })
    }
}

async fn call_peer(peers: Peers, call: Call) -> Result<Reply, CallError> {
    match peers.get(&call.target) {
        Some(peer) => peer.call(call).await,
        None => Err(CallError::gateway(ErrorCode::UnknownName, format!("there is no peer `{}`", call.target))),
    }
}

async fn join(tasks: &mut JoinSet<()>) -> Result<(), PartError> {
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|source| PartError { part: "mcpp".into(), source: source.into() })?;
    }
    Ok(())
}
