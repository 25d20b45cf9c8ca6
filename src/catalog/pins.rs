//! Remembers which definition of each tool somebody has accepted, and keeps every other one from being offered.
//!
//! ```text
//!               first seen                 another definition                accepted
//! (unknown) ----------------> offered ----------------------> quarantined ------------> offered
//!     |      trust on first     ^                                  |                       (under the new definition)
//!     |      use                +----------------------------------+
//!     |                              the accepted definition again
//!     +--------------------------> quarantined
//!        pin = "all", and the target was known already
//! ```
//!
//! A tool is its target and its own name: a public name depends on the configuration. The decisions are made where the
//! catalogue is built; no call waits for any of this.

mod book;
mod file;

use std::{collections::HashSet, fmt, path::Path, sync::Arc, time::SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;
use runtime_api::TargetId;
use thiserror::Error;
use tokio::{
    sync::watch,
    time::{Duration, timeout},
};
use tracing::{error, warn};

pub use book::Pin;
pub use file::PinsError;

use super::Fingerprint;
use crate::config::PinMode;
use book::{Book, Full};
use file::PinsFile;

/// Time for the file to be written until whoever accepts is told that it is not. A disk answers within milliseconds.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// A tool that is not offered until somebody accepts its definition.
#[derive(Debug, Clone)]
pub struct Quarantined {
    /// The name that it has in the merged view as soon as it is offered.
    pub public: Arc<str>,
    /// Whose it is.
    pub target: TargetId,
    /// Its name there.
    pub tool: Arc<str>,
    /// Why.
    pub cause: Cause,
    /// What it is at this moment.
    pub fingerprint: Fingerprint,
    /// The same in full, as its target gave it.
    pub definition: Bytes,
    /// What was accepted; nothing of a new one.
    pub accepted: Option<Arc<Pin>>,
}

/// Why a tool is quarantined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its definition is not the one that was accepted.
    Changed,
    /// It came after the tools that its target had at first.
    New,
    /// As many tools are remembered as may be.
    NoRoom,
}

impl Cause {
    /// For documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::New => "new",
            Self::NoRoom => "no_room",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Changed => "its definition is not the one that was accepted",
            Self::New => "it is new at a target whose tools are all pinned",
            Self::NoRoom => "the file of pins has no room for it",
        })
    }
}

/// Why a definition cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// As many tools are remembered as may be.
    #[error(transparent)]
    Full(#[from] Full),
    /// It holds until the gateway ends, and no longer.
    #[error("accepted until the gateway ends, but the file of pins cannot be written: {0}")]
    NotWritten(Arc<str>),
}

/// The pins of all targets. Cheap to clone; all clones share them.
#[derive(Debug, Clone)]
pub struct Pins(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// None: nothing is kept beyond this process.
    file: Option<PinsFile>,
    state: Mutex<State>,
    /// Wakes whoever builds the catalogue.
    accepted: watch::Sender<()>,
    written: watch::Sender<Written>,
}

#[derive(Debug, Default)]
struct State {
    book: Book,
    /// Counts changes.
    revision: u64,
}

/// How far the file is.
#[derive(Debug, Clone, Default)]
struct Written {
    /// The last change that it holds.
    revision: u64,
    /// The last change that it should hold, and why it does not.
    failed: Option<(u64, Arc<str>)>,
}

impl Default for Pins {
    /// Pins that end with the process.
    fn default() -> Self {
        Self::new(None, Book::default())
    }
}

impl Pins {
    /// Reads the file; there may be none yet. Blocks on the file system.
    ///
    /// # Errors
    /// [`PinsError`] for a file that is there and cannot be used: it is never written over.
    pub fn open(path: &Path) -> Result<Self, PinsError> {
        let file = PinsFile::new(path);
        let book = file.read()?;
        Ok(Self::new(Some(file), book))
    }

    fn new(file: Option<PinsFile>, book: Book) -> Self {
        let state = Mutex::new(State { book, revision: 0 });
        Self(Arc::new(Shared { file, state, accepted: watch::Sender::new(()), written: watch::Sender::default() }))
    }

    /// Decides about the tools of one target, one after the other.
    pub(super) fn of(&self, target: &TargetId, mode: PinMode) -> PinsOf<'_> {
        let is_known = mode == PinMode::All && self.0.state.lock().book.knows(target);
        PinsOf { pins: self, target: target.clone(), mode, is_known }
    }

    /// Accepts a definition: from now on it is the one that is compared with. Waits until the file holds that.
    ///
    /// # Errors
    /// [`AcceptError`].
    pub async fn accept(&self, quarantined: &Quarantined) -> Result<(), AcceptError> {
        let Quarantined { target, tool, fingerprint, definition, .. } = quarantined;
        let mut written = self.0.written.subscribe();
        let revision = {
            let mut state = self.0.state.lock();
            state.book.record(Pin::new(target, tool, *fingerprint, definition, SystemTime::now()))?;
            state.revision += 1;
            state.revision
        };
        self.0.accepted.send_replace(());
        let is_decided = |written: &Written| {
            written.revision >= revision || written.failed.as_ref().is_some_and(|(failed, _)| *failed >= revision)
        };
        let late = || AcceptError::NotWritten("it takes too long".into());
        let written = timeout(WRITE_TIMEOUT, written.wait_for(is_decided)).await.map_err(|_| late())?;
        match written {
            Ok(written) if written.revision >= revision => Ok(()),
            Ok(written) => Err(written.failed.as_ref().map_or_else(late, |(_, why)| AcceptError::NotWritten(Arc::clone(why)))),
            Err(_) => Err(AcceptError::NotWritten("the gateway ends".into())),
        }
    }

    /// Says when somebody has accepted something.
    pub(super) fn accepted(&self) -> watch::Receiver<()> {
        self.0.accepted.subscribe()
    }

    /// Whether the file does not hold everything yet.
    pub(super) fn is_unsaved(&self) -> bool {
        self.0.state.lock().revision > self.0.written.borrow().revision
    }

    /// Writes what the file does not hold yet. One at a time: only the builder of the catalogue does this.
    pub(super) async fn save(&self) {
        if !self.is_unsaved() {
            return;
        }
        let (book, revision) = {
            let state = self.0.state.lock();
            (state.book.clone(), state.revision)
        };
        let shared = Arc::clone(&self.0);
        let writing = tokio::task::spawn_blocking(move || shared.file.as_ref().map_or(Ok(()), |file| file.write(&book)));
        let outcome = writing.await.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked)));
        self.0.written.send_modify(|written| match outcome {
            Ok(()) => *written = Written { revision, failed: None },
            Err(error) => {
                let file = self.0.file.as_ref().map(PinsFile::path);
                error!(%error, ?file, "the file of pins cannot be written");
                written.failed = Some((revision, error.to_string().into()));
            }
        });
    }
}

/// Says which tools are quarantined that were not before, or not as they are now.
pub(super) fn report(quarantined: &[Arc<Quarantined>], before: &[Arc<Quarantined>]) {
    let known: HashSet<_> = before.iter().map(|tool| (&tool.public, tool.fingerprint)).collect();
    for tool in quarantined.iter().filter(|tool| !known.contains(&(&tool.public, tool.fingerprint))) {
        let Quarantined { public, target, cause, fingerprint, .. } = &**tool;
        warn!(tool = %public, target_name = %target, digest = %fingerprint, "a tool is quarantined: {cause}");
    }
}

/// The pins of one target.
#[derive(Debug)]
pub(super) struct PinsOf<'p> {
    pins: &'p Pins,
    target: TargetId,
    mode: PinMode,
    /// Its tools were recorded before, so what comes now is new.
    is_known: bool,
}

/// What is decided about a tool.
#[derive(Debug)]
pub(super) enum Standing {
    Offered,
    Quarantined(Cause, Option<Arc<Pin>>),
}

impl PinsOf<'_> {
    /// Decides about a tool; of one that is seen for the first time the definition is remembered.
    pub(super) fn decide(&self, tool: &Arc<str>, fingerprint: Fingerprint, definition: &Bytes) -> Standing {
        if self.mode == PinMode::Off {
            return Standing::Offered;
        }
        let mut state = self.pins.0.state.lock();
        match state.book.get(&self.target, tool) {
            Some(pin) if pin.fingerprint == fingerprint => Standing::Offered,
            Some(pin) => Standing::Quarantined(Cause::Changed, Some(Arc::clone(pin))),
            None if self.is_known => Standing::Quarantined(Cause::New, None),
            None => match state.book.record(Pin::new(&self.target, tool, fingerprint, definition, SystemTime::now())) {
                Ok(()) => {
                    state.revision += 1;
                    Standing::Offered
                }
                Err(Full { .. }) => Standing::Quarantined(Cause::NoRoom, None),
            },
        }
    }
}

#[cfg(test)]
mod tests;
