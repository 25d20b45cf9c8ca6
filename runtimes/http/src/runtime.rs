//! The HTTP runtime behind the seam.

use std::{future::ready, sync::Arc};

use futures_util::future::BoxFuture;
use runtime_api::{Call, CallError, CallService, ErrorCode, Offers, PartError, Runtime, RuntimeId, TargetId};
use thiserror::Error;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{control::HttpControl, keeper, settings::Upstream};

/// Calls tools on servers that speak HTTP.
#[derive(Debug)]
pub struct HttpRuntime {
    control: HttpControl,
}

/// An upstream cannot be used as it is configured.
#[derive(Debug, Error)]
#[error("upstream `{target}`: {what}")]
pub struct SetupError {
    /// Which.
    pub target: TargetId,
    /// Why.
    pub what: Box<str>,
}

impl HttpRuntime {
    /// A runtime for these upstreams; their names are unique. Opens no connection yet.
    ///
    /// # Errors
    /// [`SetupError`] when a URL cannot be used.
    pub fn new(upstreams: Vec<Upstream>) -> Result<Self, SetupError> {
        let control = HttpControl::default();
        control.apply(control.plan(upstreams)?);
        Ok(Self { control })
    }

    /// A way to change the upstreams.
    #[must_use]
    pub fn control(&self) -> HttpControl {
        self.control.clone()
    }
}

impl Runtime for HttpRuntime {
    fn id(&self) -> RuntimeId {
        RuntimeId("http".into())
    }

    fn offers(&self) -> watch::Receiver<Arc<Offers>> {
        self.control.targets.board().subscribe()
    }

    fn service(&self) -> CallService {
        let targets = self.control.targets.clone();
        CallService::new(move |call: Call| match targets.get(&call.target) {
            Some(target) => Box::pin(target.call(call)),
            None => Box::pin(ready(Err(unknown(&call.target)))),
        })
    }

    fn run(self: Box<Self>, stop: CancellationToken) -> BoxFuture<'static, Result<(), PartError>> {
        Box::pin(async move {
            let HttpControl { targets, background } = self.control;
            let mut keepers = JoinSet::new();
            loop {
                for target in targets.arrivals().take() {
                    keepers.spawn(keeper::keep(target, targets.board().clone(), stop.clone()));
                }
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    Some(_) = keepers.join_next() => {}
                    () = targets.arrivals().come() => {}
                }
            }
            while keepers.join_next().await.is_some() {}
            for target in targets.all() {
                target.site.endpoint.pool.sweep();
            }
            background.close();
            Ok(())
        })
    }
}

fn unknown(target: &TargetId) -> CallError {
    CallError::gateway(ErrorCode::UnknownName, format!("there is no upstream `{target}`"))
}
