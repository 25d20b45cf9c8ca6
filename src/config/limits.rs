//! What one target is asked at most: places for heavy tools, the breaker, the budget of retries.

use std::{num::NonZeroUsize, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration;

/// What one target is asked at most, be it an upstream or a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetLimits {
    /// Calls of `memory_intensive` tools at one time.
    pub memory_intensive: NonZeroUsize,
    /// Calls of `cpu_intensive` tools at one time.
    pub cpu_intensive: NonZeroUsize,
    /// Calls of `io_intensive` tools at one time.
    pub io_intensive: NonZeroUsize,
    /// When it is left alone.
    pub breaker: Breaker,
    /// Retries for each hundred calls of tools with a retry policy.
    pub retry_budget_percent: u8,
}

impl Default for TargetLimits {
    fn default() -> Self {
        Self {
            memory_intensive: default::memory_intensive(),
            cpu_intensive: default::cpu_intensive(),
            io_intensive: default::io_intensive(),
            breaker: Breaker::default(),
            retry_budget_percent: default::retry_budget_percent(),
        }
    }
}

/// When a target is left alone because it cannot be reached. What its tools answer, errors included, never counts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// Failures to reach it, one after the other, until it is left alone. 0 never leaves it alone.
    pub failures: u32,
    /// Time until one call tries it again; the others wait for the outcome of that one elsewhere.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub wait: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            // Five: a restart breaks a few connections at once, and that is no outage yet.
            failures: 5,
            // 5 s: as long as a server of any common framework takes to restart.
            wait: Duration::from_secs(5),
        }
    }
}

/// Defaults of a target's limits, each written once, for upstreams and peers alike.
pub(super) mod default {
    use super::NonZeroUsize;

    /// 2: what loads a model or a large table fills a machine with the second.
    pub(in crate::config) const fn memory_intensive() -> NonZeroUsize {
        const { NonZeroUsize::new(2).expect("not zero") }
    }

    /// 4: the cores of a small server; more would only slow each other down.
    pub(in crate::config) const fn cpu_intensive() -> NonZeroUsize {
        const { NonZeroUsize::new(4).expect("not zero") }
    }

    /// 64: what waits on disks and networks may overlap, up to the connections that a service usually grants.
    pub(in crate::config) const fn io_intensive() -> NonZeroUsize {
        const { NonZeroUsize::new(64).expect("not zero") }
    }

    /// 20 %: a target that is down is asked a fifth more than usual, not three times as much.
    pub(in crate::config) const fn retry_budget_percent() -> u8 {
        20
    }
}
