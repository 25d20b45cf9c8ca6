//! What a target offers as the catalogue takes it: definitions that no client chokes on, and who may not be called yet.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use runtime_api::{CallService, Item, Items, Kind, RuntimeId, TargetId, TargetOffers};
use tracing::warn;

use super::{
    Flaw, Quarantined,
    known::Known,
    pins::{PinsOf, Standing},
    sound::{Care, Verdict},
};
use crate::telemetry::Metrics;

/// A tool whose definition breaks clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsound {
    /// Whose it is.
    pub target: TargetId,
    /// Its name there.
    pub tool: Arc<str>,
    /// What is wrong with it. One that drops it stands alone.
    pub flaws: Vec<Flaw>,
}

impl Unsound {
    /// Whether it is not offered.
    #[must_use]
    pub fn is_dropped(&self) -> bool {
        self.flaws.iter().any(|flaw| flaw.drops())
    }
}

/// One target with its runtime.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) runtime: RuntimeId,
    pub(super) service: CallService,
    /// As its runtime gave it.
    pub(super) target: Arc<TargetOffers>,
    /// The same with sound tools only.
    pub(super) items: Items,
    /// One for each of those tools.
    tools: Vec<Tool>,
}

/// A tool beside what clients see of it.
#[derive(Debug)]
struct Tool {
    /// As its target gave it, with its own name.
    given: Item,
    quarantined: Option<Quarantined>,
}

/// How a target's tools are taken.
#[derive(Debug)]
pub(super) struct Taking<'t> {
    pub(super) care: Care,
    pub(super) pins: PinsOf<'t>,
    pub(super) known: &'t mut Known,
    pub(super) metrics: &'t Metrics,
    /// Collects what is wrong.
    pub(super) unsound: &'t mut Vec<Unsound>,
}

impl Offered {
    /// Takes the tools that can be, each judged once as long as it stays the same.
    pub(super) fn take(runtime: &RuntimeId, service: &CallService, target: &Arc<TargetOffers>, mut taking: Taking<'_>) -> Self {
        let mut names = HashSet::new();
        let taken = target.items.tools.iter().filter_map(|given| taking.take(runtime, target, given, &mut names));
        let (sound, tools): (Vec<_>, Vec<_>) = taken.unzip();
        let items = Items { tools: sound.into(), ..target.items.clone() };
        Self { runtime: runtime.clone(), service: service.clone(), target: Arc::clone(target), items, tools }
    }

    /// A tool as its target gave it.
    pub(super) fn given(&self, place: usize) -> &Item {
        &self.tools[place].given
    }

    /// The name of an item at its target.
    pub(super) fn own_name(&self, kind: Kind, place: usize) -> &Arc<str> {
        match kind {
            Kind::Tool => &self.given(place).name,
            _ => &self.items.of(kind)[place].name,
        }
    }

    /// Why a tool is not offered, under the name that it would have.
    pub(super) fn quarantined(&self, kind: Kind, place: usize, public: &Arc<str>) -> Option<Quarantined> {
        if kind != Kind::Tool {
            return None;
        }
        let quarantined = self.tools[place].quarantined.as_ref()?;
        Some(Quarantined { public: Arc::clone(public), ..quarantined.clone() })
    }
}

impl Taking<'_> {
    fn take(
        &mut self,
        runtime: &RuntimeId,
        target: &TargetOffers,
        given: &Item,
        names: &mut HashSet<Arc<str>>,
    ) -> Option<(Item, Tool)> {
        let examined = self.known.examine(runtime, &target.target, given, self.care);
        if examined.is_redefined {
            self.metrics.definition_changed(runtime.as_str(), target.target.as_str());
        }
        let (sound, flaws) = match &examined.found.verdict {
            Verdict::Offered { tool, .. } if !names.insert(Arc::clone(&tool.name)) => (None, vec![Flaw::Duplicate]),
            Verdict::Offered { tool, repaired } => (Some(tool), repaired.clone()),
            Verdict::Dropped(flaw) => (None, vec![*flaw]),
        };
        if !flaws.is_empty() {
            self.unsound.push(Unsound { target: target.target.clone(), tool: Arc::clone(&given.name), flaws });
        }
        let sound = sound?.clone();
        let fingerprint = examined.found.fingerprint;
        let quarantined = match self.pins.decide(&given.name, fingerprint, &given.definition) {
            Standing::Offered => None,
            Standing::Quarantined(cause, accepted) => Some(Quarantined {
                public: Arc::clone(&sound.name),
                target: target.target.clone(),
                tool: Arc::clone(&given.name),
                cause,
                fingerprint,
                definition: given.definition.clone(),
                accepted,
            }),
        };
        Some((sound, Tool { given: given.clone(), quarantined }))
    }
}

#[cfg(test)]
impl Offered {
    /// A target of which everything is sound.
    pub(super) fn whole(service: &CallService, target: TargetOffers) -> Self {
        let tools = target.items.tools.iter().map(|tool| Tool { given: tool.clone(), quarantined: None }).collect();
        let (runtime, items) = (RuntimeId("http".into()), target.items.clone());
        Self { runtime, service: service.clone(), target: Arc::new(target), items, tools }
    }
}

/// Tools of a target with the same flaw: how many, and the first.
type Groups<'u> = HashMap<(&'u TargetId, Flaw), (usize, &'u str)>;

fn grouped(unsound: &[Unsound]) -> Groups<'_> {
    let mut groups = Groups::new();
    for one in unsound {
        for flaw in &one.flaws {
            groups.entry((&one.target, *flaw)).or_insert((0, &one.tool)).0 += 1;
        }
    }
    groups
}

/// Says what is wrong, one line for all tools of a target with the same flaw, unless that was so before.
pub(super) fn report(unsound: &[Unsound], before: &[Unsound], metrics: &Metrics) {
    let (groups, known) = (grouped(unsound), grouped(before));
    let mut counts = HashMap::new();
    for (group, found) in &groups {
        let ((target, flaw), (tools, first)) = (group, found);
        *counts.entry(*flaw).or_insert(0) += tools;
        if known.get(group) != Some(found) {
            let (flaw, first) = (flaw.as_str(), super::shown(first));
            let what = if group.1.drops() { "tools are not offered" } else { "tools are offered with a repaired definition" };
            warn!(target_name = %target, flaw, tools, %first, "{what}");
        }
    }
    for flaw in Flaw::ALL {
        metrics.set_unsound_tools(flaw.as_str(), flaw.drops(), counts.get(&flaw).copied().unwrap_or_default());
    }
}
