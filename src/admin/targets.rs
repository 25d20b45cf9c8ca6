//! `upstreams` and `peers`: who is there, in which state, and what of theirs is not offered.

use std::borrow::Cow;

use runtime_api::{RuntimeId, Support, TargetOffers};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    catalog::{self, Snapshot},
    router,
};

/// All upstreams, or all peers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Document<'s> {
    Upstreams(Vec<Target<'s>>),
    Peers(Vec<Target<'s>>),
}

/// One of them.
#[derive(Debug, Serialize)]
pub(super) struct Target<'s> {
    name: &'s str,
    runtime: &'s str,
    /// `connecting`, `ready`, `stale` or `failed`.
    state: &'static str,
    /// Why it does not answer.
    reason: Option<&'s str>,
    eras: Eras,
    tools: usize,
    /// Its tools that are not offered, because their names are taken.
    refused: Vec<Refused<'s>>,
    /// Its tools whose definition would break clients: repaired, or not offered.
    unsound: Vec<Unsound<'s>>,
    /// How many of its tools wait for somebody to accept them.
    quarantined: usize,
    /// What it says of itself.
    server_info: Option<&'s RawValue>,
}

/// `yes`, `no` or `unknown`: probed apart, and only when needed.
#[derive(Debug, Serialize)]
pub(crate) struct Eras {
    modern: &'static str,
    legacy: &'static str,
}

#[derive(Debug, Serialize)]
struct Unsound<'s> {
    /// Its name there, without what nobody sees.
    tool: Cow<'s, str>,
    /// It is not offered.
    dropped: bool,
    /// What is wrong with it.
    flaws: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct Refused<'s> {
    tool: &'s str,
    held_by: &'s str,
}

pub(super) fn document(snapshot: &Snapshot, peers: bool) -> Document<'_> {
    let wanted = snapshot.targets().iter().filter(|(runtime, _)| (runtime.as_str() == router::MCPP) == peers);
    let targets = wanted.map(|(runtime, offers)| target(snapshot, runtime, offers)).collect();
    if peers { Document::Peers(targets) } else { Document::Upstreams(targets) }
}

fn target<'s>(snapshot: &'s Snapshot, runtime: &'s RuntimeId, offers: &'s TargetOffers) -> Target<'s> {
    let refused = snapshot.refused.iter().filter(|refused| refused.target == offers.target);
    let unsound = snapshot.unsound.iter().filter(|unsound| unsound.target == offers.target);
    Target {
        name: offers.target.as_str(),
        runtime: runtime.as_str(),
        state: offers.state.as_str(),
        reason: offers.state.reason(),
        eras: Eras::of(offers),
        tools: offers.items.tools.len(),
        refused: refused.map(|refused| Refused { tool: &refused.public, held_by: refused.holder.as_str() }).collect(),
        unsound: unsound.map(unsound_tool).collect(),
        quarantined: snapshot.quarantined.iter().filter(|tool| tool.target == offers.target).count(),
        server_info: offers.about.server_info.as_deref().and_then(|raw| serde_json::from_slice(raw).ok()),
    }
}

fn unsound_tool(unsound: &catalog::Unsound) -> Unsound<'_> {
    Unsound {
        tool: catalog::shown(&unsound.tool),
        dropped: unsound.is_dropped(),
        flaws: unsound.flaws.iter().map(|flaw| flaw.as_str()).collect(),
    }
}

impl Eras {
    /// What was found out so far.
    pub(crate) const fn of(offers: &TargetOffers) -> Self {
        Self { modern: name(offers.eras.modern), legacy: name(offers.eras.legacy) }
    }
}

const fn name(support: Support) -> &'static str {
    match support {
        Support::Unknown => "unknown",
        Support::Yes => "yes",
        Support::No => "no",
    }
}
