//! A server that has said who it is, and calls to it.

use runtime_api::{Call, CallError, Caller, Era, LogLevel, Logging};

use super::{Ask, Connection};
use crate::{
    Incoming,
    client::LogFloor,
    handshake::ServerFacts,
    outgoing::{self, Hop},
};

/// A conversation that has begun.
#[derive(Debug)]
pub struct Met {
    /// Makes requests.
    pub connection: Connection,
    /// What is spoken.
    pub era: Era,
    /// What the server says of itself.
    pub facts: ServerFacts,
    log_floor: LogFloor,
}

impl Met {
    /// Nobody has called it yet.
    #[must_use]
    pub fn new(connection: Connection, era: Era, facts: ServerFacts) -> Self {
        Self { connection, era, facts, log_floor: LogFloor::default() }
    }

    /// Makes a call and waits for its answer. `trusted`: `baggage` may be passed on. Dropping it cancels the call.
    ///
    /// # Errors
    /// As [`Connection::request`].
    pub async fn call(&self, call: &Call, trusted: bool) -> Result<Incoming, CallError> {
        if let Logging::From(level) = call.caller.wants().logging {
            self.set_log_level(call, level).await;
        }
        let hop = |id| Hop { era: self.era, progress_token: call.caller.wants().progress.then_some(id), gateway: false, trusted };
        let ask = Ask { method: call.method.as_str(), deadline: call.deadline, caller: &call.caller };
        self.connection.request(ask, |id| outgoing::params(call, hop(id)).map(Some)).await
    }

    /// Has log lines sent from this level on, or from a lower one that somebody else wants. The gateway's own filter takes out what a
    /// client does not want. A modern server is told with each call.
    async fn set_log_level(&self, call: &Call, level: LogLevel) {
        if self.era == Era::Modern || !self.facts.has("logging") || !self.log_floor.lowers(level) {
            return;
        }
        let params = format!(r#"{{"level":"{}"}}"#, level.as_str()).into_bytes();
        let ask = Ask { method: "logging/setLevel", deadline: call.deadline, caller: &Caller::none() };
        // Without it there are just fewer lines.
        self.connection.request(ask, |_| Ok(Some(params.into()))).await.ok();
    }
}
