//! What a server prints on standard error: goes to the log, and its end is kept to say why the server died.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use runtime_api::TargetId;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::ChildStderr,
    time::Instant,
};
use tracing::{info, warn};

/// Longest line that is logged whole; the rest of a longer one comes as further lines.
const LINE_BYTES_MAX: u64 = 8 * 1024;

/// Lines in a second; what a server prints beyond is counted and thrown away, so that it cannot fill a disk.
const LINES_PER_SECOND: usize = 200;

/// Lines that are kept, and characters of each.
const LAST_LINES: usize = 3;
const LAST_CHARS: usize = 200;

/// The last words of a server. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastWords(Arc<Mutex<VecDeque<String>>>);

impl LastWords {
    fn add(&self, line: &str) {
        let mut lines = self.0.lock();
        if lines.len() == LAST_LINES {
            lines.pop_front();
        }
        lines.push_back(line.chars().take(LAST_CHARS).collect());
    }

    /// In one line; none when it has said nothing.
    pub(crate) fn text(&self) -> Option<String> {
        let lines = self.0.lock();
        (!lines.is_empty()).then(|| lines.iter().map(String::as_str).collect::<Vec<_>>().join(" / "))
    }
}

/// Reads until the server closes it.
pub(crate) async fn log(stderr: ChildStderr, target: TargetId, last: LastWords) {
    let mut stderr = BufReader::new(stderr);
    let (mut second, mut lines, mut dropped) = (Instant::now(), 0, 0_usize);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut stderr).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(line.trim_ascii_end());
        if text.is_empty() {
            continue;
        }
        last.add(&text);
        if second.elapsed() >= Duration::from_secs(1) {
            report(&target, &mut dropped);
            (second, lines) = (Instant::now(), 0);
        }
        lines += 1;
        if lines <= LINES_PER_SECOND {
            info!(target_name = %target, "{text}");
        } else {
            dropped += 1;
        }
    }
    report(&target, &mut dropped);
}

fn report(target: &TargetId, dropped: &mut usize) {
    if *dropped > 0 {
        warn!(target_name = %target, lines = *dropped, "the server prints more than is logged");
        *dropped = 0;
    }
}
