//! What all sessions keep together, and whose streams give way when that is too much.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Kept;
use crate::telemetry::metrics::ReplayMetrics;

/// Bytes of all sessions together: a quarter of what request bodies may hold, and enough for 256 sessions that use up theirs.
pub(super) const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Streams of all sessions that nobody speaks on and that are still known; 32 bytes each, and what is left of a session that is over.
pub(super) const SILENT_MAX: usize = 10_000;

/// How long the events of a stream are kept once nobody speaks on it: longer than a client tries to connect, and than it takes to
/// change networks. Whoever comes later begins anew.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(5 * 60);

/// Streams that are looked at to find one that makes room: so many clients are not expected back at one time for long.
pub(super) const EXPECTED_LOOK_MAX: usize = 64;

/// What all sessions keep.
pub(in super::super) struct Store {
    pub(super) session_bytes_max: usize,
    /// After what time a client is sent away, to come back at once.
    pub(super) read_max: Option<Duration>,
    pub(super) bytes_max: usize,
    pub(super) bytes: AtomicUsize,
    pub(super) metrics: ReplayMetrics,
    /// Streams that nobody speaks on, the oldest first.
    pub(super) silent: Mutex<VecDeque<Silent>>,
}

/// A stream that nobody speaks on, since then.
pub(super) struct Silent {
    pub(super) kept: Weak<Kept>,
    pub(super) stream: u32,
    pub(super) since: Instant,
}

impl Store {
    /// Nothing is kept yet. Of 0 bytes nothing ever is.
    pub(in super::super) fn new(session_bytes_max: usize, read_max: Option<Duration>, metrics: ReplayMetrics) -> Self {
        Self { session_bytes_max, read_max, bytes_max: BYTES_MAX, bytes: AtomicUsize::new(0), metrics, silent: Mutex::default() }
    }

    /// Whether anything is ever kept.
    pub(in super::super) const fn keeps(&self) -> bool {
        self.session_bytes_max > 0
    }

    /// Gives up what was kept long enough.
    pub(in super::super) fn sweep(&self) {
        let now = Instant::now();
        loop {
            let late = self.silent.lock().pop_front_if(|silent| silent.since + KEPT_FOR <= now);
            let Some(late) = late else { return };
            late.give_up();
        }
    }

    /// Takes so many bytes, from streams that are over if need be.
    pub(super) fn take(&self, bytes: usize) -> bool {
        loop {
            let room = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.bytes_max);
            if self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).is_ok() {
                self.metrics.bytes.inc_by(signed(bytes));
                return true;
            }
            if !self.give_up_oldest() {
                return false;
            }
        }
    }

    /// Gives up the stream that is over for longest. One whose client is expected back is none yet.
    pub(super) fn give_up_oldest(&self) -> bool {
        let mut expected = Vec::new();
        let found = loop {
            if expected.len() >= EXPECTED_LOOK_MAX {
                break false;
            }
            // A statement of its own: the guard must be gone before that session is locked.
            let oldest = self.silent.lock().pop_front();
            match oldest {
                Some(oldest) if oldest.is_expected() => expected.push(oldest),
                Some(oldest) => {
                    oldest.give_up();
                    break true;
                }
                None => break false,
            }
        };
        let mut silent = self.silent.lock();
        expected.into_iter().rev().for_each(|one| silent.push_front(one));
        found
    }

    /// Whether so many bytes more would push nothing out.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.bytes.load(Ordering::Relaxed) + bytes <= self.bytes_max
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.metrics.bytes.dec_by(signed(bytes));
    }

    pub(super) fn fell_silent(&self, silent: Silent) {
        let mut all = self.silent.lock();
        let oldest = if all.len() >= SILENT_MAX { all.pop_front() } else { None };
        all.push_back(silent);
        drop(all);
        oldest.iter().for_each(Silent::give_up);
    }
}

impl Silent {
    /// Whether its client was sent away and is still to come back.
    fn is_expected(&self) -> bool {
        let now = Instant::now();
        let kept = self.kept.upgrade();
        kept.is_some_and(|kept| kept.streams.lock().find(self.stream).is_some_and(|stream| !stream.is_over(now)))
    }

    /// Its events are gone, unless somebody has spoken on it since.
    fn give_up(&self) {
        let Some(kept) = self.kept.upgrade() else { return };
        kept.change(0, |streams| {
            let is_silent = streams.find(self.stream).is_some_and(|stream| stream.silent_since == Some(self.since));
            if is_silent {
                streams.lose(self.stream);
            }
        });
    }
}

pub(super) fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
