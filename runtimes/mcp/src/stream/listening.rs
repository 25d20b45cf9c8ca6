//! Has the other side tell of changes: `subscriptions/listen` (2026-07-28), or `resources/subscribe` for each resource that somebody
//! wants to hear of (2025-11-25, resources). What it then says comes by [`super::Changes`]. Whoever waits for that is told whether the
//! other side has taken note of it.

mod each;
mod honoured;
mod listen;

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use runtime_api::{CallError, Caller, Delivery, Demand, Era, ErrorCode, Kind, Standing};
use tokio::{sync::watch, time::Instant};
use twinway_proto::{json::write_string, rope::Rope};

pub use each::subscribe_each;
pub use honoured::{ACKNOWLEDGED, Honoured, honoured_uris};

use super::{Ask, Connection};
use crate::handshake::{self, ServerFacts};

/// How long it may take to take note of a subscription.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);

/// URIs of resources that clients want to hear of, or ids of tasks.
pub type Uris = Arc<BTreeSet<Arc<str>>>;

/// Of nothing, for ever.
#[must_use]
pub fn none() -> watch::Receiver<Uris> {
    watch::channel(Uris::default()).1
}

/// Keeps the other side telling, of its lists, of the resources that are wanted and of the tasks that are watched, as long as it is
/// polled. Cancel-safe.
pub async fn keep(
    connection: &Connection,
    era: Era,
    facts: &ServerFacts,
    demand: Demand,
    watched: watch::Receiver<Uris>,
) -> Infallible {
    match era {
        Era::Modern => tokio::select! {
            never = listen_to_changes(connection, facts, demand) => never,
            never = listen::keep_listening(connection, watched, task_filter) => never,
        },
        Era::Legacy => subscribe(connection, facts, demand).await,
    }
}

async fn listen_to_changes(connection: &Connection, facts: &ServerFacts, mut demand: Demand) -> Infallible {
    let filter = |uris: &Uris| filter(facts, uris).map(|filter| handshake::own_params(&filter));
    if facts.tells_of_updates() {
        return listen::keep_listening(connection, demand, filter).await;
    }
    tokio::select! {
        never = demand.keep_settling(|_| Some(tells_of_none())) => never,
        never = listen::keep_listening(connection, none(), filter) => never,
    }
}

/// What to listen for; nothing when the other side tells of nothing that is wanted.
fn filter(facts: &ServerFacts, uris: &Uris) -> Option<String> {
    let lists =
        [("toolsListChanged", Kind::Tool), ("promptsListChanged", Kind::Prompt), ("resourcesListChanged", Kind::Resource)];
    let told = lists.iter().filter(|(_, kind)| facts.tells_of(*kind));
    let mut asked: Vec<_> = told.map(|(name, _)| format!(r#""{name}":true"#)).collect();
    if facts.tells_of_updates() && !uris.is_empty() {
        let uris: Vec<_> = uris.iter().map(|uri| quoted(uri)).collect();
        asked.push(format!(r#""resourceSubscriptions":[{}]"#, uris.join(",")));
    }
    (!asked.is_empty()).then(|| format!(r#""notifications":{{{}}}"#, asked.join(",")))
}

/// The same for tasks, apart from the lists: a side may refuse the one and tell of the other.
fn task_filter(ids: &Uris) -> Option<Rope> {
    let ids: Vec<_> = ids.iter().map(|own| quoted(own)).collect();
    (!ids.is_empty()).then(|| handshake::listen_to_tasks(&format!("[{}]", ids.join(","))))
}

async fn subscribe(connection: &Connection, facts: &ServerFacts, mut demand: Demand) -> Infallible {
    if !facts.tells_of_updates() {
        return demand.keep_settling(|_| Some(tells_of_none())).await;
    }
    let asking = subscribe_each(demand, async |method, uri: Arc<str>| {
        let ask = Ask { method, deadline: Instant::now() + SUBSCRIBE_TIMEOUT, caller: &Caller::none() };
        let answer = connection.request(ask, |_| Ok(Some(params_of(&uri).into()))).await;
        Ok::<_, Infallible>(answer.map(|_| ()).map_err(Arc::new))
    });
    match asking.await {
        Ok(never) | Err(never) => never,
    }
}

/// The parameters of `resources/subscribe`.
#[must_use]
pub fn params_of(uri: &str) -> Bytes {
    format!(r#"{{"uri":{}}}"#, quoted(uri)).into()
}

/// How any subscription stands where no updates are told of.
pub fn tells_of_none() -> Standing {
    refused("the target does not tell of updates of its resources")
}

/// How a subscription stands that a target has not taken, without a JSON-RPC error of its own.
pub fn refused(why: impl Into<Box<str>>) -> Standing {
    Err(Arc::new(CallError::runtime(ErrorCode::Upstream, Delivery::Answered, why)))
}

fn quoted(text: &str) -> String {
    let mut quoted = Vec::new();
    write_string(&mut quoted, text);
    String::from_utf8_lossy(&quoted).into_owned()
}
