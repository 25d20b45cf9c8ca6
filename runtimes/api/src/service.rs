//! The one type erasure: above it types are free, below it nobody sees a generic.

use tower::{Service, util::BoxCloneSyncService};

use crate::{Call, CallError, Reply};

/// A runtime's service. Clone it, then `oneshot`.
pub type CallService = BoxCloneSyncService<Call, Reply, CallError>;

/// Erases a service's type.
pub fn erase<S>(service: S) -> CallService
where
    S: Service<Call, Response = Reply, Error = CallError> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    BoxCloneSyncService::new(service)
}
