//! `quarantine`: which tools wait for somebody to accept their definition, what it is and what was accepted before. And how one
//! is accepted.

use std::sync::Arc;

use runtime_api::Principal;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tracing::info;

use super::{AdminError, Query, write};
use crate::catalog::{Catalog, Fingerprint, Pin, Quarantined, Snapshot};

/// Where a definition is accepted, behind the prefix.
pub const ACCEPT: &str = "quarantine/accept";

/// Tools in one answer; each has two definitions.
const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 100;

/// A page of quarantined tools, in the order of their names.
#[derive(Debug, Serialize)]
pub(super) struct Document<'s> {
    quarantined: Vec<Tool<'s>>,
    /// `after` for the next page.
    next: Option<&'s str>,
    /// Tools that wait, whatever the query asked for.
    total: usize,
}

#[derive(Debug, Serialize)]
struct Tool<'s> {
    /// Its name in the merged view as soon as it is accepted.
    name: &'s str,
    target: &'s str,
    /// Its name there.
    tool: &'s str,
    /// `changed`, `new` or `no_room`.
    cause: &'static str,
    /// The same in words.
    because: String,
    /// What whoever accepts it has to name.
    digest: String,
    definition: &'s RawValue,
    /// What was accepted before; nothing of a new tool.
    accepted: Option<Accepted<'s>>,
}

#[derive(Debug, Serialize)]
struct Accepted<'s> {
    digest: String,
    /// RFC 3339.
    at: String,
    /// Absent when it is too long to be remembered.
    definition: Option<&'s RawValue>,
}

/// What somebody accepts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    /// Its name in the merged view, or its own.
    tool: String,
    /// What they have seen.
    digest: String,
}

/// What was accepted.
#[derive(Debug, Serialize)]
struct Done<'s> {
    accepted: &'s str,
    digest: String,
}

pub(super) fn document<'s>(snapshot: &'s Snapshot, query: &Query) -> Result<Document<'s>, AdminError> {
    super::view(snapshot, query)?;
    let of_view = |tool: &Quarantined| query.view.is_empty() || query.view == *tool.target.as_str();
    let only = query.tool.as_deref().map(|name| named(&snapshot.quarantined, name));
    let is_only = |tool: &Quarantined| only.is_none_or(|only| only.is_some_and(|only| std::ptr::eq(&**only, tool)));
    let wanted = |tool: &Quarantined| of_view(tool) && is_only(tool);
    let is_behind = |tool: &Quarantined| query.after.as_deref().is_none_or(|after| *tool.public > *after);
    let mut all = snapshot.quarantined.iter().map(|tool| &**tool).filter(|tool| wanted(tool) && is_behind(tool));
    let page: Vec<_> = all.by_ref().take(query.limit(LIMIT_DEFAULT, LIMIT_MAX)).collect();
    let next = page.last().filter(|_| all.next().is_some()).map(|tool| &*tool.public);
    Ok(Document { quarantined: page.into_iter().map(tool).collect(), next, total: snapshot.quarantined.len() })
}

fn tool(tool: &Quarantined) -> Tool<'_> {
    Tool {
        name: &tool.public,
        target: tool.target.as_str(),
        tool: &tool.tool,
        cause: tool.cause.as_str(),
        because: tool.cause.to_string(),
        digest: tool.fingerprint.to_string(),
        definition: raw(&tool.definition).unwrap_or(RawValue::NULL),
        accepted: tool.accepted.as_deref().map(accepted),
    }
}

fn accepted(pin: &Pin) -> Accepted<'_> {
    Accepted {
        digest: pin.fingerprint.to_string(),
        at: humantime::format_rfc3339_seconds(pin.at).to_string(),
        definition: pin.definition.as_deref().and_then(raw),
    }
}

fn raw(definition: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(definition).ok()
}

/// The tool of that name, be it the one that it would have or, where no other has it, its own at its target.
fn named<'t>(tools: &'t [Arc<Quarantined>], name: &str) -> Option<&'t Arc<Quarantined>> {
    let mut own = tools.iter().filter(|tool| *tool.tool == *name);
    let only = own.next().filter(|_| own.next().is_none());
    tools.iter().find(|tool| *tool.public == *name).or(only)
}

/// Accepts the definition that the body names, if the tool still has it. Answers with what was accepted.
///
/// # Errors
/// [`AdminError`]: nobody accepts what they have not seen.
pub async fn accept(catalog: &Catalog, principal: &Principal, body: &[u8]) -> Result<Vec<u8>, AdminError> {
    let wish: Wish = serde_json::from_slice(body).map_err(|error| AdminError::Body(error.to_string()))?;
    let seen: Fingerprint = wish.digest.parse().map_err(AdminError::Body)?;
    let found = named(&catalog.load().quarantined, &wish.tool).cloned();
    let tool = found.ok_or(AdminError::NotQuarantined(wish.tool))?;
    if tool.fingerprint != seen {
        return Err(AdminError::Stale { tool: tool.public.to_string(), present: tool.fingerprint });
    }
    catalog.pins().accept(&tool).await?;
    info!(tool = %tool.public, target_name = %tool.target, digest = %seen, by = principal.as_str(), "a definition is accepted");
    Ok(write(&Done { accepted: &tool.public, digest: seen.to_string() }))
}
