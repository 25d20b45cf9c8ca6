//! What a server in front of some targets can do: what any of them can.

use bytes::Bytes;
use runtime_api::{Kind, Support, TargetOffers, TargetState};
use runtime_mcp::{client, handshake::part};

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
    pub tasks: Tasks,
}

/// What a server does of tasks. In each era it is another thing, and neither is carried into the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tasks {
    /// Calls of tools can become tasks: `tasks.requests.tools.call` (2025-11-25).
    pub calls: bool,
    /// `tasks.list` (2025-11-25)
    pub list: bool,
    /// `tasks.cancel` (2025-11-25)
    pub cancel: bool,
    /// The extension of tasks (2026-07-28).
    pub extension: bool,
}

impl Tasks {
    /// None.
    pub const NONE: Self = Self { calls: false, list: false, cancel: false, extension: false };

    /// What one target does. Of one that has not answered, nothing is known: a client that saw more than there is would ask in vain.
    #[must_use]
    pub fn of(target: &TargetOffers) -> Self {
        let Some(declared) = &target.about.capabilities else { return Self::NONE };
        if target.eras.modern != Support::Yes {
            return Self::in_sessions(declared);
        }
        let extension = client::has_tasks_extension(std::str::from_utf8(declared).unwrap_or_default());
        let in_sessions = target.about.legacy_capabilities.as_ref().map_or(Self::NONE, Self::in_sessions);
        Self { extension, ..in_sessions }
    }

    /// What these capabilities of a server of sessions say.
    fn in_sessions(declared: &Bytes) -> Self {
        let Some(tasks) = part(declared, "tasks") else { return Self::NONE };
        let tools = part(&tasks, "requests").and_then(|requests| part(&requests, "tools"));
        if tools.is_none_or(|tools| part(&tools, "call").is_none()) {
            return Self::NONE;
        }
        let has = |name| part(&tasks, name).is_some();
        Self { calls: true, list: has("list"), cancel: has("cancel"), extension: false }
    }

    pub(super) const fn or(self, other: Self) -> Self {
        Self {
            calls: self.calls || other.calls,
            list: self.list || other.list,
            cancel: self.cancel || other.cancel,
            extension: self.extension || other.extension,
        }
    }
}

impl Capabilities {
    /// Clients ask once: a target that has not answered yet may have anything.
    const UNKNOWN: Self = Self {
        tools: true,
        prompts: true,
        resources: true,
        subscribe: true,
        completions: true,
        logging: true,
        tasks: Tasks::NONE,
    };

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
            tasks: Tasks::of(target),
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
            tasks: a.tasks.or(b.tasks),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
    fn tasks_are_offered_in_each_era_as_their_server_declares_them_there() {
        let core = r#"{"tasks":{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}}"#;
        let extension = r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
        let calls = Tasks { calls: true, ..Tasks::NONE };
        let all = Tasks { list: true, cancel: true, ..calls };
        let only_extension = Tasks { extension: true, ..Tasks::NONE };
        let cases = [
            (Support::No, Some(core), None, all),
            (Support::No, Some(extension), None, Tasks::NONE),
            (Support::Yes, Some(extension), None, only_extension),
            (Support::Yes, Some(core), None, Tasks::NONE),
            (Support::Yes, Some(extension), Some(core), Tasks { extension: true, ..all }),
            (Support::Yes, Some("{}"), Some(core), all),
            (Support::Yes, Some("{}"), Some(extension), Tasks::NONE),
            (Support::No, Some(r#"{"tasks":{"requests":{"tools":{"call":{}}}}}"#), None, calls),
            (Support::No, Some(r#"{"tasks":{"list":{},"requests":{}}}"#), None, Tasks::NONE),
            (Support::Unknown, None, None, Tasks::NONE),
        ];
        for (modern, declared, in_sessions, expected) in cases {
            let mut target = target(TargetState::Ready, declared);
            target.eras.modern = modern;
            target.about.legacy_capabilities = in_sessions.map(Bytes::from);

            assert_eq!(Tasks::of(&target), expected, "{modern:?} {declared:?} {in_sessions:?}");
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
