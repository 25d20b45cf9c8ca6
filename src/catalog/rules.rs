//! What the configuration says of the catalogue: changed at run time together with what the targets offer.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::config::Config;

/// The configuration that the catalogue is built by. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Held while targets and rules change and while both are looked at: no snapshot is built of the new ones of one and
    /// the old ones of the other.
    standing: Arc<Mutex<Arc<Config>>>,
    changed: watch::Sender<()>,
}

impl Rules {
    pub(super) fn new(config: &Config) -> Self {
        Self { standing: Arc::new(Mutex::new(Arc::new(config.clone()))), changed: watch::Sender::new(()) }
    }

    /// Changes the targets of the runtimes and the rules for them in one step.
    pub fn change(&self, config: Arc<Config>, change_targets: impl FnOnce()) {
        let mut standing = self.standing.lock();
        change_targets();
        *standing = config;
        drop(standing);
        self.changed.send_replace(());
    }

    /// Looks at the targets while they and the rules cannot change.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Arc<Config>) -> T) -> T {
        look(&self.standing.lock())
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
