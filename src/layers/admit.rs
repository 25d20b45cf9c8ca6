//! Bounds the calls in progress, lets the most urgent in first, and refuses what cannot be served soon.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::future::BoxFuture;
use pin_project_lite::pin_project;
use tower::{Layer, Service, ServiceExt, util::Oneshot};

use super::door::{Admitted, Bounds, Door, Refused};
use crate::{config::Admission, pipeline::Routed, telemetry::Metrics};

/// The one door of a gateway.
#[must_use]
pub fn door_of(admission: &Admission, metrics: &Metrics) -> Arc<Door> {
    Door::new("the gateway", Bounds::from(admission), metrics)
}

impl From<&Admission> for Bounds {
    fn from(admission: &Admission) -> Self {
        Self { in_flight_max: admission.in_flight_max.get(), queue_max: admission.queue_max }
    }
}

/// Lays [`Admitting`] over a service.
#[derive(Debug, Clone)]
pub struct AdmitLayer {
    door: Arc<Door>,
}

impl AdmitLayer {
    /// All services of this layer share the door.
    #[must_use]
    pub const fn new(door: Arc<Door>) -> Self {
        Self { door }
    }
}

impl<S> Layer<S> for AdmitLayer {
    type Service = Admitting<S>;

    fn layer(&self, inner: S) -> Admitting<S> {
        Admitting { inner, door: Arc::clone(&self.door) }
    }
}

/// Lets a call through when it is its turn.
#[derive(Debug, Clone)]
pub struct Admitting<S> {
    inner: S,
    door: Arc<Door>,
}

impl<S> Service<Routed> for Admitting<S>
where
    S: Service<Routed> + Clone + Send + 'static,
    S::Error: From<Refused>,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Entering<S>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, routed: Routed) -> Self::Future {
        let (inner, door) = (self.inner.clone(), Arc::clone(&self.door));
        if let Some(admitted) = door.try_enter() {
            return Entering::In { answer: inner.oneshot(routed), _admitted: admitted };
        }
        // Only whoever has to wait pays for a box.
        Entering::Waiting {
            turn: Box::pin(async move {
                // The deadline layer would end the wait too, but could not know that nothing was sent.
                let admitted = door.enter_by(routed.call.deadline, routed.call.priority).await?;
                Ok((inner.oneshot(routed), admitted))
            }),
        }
    }
}

/// A turn at the door, and the call that begins with it.
type Turn<S> = BoxFuture<'static, Result<(Oneshot<S, Routed>, Admitted), Refused>>;

pin_project! {
    /// A call before and behind the door.
    #[project = EnteringState]
    pub enum Entering<S: Service<Routed>> {
        /// It waits for its turn.
        Waiting { turn: Turn<S> },
        /// It is in; its place is given back with it.
        In { #[pin] answer: Oneshot<S, Routed>, _admitted: Admitted },
    }
}

impl<S> Future for Entering<S>
where
    S: Service<Routed>,
    S::Error: From<Refused>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let entered = match self.as_mut().project() {
                EnteringState::In { answer, .. } => return answer.poll(cx),
                EnteringState::Waiting { turn } => ready!(turn.as_mut().poll(cx)),
            };
            match entered {
                Ok((answer, admitted)) => self.set(Self::In { answer, _admitted: admitted }),
                Err(refused) => return Poll::Ready(Err(refused.into())),
            }
        }
    }
}

impl<S: Service<Routed>> std::fmt::Debug for Entering<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Waiting { .. } => "Waiting",
            Self::In { .. } => "In",
        })
    }
}
