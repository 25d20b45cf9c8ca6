//! `tools`: what is offered under which name, what is known of it, and who said so.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{AdminError, Query, view};
use crate::{
    catalog::{Entry, Snapshot},
    metadata::{Field, Metadata},
    router::Candidate,
};

/// Tools in one answer; each is some 2 KB.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

/// A page of tools, in the order of their names.
#[derive(Debug, Serialize)]
pub(super) struct Document<'s> {
    tools: Vec<Tool<'s>>,
    /// `after` for the next page.
    next: Option<&'s str>,
    /// Tools of the view, whatever the query asked for.
    total: usize,
    /// Tools of all targets that are not offered because their definition would break clients.
    dropped: usize,
    /// Tools of all targets that wait for somebody to accept their definition.
    quarantined: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Tool<'s> {
    name: &'s str,
    category: &'s str,
    schema_version: &'s str,
    deprecated: bool,
    deprecation_message: Option<&'s str>,
    candidates: Vec<Place<'s>>,
    /// The rule that is for this tool.
    rule: Option<&'s str>,
    /// Each field: `value`, and `said_by`: `rule`, `tool`, `annotations` or `default`.
    metadata: Map<String, Value>,
}

/// A target that offers the tool, under its own name.
#[derive(Debug, Serialize)]
pub(super) struct Place<'s> {
    runtime: &'s str,
    target: &'s str,
    name: &'s str,
}

pub(super) fn document<'s>(snapshot: &'s Snapshot, query: &Query) -> Result<Document<'s>, AdminError> {
    let view = view(snapshot, query)?;
    let (entries, next) =
        view.tools.select(query.after.as_deref(), query.limit(LIMIT_DEFAULT, LIMIT_MAX), |entry| query.wants(entry));
    Ok(Document {
        tools: entries.into_iter().map(tool).collect(),
        next,
        total: view.tools.len(),
        dropped: snapshot.unsound.iter().filter(|unsound| unsound.is_dropped()).count(),
        quarantined: snapshot.quarantined.len(),
    })
}

pub(super) fn tool(entry: &Entry) -> Tool<'_> {
    let metadata = &entry.metadata;
    Tool {
        name: &entry.public,
        category: &metadata.category,
        schema_version: &metadata.schema_version,
        deprecated: metadata.deprecated,
        deprecation_message: metadata.deprecation_message.as_deref(),
        candidates: entry.candidates.iter().map(place).collect(),
        rule: metadata.rule.as_deref(),
        metadata: Field::ALL.iter().map(|field| (field.as_str().to_owned(), stated(metadata, *field))).collect(),
    }
}

fn place(candidate: &Candidate) -> Place<'_> {
    Place { runtime: candidate.runtime.as_str(), target: candidate.target.as_str(), name: &candidate.name }
}

/// A field, and who said what it is.
fn stated(metadata: &Metadata, field: Field) -> Value {
    json!({ "value": value(metadata, field), "said_by": metadata.said_by(field).as_str() })
}

/// As it would be written in a rule.
fn value(metadata: &Metadata, field: Field) -> Value {
    match field {
        Field::Runtime => json!(metadata.runtime),
        Field::RequiresP2p => metadata.requires_p2p.into(),
        Field::Category => (&*metadata.category).into(),
        Field::Priority => metadata.priority.level().into(),
        Field::Timeout => duration(metadata.timeout),
        Field::Retry => metadata.retry.as_ref().map_or_else(|| "none".into(), |retry| json!(retry)),
        Field::MemoryIntensive => metadata.memory_intensive.into(),
        Field::CpuIntensive => metadata.cpu_intensive.into(),
        Field::IoIntensive => metadata.io_intensive.into(),
        Field::CacheTtl => metadata.cache_ttl.map_or(Value::Null, duration),
        Field::Deprecated => metadata.deprecated.into(),
        Field::DeprecationMessage => metadata.deprecation_message.as_deref().into(),
        Field::SchemaVersion => (&*metadata.schema_version).into(),
        Field::ReadOnly => metadata.read_only.into(),
        Field::Idempotent => metadata.idempotent.into(),
    }
}

fn duration(duration: Duration) -> Value {
    humantime::format_duration(duration).to_string().into()
}
