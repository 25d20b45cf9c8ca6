//! What a runtime's targets offer at this moment.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Freshness, Interest, TargetId};

/// A snapshot of everything a runtime offers. Published whole through a watch channel.
#[derive(Debug, Clone, Default)]
pub struct Offers {
    /// One entry for each configured or discovered target, in a stable order.
    pub targets: Vec<Arc<TargetOffers>>,
}

impl Offers {
    /// The offers of these targets, in this order, right after a change of configuration. A target that was there keeps what
    /// it offers; of one that is `fresh`, because it is new or its settings are, that is marked as not confirmed.
    #[must_use]
    pub fn of(&self, targets: &[TargetId], fresh: impl Fn(&TargetId) -> bool) -> Self {
        let offered = |id: &TargetId| {
            let known = self.targets.iter().find(|known| known.target == *id);
            match known {
                Some(known) if !fresh(id) => Arc::clone(known),
                Some(known) => Arc::new(known.unconfirmed()),
                None => Arc::new(TargetOffers::unheard_of(id.clone())),
            }
        };
        Self { targets: targets.iter().map(offered).collect() }
    }
}

/// Why the tools of a target whose settings changed are those that were known before.
const UNCONFIRMED: &str = "its configuration has changed, and it has not answered since";

/// What one target offers.
#[derive(Debug, Clone)]
pub struct TargetOffers {
    /// The target's name.
    pub target: TargetId,
    /// Whether it answers.
    pub state: TargetState,
    /// What carries its calls at this moment, as spans name it: `tcp`, `quic`, `pipe`. None while nothing does.
    pub transport: Option<&'static str>,
    /// Which eras it serves, as far as probed.
    pub eras: Eras,
    /// What it says of itself.
    pub about: About,
    /// What it lists.
    pub items: Items,
    /// For how long, and for whom, all that is good.
    pub freshness: Freshness,
    /// Which of its resources somebody wants to hear of.
    pub interest: Interest,
}

/// What a server says of itself: raw JSON values, absent when it says nothing or has not been asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// The `serverInfo` object.
    pub server_info: Option<Bytes>,
    /// The `capabilities` object.
    pub capabilities: Option<Bytes>,
    /// The `capabilities` object that it tells in sessions, where it serves both eras and `capabilities` are those of the modern one.
    pub legacy_capabilities: Option<Bytes>,
    /// The `instructions` string, with its quotes.
    pub instructions: Option<Bytes>,
}

/// What a target lists, each list in its order.
#[derive(Debug, Clone, Default)]
pub struct Items {
    /// `tools/list`
    pub tools: Arc<[Item]>,
    /// `prompts/list`
    pub prompts: Arc<[Item]>,
    /// `resources/list`
    pub resources: Arc<[Item]>,
    /// `resources/templates/list`
    pub templates: Arc<[Item]>,
}

impl Items {
    /// Tools and nothing else.
    #[must_use]
    pub fn of_tools(tools: impl Into<Arc<[Item]>>) -> Self {
        Self { tools: tools.into(), ..Self::default() }
    }

    /// One of the lists.
    #[must_use]
    pub const fn of(&self, kind: Kind) -> &Arc<[Item]> {
        match kind {
            Kind::Tool => &self.tools,
            Kind::Prompt => &self.prompts,
            Kind::Resource => &self.resources,
            Kind::Template => &self.templates,
        }
    }

    /// One of the lists, to put another in its place.
    pub const fn of_mut(&mut self, kind: Kind) -> &mut Arc<[Item]> {
        match kind {
            Kind::Tool => &mut self.tools,
            Kind::Prompt => &mut self.prompts,
            Kind::Resource => &mut self.resources,
            Kind::Template => &mut self.templates,
        }
    }
}

/// The kinds of things that a server of MCP lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A tool.
    Tool,
    /// A prompt.
    Prompt,
    /// A resource.
    Resource,
    /// A template of resources' URIs.
    Template,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tool, Self::Prompt, Self::Resource, Self::Template];

    /// The method that lists them.
    #[must_use]
    pub const fn list_method(self) -> &'static str {
        match self {
            Self::Tool => "tools/list",
            Self::Prompt => "prompts/list",
            Self::Resource => "resources/list",
            Self::Template => "resources/templates/list",
        }
    }

    /// The member of the result that holds them.
    #[must_use]
    pub const fn list_member(self) -> &'static str {
        match self {
            Self::Tool => "tools",
            Self::Prompt => "prompts",
            Self::Resource => "resources",
            Self::Template => "resourceTemplates",
        }
    }

    /// The member of a definition that names it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Tool | Self::Prompt => "name",
            Self::Resource => "uri",
            Self::Template => "uriTemplate",
        }
    }

    /// The capability that a server declares which has them.
    #[must_use]
    pub const fn capability(self) -> &'static str {
        match self {
            Self::Tool => "tools",
            Self::Prompt => "prompts",
            Self::Resource | Self::Template => "resources",
        }
    }
}

impl TargetOffers {
    /// A target that has not answered yet.
    #[must_use]
    pub fn unheard_of(target: TargetId) -> Self {
        let (state, eras) = (TargetState::Connecting, Eras::default());
        let (about, items) = (About::default(), Items::default());
        let (freshness, interest) = (Freshness::default(), Interest::default());
        Self { target, state, transport: None, eras, about, items, freshness, interest }
    }

    /// Clients keep the tools they know until the target has answered under its new settings.
    fn unconfirmed(&self) -> Self {
        let state = match self.state {
            TargetState::Ready | TargetState::Stale(_) => TargetState::Stale(UNCONFIRMED.into()),
            TargetState::Connecting | TargetState::Failed(_) => TargetState::Connecting,
        };
        // What the target said was said of its old settings.
        Self { state, transport: None, freshness: Freshness::default(), ..self.clone() }
    }
}

/// Whether a target answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetState {
    /// Not yet heard of.
    Connecting,
    /// It answers.
    Ready,
    /// It does not answer now; its last known list is served. Holds the reason.
    Stale(Arc<str>),
    /// It never answered. Holds the reason.
    Failed(Arc<str>),
}

impl TargetState {
    /// `connecting`, `ready`, `stale` or `failed`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Ready => "ready",
            Self::Stale(_) => "stale",
            Self::Failed(_) => "failed",
        }
    }

    /// Why it does not answer.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Connecting | Self::Ready => None,
            Self::Stale(reason) | Self::Failed(reason) => Some(reason),
        }
    }
}

/// One tool, prompt, resource or template as its target defines it.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its name at the target: of a resource its URI, of a template the template. Empty for a tool without one.
    pub name: Arc<str>,
    /// The whole definition as raw JSON, byte for byte.
    pub definition: Bytes,
}

/// The eras of a target. Probed apart, because many servers serve both and say so nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Eras {
    /// Serves revision 2026-07-28.
    pub modern: Support,
    /// Serves `initialize`.
    pub legacy: Support,
}

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Support {
    /// Not asked yet.
    #[default]
    Unknown,
    /// It does.
    Yes,
    /// It does not.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CacheHint, CacheHints};

    #[test]
    fn a_change_of_configuration_keeps_what_is_known_in_the_new_order() {
        let hints = CacheHints::without_lists(CacheHint::default());
        let ready = |name: &str| {
            let freshness = Freshness::new(hints);
            Arc::new(TargetOffers { state: TargetState::Ready, freshness, ..TargetOffers::unheard_of(name.into()) })
        };
        let before = Offers { targets: vec![ready("gone"), ready("same"), ready("changed")] };

        let after = before.of(&["changed".into(), "same".into(), "new".into()], |id| id.as_str() != "same");

        let states: Vec<_> = after.targets.iter().map(|target| (target.target.as_str(), target.state.as_str())).collect();
        assert_eq!(states, [("changed", "stale"), ("same", "ready"), ("new", "connecting")]);
        assert!(Arc::ptr_eq(&after.targets[1], &before.targets[1]));
        let said: Vec<_> = after.targets.iter().map(|target| target.freshness.hints()).collect();
        assert_eq!(said, [CacheHints::default(), hints, CacheHints::default()], "what was said of other settings is void");
    }
}
