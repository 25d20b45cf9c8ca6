//! What the gateway knows of a tool beside its definition, and who said so.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use runtime_api::Priority;
use twinway_proto::json::{self, members};

use crate::config::{Config, RuntimeChoice, ToolRule, Trust};

/// Longest call. What takes longer than a day is no call any more, and a time that cannot be added to a clock is nonsense.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The `_meta` member of a definition in which a tool describes itself.
const OWN_METADATA: &str = "twinway/metadata";

/// Enforced by the router (`runtime`, `requires_p2p`), admission (`priority`), the deadline layer (`timeout`) and the
/// catalogue (`category`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Which runtime must answer.
    pub runtime: RuntimeChoice,
    /// Only peers may answer.
    pub requires_p2p: bool,
    /// Groups tools in the catalogue and in metrics.
    pub category: Arc<str>,
    /// Who waits when there is too much to do.
    pub priority: Priority,
    /// How long a call may take.
    pub timeout: Duration,
}

/// Where metadata comes from, strongest first: rules, the tool itself (if trusted), defaults.
#[derive(Debug, Clone)]
pub struct Sources {
    rules: Arc<[ToolRule]>,
    default_timeout: Duration,
}

impl Sources {
    /// The configured rules and defaults.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self { rules: config.tool.as_slice().into(), default_timeout: config.admission.default_timeout }
    }

    /// The metadata of the tool with this public name.
    #[must_use]
    pub fn of(&self, public: &str, definition: &Bytes, trust: Trust) -> Metadata {
        let mut metadata = Metadata {
            runtime: RuntimeChoice::Auto,
            requires_p2p: false,
            category: "general".into(),
            priority: Priority::default(),
            timeout: self.default_timeout,
        };
        if trust == Trust::Hints {
            metadata.read_own(definition);
        }
        if let Some(rule) = self.rules.iter().find(|rule| rule.pattern.matches(public)) {
            metadata.apply(rule);
        }
        metadata.timeout = metadata.timeout.min(TIMEOUT_MAX);
        metadata
    }
}

impl Metadata {
    fn apply(&mut self, rule: &ToolRule) {
        self.runtime = rule.runtime.unwrap_or(self.runtime);
        self.requires_p2p = rule.requires_p2p.unwrap_or(self.requires_p2p);
        self.priority = rule.priority.unwrap_or(self.priority);
        self.timeout = rule.timeout.unwrap_or(self.timeout);
        if let Some(category) = &rule.category {
            self.category = category.as_str().into();
        }
    }

    /// A member that cannot be read is as good as absent: a definition of somebody else must not stop the gateway.
    fn read_own(&mut self, definition: &Bytes) {
        let part = |object: &Bytes, name: &str| runtime_mcp::handshake::part(object, name);
        let Some(own) = part(definition, "_meta").and_then(|meta| part(&meta, OWN_METADATA)) else { return };
        let Ok(text) = std::str::from_utf8(&own) else { return };
        for member in members(text).flatten() {
            let string = || json::string(member.value);
            match &*member.key.text() {
                "runtime" => self.runtime = string().and_then(|text| runtime(&text)).unwrap_or(self.runtime),
                "requires_p2p" => self.requires_p2p = member.value == "true",
                "category" => self.category = string().map_or_else(|| self.category.clone(), Arc::from),
                "priority" => {
                    let level = member.value.parse().ok().and_then(Priority::new);
                    self.priority = level.unwrap_or(self.priority);
                }
                "timeout" => {
                    let timeout = string().and_then(|text| humantime::parse_duration(&text).ok());
                    self.timeout = timeout.filter(|timeout| !timeout.is_zero()).unwrap_or(self.timeout);
                }
                _ => {}
            }
        }
    }
}

fn runtime(name: &str) -> Option<RuntimeChoice> {
    match name {
        "auto" => Some(RuntimeChoice::Auto),
        "http" | "fastapi" => Some(RuntimeChoice::Http),
        "mcpp" | "trio" => Some(RuntimeChoice::Mcpp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const OWN: &str =
        r#"{"name":"t","_meta":{"twinway/metadata":{"runtime":"trio","priority":9,"timeout":"2s","category":"gpu"}}}"#;

    fn sources(rules: &str) -> Sources {
        Sources::new(&Config::parse(rules, Path::new("test.toml")).expect("a good configuration"))
    }

    #[test]
    fn a_rule_is_stronger_than_the_tool_and_the_tool_than_the_default() {
        let sources = sources("[[tool]]\nmatch = \"up.*\"\npriority = 2\n");

        let metadata = sources.of("up.t", &Bytes::from_static(OWN.as_bytes()), Trust::Hints);

        assert_eq!(metadata.priority.level(), 2);
        assert_eq!(metadata.runtime, RuntimeChoice::Mcpp);
        assert_eq!(metadata.timeout, Duration::from_secs(2));
        assert_eq!(&*metadata.category, "gpu");
    }

    #[test]
    fn a_target_that_is_not_trusted_says_nothing_about_itself() {
        let metadata = sources("").of("up.t", &Bytes::from_static(OWN.as_bytes()), Trust::None);

        assert_eq!(metadata.priority, Priority::default());
        assert_eq!(metadata.runtime, RuntimeChoice::Auto);
    }

    #[test]
    fn a_tool_cannot_ask_for_no_time_or_for_all_of_it() {
        let of = |timeout: &str| {
            let own = format!(r#"{{"_meta":{{"twinway/metadata":{{"timeout":"{timeout}"}}}}}}"#);
            sources("").of("t", &Bytes::from(own), Trust::Hints).timeout
        };

        assert_eq!(of("10000000000000000000s"), TIMEOUT_MAX);
        assert_eq!(of("0s"), Duration::from_secs(30));
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        let sources = sources("[[tool]]\nmatch = \"a*\"\ntimeout = \"1s\"\n[[tool]]\nmatch = \"*\"\ntimeout = \"9s\"\n");
        let definition = Bytes::from_static(b"{}");

        assert_eq!(sources.of("ab", &definition, Trust::None).timeout, Duration::from_secs(1));
        assert_eq!(sources.of("b", &definition, Trust::None).timeout, Duration::from_secs(9));
    }
}
