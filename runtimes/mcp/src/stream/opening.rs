//! How a conversation begins: which era the other side speaks, who it is, and which tools it offers.

use std::time::Duration;

use runtime_api::{CallError, Caller, Era, Tool};
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

/// The tools of the other side, and how long it says that they are good.
#[derive(Debug, Default)]
pub struct Listed {
    /// In its order.
    pub tools: Vec<Tool>,
    /// None when it does not say.
    pub ttl: Option<Duration>,
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

/// Lists all tools, page by page. A side that has no such method has no tools.
///
/// # Errors
/// As [`Connection::request`], or a list that cannot be read.
pub async fn list_tools(connection: &Connection, era: Era, deadline: Instant) -> Result<Listed, CallError> {
    let mut listing = Listing::default();
    let mut cursor = String::new();
    loop {
        let member = if cursor.is_empty() { String::new() } else { format!("\"cursor\":{cursor}") };
        let params = match era {
            Era::Modern => handshake::own_params(&member),
            Era::Legacy => format!("{{{member}}}").into_bytes().into(),
        };
        let page = match ask(connection, "tools/list", deadline, params).await {
            Err(error) if has_no_method(&error) => return Ok(Listed::default()),
            page => page?,
        };
        match listing.take(&page)? {
            Next::Page(next) => cursor = next,
            Next::Done => return Ok(Listed { ttl: listing.ttl(), tools: listing.finish() }),
        }
    }
}

fn has_no_method(error: &CallError) -> bool {
    error.answer().and_then(|answer| era::error_code(answer)) == Some(METHOD_NOT_FOUND)
}

async fn ask(connection: &Connection, method: &str, deadline: Instant, params: Rope) -> Result<Incoming, CallError> {
    connection.request(Ask { method, deadline, caller: &Caller::none() }, |_| Ok(Some(params))).await
}
