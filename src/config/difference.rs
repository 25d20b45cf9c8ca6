//! What differs between two configurations, and what of that a running gateway can take over.
//!
//! Pure: two configurations in, a list of changes out. Both are compared as they are printed, with digests in place of
//! secrets, so that no key can be forgotten. A key that is not named in [`LIVE`] needs a restart.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Config, secret};

/// What a running gateway takes over: these keys and all below them.
const LIVE: [&str; 15] = [
    "admission",
    "definitions.strip_hidden_text",
    "http.allow_anonymous",
    "http.allowed_hosts",
    "http.allowed_origins",
    "http.body_bytes_max",
    "http.client",
    "http.exposure",
    "http.seal_key",
    "http.seal_key_previous",
    "http.separator",
    "peer",
    "routing",
    "tool",
    "upstream",
];

/// The same within `[p2p]`, while that table is neither made nor removed: then everything of peers needs a restart.
const LIVE_P2P: [&str; 2] = ["p2p.allow", "p2p.authority"];

/// What tells the entries of an array of tables apart, the first that all of them have.
const IDENTITIES: [&str; 3] = ["name", "match", "peer"];

/// One key that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The key: `upstream.weather.url`. Entries of arrays stand by their name.
    pub key: String,
    /// What happened to it.
    pub change: Kind,
    /// When it counts.
    pub effect: Effect,
    /// What it was, secrets as `***`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// What it is, secrets as `***`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It was not there.
    Added,
    /// It is not there any more.
    Removed,
    /// It has another value. The value of an array of tables whose entries stand in another order is their names.
    Changed,
}

/// When a change counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// A running gateway takes it over.
    Live,
    /// The gateway must be started anew.
    Restart,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let restart = if self.effect == Effect::Restart { "  (needs a restart)" } else { "" };
        match (&self.old, &self.new) {
            (None, Some(new)) => write!(f, "+ {} = {new}{restart}", self.key),
            (Some(old), None) => write!(f, "- {} = {old}{restart}", self.key),
            // Two secrets look alike.
            (Some(old), Some(new)) if old == new => write!(f, "~ {} = {new}, another{restart}", self.key),
            (old, new) => {
                let text = |value: &Option<Value>| value.as_ref().map_or_else(String::new, Value::to_string);
                write!(f, "~ {} = {} -> {}{restart}", self.key, text(old), text(new))
            }
        }
    }
}

impl Config {
    /// What differs in `new`, in the order of its keys.
    #[must_use]
    pub fn difference(&self, new: &Self) -> Vec<Change> {
        let (old_document, new_document) = secret::told_apart(|| (document(self), document(new)));
        let mut found = Walk { p2p_is_kept: self.p2p.is_some() == new.p2p.is_some(), changes: Vec::new() };
        found.tables(&Path::default(), &old_document, &new_document);
        for change in &mut found.changes {
            change.old.iter_mut().chain(&mut change.new).for_each(secret::hide);
        }
        found.changes
    }

    /// The upstreams and peers that both have and that differ.
    pub(crate) fn targets_changed(&self, new: &Self) -> HashSet<String> {
        let name = |change: Change| {
            let (table, rest) = change.key.split_once('.')?;
            let is_target = table == "upstream" || table == "peer";
            is_target.then(|| rest.split('.').next().unwrap_or(rest).to_owned())
        };
        self.difference(new).into_iter().filter_map(name).collect()
    }

    /// This configuration with whatever of `new` a running gateway can take over: its difference from `new` needs a restart.
    #[must_use]
    pub fn with_live_of(&self, new: &Self) -> Self {
        let mut merged = self.clone();
        merged.admission = new.admission.clone();
        merged.definitions.strip_hidden_text = new.definitions.strip_hidden_text;
        merged.routing.clone_from(&new.routing);
        merged.tool.clone_from(&new.tool);
        merged.upstream.clone_from(&new.upstream);
        let http = &mut merged.http;
        http.allow_anonymous = new.http.allow_anonymous;
        http.allowed_hosts.clone_from(&new.http.allowed_hosts);
        http.allowed_origins.clone_from(&new.http.allowed_origins);
        http.body_bytes_max = new.http.body_bytes_max;
        http.client.clone_from(&new.http.client);
        http.exposure = new.http.exposure;
        http.seal_key.clone_from(&new.http.seal_key);
        http.seal_key_previous.clone_from(&new.http.seal_key_previous);
        http.separator.clone_from(&new.http.separator);
        match (&mut merged.p2p, &new.p2p) {
            (Some(p2p), Some(new_p2p)) => {
                p2p.authority = new_p2p.authority;
                p2p.allow.clone_from(&new_p2p.allow);
                merged.peer.clone_from(&new.peer);
            }
            // Without a node there are no peers on either side.
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => {}
        }
        merged
    }
}

fn document(config: &Config) -> Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(document)) => document,
        other => unreachable!("a configuration is a table: {other:?}"),
    }
}

/// Where a value stands: for people, and without the names of entries, as in the schema.
#[derive(Debug, Clone, Default)]
struct Path {
    shown: String,
    schema: String,
}

impl Path {
    fn member(&self, name: &str) -> Self {
        Self { shown: join(&self.shown, &bare_or_quoted(name)), schema: join(&self.schema, name) }
    }

    fn entry(&self, name: &str) -> Self {
        Self { shown: join(&self.shown, &bare_or_quoted(name)), schema: self.schema.clone() }
    }
}

fn join(parent: &str, child: &str) -> String {
    if parent.is_empty() { child.to_owned() } else { format!("{parent}.{child}") }
}

/// As TOML writes a key.
fn bare_or_quoted(name: &str) -> String {
    let is_bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_bare { name.to_owned() } else { Value::from(name).to_string() }
}

struct Walk {
    p2p_is_kept: bool,
    changes: Vec<Change>,
}

impl Walk {
    fn tables(&mut self, path: &Path, old: &Map<String, Value>, new: &Map<String, Value>) {
        let gone = old.keys().filter(|key| !new.contains_key(*key));
        for key in new.keys().chain(gone) {
            self.values(&path.member(key), old.get(key), new.get(key));
        }
    }

    fn values(&mut self, path: &Path, old: Option<&Value>, new: Option<&Value>) {
        let there = |value: Option<&'_ Value>| value.filter(|value| !value.is_null()).cloned();
        match (there(old), there(new)) {
            (old, new) if old == new => {}
            (Some(Value::Object(old)), Some(Value::Object(new))) => self.tables(path, &old, &new),
            // An array that is empty is not printed at all.
            (None, Some(Value::Array(new))) if has_tables(&new) => self.entries(path, &[], &new),
            (Some(Value::Array(old)), None) if has_tables(&old) => self.entries(path, &old, &[]),
            (Some(Value::Array(old)), Some(Value::Array(new))) if has_tables(&old) || has_tables(&new) => {
                self.entries(path, &old, &new);
            }
            (old, new) => self.note(path, old, new),
        }
    }

    /// Arrays of tables: entries are compared with the one of the same name.
    fn entries(&mut self, path: &Path, old: &[Value], new: &[Value]) {
        let (Some(old), Some(new)) = names(old, new) else {
            return self.note(path, Some(old.into()), Some(new.into()));
        };
        let by_name = |entries: &[(String, Value)]| entries.iter().cloned().collect::<HashMap<_, _>>();
        let (olds, news) = (by_name(&old), by_name(&new));
        for (name, entry) in &new {
            self.values(&path.entry(name), olds.get(name), Some(entry));
        }
        for (name, entry) in old.iter().filter(|(name, _)| !news.contains_key(name)) {
            self.values(&path.entry(name), Some(entry), None);
        }
        // Who comes first matters: rules, and names that two targets want.
        let order = |entries: &[(String, Value)], others: &HashMap<String, Value>| -> Vec<Value> {
            entries
                .iter()
                .map(|(name, _)| name)
                .filter(|name| others.contains_key(*name))
                .map(|name| name.as_str().into())
                .collect()
        };
        let (old_order, new_order) = (order(&old, &news), order(&new, &olds));
        if old_order != new_order {
            self.note(path, Some(old_order.into()), Some(new_order.into()));
        }
    }

    fn note(&mut self, path: &Path, old: Option<Value>, new: Option<Value>) {
        let change = match (&old, &new) {
            (None, _) => Kind::Added,
            (_, None) => Kind::Removed,
            _ => Kind::Changed,
        };
        self.changes.push(Change { key: path.shown.clone(), change, effect: self.effect(&path.schema), old, new });
    }

    fn effect(&self, schema_path: &str) -> Effect {
        let within = |key: &str| schema_path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let is_live = match LIVE.iter().find(|key| within(key)) {
            Some(&"peer") => self.p2p_is_kept,
            Some(_) => true,
            None => LIVE_P2P.iter().any(|key| within(key)),
        };
        if is_live { Effect::Live } else { Effect::Restart }
    }
}

fn has_tables(items: &[Value]) -> bool {
    items.iter().any(Value::is_object)
}

type Named = Vec<(String, Value)>;

/// The entries of both sides by the same member; `None` where a name is missing or stands twice.
fn names(old: &[Value], new: &[Value]) -> (Option<Named>, Option<Named>) {
    let by = |entries: &[Value]| -> Option<Named> {
        let mut seen = HashMap::new();
        let named = entries.iter().map(|entry| {
            let name = IDENTITIES.iter().find_map(|member| entry.get(member)?.as_str())?;
            seen.insert(name.to_owned(), ()).is_none().then(|| (name.to_owned(), entry.clone()))
        });
        named.collect()
    };
    (by(old), by(new))
}

#[cfg(test)]
mod tests;
