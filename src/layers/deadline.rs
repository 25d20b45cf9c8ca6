//! Ends a call when its time is used up.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use runtime_api::{CallError, Delivery, ErrorCode};
use thiserror::Error;
use tower::{Layer, Service, ServiceExt};

use crate::pipeline::Routed;

/// The call's time is used up. Whether the tool ran is unknown.
#[derive(Debug, Clone, Copy, Error)]
#[error("the time given to this call is used up")]
pub struct DeadlineExceeded;

impl From<DeadlineExceeded> for CallError {
    fn from(exceeded: DeadlineExceeded) -> Self {
        Self::runtime(ErrorCode::DeadlineExceeded, Delivery::Unknown, exceeded.to_string())
    }
}

/// Lays [`Deadline`] over a service.
#[derive(Debug, Clone, Copy)]
pub struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline { inner }
    }
}

/// Drops a call at its deadline, which cancels it further down.
#[derive(Debug, Clone)]
pub struct Deadline<S> {
    inner: S,
}

impl<S> Service<Routed> for Deadline<S>
where
    S: Service<Routed> + Clone + Send + 'static,
    S::Error: From<DeadlineExceeded> + Send,
    S::Response: Send,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, routed: Routed) -> Self::Future {
        let deadline = routed.call.deadline;
        let answer = self.inner.clone().oneshot(routed);
        Box::pin(async move { tokio::time::timeout_at(deadline, answer).await.unwrap_or_else(|_| Err(DeadlineExceeded.into())) })
    }
}
