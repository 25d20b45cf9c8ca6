//! Keeps what one upstream offers up to date.
//!
//! ```text
//! Connecting ----look-----> Ready --refresh, or woken--> Ready
//!     |                         | fails
//!     | fails                   v
//!     +------> Failed       Stale (the last known list is served)     both: try again with growing pauses
//!
//! any state --retired--> drains: calls in flight finish, then sessions end
//! ```

use std::{sync::Arc, time::Duration};

use runtime_api::{Board, CallError, Delivery, ErrorCode, Heard};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::target::{Found, Target};

/// First and longest pause between attempts to reach a dead upstream. Short at first, because most are just restarting.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How often idle connections and sessions are looked at.
const SWEEP: Duration = Duration::from_secs(5);

/// Looks after one upstream until `stop`, or until it is retired and its last call has ended.
pub(crate) async fn keep(target: Arc<Target>, board: Board, stop: CancellationToken) {
    let interest = target.site.interest.get_or_init(|| board.interest(&target.site.settings.target));
    tokio::select! {
        biased;
        () = follow(&target, &board, &stop) => {}
        never = target.listen(interest) => match never {},
    }
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        // When it was retired; otherwise it is time to stop.
        () = target.site.slots.drain() => debug!(target_name = %target.site.settings.target, "upstream is not used any more"),
    }
    target.close().await;
}

/// Looks at the upstream again and again, until it is time to stop.
async fn follow(target: &Target, board: &Board, stop: &CancellationToken) {
    let mut pause = PAUSE_MIN;
    loop {
        let looked = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = target.retired.cancelled() => return,
            looked = look(target) => looked,
        };
        let wait = match looked {
            Ok(found) => {
                pause = PAUSE_MIN;
                publish(board, target, found);
                target.site.settings.refresh
            }
            Err(error) => {
                publish_failure(board, target, &error);
                pause = (pause * 2).min(PAUSE_MAX);
                pause
            }
        };
        if !rest(target, wait, stop).await {
            return;
        }
    }
}

/// Waits; `false` when it is time to stop. A call that failed ends the wait early, but not at once: a dead upstream must
/// not be asked by every call.
async fn rest(target: &Target, wait: Duration, stop: &CancellationToken) -> bool {
    let wait = tokio::time::sleep(wait);
    tokio::pin!(wait);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return false,
            () = target.retired.cancelled() => return false,
            () = &mut wait => return true,
            () = target.site.wake.notified() => {
                tokio::time::sleep(PAUSE_MIN).await;
                return true;
            }
            () = tokio::time::sleep(SWEEP) => target.sweep().await,
        }
    }
}

async fn look(target: &Target) -> Result<Found, CallError> {
    let limit = target.site.settings.list_timeout;
    tokio::time::timeout(limit, target.look()).await.unwrap_or_else(|_| {
        let message = format!("no answer to the list of tools within {} ms", limit.as_millis());
        Err(CallError::runtime(ErrorCode::DeadlineExceeded, Delivery::Unknown, message))
    })
}

fn publish(board: &Board, target: &Target, found: Found) {
    let Found { items, eras, about, hints } = found;
    let (id, tool_count) = (&target.site.settings.target, items.tools.len());
    // HTTP/1.1, with or without TLS.
    let heard = Heard { transport: "tcp", eras, about, items, hints };
    if let Some(state) = board.answers(id, &target.retired, heard) {
        info!(target_name = %id, state, tools = tool_count, "upstream changed its state");
    }
}

fn publish_failure(board: &Board, target: &Target, error: &CallError) {
    let reason: Arc<str> = chain(error).into();
    let (id, url) = (&target.site.settings.target, &target.site.settings.url);
    match board.fails(id, &target.retired, &reason) {
        Some(state) => warn!(target_name = %id, %url, state, %reason, "upstream cannot be used"),
        None => debug!(target_name = %id, %reason, "upstream still cannot be used"),
    }
}

/// An error with its causes.
fn chain(error: &CallError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
