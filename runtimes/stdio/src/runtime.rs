//! The stdio runtime behind the seam.

use std::{future::ready, sync::Arc};

use futures_util::future::BoxFuture;
use runtime_api::{Call, CallError, CallService, ErrorCode, Offers, PartError, Runtime, RuntimeId, TargetId};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{control::StdioControl, settings::Server};

/// Calls tools on MCP servers that it starts itself.
#[derive(Debug)]
pub struct StdioRuntime {
    control: StdioControl,
}

impl StdioRuntime {
    /// A runtime for these servers; their names are unique. Starts no process yet.
    #[must_use]
    pub fn new(servers: Vec<Server>) -> Self {
        let control = StdioControl::default();
        control.apply(control.plan(servers));
        Self { control }
    }

    /// A way to change the servers.
    #[must_use]
    pub fn control(&self) -> StdioControl {
        self.control.clone()
    }
}

impl Runtime for StdioRuntime {
    fn id(&self) -> RuntimeId {
        RuntimeId("stdio".into())
    }

    fn offers(&self) -> watch::Receiver<Arc<Offers>> {
        self.control.targets.board().subscribe()
    }

    fn service(&self) -> CallService {
        let targets = self.control.targets.clone();
        CallService::new(move |call: Call| match targets.get(&call.target) {
            Some(target) => Box::pin(async move { target.call(call).await }),
            None => Box::pin(ready(Err(unknown(&call.target)))),
        })
    }

    fn run(self: Box<Self>, stop: CancellationToken) -> BoxFuture<'static, Result<(), PartError>> {
        Box::pin(async move {
            let targets = self.control.targets;
            let mut running = JoinSet::new();
            loop {
                for target in targets.arrivals().take() {
                    running.spawn(target.run(targets.board().clone(), stop.clone()));
                }
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    Some(_) = running.join_next() => {}
                    () = targets.arrivals().come() => {}
                }
            }
            while running.join_next().await.is_some() {}
            Ok(())
        })
    }
}

fn unknown(target: &TargetId) -> CallError {
    CallError::gateway(ErrorCode::UnknownName, format!("there is no server `{target}`"))
}
