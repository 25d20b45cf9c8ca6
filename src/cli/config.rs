//! `twinway config`: looks at a configuration without serving it.

use clap::Subcommand;
use serde_json::json;

use super::{ConfigFile, Failure, Output};
use crate::config;

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
                let document = json!({ "ok": true, "upstreams": upstreams, "peers": peers });
                output.either(&document, &format!("the configuration is right: {upstreams} upstreams, {peers} peers"))?;
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
