//! What an operator may ask a running gateway: documents about what it knows at this moment. One thing may be changed: which
//! definitions of tools are accepted.
//!
//! Their shapes are stable: members are added, never renamed or taken away. `README.md` lists them. Nothing here reads a
//! socket; the way in hands over path and query, and carries the document back.

mod changes;
mod compare;
mod quarantine;
mod query;
mod route;
mod targets;
mod tools;

use http::StatusCode;
use percent_encoding::percent_decode_str;
use runtime_api::ErrorCode;
use serde::Serialize;
use thiserror::Error;

use crate::catalog::{AcceptError, Catalog, Fingerprint, Snapshot, View};
pub use quarantine::{ACCEPT, accept};
pub use query::Query;

/// Where all of it is.
pub const PREFIX: &str = "/admin/api/";

/// A question that has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AdminError {
    /// Nothing of that name in the view that was asked about.
    #[error("there is no tool `{0}`")]
    UnknownTool(String),
    /// It waits for somebody to accept it, for that reason.
    #[error("the tool `{tool}` is quarantined: {cause}; `twinway tools quarantined` shows it")]
    Quarantined {
        /// The tool.
        tool: String,
        /// Why.
        cause: String,
    },
    /// No target of that name.
    #[error("there is no upstream or peer `{0}`")]
    UnknownView(String),
    /// Another path.
    #[error("there is nothing at `{0}`; {PREFIX} has tools, route/TOOL, upstreams, peers, compare, changes and quarantine")]
    UnknownPath(String),
    /// No tool of that name waits to be accepted.
    #[error("no tool `{0}` is quarantined")]
    NotQuarantined(String),
    /// It is not what it was when somebody looked at it.
    #[error("the definition of `{tool}` is {present} by now; look at it again")]
    Stale {
        /// The tool.
        tool: String,
        /// Its present digest.
        present: Fingerprint,
    },
    /// It is good, and cannot be remembered.
    #[error(transparent)]
    NotAccepted(#[from] AcceptError),
    /// A body that says something else than what to accept.
    #[error("the body says what to accept, as {{\"tool\": NAME, \"digest\": DIGEST}}: {0}")]
    Body(String),
    /// A part of the query that means nothing here.
    #[error("`{key}` cannot be asked here; known are {known}")]
    UnknownKey {
        /// As it was given.
        key: String,
        /// What there is.
        known: String,
    },
    /// A part of the query whose value cannot be.
    #[error("`{key}={value}`: {what}")]
    Value {
        /// Of which key.
        key: &'static str,
        /// As it was given.
        value: String,
        /// What it must be.
        what: &'static str,
    },
}

/// Answers `GET {PREFIX}{path}?{query}` with a JSON document.
///
/// # Errors
/// [`AdminError`], which names what was asked.
pub fn answer(catalog: &Catalog, path: &str, query: &str) -> Result<Vec<u8>, AdminError> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let snapshot = catalog.load();
    if let Some(tool) = path.strip_prefix("route/").filter(|tool| !tool.is_empty()) {
        let query = Query::parse(query, &["view"])?;
        return route::document(&snapshot, &decode(tool), &query).map(|document| write(&document));
    }
    match path {
        "tools" => {
            let query = Query::parse(query, &["view", "category", "after", "limit"])?;
            tools::document(&snapshot, &query).map(|document| write(&document))
        }
        "upstreams" | "peers" => {
            Query::parse(query, &[])?;
            Ok(write(&targets::document(&snapshot, path == "peers")))
        }
        "compare" => {
            let query = Query::parse(query, &["view", "tool", "category", "after", "limit"])?;
            compare::document(&snapshot, &query).map(|document| write(&document))
        }
        "quarantine" => {
            let query = Query::parse(query, &["view", "tool", "after", "limit"])?;
            quarantine::document(&snapshot, &query).map(|document| write(&document))
        }
        "changes" => {
            let query = Query::parse(query, &["since"])?;
            Ok(write(&changes::document(catalog, &query)))
        }
        _ => Err(AdminError::UnknownPath(format!("{PREFIX}{path}"))),
    }
}

impl AdminError {
    /// What this is called over HTTP and in errors.
    #[must_use]
    pub const fn status(&self) -> (StatusCode, ErrorCode) {
        match self {
            Self::UnknownTool(_)
            | Self::Quarantined { .. }
            | Self::UnknownView(_)
            | Self::UnknownPath(_)
            | Self::NotQuarantined(_) => (StatusCode::NOT_FOUND, ErrorCode::UnknownName),
            Self::Stale { .. } => (StatusCode::CONFLICT, ErrorCode::InvalidParams),
            Self::NotAccepted(_) => (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Internal),
            Self::UnknownKey { .. } | Self::Value { .. } | Self::Body(_) => (StatusCode::BAD_REQUEST, ErrorCode::InvalidParams),
        }
    }
}

fn write(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("our documents have only strings for keys")
}

/// The view that a query is about.
fn view<'s>(snapshot: &'s Snapshot, query: &Query) -> Result<&'s View, AdminError> {
    snapshot.view(&query.view).ok_or_else(|| AdminError::UnknownView(query.view.clone()))
}

#[cfg(test)]
mod tests;
