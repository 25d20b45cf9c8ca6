//! `changes`: what became of the catalogue lately.

use serde::Serialize;

use super::Query;
use crate::catalog::{Catalog, Changed, Changes, Listed, ViewChanges};

/// The latest changes, the oldest first.
#[derive(Debug, Serialize)]
pub(super) struct Document {
    changes: Vec<Change>,
}

#[derive(Debug, Serialize)]
struct Change {
    /// The number of the catalogue that it led to; `?since=` takes it.
    number: u64,
    /// RFC 3339.
    at: String,
    views: Vec<View>,
}

#[derive(Debug, Serialize)]
struct View {
    /// The upstream or peer whose own view it is; empty for the merged one.
    view: String,
    added: List<String>,
    removed: List<String>,
    changed: List<Tool>,
}

#[derive(Debug, Serialize)]
struct List<T> {
    count: usize,
    /// The first of them, at most a hundred.
    first: Vec<T>,
}

#[derive(Debug, Serialize)]
struct Tool {
    tool: String,
    old_schema_version: String,
    new_schema_version: String,
    /// Whether its definition differs, not only its version.
    definition: bool,
}

pub(super) fn document(catalog: &Catalog, query: &Query) -> Document {
    Document { changes: catalog.changes_since(query.since).iter().map(|changes| change(changes)).collect() }
}

fn change(changes: &Changes) -> Change {
    Change {
        number: changes.number,
        at: humantime::format_rfc3339_millis(changes.at).to_string(),
        views: changes.views.iter().map(view).collect(),
    }
}

fn view(changes: &ViewChanges) -> View {
    View {
        view: changes.view.to_string(),
        added: list(&changes.added, ToString::to_string),
        removed: list(&changes.removed, ToString::to_string),
        changed: list(&changes.changed, tool),
    }
}

fn list<T, U>(listed: &Listed<T>, one: impl Fn(&T) -> U) -> List<U> {
    List { count: listed.count, first: listed.first.iter().map(one).collect() }
}

fn tool(changed: &Changed) -> Tool {
    Tool {
        tool: changed.tool.to_string(),
        old_schema_version: changed.old_version.to_string(),
        new_schema_version: changed.new_version.to_string(),
        definition: changed.definition,
    }
}
