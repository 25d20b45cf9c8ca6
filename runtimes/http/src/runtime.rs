//! The HTTP runtime behind the seam.

use std::{future::ready, sync::Arc};

use futures_util::future::BoxFuture;
use runtime_api::{
    Call, CallError, CallService, Eras, ErrorCode, Offers, PartError, Runtime, RuntimeId, TargetId, TargetOffers, TargetState,
};
use thiserror::Error;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{keeper, settings::Upstream, target::Target, targets::Targets};

/// Calls tools on servers that speak HTTP.
#[derive(Debug)]
pub struct HttpRuntime {
    targets: Targets,
    offers: watch::Sender<Arc<Offers>>,
    background: TaskTracker,
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
        let background = TaskTracker::new();
        let unheard = upstreams.iter().map(|upstream| Arc::new(unheard_of(upstream.target.clone()))).collect();
        let mut targets = Vec::with_capacity(upstreams.len());
        for upstream in upstreams {
            let id = upstream.target.clone();
            let target = Target::new(upstream, background.clone());
            targets.push(target.map_err(|what| SetupError { target: id, what })?);
        }
        let (offers, _) = watch::channel(Arc::new(Offers { targets: unheard }));
        Ok(Self { targets: Targets::new(targets.into_iter()), offers, background })
    }
}

impl Runtime for HttpRuntime {
    fn id(&self) -> RuntimeId {
        RuntimeId("http".into())
    }

    fn offers(&self) -> watch::Receiver<Arc<Offers>> {
        self.offers.subscribe()
    }

    fn service(&self) -> CallService {
        let targets = self.targets.clone();
        CallService::new(move |call: Call| match targets.get(&call.target) {
            Some(target) => Box::pin(target.call(call)),
            None => Box::pin(ready(Err(unknown(&call.target)))),
        })
    }

    fn run(self: Box<Self>, stop: CancellationToken) -> BoxFuture<'static, Result<(), PartError>> {
        Box::pin(async move {
            let mut keepers = JoinSet::new();
            for target in self.targets.all() {
                keepers.spawn(keeper::keep(Arc::clone(target), self.offers.clone(), stop.clone()));
            }
            stop.cancelled().await;
            while keepers.join_next().await.is_some() {}
            for target in self.targets.all() {
                target.site.endpoint.pool.sweep();
            }
            self.background.close();
            Ok(())
        })
    }
}

fn unheard_of(target: TargetId) -> TargetOffers {
    TargetOffers { target, state: TargetState::Connecting, eras: Eras::default(), server_info: None, tools: Arc::new([]) }
}

fn unknown(target: &TargetId) -> CallError {
    CallError::gateway(ErrorCode::UnknownName, format!("there is no upstream `{target}`"))
}
