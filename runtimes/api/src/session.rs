//! A session of a legacy client, as far as runtimes have to do with it: which calls are of one session, and when it is over.

use std::{fmt, sync::Arc};

use tokio_util::sync::CancellationToken;

use crate::Principal;

/// Tells one session from others. Cheap to clone; all clones are the same session.
#[derive(Clone)]
pub struct ClientSession(Arc<Life>);

struct Life {
    number: u128,
    over: CancellationToken,
}

/// Whoever has this has the session: dropping it ends it.
#[derive(Debug)]
pub struct SessionLife(ClientSession);

/// Whose a call or a subscription is: somebody's, and of one session where the client has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// Who.
    pub principal: Principal,
    /// In which session.
    pub session: Option<ClientSession>,
}

impl SessionLife {
    /// A session that begins. No other may have its number, not even one that takes its place later: what was kept for this one is not
    /// for that.
    #[must_use]
    pub fn new(number: u128) -> Self {
        Self(ClientSession(Arc::new(Life { number, over: CancellationToken::new() })))
    }

    /// The session, for those who must not keep it alive.
    #[must_use]
    pub fn session(&self) -> ClientSession {
        self.0.clone()
    }

    /// Ends it.
    pub fn end(&self) {
        self.0.0.over.cancel();
    }
}

impl Drop for SessionLife {
    fn drop(&mut self) {
        self.end();
    }
}

impl ClientSession {
    /// Its number, which no other session has.
    #[must_use]
    pub fn number(&self) -> u128 {
        self.0.number
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.over.is_cancelled()
    }

    /// Waits for its end. Cancel-safe.
    pub async fn over(&self) {
        self.0.over.cancelled().await;
    }
}

impl PartialEq for ClientSession {
    fn eq(&self, other: &Self) -> bool {
        self.0.number == other.0.number
    }
}

impl Eq for ClientSession {}

impl fmt::Debug for ClientSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSession").field("is_over", &self.0.over.is_cancelled()).finish_non_exhaustive()
    }
}
