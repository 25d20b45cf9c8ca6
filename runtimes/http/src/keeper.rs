//! Keeps what one upstream offers up to date.
//!
//! ```text
//! Connecting --probe, list--> Ready --refresh, or woken--> Ready
//!     |                         | fails
//!     | fails                   v
//!     +------> Failed       Stale (the last known list is served)     both: try again with growing pauses
//! ```

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use http::Method;
use runtime_api::{CallError, ErrorCode, Offers, TargetOffers, TargetState, Tool};
use runtime_mcp::{
    handshake::ServerFacts,
    listing::{Listing, Next},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use twinway_proto::{
    headers::{InvalidParamHeader, ParamHeaders},
    rope::Rope,
};

use crate::{
    session::Session,
    target::{Target, own_principal},
};

/// First and longest pause between attempts to reach a dead upstream. Short at first, because most are just restarting.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How often idle connections and sessions are looked at.
const SWEEP: Duration = Duration::from_secs(5);

/// Looks after one upstream until `stop`.
pub(crate) async fn keep(target: Arc<Target>, offers: watch::Sender<Arc<Offers>>, stop: CancellationToken) {
    let mut pause = PAUSE_MIN;
    loop {
        let looked = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            looked = look(&target) => looked,
        };
        let wait = match looked {
            Ok(found) => {
                pause = PAUSE_MIN;
                publish(&offers, ready(&target, found));
                target.settings.refresh
            }
            Err(error) => {
                publish_failure(&offers, &target, &error);
                pause = (pause * 2).min(PAUSE_MAX);
                pause
            }
        };
        if !rest(&target, wait, &stop).await {
            break;
        }
    }
    end_sessions(&target, true).await;
}

/// Waits; `false` when it is time to stop. A call that failed ends the wait early, but not at once: a dead upstream must
/// not be asked by every call.
async fn rest(target: &Arc<Target>, wait: Duration, stop: &CancellationToken) -> bool {
    let wait = tokio::time::sleep(wait);
    tokio::pin!(wait);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return false,
            () = &mut wait => return true,
            () = target.wake.notified() => {
                tokio::time::sleep(PAUSE_MIN).await;
                return true;
            }
            () = tokio::time::sleep(SWEEP) => {
                target.endpoint.pool.sweep();
                end_sessions(target, false).await;
            }
        }
    }
}

/// What a look at an upstream found.
struct Found {
    facts: Option<ServerFacts>,
    tools: Vec<Tool>,
}

async fn look(target: &Arc<Target>) -> Result<Found, CallError> {
    let limit = target.settings.list_timeout;
    tokio::time::timeout(limit, ask_everything(target)).await.unwrap_or_else(|_| {
        let message = format!("no answer to the list of tools within {} ms", limit.as_millis());
        Err(CallError::runtime(ErrorCode::DeadlineExceeded, runtime_api::Delivery::Unknown, message))
    })
}

async fn ask_everything(target: &Arc<Target>) -> Result<Found, CallError> {
    let mut facts = target.probe_modern().await?;
    if facts.is_none() {
        facts = Some(target.session(&own_principal()).await?.facts.clone());
    }
    let mut listing = Listing::default();
    if facts.as_ref().is_some_and(|facts| !facts.has("tools")) {
        return Ok(Found { facts, tools: listing.finish() });
    }
    let mut members = String::new();
    loop {
        let page = target.ask_for_itself("tools/list", &members).await?;
        match listing.take(&page)? {
            Next::Page(cursor) => members = format!(r#""cursor":{cursor}"#),
            Next::Done => return Ok(Found { facts, tools: listing.finish() }),
        }
    }
}

fn ready(target: &Target, mut found: Found) -> TargetOffers {
    found.tools.retain(|tool| is_usable(target, tool));
    target.param_headers.store(Arc::new(mirrored(&found.tools)));
    TargetOffers {
        target: target.settings.target.clone(),
        state: TargetState::Ready,
        eras: target.eras(),
        server_info: found.facts.and_then(|facts| facts.server_info),
        tools: found.tools.into(),
    }
}

/// A tool whose schema breaks the rules of `x-mcp-header` must not be offered (2026-07-28, Streamable HTTP): its headers
/// and its arguments could say different things.
fn is_usable(target: &Target, tool: &Tool) -> bool {
    let Err(error) = param_headers(tool) else { return true };
    warn!(target_name = %target.settings.target, tool = %tool.name, %error, "tool is not offered: its `x-mcp-header` is invalid");
    false
}

fn param_headers(tool: &Tool) -> Result<ParamHeaders, InvalidParamHeader> {
    let schema = runtime_mcp::handshake::part(&tool.definition, "inputSchema");
    let schema = schema.as_deref().and_then(|schema| std::str::from_utf8(schema).ok());
    schema.map_or_else(|| Ok(ParamHeaders::default()), ParamHeaders::from_schema)
}

/// The tools that want arguments mirrored in headers.
fn mirrored(tools: &[Tool]) -> HashMap<Arc<str>, ParamHeaders> {
    let headers_of = |tool: &Tool| {
        let headers = param_headers(tool).ok()?;
        (!headers.is_empty()).then(|| (tool.name.clone(), headers))
    };
    tools.iter().filter_map(headers_of).collect()
}

/// Publishes what changed; a refresh that finds the same wakes nobody.
fn publish(offers: &watch::Sender<Arc<Offers>>, new: TargetOffers) {
    offers.send_if_modified(|current| {
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
    debug!(target_name = %target.settings.target, %reason, "upstream does not answer");
    let last = offers.borrow().targets.iter().find(|offered| offered.target == target.settings.target).cloned();
    let Some(last) = last else { return };
    let state = match last.state {
        TargetState::Ready | TargetState::Stale(_) => TargetState::Stale(reason.clone()),
        TargetState::Connecting | TargetState::Failed(_) => TargetState::Failed(reason.clone()),
    };
    if last.state.as_str() != state.as_str() {
        warn!(target_name = %target.settings.target, url = %target.settings.url, %reason, "upstream cannot be used");
    }
    publish(offers, TargetOffers { state, ..(*last).clone() });
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

async fn end_sessions(target: &Arc<Target>, all: bool) {
    let sessions = target.sessions.take_idle(all);
    join_all(sessions.iter().map(|session| end_session(target, session))).await;
}

/// DELETE, as far as the upstream takes it (405 is allowed). One second is enough for a courtesy.
async fn end_session(target: &Arc<Target>, session: &Session) {
    if !session.has_id() {
        return;
    }
    let ending = async {
        let exchange = target.endpoint.send(Method::DELETE, session.headers.clone(), Rope::default()).await?;
        target.endpoint.body(exchange).await
    };
    let ended = tokio::time::timeout(Duration::from_secs(1), ending).await;
    debug!(target_name = %target.settings.target, ended = matches!(ended, Ok(Ok(_))), "ended a session upstream");
}
