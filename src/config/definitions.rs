//! `[definitions]`: what is done about the definitions of tools, beside what must be. And `pin` of an upstream or a peer.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is done about the definitions of tools.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Definitions {
    /// Takes characters that nobody sees, and that models read, out of titles and descriptions.
    pub strip_hidden_text: bool,
    /// Where the accepted definitions of pinned tools are kept, relative to this file. Needed when anything is pinned.
    pub pins_file: Option<PathBuf>,
}

impl Default for Definitions {
    fn default() -> Self {
        // Nobody writes invisible text for people. A file is written only where somebody has said so.
        Self { strip_hidden_text: true, pins_file: None }
    }
}

/// Which tools of a target are kept from clients until somebody accepts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PinMode {
    /// None.
    #[default]
    Off,
    /// Those whose definition is not the one that was seen first, or accepted since.
    Changed,
    /// These, and those that come after the target's first list.
    All,
}
