//! `[[tool]]`: rules that set the metadata of tools.

use std::time::Duration;

use globset::{Glob, GlobMatcher};
use runtime_api::Priority;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{Name, Retry, duration, retry};

/// A rule. What it leaves out is taken from the tool's own metadata, as far as its target is trusted, or from the defaults.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolRule {
    /// The public names it is for.
    #[serde(default, rename = "match")]
    pub pattern: Option<Pattern>,
    /// Instead of `match`: the public name of one tool that `from` makes out of several.
    #[serde(default)]
    pub name: Option<String>,
    /// The public names of the tools that become this one. Calls go to whichever of them is best, and on to the next where one
    /// fails and nothing ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// They are one tool although their input schemas differ.
    #[serde(default)]
    pub compatible: bool,
    /// Which runtime calls go to.
    pub runtime: Option<RuntimeChoice>,
    /// Only peers may run it.
    pub requires_p2p: Option<bool>,
    /// What it belongs to, for views, search and metrics.
    pub category: Option<Name>,
    /// Urgency, 0 to 10; 10 is the most urgent.
    #[serde(default, serialize_with = "write_priority", deserialize_with = "read_priority")]
    #[schemars(with = "Option<u8>", range(max = 10))]
    pub priority: Option<Priority>,
    /// Time for one call.
    #[serde(default, with = "duration::option")]
    #[schemars(with = "Option<String>")]
    pub timeout: Option<Duration>,
    /// Whether and when a call that failed is made once more: `none`, `fixed`, `linear`, `exponential`, or a table. What may
    /// have run is tried again only if the tool is read-only or idempotent.
    #[serde(default)]
    #[schemars(with = "Option<retry::Written>")]
    pub retry: Option<Retry>,
    /// Its calls take places among the `memory_intensive` ones of their target.
    pub memory_intensive: Option<bool>,
    /// Its calls take places among the `cpu_intensive` ones of their target.
    pub cpu_intensive: Option<bool>,
    /// Its calls take places among the `io_intensive` ones of their target.
    pub io_intensive: Option<bool>,
    /// How long a result may be given to the same caller for the same arguments. Read-only tools only.
    #[serde(default, with = "duration::option")]
    #[schemars(with = "Option<String>")]
    pub cache_ttl: Option<Duration>,
    /// Clients are told to stop using it.
    pub deprecated: Option<bool>,
    /// What they are told.
    pub deprecation_message: Option<String>,
    /// The version of its definition.
    pub schema_version: Option<String>,
    /// It changes nothing, so it may run twice.
    pub read_only: Option<bool>,
    /// Running it twice is the same as once.
    pub idempotent: Option<bool>,
}

/// Which runtime the calls of a tool go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeChoice {
    /// Whichever offers it.
    #[default]
    Auto,
    /// The HTTP runtime; `fastapi` is read as this.
    #[serde(alias = "fastapi")]
    Http,
    /// The MCP++ runtime; `trio` is read as this.
    #[serde(alias = "trio")]
    Mcpp,
}

/// A glob over names: `p2p_*`, `gpu-box.{render,encode}`.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(transparent)]
pub struct Pattern(#[schemars(with = "String")] GlobMatcher);

impl ToolRule {
    /// What it is for, as it was written: a pattern or a name.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.pattern.as_ref().map(Pattern::as_str).or(self.name.as_deref()).unwrap_or_default()
    }
}

impl Pattern {
    /// Reads a glob.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, globset::Error> {
        Glob::new(text).map(|glob| Self(glob.compile_matcher()))
    }

    /// Whether it is for this name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }

    /// The glob itself.
    #[must_use]
    pub const fn matcher(&self) -> &GlobMatcher {
        &self.0
    }

    /// The text it was written as.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.glob().glob()
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(|error| D::Error::custom(format_args!("not a pattern: {}", error.kind())))
    }
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn write_priority<S: Serializer>(priority: &Option<Priority>, serializer: S) -> Result<S::Ok, S::Error> {
    priority.map(Priority::level).serialize(serializer)
}

fn read_priority<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Priority>, D::Error> {
    let level = i64::deserialize(deserializer)?;
    let priority = u8::try_from(level).ok().and_then(Priority::new);
    priority.map(Some).ok_or_else(|| D::Error::custom(format_args!("{level} is not within 0 to {}", Priority::MAX.level())))
}
