//! A message as a transport hands it in.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use runtime_api::{Kind, Principal};

use super::{Session, Shown, Sight};
use crate::{catalog::Entry, config::Exposure};

/// One message of a client.
#[derive(Debug, Clone)]
pub struct Inbound<'a> {
    /// The whole message.
    pub message: Bytes,
    /// Which view the client looks at: a target's name, or empty for all.
    pub view: &'a str,
    /// Who it is.
    pub principal: &'a Principal,
    /// How it came.
    pub way: Way<'a>,
    /// Which tools it may see and call.
    pub scope: Scope<'a>,
    /// What it is shown of the tools that it may call.
    pub shown: &'a Shown,
    /// Largest message that the way back carries.
    pub answer_bytes_max: usize,
    /// Longest call that this client may make.
    pub time_max: Duration,
}

impl Inbound<'_> {
    /// Whether the client is shown three tools that lead to all others. They lead to everything, so whoever may see only some tools is
    /// shown those.
    pub(super) fn is_lazy(&self) -> bool {
        self.shown.exposure == Exposure::Lazy && self.scope.is_everything()
    }

    /// Whether whoever looks at the view is told the same. Clients with names may be shown different things, and whoever has none is
    /// refused where they are.
    pub(super) fn is_like_any_other(&self) -> bool {
        self.principal.is_anonymous() && self.scope.is_everything() && *self.shown == *Shown::full()
    }

    /// What the client looks at.
    pub(super) fn sight(&self) -> Sight<'_> {
        Sight { view: self.view, shown: self.shown }
    }

    /// Whether lists of that kind hold everything there is in the view.
    pub(super) fn lists_all(&self, kind: Kind) -> bool {
        self.scope.is_everything() && (kind != Kind::Tool || self.shown.categories.are_all())
    }

    /// Whether this is listed.
    pub(super) fn lists(&self, entry: &Entry) -> bool {
        self.scope.allows(entry) && (entry.kind != Kind::Tool || self.shown.categories.has(&entry.metadata.category))
    }
}

/// The kinds of transport, as far as MCP treats them differently.
#[derive(Debug, Clone)]
pub enum Way<'a> {
    /// Streamable HTTP: one message a request, sessions by header, mirrored headers.
    Http {
        /// The request's headers.
        headers: &'a HeaderMap,
    },
    /// A duplex stream: the stream is the session.
    Stream {
        /// What belongs to this stream.
        session: &'a Arc<Session>,
        /// The rules of the MCP++ bindings that apply; none for a stream of plain MCP.
        binding: Option<Binding>,
        /// What carries it, as spans name it.
        transport: &'static str,
        /// As many calls of this client are under way as may be: another is refused before anything is begun.
        is_full: bool,
    },
}

impl Way<'_> {
    /// What carries the message, as spans name it.
    pub(super) const fn transport(&self) -> &'static str {
        match self {
            Self::Http { .. } => "tcp",
            Self::Stream { transport, .. } => transport,
        }
    }

    /// Whether there is no place for another call of this client.
    pub(super) const fn is_full(&self) -> bool {
        match self {
            Self::Http { .. } => false,
            Self::Stream { is_full, .. } => *is_full,
        }
    }
}

/// How strictly a legacy session over libp2p has to name its binding (MCP++, legacy binding).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// Without a binding id it is plain MCP.
    Baseline,
    /// Without a binding id it is refused.
    Strict,
}

/// Which tools a client may see and call. One decision for lists and calls, so that they cannot differ.
#[derive(Clone, Copy)]
pub enum Scope<'a> {
    /// All of the view.
    Everything,
    /// Those that the function allows.
    Only(&'a (dyn Fn(&Entry) -> bool + Send + Sync)),
}

impl Scope<'_> {
    pub(super) fn allows(&self, entry: &Entry) -> bool {
        match self {
            Self::Everything => true,
            Self::Only(allows) => allows(entry),
        }
    }

    pub(super) const fn is_everything(&self) -> bool {
        matches!(self, Self::Everything)
    }
}

impl std::fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_everything() { "Everything" } else { "Only" })
    }
}
