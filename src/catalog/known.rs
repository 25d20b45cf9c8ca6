//! What is known of a tool, prompt or resource at its target beyond one snapshot: snapshots come and go with every change of anything.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use runtime_api::{Item, Kind, RuntimeId, TargetId};

use super::{
    Fingerprint,
    sound::{Care, Verdict, judge},
};
use crate::{
    layers::Definition,
    telemetry::latency::{Budget, Latencies},
};

/// The items of all targets.
#[derive(Debug, Default)]
pub(super) struct Known {
    items: HashMap<(RuntimeId, TargetId, Kind, Arc<str>), OneItem>,
    /// Counts rebuilds, to tell which items the latest one still met.
    rebuilds: u64,
    budget: Budget,
}

#[derive(Debug)]
struct OneItem {
    latencies: Arc<Latencies>,
    /// As long as the text is the same, so is the definition, and what was kept of it stays good.
    definition: Option<(Bytes, Arc<Definition>)>,
    /// The same of what was found in it.
    found: Option<(Bytes, Care, Arc<Found>)>,
    met_in: u64,
}

/// What was found in a definition.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) verdict: Verdict,
    pub(super) fingerprint: Fingerprint,
}

/// A definition that was looked at.
#[derive(Debug)]
pub(super) struct Examined {
    pub(super) found: Arc<Found>,
    /// It is another one than at the last look.
    pub(super) is_redefined: bool,
}

impl Known {
    /// Begins a rebuild.
    pub(super) const fn begin(&mut self) {
        self.rebuilds += 1;
    }

    /// Ends it: items that nobody asked about since are gone, and what was measured of them with them.
    pub(super) fn end(&mut self) {
        self.items.retain(|_, item| item.met_in == self.rebuilds);
    }

    /// The target is another one now, whatever its definitions say: what was kept of it is not good any more.
    pub(super) fn forget(&mut self, of: &str) {
        let of_it = self.items.iter_mut().filter(|((_, target, ..), _)| target.as_str() == of);
        of_it.for_each(|(_, item)| item.definition = None);
    }

    /// How long its calls took.
    pub(super) fn latencies(&mut self, runtime: &RuntimeId, target: &TargetId, kind: Kind, item: &Item) -> Arc<Latencies> {
        Arc::clone(&self.item(runtime, target, kind, item).latencies)
    }

    /// The definition of a tool, the same one as long as its text is the same.
    pub(super) fn definition(&mut self, runtime: &RuntimeId, target: &TargetId, tool: &Item) -> Arc<Definition> {
        let known = &mut self.item(runtime, target, Kind::Tool, tool).definition;
        match known {
            Some((raw, definition)) if *raw == tool.definition => Arc::clone(definition),
            _ => {
                let definition = Definition::new(runtime.as_str(), target.as_str(), &tool.name, &tool.definition);
                Arc::clone(&known.insert((tool.definition.clone(), Arc::new(definition))).1)
            }
        }
    }

    /// Judges the definition of a tool, once as long as its text is the same.
    pub(super) fn examine(&mut self, runtime: &RuntimeId, target: &TargetId, tool: &Item, care: Care) -> Examined {
        let known = &mut self.item(runtime, target, Kind::Tool, tool).found;
        if let Some((raw, made_with, found)) = known
            && *raw == tool.definition
            && *made_with == care
        {
            return Examined { found: Arc::clone(found), is_redefined: false };
        }
        let found = Arc::new(Found { verdict: judge(tool, care), fingerprint: Fingerprint::of(&tool.definition) });
        let before = known.replace((tool.definition.clone(), care, Arc::clone(&found)));
        let is_redefined = before.is_some_and(|(.., before)| before.fingerprint != found.fingerprint);
        Examined { found, is_redefined }
    }

    fn item(&mut self, runtime: &RuntimeId, target: &TargetId, kind: Kind, item: &Item) -> &mut OneItem {
        let budget = &self.budget;
        let new = || OneItem { latencies: Arc::new(Latencies::new(budget.clone())), definition: None, found: None, met_in: 0 };
        let known = self.items.entry((runtime.clone(), target.clone(), kind, item.name.clone())).or_insert_with(new);
        known.met_in = self.rebuilds;
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(definition: &'static str) -> Item {
        Item { name: "tool".into(), definition: Bytes::from_static(definition.as_bytes()) }
    }

    #[test]
    fn a_tool_is_redefined_when_its_definition_means_something_else() {
        let (runtime, target) = (RuntimeId("http".into()), TargetId::from("up"));
        let care = Care { strips_hidden_text: true };
        let mut known = Known::default();
        let cases = [
            (r#"{"name":"tool","description":"a"}"#, false),
            (r#"{ "description":"\u0061", "name":"tool"}"#, false),
            (r#"{"name":"tool","description":"b"}"#, true),
            (r#"{"name":"tool","description":"b"}"#, false),
        ];
        for (definition, expected) in cases {
            assert_eq!(known.examine(&runtime, &target, &tool(definition), care).is_redefined, expected, "{definition}");
        }
    }

    #[test]
    fn a_definition_is_the_same_until_its_text_changes_and_gone_with_its_tool() {
        let (runtime, target) = (RuntimeId("http".into()), TargetId::from("up"));
        let mut known = Known::default();
        known.begin();
        let first = known.definition(&runtime, &target, &tool("{}"));
        let same = known.definition(&runtime, &target, &tool("{}"));
        let changed = known.definition(&runtime, &target, &tool("{ }"));
        let latencies = known.latencies(&runtime, &target, Kind::Tool, &tool("{ }"));
        assert!(Arc::ptr_eq(&first, &same) && !Arc::ptr_eq(&first, &changed));
        drop((same, changed));

        known.begin();
        known.end();

        assert_eq!((known.items.len(), Arc::strong_count(&latencies)), (0, 1));
    }
}
