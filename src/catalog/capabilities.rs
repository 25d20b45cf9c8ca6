//! What a server in front of some targets can do: what any of them can.

use runtime_api::{Kind, TargetOffers, TargetState};
use runtime_mcp::handshake::part;

/// Capabilities of a server, as `initialize` and `server/discover` tell them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "each field is the capability of the same name")]
pub struct Capabilities {
    pub tools: bool,
    pub prompts: bool,
    pub resources: bool,
    /// `resources.subscribe`
    pub subscribe: bool,
    pub completions: bool,
    pub logging: bool,
}

impl Capabilities {
    /// Clients ask once: a target that has not answered yet may have anything.
    const UNKNOWN: Self = Self { tools: true, prompts: true, resources: true, subscribe: true, completions: true, logging: true };

    /// What one target can do.
    #[must_use]
    pub fn of(target: &TargetOffers) -> Self {
        let Some(declared) = &target.about.capabilities else {
            return match target.state {
                TargetState::Connecting | TargetState::Failed(_) => Self::UNKNOWN,
                // It does not speak MCP, or declares nothing.
                TargetState::Ready | TargetState::Stale(_) => Self { tools: true, ..Self::listed(target) },
            };
        };
        let has = |name| part(declared, name).is_some();
        let subscribe = part(declared, "resources").and_then(|resources| part(&resources, "subscribe"));
        let declared = Self {
            tools: has("tools"),
            prompts: has("prompts"),
            resources: has("resources"),
            subscribe: subscribe.is_some_and(|raw| &raw[..] == b"true"),
            completions: has("completions"),
            logging: has("logging"),
        };
        [declared, Self::listed(target)].into_iter().collect()
    }

    fn listed(target: &TargetOffers) -> Self {
        let lists = |kind| !target.items.of(kind).is_empty();
        Self {
            tools: lists(Kind::Tool),
            prompts: lists(Kind::Prompt),
            resources: lists(Kind::Resource) || lists(Kind::Template),
            ..Self::default()
        }
    }
}

impl FromIterator<Self> for Capabilities {
    /// What any of them can do.
    fn from_iter<I: IntoIterator<Item = Self>>(all: I) -> Self {
        all.into_iter().fold(Self::default(), |a, b| Self {
            tools: a.tools || b.tools,
            prompts: a.prompts || b.prompts,
            resources: a.resources || b.resources,
            subscribe: a.subscribe || b.subscribe,
            completions: a.completions || b.completions,
            logging: a.logging || b.logging,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;

    fn target(state: TargetState, capabilities: Option<&'static str>) -> TargetOffers {
        let mut target = TargetOffers { state, ..TargetOffers::unheard_of("up".into()) };
        target.about.capabilities = capabilities.map(Bytes::from);
        target
    }

    #[test]
    fn what_a_target_declares_counts_and_of_one_that_has_not_answered_anything_is_possible() {
        let tools = Capabilities { tools: true, ..Capabilities::default() };
        let cases = [
            (TargetState::Ready, Some(r#"{"tools":{}}"#), tools),
            (TargetState::Ready, None, tools),
            (TargetState::Stale(Arc::from("gone")), Some(r#"{"tools":{"listChanged":false}}"#), tools),
            (TargetState::Connecting, None, Capabilities::UNKNOWN),
            (TargetState::Failed(Arc::from("gone")), None, Capabilities::UNKNOWN),
            (
                TargetState::Ready,
                Some(r#"{"resources":{"subscribe":true},"completions":{},"logging":{}}"#),
                Capabilities { resources: true, subscribe: true, completions: true, logging: true, ..Capabilities::default() },
            ),
        ];
        for (state, declared, expected) in cases {
            assert_eq!(Capabilities::of(&target(state.clone(), declared)), expected, "{state:?} {declared:?}");
        }
    }

    #[test]
    fn a_view_can_do_what_any_of_its_targets_can() {
        let a = Capabilities { prompts: true, ..Capabilities::default() };
        let b = Capabilities { logging: true, ..Capabilities::default() };

        assert_eq!([a, b].into_iter().collect::<Capabilities>(), Capabilities { logging: true, ..a });
        assert_eq!(std::iter::empty().collect::<Capabilities>(), Capabilities::default());
    }
}
