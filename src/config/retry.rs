//! When a call that failed is made once more.

use std::{fmt, time::Duration};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{
        Error, MapAccess, Visitor,
        value::{MapAccessDeserializer, StrDeserializer},
    },
};

use super::duration;

/// Ten tries: after that many a target is not back in the time of a call.
const TRIES_MAX: u32 = 10;

/// How often and when a call is tried anew, within its deadline and the delivery rule. Written as the name of a policy, or as
/// a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Retry {
    /// How the waits grow.
    pub policy: Backoff,
    /// Tries in all, the first one included.
    pub attempts: u32,
    /// The first wait.
    #[serde(with = "duration")]
    pub delay: Duration,
    /// The longest wait.
    #[serde(with = "duration")]
    pub max_delay: Duration,
    /// The part of each wait that chance decides, 0 to 1, so that callers do not come back all at once.
    pub jitter: f64,
}

/// How the waits between tries grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// Nothing is tried anew.
    #[default]
    None,
    /// Each wait is `delay`.
    Fixed,
    /// The waits are one, two, three… times `delay`.
    Linear,
    /// Each wait is twice the one before it.
    Exponential,
}

/// The table that a retry may be written as.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    /// How the waits grow.
    policy: Backoff,
    /// Tries in all, the first one included.
    #[serde(default = "default::attempts")]
    #[schemars(range(min = 2, max = 10))]
    attempts: u32,
    /// The first wait.
    #[serde(default = "default::delay", with = "duration")]
    #[schemars(with = "String")]
    delay: Duration,
    /// The longest wait.
    #[serde(default = "default::max_delay", with = "duration")]
    #[schemars(with = "String")]
    max_delay: Duration,
    /// The part of each wait that chance decides, 0 to 1.
    #[serde(default = "default::jitter")]
    #[schemars(range(min = 0.0, max = 1.0))]
    jitter: f64,
}

/// Either way of writing it, for the schema.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its shape is read, by the schema")]
pub(super) enum Written {
    /// With the defaults of that policy.
    Policy(Backoff),
    /// In full.
    Table(Table),
}

/// Defaults of a retry, each written once.
mod default {
    use super::Duration;

    /// A restart or a lost connection is over by the third try, an outage is not over by the tenth.
    pub(super) const fn attempts() -> u32 {
        3
    }

    /// Longer than a reconnect on any network, shorter than a person notices.
    pub(super) const fn delay() -> Duration {
        Duration::from_millis(100)
    }

    /// A sixth of the time of a call.
    pub(super) const fn max_delay() -> Duration {
        Duration::from_secs(5)
    }

    /// Half: spreads a crowd over as much time as it waits, and never more than halves the wait.
    pub(super) const fn jitter() -> f64 {
        0.5
    }
}

impl Retry {
    /// A policy with the defaults.
    #[must_use]
    pub const fn new(policy: Backoff) -> Self {
        Self {
            policy,
            attempts: default::attempts(),
            delay: default::delay(),
            max_delay: default::max_delay(),
            jitter: default::jitter(),
        }
    }

    /// The key that is out of bounds, and what is wrong with it.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        if !(2..=TRIES_MAX).contains(&self.attempts) {
            return Err(("attempts", format!("{} is not within 2 to {TRIES_MAX}; the first try counts", self.attempts)));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(("jitter", format!("{} is not within 0 to 1", self.jitter)));
        }
        if self.max_delay < self.delay {
            let (delay, max_delay) = (humantime::format_duration(self.delay), humantime::format_duration(self.max_delay));
            return Err(("max_delay", format!("the longest wait, {max_delay}, is shorter than the first, {delay}")));
        }
        Ok(())
    }
}

impl From<Table> for Retry {
    fn from(table: Table) -> Self {
        let Table { policy, attempts, delay, max_delay, jitter } = table;
        Self { policy, attempts, delay, max_delay, jitter }
    }
}

impl<'de> Deserialize<'de> for Retry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Retry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a policy such as \"exponential\", or a table such as { policy = \"fixed\", attempts = 3 }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Retry, E> {
        Backoff::deserialize(StrDeserializer::new(text)).map(Retry::new)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Retry, A::Error> {
        Table::deserialize(MapAccessDeserializer::new(map)).map(Retry::from)
    }
}
