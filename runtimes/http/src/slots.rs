//! Places among the calls in flight to one upstream.

use std::time::Duration;

use runtime_api::{CallError, Delivery, ErrorCode};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

/// When whoever finds an upstream busy may come back: short calls are over by then.
const RETRY_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Slots {
    count: usize,
    permits: Semaphore,
    waiting: Semaphore,
}

impl Slots {
    pub(crate) fn new(count: usize) -> Self {
        Self { count, permits: Semaphore::new(count), waiting: Semaphore::new(count) }
    }

    /// A place among the calls in flight. As many may wait as may be in flight: whoever would stand further back is refused
    /// at once, so that one slow upstream does not hold up the whole gateway.
    pub(crate) async fn enter(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, CallError> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
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
}

fn stopping() -> CallError {
    CallError::gateway(ErrorCode::Unavailable, "the gateway is stopping")
}
