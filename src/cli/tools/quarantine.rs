//! `twinway tools quarantined` and `twinway tools accept`: tools that a running gateway keeps back until somebody accepts them.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    admin::ACCEPT,
    catalog::{Fingerprint, spelled_out},
    cli::{Client, ClientError, Failure, Gateway, Output},
};

/// What to do about quarantined tools.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// List the tools that are not offered until somebody accepts their definition, with what changed in it.
    Quarantined(Quarantined),
    /// Accept the definition of a tool.
    Accept(Accept),
}

/// List quarantined tools.
#[derive(Debug, Args)]
pub(in crate::cli) struct Quarantined {
    #[command(flatten)]
    gateway: Gateway,
}

/// Accept a tool.
#[derive(Debug, Args)]
pub(in crate::cli) struct Accept {
    /// Its name, as `twinway tools quarantined` has it.
    tool: String,
    /// The digest of the definition to accept. Absent: the present one, which is printed first.
    #[arg(long, value_name = "DIGEST")]
    digest: Option<Fingerprint>,
    #[command(flatten)]
    gateway: Gateway,
}

/// One page of `/admin/api/quarantine`.
#[derive(Deserialize)]
struct Page {
    quarantined: Vec<Box<RawValue>>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Tool {
    name: String,
    target: String,
    cause: String,
    because: String,
    digest: String,
    definition: Value,
    accepted: Option<Accepted>,
}

#[derive(Deserialize)]
struct Accepted {
    digest: String,
    at: String,
    definition: Option<Value>,
}

impl Command {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        match self {
            Self::Quarantined(list) => list.run(output).await,
            Self::Accept(accept) => accept.run(output).await,
        }
    }
}

impl Quarantined {
    async fn run(self, output: Output) -> Result<(), Failure> {
        let client = self.gateway.client()?;
        let mut after: Option<String> = None;
        loop {
            let query = after.as_deref().map(|after| ("after", after)).into_iter().collect();
            let page = page(&client, &query).await?;
            for raw in &page.quarantined {
                output.raw_line(&if output.is_json() { raw.get().to_owned() } else { read(raw)?.text() })?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

impl Accept {
    async fn run(self, output: Output) -> Result<(), Failure> {
        let client = self.gateway.client()?;
        let digest = match self.digest {
            Some(digest) => digest.to_string(),
            None => {
                let page = page(&client, &BTreeMap::from([("tool", self.tool.as_str())])).await?;
                let found = page.quarantined.first();
                let found = found.ok_or_else(|| Failure::failed(format!("no tool `{}` is quarantined", self.tool)))?;
                let tool = read(found)?;
                output.say(&tool.text())?;
                tool.digest
            }
        };
        let accepted = client.tell(ACCEPT, &json!({ "tool": self.tool, "digest": digest })).await?;
        let text = format!("accepted {} as {digest}", self.tool);
        Ok(output.raw_line(if output.is_json() { accepted.get() } else { &text })?)
    }
}

async fn page(client: &Client, query: &BTreeMap<&str, &str>) -> Result<Page, ClientError> {
    let page = client.document("quarantine", query).await?;
    serde_json::from_str(page.get()).map_err(ClientError::NotMcp)
}

fn read(raw: &RawValue) -> Result<Tool, ClientError> {
    serde_json::from_str(raw.get()).map_err(ClientError::NotMcp)
}

impl Tool {
    /// A line, and one for each member of the definition that is not what it was.
    fn text(&self) -> String {
        let Self { name, target, cause, because, digest, .. } = self;
        let mut lines = vec![format!("{name}  {cause}: {because}"), format!("  offered by {target} now: {digest}")];
        if let Some(Accepted { digest, at, definition }) = &self.accepted {
            lines.push(format!("  accepted {at}: {digest}"));
            if definition.is_none() {
                lines.push("  that definition was too long to be kept, so this is the whole new one".to_owned());
            }
        }
        let before = self.accepted.as_ref().and_then(|accepted| accepted.definition.as_ref());
        lines.extend(differences(before.unwrap_or(&Value::Null), &self.definition));
        lines.join("\n")
    }
}

/// The members that differ, with `-` as they were and `+` as they are.
fn differences(before: &Value, after: &Value) -> Vec<String> {
    let nothing = Map::new();
    let [old, new] = [before, after].map(|value| value.as_object().unwrap_or(&nothing));
    let line = |mark, key: &String, value: &Value| format!("  {mark} {}: {}", spelled_out(key), spelled_out(&value.to_string()));
    let gone = old.iter().filter(|(key, _)| !new.contains_key(*key)).map(|(key, value)| line('-', key, value));
    let changed = new.iter().filter(|(key, value)| old.get(*key) != Some(value)).flat_map(|(key, value)| {
        let was = old.get(key).map(|value| line('-', key, value));
        was.into_iter().chain([line('+', key, value)])
    });
    gone.chain(changed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_what_changed_and_also_what_nobody_should_see() {
        let mut tool: Tool = serde_json::from_value(json!({
            "name": "up.add", "target": "up", "cause": "changed", "because": "it is another", "digest": "sha256:2",
            "definition": {"name": "add", "description": "Adds.\u{e0041}", "inputSchema": {"type": "object"}},
            "accepted": {
                "digest": "sha256:1", "at": "2026-11-28T12:00:00Z",
                "definition": {"title": "A", "name": "add", "description": "Adds.", "inputSchema": {"type": "object"}},
            },
        }))
        .unwrap();

        let changed = tool.text();
        tool.accepted = None;
        let new = tool.text();

        let head = "up.add  changed: it is another\n  offered by up now: sha256:2\n";
        let rest = "  - title: \"A\"\n  - description: \"Adds.\"\n  + description: \"Adds.\\u{e0041}\"";
        assert_eq!(changed, format!("{head}  accepted 2026-11-28T12:00:00Z: sha256:1\n{rest}"));
        assert!(new.starts_with(&format!("{head}  + name: \"add\"\n")), "{new}");
    }
}
