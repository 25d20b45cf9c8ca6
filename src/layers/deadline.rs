//! Ends a call when its time is used up.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use runtime_api::{CallError, Caller, Delivery, ErrorCode};
use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::{Layer, Service, ServiceExt, util::Oneshot};

use crate::pipeline::Routed;

/// The call's time is used up. Whether the tool ran is unknown.
#[derive(Debug, Clone, Copy, Error)]
#[error("no answer came within the {} that this call was given", humantime::format_duration(*.0))]
pub struct DeadlineExceeded(Duration);

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
        let given = deadline.saturating_duration_since(Instant::now());
        Timed { answer: self.inner.clone().oneshot(routed), alarm: sleep_until(deadline), deadline, given, caller }
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
        given: Duration,
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
                return Poll::Ready(Err(DeadlineExceeded(whole_ms(*timed.given)).into()));
            }
            timed.alarm.as_mut().reset(due);
        }
        Poll::Pending
    }
}

/// In milliseconds, rounded up: what was lost on the way here is nobody's concern.
fn whole_ms(given: Duration) -> Duration {
    Duration::from_millis(u64::try_from(given.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX))
}
