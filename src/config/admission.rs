//! `[admission]`: how much work is taken on at once.

use std::{num::NonZeroUsize, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration;

/// How much work is taken on at once. What does not fit is refused with a hint when to come back.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admission {
    /// Calls in flight at one time, over all targets.
    pub in_flight_max: NonZeroUsize,
    /// Calls that wait for a place, the most urgent first. 0 refuses at once.
    pub queue_max: usize,
    /// Time for a call whose tool has no `timeout` of its own.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub default_timeout: Duration,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            // 4,096 calls of 64 KiB each way are 512 MiB: more would be swapped, not served.
            in_flight_max: const { NonZeroUsize::new(4_096).expect("not zero") },
            // As many again: at 30 s a call, whoever stands further back would run out of time in the queue.
            queue_max: 4_096,
            // 30 s: what MCP clients wait themselves by default is 60 s; they shall get an answer before they give up.
            default_timeout: Duration::from_secs(30),
        }
    }
}
