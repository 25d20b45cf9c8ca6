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

use runtime_api::{CallError, Delivery, ErrorCode, Offers, TargetOffers, TargetState};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::target::{Found, Target};

/// First and longest pause between attempts to reach a dead upstream. Short at first, because most are just restarting.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How often idle connections and sessions are looked at.
const SWEEP: Duration = Duration::from_secs(5);

/// Looks after one upstream until `stop`, or until it is retired and its last call has ended.
pub(crate) async fn keep(target: Arc<Target>, offers: watch::Sender<Arc<Offers>>, stop: CancellationToken) {
    tokio::select! {
        biased;
        () = follow(&target, &offers, &stop) => {}
        never = target.listen() => match never {},
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
async fn follow(target: &Target, offers: &watch::Sender<Arc<Offers>>, stop: &CancellationToken) {
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
                publish(offers, target, ready(target, found));
                target.site.settings.refresh
            }
            Err(error) => {
                publish_failure(offers, target, &error);
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

fn ready(target: &Target, found: Found) -> TargetOffers {
    let Found { tools, eras, server_info } = found;
    TargetOffers {
        target: target.site.settings.target.clone(),
        state: TargetState::Ready,
        // HTTP/1.1, with or without TLS.
        transport: Some("tcp"),
        eras,
        server_info,
        tools: tools.into(),
    }
}

/// Publishes what changed; a refresh that finds the same wakes nobody.
fn publish(offers: &watch::Sender<Arc<Offers>>, target: &Target, new: TargetOffers) {
    offers.send_if_modified(|current| {
        // Looked at within the lock: whoever comes after it may have published already.
        if target.retired.is_cancelled() {
            return false;
        }
        let Some(place) = current.targets.iter().position(|offered| offered.target == new.target) else { return false };
        if same(&current.targets[place], &new) {
            return false;
        }
        if current.targets[place].state != new.state {
            info!(target_name = %new.target, state = new.state.as_str(), tools = new.tools.len(), "upstream changed its state");
        }
        Arc::make_mut(current).targets[place] = Arc::new(new);
        true
    });
}

fn publish_failure(offers: &watch::Sender<Arc<Offers>>, target: &Target, error: &CallError) {
    let reason: Arc<str> = chain(error).into();
    debug!(target_name = %target.site.settings.target, %reason, "upstream does not answer");
    let last = offers.borrow().targets.iter().find(|offered| offered.target == target.site.settings.target).cloned();
    let Some(last) = last else { return };
    let state = match last.state {
        TargetState::Ready | TargetState::Stale(_) => TargetState::Stale(reason.clone()),
        TargetState::Connecting | TargetState::Failed(_) => TargetState::Failed(reason.clone()),
    };
    if last.state.as_str() != state.as_str() {
        warn!(target_name = %target.site.settings.target, url = %target.site.settings.url, %reason, "upstream cannot be used");
    }
    publish(offers, target, TargetOffers { state, transport: None, ..(*last).clone() });
}

fn same(a: &TargetOffers, b: &TargetOffers) -> bool {
    let tools = || a.tools.iter().map(|tool| &tool.definition).eq(b.tools.iter().map(|tool| &tool.definition));
    a.state == b.state && a.eras == b.eras && a.server_info == b.server_info && tools()
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
