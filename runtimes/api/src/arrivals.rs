//! Hands what was made at run time to the task that drives it.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What nobody drives yet. Whoever adds does not wait: there is as much in it as a configuration has targets, until the
/// runtime takes it. Cheap to clone.
pub struct Arrivals<T>(Arc<Waiting<T>>);

struct Waiting<T> {
    items: Mutex<Vec<T>>,
    added: Notify,
}

impl<T> Arrivals<T> {
    /// Adds to what waits.
    pub fn add(&self, items: impl IntoIterator<Item = T>) {
        self.0.items.lock().extend(items);
        self.0.added.notify_one();
    }

    /// Takes whatever waits.
    #[must_use]
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.0.items.lock())
    }

    /// Waits until something may have been added since the last time. For one task; cancel-safe.
    pub async fn come(&self) {
        self.0.added.notified().await;
    }
}

impl<T> Default for Arrivals<T> {
    fn default() -> Self {
        Self(Arc::new(Waiting { items: Mutex::new(Vec::new()), added: Notify::new() }))
    }
}

impl<T> Clone for Arrivals<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Arrivals<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrivals").field("waiting", &self.0.items.lock().len()).finish_non_exhaustive()
    }
}
