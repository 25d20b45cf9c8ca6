//! Places among the calls in flight to one target.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

use crate::{CallError, Delivery, ErrorCode};

/// When whoever finds an upstream busy may come back: short calls are over by then.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Places among the calls in flight to one target.
#[derive(Debug)]
pub struct Slots {
    count: usize,
    permits: Semaphore,
    waiting: Semaphore,
    closing: AtomicBool,
}

impl Slots {
    /// So many.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self { count, permits: Semaphore::new(count), waiting: Semaphore::new(count), closing: AtomicBool::new(false) }
    }

    /// A place among the calls in flight. As many may wait as may be in flight: whoever would stand further back is refused
    /// at once, so that one slow upstream does not hold up the whole gateway.
    ///
    /// # Errors
    /// `Overloaded`, `DeadlineExceeded`, or `Unavailable` once it drains. Nothing was sent.
    pub async fn enter(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, CallError> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        // Whoever comes now would wait for all others; nothing was sent, so it may go elsewhere.
        if self.closing.load(Ordering::Acquire) {
            return Err(stopping());
        }
        let Ok(_waiting) = self.waiting.try_acquire() else {
            let message = format!("{} calls to this upstream are in flight and as many wait", self.count);
            let overloaded = CallError::runtime(ErrorCode::Overloaded, Delivery::NotSent, message);
            return Err(overloaded.with_retry_after(RETRY_AFTER));
        };
        match timeout_at(deadline, self.permits.acquire()).await {
            Ok(entered) => entered.map_err(|_| stopping()),
            Err(_) => {
                let message = "the time given to this call is used up before the upstream had room for it";
                Err(CallError::runtime(ErrorCode::DeadlineExceeded, Delivery::NotSent, message))
            }
        }
    }

    /// Waits until everybody who is in, or waits to get in, has left; from then on nobody gets in. Each call has a deadline,
    /// so this ends.
    pub async fn drain(&self) {
        self.closing.store(true, Ordering::Release);
        let everyone = u32::try_from(self.count).unwrap_or(u32::MAX);
        drop(self.permits.acquire_many(everyone).await);
        self.permits.close();
    }
}

fn stopping() -> CallError {
    CallError::gateway(ErrorCode::Unavailable, "this upstream is not used any more")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test(start_paused = true)]
    async fn draining_waits_for_those_who_are_in_and_lets_nobody_else_in() {
        let slots = Slots::new(1);
        let inside = slots.enter(soon()).await.expect("there is room");
        let mut waiting = Box::pin(slots.enter(soon()));
        assert!(futures_util::poll!(&mut waiting).is_pending());

        let mut drained = Box::pin(slots.drain());
        assert!(futures_util::poll!(&mut drained).is_pending());
        let late = slots.enter(soon()).await.expect_err("it is closing");
        drop(inside);
        drop(waiting.await.expect("whoever waited before gets in"));
        drained.await;

        assert_eq!((late.code(), late.delivery()), (ErrorCode::Unavailable, Delivery::NotSent));
        assert!(slots.enter(soon()).await.is_err(), "it is closed");
    }
}
