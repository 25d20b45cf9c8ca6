//! Whether requests should be sent here: told by `/health/ready` and by the health service of gRPC.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Whether requests should be sent here. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Readiness {
    ready: watch::Sender<bool>,
    draining: CancellationToken,
}

impl Readiness {
    /// Not ready; not again once `draining` is cancelled.
    #[must_use]
    pub fn new(draining: CancellationToken) -> Self {
        Self { ready: watch::Sender::new(false), draining }
    }

    /// Says that listeners are bound and targets had their chance to answer.
    pub fn set_ready(&self) {
        self.ready.send_replace(true);
    }

    /// `ready`, `starting` or `draining`.
    #[must_use]
    pub fn status(&self) -> &'static str {
        if self.draining.is_cancelled() {
            "draining"
        } else if *self.ready.borrow() {
            "ready"
        } else {
            "starting"
        }
    }

    /// Waits until it is ready. Cancel-safe.
    pub async fn until_ready(&self) {
        let mut ready = self.ready.subscribe();
        // It fails only without a sender, and this is one.
        drop(ready.wait_for(|ready| *ready).await);
    }
}
