//! `route/{tool}`: which way a call would take now, why, and why not another.

use serde::Serialize;

use super::{AdminError, Query, tools, view};
use crate::{
    catalog::{Entry, Snapshot},
    config::RuntimeChoice,
    router::{Candidate, MCPP, Reason},
};

/// One tool's route.
#[derive(Debug, Serialize)]
pub(super) struct Document<'s> {
    #[serde(flatten)]
    tool: tools::Tool<'s>,
    /// Absent when no candidate may answer.
    route: Option<Route<'s>>,
    /// Why there is none.
    refused: Option<String>,
    /// Everybody who offers the tool, in the order in which they are asked first.
    choices: Vec<Choice<'s>>,
}

/// Who answers.
#[derive(Debug, Serialize)]
struct Route<'s> {
    runtime: &'s str,
    target: &'s str,
    /// The code of the reason, as in `twinway/explain`.
    reason: &'static str,
    /// The same in words.
    because: &'static str,
}

#[derive(Debug, Serialize)]
struct Choice<'s> {
    runtime: &'s str,
    target: &'s str,
    /// The tool's name there.
    name: &'s str,
    /// `connecting`, `ready`, `stale` or `failed`.
    state: &'static str,
    /// Why the target does not answer.
    state_reason: Option<&'s str>,
    /// `closed`, `probing` or `open`; absent when the target has none.
    breaker: Option<&'static str>,
    /// The moving average by which the quicker of two is found, in microseconds; absent for a tool with one candidate, and
    /// before the first call.
    average_us: Option<u64>,
    chosen: bool,
    /// Why it is not the one.
    why_not: Option<&'static str>,
}

pub(super) fn document<'s>(snapshot: &'s Snapshot, tool: &str, query: &Query) -> Result<Document<'s>, AdminError> {
    let view = view(snapshot, query)?;
    let entry = view.tools.get(tool).ok_or_else(|| match view.quarantined(tool) {
        Some(withheld) => AdminError::Quarantined { tool: tool.to_owned(), cause: withheld.cause.to_string() },
        None => AdminError::UnknownTool(tool.to_owned()),
    })?;
    let taken = taken_now(entry);
    let route = taken.map(|(place, reason)| Route {
        runtime: entry.candidates[place].runtime.as_str(),
        target: entry.candidates[place].target.as_str(),
        reason: reason.as_str(),
        because: because(reason),
    });
    let refused = entry.route.as_ref().err();
    let refused = refused.map(|wanted| format!("only the runtime `{wanted}` may answer, and nobody offers the tool there"));
    let choices = entry.candidates.iter().enumerate().map(|(place, candidate)| {
        let chosen = taken.is_some_and(|(taken, _)| taken == place);
        choice(snapshot, entry, candidate, chosen)
    });
    Ok(Document { tool: tools::tool(entry), route, refused, choices: choices.collect() })
}

/// The place that a call would take at this moment, and why.
fn taken_now(entry: &Entry) -> Option<(usize, Reason)> {
    let route = entry.route.as_ref().ok()?;
    let untried = vec![false; entry.candidates.len()];
    let picked = route.choice.as_ref().and_then(|choice| choice.pick(&entry.candidates, &untried));
    Some(match picked {
        Some(picked) if picked.preferred => (picked.place, route.reason),
        Some(picked) => (picked.place, Reason::Fallback),
        None => (route.place, route.reason),
    })
}

fn choice<'s>(snapshot: &'s Snapshot, entry: &Entry, candidate: &'s Candidate, chosen: bool) -> Choice<'s> {
    let offers =
        snapshot.targets().iter().find(|(runtime, offers)| *runtime == candidate.runtime && offers.target == candidate.target);
    Choice {
        runtime: candidate.runtime.as_str(),
        target: candidate.target.as_str(),
        name: &candidate.name,
        state: offers.map_or("gone", |(_, offers)| offers.state.as_str()),
        state_reason: offers.and_then(|(_, offers)| offers.state.reason()),
        breaker: candidate.guard.breaker.as_ref().map(|breaker| breaker.state().as_str()),
        average_us: candidate.average_ns().filter(|average| *average > 0).map(|average| average / 1_000),
        chosen,
        why_not: (!chosen).then(|| why_not(entry, candidate)),
    }
}

fn why_not(entry: &Entry, candidate: &Candidate) -> &'static str {
    let is_peer = candidate.runtime.as_str() == MCPP;
    match entry.metadata.runtime {
        RuntimeChoice::Http if is_peer => "the tool's `runtime` is `http`",
        RuntimeChoice::Mcpp if !is_peer => "the tool's `runtime` is `mcpp`",
        _ if entry.metadata.requires_p2p && !is_peer => "the tool requires a peer",
        _ if !candidate.is_healthy() => "it cannot be reached at the moment",
        _ => "another candidate comes first",
    }
}

const fn because(reason: Reason) -> &'static str {
    match reason {
        Reason::Explicit => "the tool's `runtime` names it",
        Reason::RequiresP2p => "the tool requires a peer",
        Reason::NamePattern => "the tool's name says that it belongs to peers",
        Reason::OnlyCandidate => "nobody else offers the tool",
        Reason::Default => "it is the default runtime",
        Reason::Fallback => "those that come first cannot answer",
    }
}
