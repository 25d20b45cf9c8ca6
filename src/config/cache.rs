//! `[cache]`: how much the results of read-only tools may take up. Which tools, and for how long, their rules say.

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much kept results may take up. What was not used for longest gives way first.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// Memory for results, in bytes. A single one may take an eighth of it.
    pub bytes_max: NonZeroUsize,
    /// Results at one time.
    pub entries_max: NonZeroUsize,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            // 64 MiB: what a small machine can spare; 16,000 results of 4 KiB.
            bytes_max: const { NonZeroUsize::new(64 << 20).expect("not zero") },
            // 16,384: small results cost some 300 bytes of book-keeping each, so that these are 5 MiB at most.
            entries_max: const { NonZeroUsize::new(16 << 10).expect("not zero") },
        }
    }
}
