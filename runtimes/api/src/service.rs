//! The one type erasure: above it types are free, below it nobody sees a generic.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tower::{Service, ServiceExt};

use crate::{Call, CallError, Reply};

/// A call in progress. Dropping it cancels the call.
pub type CallFuture = BoxFuture<'static, Result<Reply, CallError>>;

/// A runtime's service. Always ready: whoever has no room says so in the reply.
///
/// Not tower's `BoxCloneSyncService`, because that is copied whole for each call and moves a call's future twice; a clone of
/// this one is a count, and a call is one allocation.
#[derive(Clone)]
pub struct CallService(Arc<dyn Fn(Call) -> CallFuture + Send + Sync>);

impl CallService {
    /// A service that begins its calls with this function.
    #[must_use]
    pub fn new(begin: impl Fn(Call) -> CallFuture + Send + Sync + 'static) -> Self {
        Self(Arc::new(begin))
    }

    /// Begins a call; nothing happens until the future is polled.
    #[must_use]
    pub fn begin(&self, call: Call) -> CallFuture {
        (self.0)(call)
    }
}

impl Service<Call> for CallService {
    type Response = Reply;
    type Error = CallError;
    type Future = CallFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> CallFuture {
        self.begin(call)
    }
}

impl fmt::Debug for CallService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallService").finish_non_exhaustive()
    }
}

/// Erases a service's type. A call waits until the service is ready.
pub fn erase<S>(service: S) -> CallService
where
    S: Service<Call, Response = Reply, Error = CallError> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    CallService::new(move |call| Box::pin(service.clone().oneshot(call)))
}
