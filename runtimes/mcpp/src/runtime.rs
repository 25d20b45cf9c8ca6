//! The MCP++ runtime at the seam.

use std::{future::ready, sync::Arc};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use runtime_api::{Call, CallError, CallService, ErrorCode, Offers, PartError, Runtime, RuntimeId, TargetId};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, ConfigError, PeerConfig},
    control::PeersControl,
    directory::Directory,
    node::{Node, NodeHandle},
    peer::Actor,
};

/// Makes calls on the configured peers, and drives the node.
#[derive(Debug)]
pub struct McppRuntime {
    /// Behind a mutex because a swarm is not `Sync`, which [`Runtime`] must be; nobody ever waits for it.
    node: Mutex<Node>,
    control: PeersControl,
}

impl McppRuntime {
    /// A runtime over a bound node. Nothing is dialled before [`Runtime::run`].
    ///
    /// # Errors
    /// The first [`ConfigError`] of a peer.
    pub fn new(node: Node, config: &Config, peers: &[PeerConfig]) -> Result<Self, ConfigError> {
        let control = PeersControl::new(node.handle(), config);
        control.apply(control.plan(peers)?);
        Ok(Self { node: Mutex::new(node), control })
    }

    /// A way to change the peers.
    #[must_use]
    pub fn control(&self) -> PeersControl {
        self.control.clone()
    }

    /// A way to the node.
    #[must_use]
    pub fn node(&self) -> NodeHandle {
        self.control.node.clone()
    }

    /// Tells of the configured peers.
    #[must_use]
    pub fn directory(&self) -> Directory {
        let PeersControl { peers, node, .. } = self.control.clone();
        Directory { offers: peers.board().subscribe(), peers, node }
    }
}

impl Runtime for McppRuntime {
    fn id(&self) -> RuntimeId {
        RuntimeId("mcpp".into())
    }

    fn offers(&self) -> watch::Receiver<Arc<Offers>> {
        self.control.peers.board().subscribe()
    }

    fn service(&self) -> CallService {
        let peers = self.control.peers.clone();
        CallService::new(move |call: Call| match peers.get(&call.target) {
            Some(peer) => Box::pin(async move { peer.call(call).await }),
            None => Box::pin(ready(Err(unknown(&call.target)))),
        })
    }

    fn run(self: Box<Self>, stop: CancellationToken) -> BoxFuture<'static, Result<(), PartError>> {
        Box::pin(async move {
            let Self { node, control } = *self;
            // The node goes last: the actors still close their streams over it.
            let stop_node = CancellationToken::new();
            let mut node_task = JoinSet::new();
            node_task.spawn(node.into_inner().run(stop_node.clone()));
            let mut actors = JoinSet::new();
            let mut ended = Ok(());
            loop {
                for peer in control.peers.arrivals().take() {
                    let actor = Actor::new(peer, control.peers.board().clone());
                    actors.spawn(actor.run(stop.child_token()));
                }
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    Some(actor) = actors.join_next() => {
                        let actor = actor.map_err(failed);
                        ended = ended.and(actor);
                    }
                    () = control.peers.arrivals().come() => {}
                }
            }
            let joined = join(&mut actors).await;
            let ended = ended.and(joined);
            stop_node.cancel();
            ended.and(join(&mut node_task).await)
        })
    }
}

fn unknown(target: &TargetId) -> CallError {
    CallError::gateway(ErrorCode::UnknownName, format!("there is no peer `{target}`"))
}

fn failed(source: JoinError) -> PartError {
    PartError { part: "mcpp".into(), source: source.into() }
}

async fn join(tasks: &mut JoinSet<()>) -> Result<(), PartError> {
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(failed)?;
    }
    Ok(())
}
