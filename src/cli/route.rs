//! `twinway route`: why a running gateway sends the calls of a tool where it does.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;

use super::{ClientError, Failure, Gateway, Output};
use crate::catalog::spelled_out;

/// Look at routes.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say which way a call of a tool would take now, why, why not another, and who said what of the tool.
    Explain(Explain),
}

/// Explain a route.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The tool's public name.
    tool: String,
    #[command(flatten)]
    gateway: Gateway,
}

/// What is printed for people of `/admin/api/route/{tool}`.
#[derive(Debug, Deserialize)]
struct Document {
    name: String,
    route: Option<Route>,
    refused: Option<String>,
    choices: Vec<Choice>,
    rule: Option<String>,
    #[serde(default)]
    metadata: serde_json::Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Route {
    runtime: String,
    target: String,
    reason: String,
    because: String,
}

#[derive(Debug, Deserialize)]
struct Choice {
    runtime: String,
    target: String,
    /// The tool's name there.
    name: String,
    state: String,
    state_reason: Option<String>,
    breaker: Option<String>,
    average_us: Option<u64>,
    chosen: bool,
    why_not: Option<String>,
}

/// A field of the metadata.
#[derive(Debug, Deserialize)]
struct Stated {
    value: Value,
    said_by: String,
}

impl Command {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        match self {
            Self::Explain(explain) => explain.run(output).await,
        }
    }
}

impl Explain {
    async fn run(self, output: Output) -> Result<(), Failure> {
        let client = self.gateway.client()?;
        let tool = utf8_percent_encode(&self.tool, NON_ALPHANUMERIC);
        let raw = client.document(&format!("route/{tool}"), &BTreeMap::new()).await?;
        if output.is_json() {
            return Ok(output.raw_line(raw.get())?);
        }
        let document: Document = serde_json::from_str(raw.get()).map_err(ClientError::NotMcp)?;
        Ok(output.raw_line(&document.text())?)
    }
}

impl Document {
    fn text(&self) -> String {
        let way = match (&self.route, &self.refused) {
            (Some(route), _) => {
                let Route { runtime, target, reason, because } = route;
                let own = self.own_name().map(|own| format!(", where it is `{}`", spelled_out(own))).unwrap_or_default();
                format!("{} -> {target} over the {runtime} runtime ({reason}: {because}){own}", self.name)
            }
            (None, Some(refused)) => format!("{} has no route: {refused}", self.name),
            (None, None) => format!("{} has no route", self.name),
        };
        let choices =
            table(&["", "TARGET", "RUNTIME", "STATE", "BREAKER", "AVERAGE", "WHY"], self.choices.iter().map(Choice::row));
        let metadata = self.metadata.iter().filter_map(|(field, stated)| self.field(field, stated));
        format!("{way}\n\n{choices}\n{}", table(&["FIELD", "VALUE", "SAID BY"], metadata).trim_end())
    }

    /// The tool's name where its calls go, unless the public name says it already.
    fn own_name(&self) -> Option<&str> {
        let chosen = self.choices.iter().find(|choice| choice.chosen)?;
        Some(&*chosen.name).filter(|own| !self.name.ends_with(own))
    }

    fn field(&self, name: &str, stated: &Value) -> Option<Vec<String>> {
        let Stated { value, said_by } = Stated::deserialize(stated).ok()?;
        let value = match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => text,
            other => other.to_string(),
        };
        let said_by = match &self.rule {
            Some(rule) if said_by == "rule" => format!("rule {rule}"),
            _ => said_by,
        };
        Some(vec![name.to_owned(), value, said_by])
    }
}

impl Choice {
    fn row(&self) -> Vec<String> {
        let why = if self.chosen { Some("chosen") } else { self.why_not.as_deref() };
        let why: Vec<_> = why.into_iter().chain(self.state_reason.as_deref()).collect();
        let mark = if self.chosen { "*" } else { "" };
        let breaker = self.breaker.as_deref().unwrap_or("off").to_owned();
        let average = self.average_us.map_or_else(|| "-".to_owned(), |average| format!("{average} us"));
        vec![mark.to_owned(), self.target.clone(), self.runtime.clone(), self.state.clone(), breaker, average, why.join("; ")]
    }
}

/// Columns as wide as their longest text; the last one has no padding.
fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let head = head.iter().map(|&text| text.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|text| text.chars().count()).max().unwrap_or(0);
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(column, text)| format!("{text:<width$}", width = width(column)));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_route_is_told_in_a_sentence_and_two_tables() {
        let document = json!({
            "name": "echo",
            "route": {"runtime": "mcpp", "target": "far", "reason": "explicit", "because": "the tool's `runtime` names it"},
            "refused": null,
            "rule": "ech*",
            "choices": [
                {"runtime": "http", "target": "near", "name": "echo", "state": "stale", "state_reason": "it is away", "breaker": "open",
                 "average_us": 1500, "chosen": false, "why_not": "no"},
                {"runtime": "mcpp", "target": "far", "name": "say it", "state": "ready", "state_reason": null, "chosen": true, "why_not": null},
            ],
            "metadata": {"priority": {"value": 7, "said_by": "rule"}, "cache_ttl": {"value": null, "said_by": "default"}},
        });

        let text = serde_json::from_value::<Document>(document).expect("a document").text();

        let expected = "echo -> far over the mcpp runtime (explicit: the tool's `runtime` names it), where it is `say it`\n\n   TARGET  RUNTIME  STATE  BREAKER  AVERAGE  WHY\n   near    http     stale  open     1500 us  no; it is away\n*  far     mcpp     ready  off      -        chosen\n\nFIELD      VALUE  SAID BY\npriority   7      rule ech*\ncache_ttl  -      default";
        assert_eq!(text, expected);
    }
}
