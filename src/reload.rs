//! Takes a new configuration over while the gateway runs.
//!
//! ```text
//! SIGHUP, or a file has changed -> read -> difference -> plan (may fail: nothing changes) -> apply (cannot fail)
//! ```
//!
//! Only what differs is touched: the other upstreams and peers keep their connections, sessions and streams, and calls in
//! flight finish where they began. What a running gateway cannot change keeps its value and is named.

mod apply;
mod status;
mod watch;

use std::{path::PathBuf, sync::Arc, time::Duration};

use runtime_api::BoxError;
use tokio::{signal::unix::Signal, task::JoinError, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

pub(crate) use apply::{Parts, Reloader};
pub use status::Status;

use crate::config::{Change, Config, Effect};
use status::{Outcome, Trigger};
use watch::Watch;

/// How often the files are looked at. A change counts when two looks find the same, so it is taken over within a second:
/// soon enough for whoever waits for it, and an editor has written the whole file by then.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// A file that is named for the first time may have changed while nobody watched it, so all is read once more; a configuration
/// that names others each time is read so often at most.
const READS_MAX: usize = 3;

/// Where the configuration comes from.
pub struct Source {
    read: Arc<Read>,
    hangup: Signal,
}

/// Reads the configuration anew, and tells which files it depends on even if it cannot be used. Blocks on the file system.
pub type Read = dyn Fn() -> (Result<Config, BoxError>, Vec<PathBuf>) + Send + Sync;

impl Source {
    /// `read` reads the whole configuration; `hangup` asks for it.
    #[must_use]
    pub fn new(read: Arc<Read>, hangup: Signal) -> Self {
        Self { read, hangup }
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

/// Takes over what the source says, whenever it is asked to or a file changes, until `stop`.
pub(crate) async fn run(mut reloader: Reloader, source: Source, stop: CancellationToken) {
    let Source { read, mut hangup } = source;
    let mut watch = Watch::default();
    // Once at the start: what changed since the gateway read it must not wait for the next change.
    let mut trigger = Some(Trigger::Start);
    loop {
        if let Some(trigger) = trigger.take() {
            let Ok((found, watching)) = read_anew(Arc::clone(&read), watch).await else { return };
            watch = watching;
            take_over(&mut reloader, found, trigger);
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(()) = hangup.recv() => {
                info!("asked to read the configuration anew");
                trigger = Some(Trigger::Signal);
            }
            () = sleep(LOOK_EVERY) => {
                let Ok((changed, watching)) = look(watch).await else { return };
                watch = watching;
                trigger = changed.then_some(Trigger::File);
            }
        }
    }
}

async fn read_anew(read: Arc<Read>, mut watch: Watch) -> Result<(Result<Config, BoxError>, Watch), JoinError> {
    tokio::task::spawn_blocking(move || {
        for _ in 1..READS_MAX {
            // Before they are read: whatever is written later is found by the next look.
            watch.begin();
            let (found, files) = read();
            if watch.attend(files) {
                return (found, watch);
            }
        }
        watch.begin();
        (read().0, watch)
    })
    .await
}

async fn look(mut watch: Watch) -> Result<(bool, Watch), JoinError> {
    tokio::task::spawn_blocking(move || (watch.look(), watch)).await
}

/// All of it or nothing; either way somebody is told.
fn take_over(reloader: &mut Reloader, found: Result<Config, BoxError>, trigger: Trigger) {
    let taken = found.and_then(|config| reloader.take_over(&config));
    let outcome = match taken {
        Ok(changes) => told(&changes),
        Err(refused) => {
            let error = crate::chain::chain(&*refused).replace('\n', "; ");
            error!(%error, "the new configuration is not taken over; the one in force stays");
            Outcome::Refused { error }
        }
    };
    reloader.report(trigger, outcome);
}

/// Says what was taken over, and what was not.
fn told(changes: &[Change]) -> Outcome {
    let (live, restart): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.effect == Effect::Live);
    let needs_restart: Vec<String> = restart.iter().map(|change| change.key.clone()).collect();
    if !needs_restart.is_empty() {
        warn!("needs a restart: {}", needs_restart.join(", "));
    }
    if live.is_empty() {
        debug!("the configuration was read anew: nothing to take over");
        return Outcome::Unchanged { needs_restart };
    }
    for change in &live {
        info!(%change, "taken over");
    }
    Outcome::Applied { changes: live.len(), needs_restart }
}
