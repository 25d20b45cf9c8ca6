//! What is configured of an OpenAPI upstream.

use std::{collections::BTreeMap, fmt};

use globset::GlobMatcher;

/// Settings that only upstreams with an OpenAPI document have.
#[derive(Clone, Default)]
pub struct OpenApi {
    /// Where the document is, relative to the url; `openapi.json` when it is not given. It must be of the url's origin.
    pub document: Option<Box<str>>,
    /// Operations that are offered: globs on a tool's name or on `METHOD /path`. Empty: all.
    pub include: Vec<GlobMatcher>,
    /// Operations that are not offered.
    pub exclude: Vec<GlobMatcher>,
    /// Secrets by the name of the document's security scheme. For `basic` it is `user:password`.
    pub credentials: BTreeMap<Box<str>, Box<str>>,
    /// Changes to single operations; the first that matches counts.
    pub operations: Vec<OperationRule>,
}

/// Changes what the document says of some operations. What is `None` stays as it is.
#[derive(Debug, Clone)]
pub struct OperationRule {
    /// A glob on the tool's name, or on `METHOD /path`.
    pub pattern: GlobMatcher,
    /// The tool's name.
    pub name: Option<Box<str>>,
    /// Its title.
    pub title: Option<Box<str>>,
    /// Its description.
    pub description: Option<Box<str>>,
    /// `readOnlyHint`.
    pub read_only: Option<bool>,
    /// `idempotentHint`.
    pub idempotent: Option<bool>,
    /// `destructiveHint`.
    pub destructive: Option<bool>,
    /// Whether the tool has an output schema.
    pub output_schema: bool,
    /// Whether a `/` in a path parameter stays a `/`.
    pub path_slashes: bool,
}

impl fmt::Debug for OpenApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Credentials are named, not shown.
        let schemes: Vec<_> = self.credentials.keys().collect();
        f.debug_struct("OpenApi").field("document", &self.document).field("credentials", &schemes).finish_non_exhaustive()
    }
}

// A pattern is its text; the matcher made of it has no equality of its own.

impl PartialEq for OpenApi {
    fn eq(&self, other: &Self) -> bool {
        let Self { document, include, exclude, credentials, operations } = self;
        *document == other.document
            && texts(include).eq(texts(&other.include))
            && texts(exclude).eq(texts(&other.exclude))
            && *credentials == other.credentials
            && *operations == other.operations
    }
}

impl PartialEq for OperationRule {
    fn eq(&self, other: &Self) -> bool {
        let Self { pattern, name, title, description, read_only, idempotent, destructive, output_schema, path_slashes } = self;
        pattern.glob() == other.pattern.glob()
            && (name, title, description) == (&other.name, &other.title, &other.description)
            && (read_only, idempotent, destructive) == (&other.read_only, &other.idempotent, &other.destructive)
            && (output_schema, path_slashes) == (&other.output_schema, &other.path_slashes)
    }
}

fn texts(patterns: &[GlobMatcher]) -> impl Iterator<Item = &str> {
    patterns.iter().map(|pattern| pattern.glob().glob())
}
