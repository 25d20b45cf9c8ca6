//! Finds out which binding a peer speaks, and begins a conversation in it.
//!
//! `server/discover` first: the current binding needs no session. Whatever is no modern answer leads to `initialize` on a
//! stream of its own, because some peers give a stream up after a method they do not know.

use std::time::Duration;

use runtime_api::{CallError, Delivery, Era};
use runtime_mcp::{
    handshake::{self, ServerFacts},
    stream::{Connection, opening},
};
use tokio::time::Instant;

use super::{Fresh, Peer};

/// A peer that knows nothing of `server/discover` may also say nothing. Half of the time a handshake has.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The revision of the legacy binding; every server with sessions speaks it.
const LEGACY_REVISION: &str = "2024-11-05";

/// Names the binding, as the legacy binding requires, and claims no profile.
const LEGACY_CAPABILITIES: &str = r#"{"mcp++":{"bindingId":"mcp-binding/legacy-2024-11-05","profiles":[]}}"#;

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
        let info = facts.about.server_info.as_ref().and_then(|info| handshake::part(info, "name"));
        Self { era, gateway: info.as_deref() == Some(b"\"twinway\""), facts }
    }
}

/// Asks for the current binding; `None` when the peer does not speak it.
async fn discover(connection: &Connection, deadline: Instant) -> Result<Option<ServerFacts>, CallError> {
    opening::discover(connection, deadline.min(Instant::now() + PROBE_TIMEOUT)).await
}

async fn initialize(connection: &Connection, deadline: Instant) -> Result<ServerFacts, CallError> {
    let params = handshake::initialize_params(LEGACY_REVISION, LEGACY_CAPABILITIES, handshake::CLIENT_INFO);
    opening::initialize(connection, params, deadline, |answer| match handshake::part(&answer.result(), "protocolVersion") {
        Some(_) => handshake::read_initialized(answer),
        // The Python peers of MCP++ answer without a revision (notes of the binding: baseline peers).
        None => Ok(ServerFacts { revision: LEGACY_REVISION, ..ServerFacts::default() }),
    })
    .await
}
