//! `[routing]`: which runtime answers when a tool can be had over both.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Pattern, RuntimeChoice};

/// Which runtime answers when a tool can be had over both and its metadata does not say.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Routing {
    /// Public names of tools that peers are asked for first.
    pub peer_names: Vec<Pattern>,
    /// Who is asked first for all others; `auto` is whoever is quicker.
    pub default_runtime: RuntimeChoice,
}

impl Default for Routing {
    fn default() -> Self {
        let names = ["p2p_*", "*workflow*", "*taskqueue*", "*peer*", "*bootstrap*"];
        Self {
            // What such names are about lies with peers by its nature.
            peer_names: names.map(|name| Pattern::new(name).expect("these are patterns")).into(),
            // A server that can be reached directly is one hop less.
            default_runtime: RuntimeChoice::Http,
        }
    }
}
