//! Ends a call when its time is used up.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use runtime_api::{CallError, Caller, Delivery, ErrorCode};
use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::{Layer, Service, ServiceExt, util::Oneshot};

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
    S: Service<Routed> + Clone,
    S::Error: From<DeadlineExceeded>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Timed<Oneshot<S, Routed>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, routed: Routed) -> Self::Future {
        let (deadline, caller) = (routed.call.deadline, routed.call.caller.clone());
        Timed { answer: self.inner.clone().oneshot(routed), alarm: sleep_until(deadline), deadline, caller }
    }
}

pin_project! {
    /// A call with a deadline. The time for which its client is asked something does not count.
    #[derive(Debug)]
    pub struct Timed<F> {
        #[pin]
        answer: F,
        #[pin]
        alarm: Sleep,
        deadline: Instant,
        caller: Caller,
    }
}

impl<F, T, E> Future for Timed<F>
where
    F: Future<Output = Result<T, E>>,
    E: From<DeadlineExceeded>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let mut timed = self.project();
        if let Poll::Ready(answer) = timed.answer.poll(cx) {
            return Poll::Ready(answer);
        }
        while timed.alarm.as_mut().poll(cx).is_ready() {
            let due = timed.caller.due(*timed.deadline);
            if due <= Instant::now() {
                return Poll::Ready(Err(DeadlineExceeded.into()));
            }
            timed.alarm.as_mut().reset(due);
        }
        Poll::Pending
    }
}
