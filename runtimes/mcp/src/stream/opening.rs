//! How a conversation begins: which era the other side speaks, who it is, and what it offers.

use std::{borrow::Cow, time::Duration};

use runtime_api::{About, CacheHint, CacheHints, CallError, Caller, Era, Items, Kind};
use tokio::time::Instant;
use twinway_proto::rope::Rope;

use super::{Ask, Connection};
use crate::{
    Incoming, era,
    handshake::{self, ServerFacts},
    listing::{Listing, Next},
};

/// JSON-RPC 2.0, section 5.1.
const METHOD_NOT_FOUND: i64 = -32601;

/// What the other side offers, and how long it says that this is good.
#[derive(Debug)]
pub struct Listed {
    /// What it says of itself.
    pub about: About,
    /// In its order.
    pub items: Items,
    /// The shortest of all its lists; none when it does not say.
    pub ttl: Option<Duration>,
    /// The same of each result, and for whom it is.
    pub hints: CacheHints,
}

/// Asks for the modern revision; `None` when the other side does not speak it, or says nothing within `patience`: a server
/// that does not know `server/discover` may be silent.
///
/// # Errors
/// It speaks the modern era, but not our revision: `initialize` would be a silent downgrade.
pub async fn discover(connection: &Connection, patience: Instant) -> Result<Option<ServerFacts>, CallError> {
    match ask(connection, handshake::DISCOVER, patience, handshake::own_params("")).await {
        Ok(answer) => Ok(handshake::read_discovered(&answer).ok()),
        Err(error) if error.answer().is_some_and(|answer| is_modern_refusal(answer)) => Err(error),
        Err(_) => Ok(None),
    }
}

fn is_modern_refusal(error: &[u8]) -> bool {
    era::error_code(error).is_some_and(|code| (-32022..=-32020).contains(&code))
}

/// Begins a session: `initialize` with these parameters, and `notifications/initialized` once the answer is read.
///
/// # Errors
/// No answer, an error, or what `read` finds wrong.
pub async fn initialize(
    connection: &Connection,
    params: Rope,
    deadline: Instant,
    read: impl FnOnce(&Incoming) -> Result<ServerFacts, CallError>,
) -> Result<ServerFacts, CallError> {
    let answer = ask(connection, handshake::INITIALIZE, deadline, params).await?;
    let facts = read(&answer)?;
    connection.notify(handshake::INITIALIZED, None);
    Ok(facts)
}

/// Lists everything that the other side declares to have, page by page. It is asked for tools in any case: some have them and
/// declare nothing. What it has said of itself is asked for anew when it is no longer good.
///
/// # Errors
/// As [`Connection::request`], or a list that cannot be read.
pub async fn list(connection: &Connection, era: Era, facts: &ServerFacts, deadline: Instant) -> Result<Listed, CallError> {
    let facts = renewed(connection, facts, deadline).await;
    let (items, hints) = (Items::default(), CacheHints::without_lists(facts.hint));
    let mut listed = Listed { about: facts.about.clone(), items, ttl: None, hints };
    for kind in Kind::ALL {
        if kind == Kind::Tool || facts.has(kind.capability()) {
            let Some(listing) = list_kind(connection, era, kind, deadline).await? else { continue };
            listed.ttl = listed.ttl.into_iter().chain(listing.ttl()).min();
            listed.hints.set(kind, if era == Era::Modern { listing.hint() } else { CacheHint::default() });
            *listed.items.of_mut(kind) = listing.finish().into();
        }
    }
    Ok(listed)
}

/// What the other side says of itself now, if it has said that the last word is over. A side that does not answer is asked for its lists
/// all the same: whether it is there is seen by those.
async fn renewed<'f>(connection: &Connection, facts: &'f ServerFacts, deadline: Instant) -> Cow<'f, ServerFacts> {
    let is_over = facts.hint.fresh_until.is_some_and(|until| until <= Instant::now());
    let asked = if is_over { discover(connection, deadline).await.ok().flatten() } else { None };
    asked.map_or(Cow::Borrowed(facts), Cow::Owned)
}

/// One list; `None` from a side that has no such method.
async fn list_kind(connection: &Connection, era: Era, kind: Kind, deadline: Instant) -> Result<Option<Listing>, CallError> {
    let mut listing = Listing::new(kind);
    let mut cursor = String::new();
    loop {
        let member = if cursor.is_empty() { String::new() } else { format!("\"cursor\":{cursor}") };
        let params = match era {
            Era::Modern => handshake::own_params(&member),
            Era::Legacy => format!("{{{member}}}").into_bytes().into(),
        };
        let page = match ask(connection, kind.list_method(), deadline, params).await {
            Err(error) if has_no_method(&error) => return Ok(None),
            page => page?,
        };
        match listing.take(&page)? {
            Next::Page(next) => cursor = next,
            Next::Done => return Ok(Some(listing)),
        }
    }
}

fn has_no_method(error: &CallError) -> bool {
    error.answer().and_then(|answer| era::error_code(answer)) == Some(METHOD_NOT_FOUND)
}

async fn ask(connection: &Connection, method: &str, deadline: Instant, params: Rope) -> Result<Incoming, CallError> {
    connection.request(Ask { method, deadline, caller: &Caller::none() }, |_| Ok(Some(params))).await
}
