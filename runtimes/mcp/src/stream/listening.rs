//! Has the other side tell of changes: `subscriptions/listen` (2026-07-28), or `resources/subscribe` for each resource that somebody
//! wants to hear of (2025-11-25, resources). What it then says comes by [`super::Changes`].

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use runtime_api::{Caller, Era, Kind};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use twinway_proto::json::write_string;

use super::{Ask, Connection};
use crate::handshake::{self, ServerFacts};

/// How long a modern side listens for us before it is asked anew.
const LISTEN_TIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Before it is asked anew when it has ended the listening itself.
const PAUSE: Duration = Duration::from_secs(5);

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
    wanted: watch::Receiver<Uris>,
    watched: watch::Receiver<Uris>,
) -> Infallible {
    match era {
        Era::Modern => tokio::select! {
            never = listen(connection, facts, wanted) => never,
            never = listen_to_tasks(connection, watched) => never,
        },
        Era::Legacy => subscribe(connection, facts, wanted).await,
    }
}

async fn listen(connection: &Connection, facts: &ServerFacts, mut wanted: watch::Receiver<Uris>) -> Infallible {
    loop {
        let Some(params) = filter(facts, &wanted.borrow_and_update()) else {
            changes(&mut wanted).await;
            continue;
        };
        let ask = Ask { method: "subscriptions/listen", deadline: Instant::now() + LISTEN_TIME, caller: &Caller::none() };
        let listening = connection.request(ask, |_| Ok(Some(handshake::own_params(&params))));
        tokio::select! {
            // Dropping it withdraws it: another one is asked for.
            () = changes(&mut wanted) => {}
            _ = listening => sleep(PAUSE).await,
        }
    }
}

/// The same for tasks that are watched, apart from the lists: a side may refuse the one and tell of the other.
async fn listen_to_tasks(connection: &Connection, mut watched: watch::Receiver<Uris>) -> Infallible {
    loop {
        let ids: Vec<_> = watched.borrow_and_update().iter().map(|own| quoted(own)).collect();
        if ids.is_empty() {
            changes(&mut watched).await;
            continue;
        }
        let params = handshake::listen_to_tasks(&format!("[{}]", ids.join(",")));
        let ask = Ask { method: "subscriptions/listen", deadline: Instant::now() + LISTEN_TIME, caller: &Caller::none() };
        let listening = connection.request(ask, |_| Ok(Some(params)));
        tokio::select! {
            () = changes(&mut watched) => {}
            _ = listening => sleep(PAUSE).await,
        }
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

async fn subscribe(connection: &Connection, facts: &ServerFacts, mut wanted: watch::Receiver<Uris>) -> Infallible {
    if !facts.tells_of_updates() {
        return std::future::pending().await;
    }
    let mut subscribed = Uris::default();
    loop {
        let uris = Arc::clone(&wanted.borrow_and_update());
        let new = uris.difference(&subscribed).map(|uri| ("resources/subscribe", uri));
        let old = subscribed.difference(&uris).map(|uri| ("resources/unsubscribe", uri));
        for (method, uri) in new.chain(old) {
            let ask = Ask { method, deadline: Instant::now() + SUBSCRIBE_TIMEOUT, caller: &Caller::none() };
            let params = format!(r#"{{"uri":{}}}"#, quoted(uri)).into_bytes();
            // A side that refuses it just does not tell.
            connection.request(ask, |_| Ok(Some(params.into()))).await.ok();
        }
        subscribed = uris;
        changes(&mut wanted).await;
    }
}

/// Waits for a change; it fails only when nobody can want anything any more.
async fn changes(wanted: &mut watch::Receiver<Uris>) {
    if wanted.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = Vec::new();
    write_string(&mut quoted, text);
    String::from_utf8_lossy(&quoted).into_owned()
}
