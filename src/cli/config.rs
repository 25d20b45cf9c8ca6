//! `twinway config`: looks at a configuration without serving it.

use std::path::Path;

use clap::Subcommand;
use serde_json::json;

use super::{ConfigFile, Failure, Output};
use crate::config::{self, Config};

/// Looks at a configuration.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say whether it is right.
    Check(ConfigFile),
    /// Print what is in force, secrets as ***.
    Show(ConfigFile),
    /// Print its JSON Schema.
    Schema,
}

impl Command {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        match self {
            Self::Check(file) => {
                let config = file.load()?;
                let (upstreams, peers) = (config.upstream.len(), config.peer.len());
                let warnings = warnings(&config, file.config.as_deref());
                if !output.is_json() {
                    warnings.iter().for_each(|warning| output.note(warning));
                }
                let document = json!({ "ok": true, "upstreams": upstreams, "peers": peers, "warnings": warnings });
                let (upstreams, peers) = (counted(upstreams, "upstream"), counted(peers, "peer"));
                output.either(&document, &format!("the configuration is right: {upstreams}, {peers}"))?;
            }
            Self::Show(file) => {
                let config = file.load()?;
                output.either(&config, config.to_toml().map_err(Failure::failed)?.trim_end())?;
            }
            Self::Schema => {
                let schema = serde_json::to_string_pretty(&config::schema()).map_err(Failure::failed)?;
                output.raw_line(&schema)?;
            }
        }
        Ok(())
    }
}

/// What is not wrong and yet hardly meant, each with its place where the configuration is a file.
fn warnings(config: &Config, file: Option<&Path>) -> Vec<String> {
    let placed = |warning: config::Invalid| match file.and_then(|file| Config::place_of(&warning.path, file)) {
        Some(place) => format!("{place}: warning: {}", warning.what),
        None => format!("warning: {}", warning.what),
    };
    config.warnings().into_iter().map(placed).collect()
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}
