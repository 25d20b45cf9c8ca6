//! Finds out which binding a peer speaks, and begins a conversation in it.
//!
//! `server/discover` first: the current binding needs no session. Whatever is no modern answer leads to `initialize` on a
//! stream of its own, because some peers give a stream up after a method they do not know.

use std::time::Duration;

use runtime_api::{CallError, Caller, Era};
use runtime_api::{Delivery, Tool};
use runtime_mcp::{
    era,
    handshake::{self, ServerFacts},
    listing::{Listing, Next},
    stream::{Ask, Connection},
};
use tokio::time::Instant;
use twinway_proto::rope::Rope;

use super::{Fresh, Peer};

/// A peer that knows nothing of `server/discover` may also say nothing. Half of the time a handshake has.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The revision of the legacy binding; every server with sessions speaks it.
const LEGACY_REVISION: &str = "2024-11-05";

/// Names the binding, as the legacy binding requires, and claims no profile.
const LEGACY_CAPABILITIES: &str = r#"{"mcp++":{"bindingId":"mcp-binding/legacy-2024-11-05","profiles":[]}}"#;

/// JSON-RPC 2.0, section 5.1.
const METHOD_NOT_FOUND: i64 = -32601;

/// How a peer is spoken to.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) era: Era,
    /// It is a gateway of ours, which understands `twinway/*`.
    pub(super) gateway: bool,
    pub(super) facts: ServerFacts,
}

impl Peer {
    /// Opens a stream and finds out the terms.
    pub(super) async fn meet(&self, deadline: Instant) -> Result<(Fresh, Terms), CallError> {
        let connection = self.converse(deadline).await?;
        if let Some(facts) = discover(&connection, deadline).await? {
            return Ok((connection, Terms::new(Era::Modern, facts)));
        }
        drop(connection);
        let connection = self.converse(deadline).await?;
        let facts = initialize(&connection, deadline).await?;
        Ok((connection, Terms::new(Era::Legacy, facts)))
    }

    /// Opens a stream on known terms.
    pub(super) async fn open_on(&self, terms: &Terms, deadline: Instant) -> Result<Fresh, CallError> {
        let connection = self.converse(deadline).await?;
        if terms.era == Era::Legacy {
            // A session belongs to its stream.
            initialize(&connection, deadline).await.map_err(|error| error.with_delivery(Delivery::NotSent))?;
        }
        Ok(connection)
    }
}

impl Terms {
    fn new(era: Era, facts: ServerFacts) -> Self {
        let info = facts.server_info.as_ref().and_then(|info| handshake::part(info, "name"));
        Self { era, gateway: info.as_deref() == Some(b"\"twinway\""), facts }
    }
}

/// Asks for the current binding; `None` when the peer does not speak it.
async fn discover(connection: &Connection, deadline: Instant) -> Result<Option<ServerFacts>, CallError> {
    let patience = deadline.min(Instant::now() + PROBE_TIMEOUT);
    match ask(connection, handshake::DISCOVER, patience, handshake::own_params("")).await {
        Ok(answer) => Ok(handshake::read_discovered(&answer).ok()),
        Err(error) if error.answer().is_some_and(|answer| is_modern_refusal(answer)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// The peer speaks the current binding, but not our revision: `initialize` would be a silent downgrade.
fn is_modern_refusal(error: &[u8]) -> bool {
    era::error_code(error).is_some_and(|code| (-32022..=-32020).contains(&code))
}

async fn initialize(connection: &Connection, deadline: Instant) -> Result<ServerFacts, CallError> {
    let params = handshake::initialize_params(LEGACY_REVISION, LEGACY_CAPABILITIES, handshake::CLIENT_INFO);
    let answer = ask(connection, handshake::INITIALIZE, deadline, params).await?;
    let facts = match handshake::part(&answer.result(), "protocolVersion") {
        Some(_) => handshake::read_initialized(&answer)?,
        // The Python peers of MCP++ answer without a revision (notes of the binding: baseline peers).
        None => ServerFacts { revision: LEGACY_REVISION, ..ServerFacts::default() },
    };
    connection.notify(handshake::INITIALIZED, None);
    Ok(facts)
}

/// A peer's tools, and how long it says that they are good.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) tools: Vec<Tool>,
    pub(super) ttl: Option<Duration>,
}

/// Lists all tools.
pub(super) async fn list_tools(connection: &Connection, era: Era, deadline: Instant) -> Result<Listed, CallError> {
    let mut listing = Listing::default();
    let mut cursor = String::new();
    loop {
        let member = if cursor.is_empty() { String::new() } else { format!("\"cursor\":{cursor}") };
        let params = match era {
            Era::Modern => handshake::own_params(&member),
            Era::Legacy => format!("{{{member}}}").into_bytes().into(),
        };
        match listing.take(&ask(connection, "tools/list", deadline, params).await?)? {
            Next::Page(next) => cursor = next,
            Next::Done => return Ok(Listed { ttl: listing.ttl(), tools: listing.finish() }),
        }
    }
}

async fn ask(connection: &Connection, method: &str, deadline: Instant, params: Rope) -> Result<runtime_mcp::Incoming, CallError> {
    connection.request(Ask { method, deadline, caller: &Caller::none() }, |_| Ok(Some(params))).await
}

/// Whether a peer answered that it has no such method: it has no tools then.
pub(super) fn has_no_tools(error: &CallError) -> bool {
    error.answer().and_then(|answer| era::error_code(answer)) == Some(METHOD_NOT_FOUND)
}
