//! Reads the one configuration file and says precisely what is wrong with it.
//!
//! The way of a document: text -> table with spans -> overrides from the environment -> structs -> secrets and paths
//! resolved -> cross-field checks. Every complaint knows its line and column, or the variable it came from.

mod admission;
mod cache;
mod definitions;
mod difference;
mod duration;
mod environment;
mod error;
mod grpc;
mod http;
mod import;
mod limits;
mod name;
mod network;
mod openapi;
mod peer;
mod remedy;
mod retry;
mod routing;
mod schema;
mod secret;
mod source;
mod tool;
mod upstream;
mod validate;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use admission::Admission;
pub use cache::Cache;
pub use definitions::{Definitions, PinMode};
pub use difference::{Change, Effect, Kind as ChangeKind};
pub use environment::Environment;
pub use error::{ConfigError, Place};
pub use grpc::Grpc;
pub use http::{Client, Exposure, Http, Tls};
pub use import::{ImportError, Imported, import};
pub use limits::{Breaker, TargetLimits};
pub use name::Name;
pub use network::HttpUrl;
pub use openapi::{OpenApi, OperationRule};
pub use peer::Peer;
pub use retry::{Backoff, Retry};
pub use routing::Routing;
pub use schema::schema;
pub use secret::{HeaderText, Secret};
pub use tool::{Pattern, RuntimeChoice, ToolRule};
pub use upstream::{EraChoice, Kind, Prefix, SessionChoice, Share, TransportChoice, Trust, Upstream};

pub(crate) use error::Invalid;

use crate::telemetry;
use source::Source;

/// Everything that can be configured. Only `[http]` is on by default; the other optional tables are off when absent.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The way in for MCP clients.
    pub http: Http,
    /// The way in for gRPC clients. Off when absent.
    pub grpc: Option<Grpc>,
    /// How much work is taken on at once.
    pub admission: Admission,
    /// Which runtime answers when a tool can be had over both.
    pub routing: Routing,
    /// How much the results of read-only tools may take up.
    pub cache: Cache,
    /// What is done about the definitions of tools.
    pub definitions: Definitions,
    /// The libp2p node. Off when absent.
    pub p2p: Option<runtime_mcpp::Config>,
    /// Logs and traces. Human logs and no traces when absent.
    pub telemetry: Option<telemetry::Config>,
    /// Servers to call tools on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub upstream: Vec<Upstream>,
    /// Peers to call tools on; they need the table `[p2p]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peer: Vec<Peer>,
    /// Rules that set the metadata of tools. The first that matches wins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool: Vec<ToolRule>,
}

impl Config {
    /// Reads a file, with the overrides and secrets of the process's environment. Blocks on the file system.
    ///
    /// # Errors
    /// [`ConfigError`] for whatever is wrong, each with its place. Within one table the parser stops at the first mistake.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Reads a document as if it stood in the file `origin`: relative paths are resolved against that file's folder.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, origin: &Path) -> Result<Self, ConfigError> {
        Self::parse_within(text, origin, &Environment::of_process())
    }

    /// As [`Config::parse`], with an environment of the caller's choice.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse_within(text: &str, origin: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        Self::read(text, origin, environment, &mut Vec::new())
    }

    /// As [`Config::load`], and says which files the configuration depends on: itself, and the secrets kept in files, as far
    /// as they are known in spite of an error.
    pub(crate) fn load_watched(path: &Path) -> (Result<Self, ConfigError>, Vec<PathBuf>) {
        let mut files = vec![path.to_owned()];
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source });
        let config = text.and_then(|text| Self::read(&text, path, &Environment::of_process(), &mut files));
        (config, files)
    }

    fn read(text: &str, origin: &Path, environment: &Environment, files: &mut Vec<PathBuf>) -> Result<Self, ConfigError> {
        let mut source = Source::parse(text, origin)?;
        source.override_from(environment)?;
        let mut config: Self = source.read().map_err(|errors| ConfigError::all(errors).expect("there is one"))?;
        let base = origin.parent().unwrap_or_else(|| Path::new(""));
        files.extend(config.secrets_mut().iter().filter_map(|(_, secret)| secret.file(base)));
        let mut found = config.resolve(base, environment);
        let unresolved: Vec<_> = found.iter().map(|invalid| invalid.path.clone()).collect();
        // A secret that could not be fetched is not complained about twice, once for being too short.
        found.extend(config.mistakes().into_iter().filter(|invalid| !unresolved.contains(&invalid.path)));
        let errors = found.into_iter().map(|invalid| source.explain(invalid)).collect();
        ConfigError::all(errors).map_or(Ok(config), Err)
    }

    /// Where the file or the environment says something about a path such as `http.listen`: for complaints that only the
    /// machine can make, of a port in use for example. `None` when the file cannot be read any more.
    #[must_use]
    pub fn place_of(path: &str, origin: &Path) -> Option<Place> {
        let text = std::fs::read_to_string(origin).ok()?;
        let environment = Environment::of_process();
        let mut source = Source::parse(&text, origin).ok()?;
        source.override_from(&environment).ok()?;
        Some(source.place_of(path))
    }

    /// The configuration in force as TOML, secrets as `***`.
    ///
    /// # Errors
    /// Only if a value cannot be written as TOML, which would be a fault of ours.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }
}

#[cfg(test)]
mod tests;
