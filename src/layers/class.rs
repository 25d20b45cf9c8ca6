//! Lets only a few calls of heavy tools run on a target at one time; the others wait in order, or are refused.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use pin_project_lite::pin_project;
use tower::{Layer, Service, ServiceExt};

use super::Refused;
use crate::pipeline::Routed;

/// Lays [`Classed`] over a service.
#[derive(Debug, Clone, Copy)]
pub struct ClassLayer;

impl<S> Layer<S> for ClassLayer {
    type Service = Classed<S>;

    fn layer(&self, inner: S) -> Classed<S> {
        Classed { inner }
    }
}

/// Takes a place in each class of the tool for the time of the call.
#[derive(Debug, Clone)]
pub struct Classed<S> {
    inner: S,
}

impl<S> Service<Routed> for Classed<S>
where
    S: Service<Routed> + Clone + Send + 'static,
    S::Response: Send,
    S::Error: From<Refused> + Send,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Placed<S::Future, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, routed: Routed) -> Self::Future {
        if routed.candidate().classes.is_none() {
            return Placed::Plain { answer: self.inner.call(routed) };
        }
        let inner = self.inner.clone();
        Placed::Heavy { answer: Box::pin(in_its_places(inner, routed)) }
    }
}

async fn in_its_places<S>(inner: S, routed: Routed) -> Result<S::Response, S::Error>
where
    S: Service<Routed>,
    S::Error: From<Refused>,
{
    let doors = routed.candidate().classes.as_deref().unwrap_or_default();
    let mut places = Vec::with_capacity(doors.len());
    for door in doors {
        places.push(door.enter_by(routed.call.deadline, routed.call.priority).await?);
    }
    let answered = inner.oneshot(routed).await;
    drop(places);
    answered
}

pin_project! {
    /// A call of a tool of no class, or one that takes its places first. Only the heavy ones pay for a box.
    #[project = PlacedState]
    pub enum Placed<F, T> {
        /// Of no class.
        Plain { #[pin] answer: F },
        /// Of one or more.
        Heavy { answer: BoxFuture<'static, T> },
    }
}

impl<F: Future<Output = T>, T> Future for Placed<F, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match self.project() {
            PlacedState::Plain { answer } => answer.poll(cx),
            PlacedState::Heavy { answer } => answer.as_mut().poll(cx),
        }
    }
}

impl<F, T> std::fmt::Debug for Placed<F, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain { .. } => "Plain",
            Self::Heavy { .. } => "Heavy",
        })
    }
}
