//! `[upstream.openapi]`: how an upstream's OpenAPI document becomes tools.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Pattern, Secret};

/// Settings of upstreams with `kind = "openapi"`.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OpenApi {
    /// Where the document is, relative to `url`; `openapi.json` when it is left out. Never of another origin.
    pub document: Option<String>,
    /// The operations that are offered, as patterns for a tool's name or for `METHOD /path`; all when it is left out.
    pub include: Vec<Pattern>,
    /// The operations that are not offered.
    pub exclude: Vec<Pattern>,
    /// Secrets by the name of the document's security scheme; for `basic` it is `user:password`.
    pub security: BTreeMap<String, Secret>,
    /// Changes to single operations; the first that matches counts.
    pub operation: Vec<OperationRule>,
}

/// Changes what the document says of some operations. What it leaves out stays as it is.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperationRule {
    /// The operations it is for: a pattern for the tool's name as the document gives it, or for `METHOD /path`.
    #[serde(rename = "match")]
    pub pattern: Pattern,
    /// The tool's name.
    pub name: Option<String>,
    /// The tool's title.
    pub title: Option<String>,
    /// The tool's description.
    pub description: Option<String>,
    /// Whether it changes nothing. Otherwise what the method means: true of GET.
    pub read_only: Option<bool>,
    /// Whether twice is the same as once. Otherwise what the method means: true of GET, PUT and DELETE.
    pub idempotent: Option<bool>,
    /// Whether it may destroy something. Otherwise what the method means: true of DELETE.
    pub destructive: Option<bool>,
    /// Whether the schema of the answer is given to clients.
    #[serde(default = "yes")]
    pub output_schema: bool,
    /// Whether a `/` in an argument that is part of the path stays a `/`, as `{file:path}` of FastAPI needs it.
    #[serde(default)]
    pub path_slashes: bool,
}

const fn yes() -> bool {
    true
}

impl OpenApi {
    /// As the runtime takes it.
    #[must_use]
    pub fn to_runtime(&self) -> runtime_http::OpenApi {
        let matchers = |patterns: &[Pattern]| patterns.iter().map(|pattern| pattern.matcher().clone()).collect();
        runtime_http::OpenApi {
            document: self.document.as_deref().map(Box::from),
            include: matchers(&self.include),
            exclude: matchers(&self.exclude),
            credentials: self.security.iter().map(|(name, secret)| (name.as_str().into(), secret.expose().into())).collect(),
            operations: self.operation.iter().map(OperationRule::to_runtime).collect(),
        }
    }
}

impl OperationRule {
    fn to_runtime(&self) -> runtime_http::OperationRule {
        runtime_http::OperationRule {
            pattern: self.pattern.matcher().clone(),
            name: self.name.as_deref().map(Box::from),
            title: self.title.as_deref().map(Box::from),
            description: self.description.as_deref().map(Box::from),
            read_only: self.read_only,
            idempotent: self.idempotent,
            destructive: self.destructive,
            output_schema: self.output_schema,
            path_slashes: self.path_slashes,
        }
    }
}
