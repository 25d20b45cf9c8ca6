//! `twinway config`: looks at a configuration without serving it.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{ConfigFile, Failure, Output};
use crate::config::{self, Change, Config, Effect};

/// Looks at a configuration.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say whether it is right.
    Check(ConfigFile),
    /// Print what is in force, secrets as ***.
    Show(ConfigFile),
    /// Say what differs between two files, and what of that a running gateway takes over without a restart.
    Diff(Diff),
    /// Print the servers of another program's configuration as upstreams: `.mcp.json`, or that of Claude Desktop, Cursor or VS Code.
    Import {
        /// The file.
        file: PathBuf,
    },
    /// Print its JSON Schema.
    Schema,
}

/// Say what differs between two files, and what of that a running gateway takes over without a restart.
///
/// One line for each key: `+` added, `-` removed, `~` changed. Both files must be right.
#[derive(Debug, Args)]
pub(super) struct Diff {
    /// The configuration that runs.
    old: PathBuf,
    /// The configuration that shall run.
    new: PathBuf,
    /// End with 5 when something differs, and with 6 when something of that needs a restart, instead of 0.
    #[arg(long)]
    exit_code: bool,
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
            Self::Diff(diff) => diff.run(output)?,
            Self::Import { file } => {
                let named = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", file.display()));
                let text = std::fs::read_to_string(&file).map_err(|error| named(&error))?;
                let imported = config::import(&text).map_err(|error| named(&crate::chain::chain(&error)))?;
                imported.notes.iter().for_each(|note| output.note(note));
                let document = json!({ "toml": imported.text, "upstreams": imported.upstreams, "notes": imported.notes });
                output.either(&document, imported.text.trim_end())?;
            }
            Self::Schema => {
                let schema = serde_json::to_string_pretty(&config::schema()).map_err(Failure::failed)?;
                output.raw_line(&schema)?;
            }
        }
        Ok(())
    }
}

impl Diff {
    fn run(&self, output: Output) -> Result<(), Failure> {
        let changes = Config::load(&self.old)?.difference(&Config::load(&self.new)?);
        let restarts = changes.iter().filter(|change| change.effect == Effect::Restart).count();
        let live = changes.len() - restarts;
        let mut lines: Vec<String> = changes.iter().map(Change::to_string).collect();
        lines.push(match (live, restarts) {
            (0, 0) => "nothing differs".to_owned(),
            (live, 0) => format!("{} a running gateway takes over", counted(live, "change")),
            (live, restarts) => {
                format!(
                    "{} a running gateway takes over, {} after a restart",
                    counted(live, "change"),
                    counted(restarts, "change")
                )
            }
        });
        let document = json!({ "changes": changes, "live": live, "needs_restart": restarts });
        output.either(&document, &lines.join("\n"))?;
        match (live, restarts) {
            _ if !self.exit_code => Ok(()),
            (0, 0) => Ok(()),
            (_, 0) => Err(Failure::Differs { restart: false }),
            _ => Err(Failure::Differs { restart: true }),
        }
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
