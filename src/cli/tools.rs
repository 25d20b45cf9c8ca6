//! `twinway tools` and `twinway call`: a running gateway's tools.

mod quarantine;

use std::collections::{BTreeMap, HashMap};

use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};
use twinway_proto::meta::key;

use super::{Client, ClientError, Failure, Gateway, Output};

/// Look at tools.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Tools {
    #[command(subcommand)]
    command: Option<quarantine::Command>,
    #[command(flatten)]
    list: List,
}

/// List tools.
#[derive(Debug, Args)]
struct List {
    /// Only tools of this category.
    #[arg(long, value_name = "CATEGORY")]
    category: Option<String>,
    #[command(flatten)]
    gateway: Gateway,
}

/// Call a tool.
#[derive(Debug, Args)]
pub(super) struct Call {
    /// The tool's public name.
    tool: String,
    /// Its arguments, a JSON object such as '{"text":"hi"}'.
    #[arg(default_value = "{}", value_parser = object)]
    arguments: Map<String, Value>,
    /// Say which way the call took, why, and where the time went.
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    gateway: Gateway,
}

pub(super) fn object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!(r#"not a JSON object such as '{{"text":"hi"}}': {error}"#))
}

/// One page of `tools/list`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    pub(super) tools: Vec<Box<RawValue>>,
    pub(super) next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Tool {
    name: String,
    #[serde(default)]
    description: String,
}

/// What a tool answered, as far as it is printed for people.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub(super) struct ToolResult {
    content: Vec<Map<String, Value>>,
    /// A few servers answer with this alone.
    structured_content: Option<Value>,
    pub(super) is_error: bool,
    /// `input_required` when the tool asks for more.
    result_type: Option<String>,
    #[serde(rename = "_meta")]
    meta: Map<String, Value>,
}

impl Tools {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        match self.command {
            Some(command) => command.run(output).await,
            None => self.list.run(output).await,
        }
    }
}

impl List {
    async fn run(self, output: Output) -> Result<(), Failure> {
        let client = self.gateway.client()?;
        let known = match Known::of(&client, self.category.as_deref()).await {
            Ok(known) => known,
            Err(error) if self.category.is_some() => return Err(error.into()),
            // Categories are an extra: a server that only speaks MCP still has tools.
            Err(_) => Known::default(),
        };
        known.kept_back().iter().for_each(|note| output.note(note));
        let mut cursor = None;
        loop {
            let page = page(&client, cursor).await?;
            for raw in &page.tools {
                let tool: Tool = serde_json::from_str(raw.get()).map_err(ClientError::NotMcp)?;
                let category = known.categories.get(&tool.name);
                if self.category.is_some() && category.is_none() {
                    continue;
                }
                let line = if output.is_json() { raw.get().to_owned() } else { tool.line(category) };
                output.raw_line(&line)?;
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }
}

/// The page of `tools/list` that begins there.
pub(super) async fn page(client: &Client, cursor: Option<String>) -> Result<Page, ClientError> {
    let params = cursor.map(|cursor| ("cursor".to_owned(), cursor.into())).into_iter().collect();
    let page = client.ask("tools/list", None, params).await?;
    serde_json::from_str(page.get()).map_err(ClientError::NotMcp)
}

impl Tool {
    /// The category of a tool that nobody gave one says nothing.
    fn line(&self, category: Option<&String>) -> String {
        let category = category.filter(|category| *category != "general").map(|category| format!("[{category}] "));
        format!("{}  {}{}", self.name, category.unwrap_or_default(), self.description.lines().next().unwrap_or_default())
    }
}

/// One page of `/admin/api/tools`.
#[derive(Deserialize)]
struct AdminPage {
    tools: Vec<Categorised>,
    next: Option<String>,
    #[serde(default)]
    dropped: usize,
    #[serde(default)]
    quarantined: usize,
}

#[derive(Deserialize)]
struct Categorised {
    name: String,
    category: String,
}

/// `/admin/api/upstreams`, and `/admin/api/peers`.
#[derive(Deserialize)]
struct Targets {
    #[serde(alias = "upstreams", alias = "peers")]
    targets: Vec<Target>,
}

/// One of those who have the tools.
#[derive(Deserialize)]
struct Target {
    name: String,
    state: String,
    reason: Option<String>,
}

/// What the gateway knows of its tools beside what MCP tells.
#[derive(Default)]
struct Known {
    categories: HashMap<String, String>,
    dropped: usize,
    quarantined: usize,
    /// Those whose tools may be missing, and why.
    away: Vec<String>,
}

impl Target {
    fn note(&self) -> String {
        let reason = self.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("`{}` is {}, and its tools may be missing{reason}", self.name, self.state)
    }
}

impl Known {
    /// Of all tools, or of those of one category.
    async fn of(client: &Client, only: Option<&str>) -> Result<Self, ClientError> {
        let mut known = Self::default();
        let mut after: Option<String> = None;
        loop {
            let mut query = BTreeMap::from([("limit", "1000")]);
            query.extend(only.map(|category| ("category", category)));
            query.extend(after.as_deref().map(|after| ("after", after)));
            let page = client.document("tools", &query).await?;
            let page: AdminPage = serde_json::from_str(page.get()).map_err(ClientError::NotMcp)?;
            known.categories.extend(page.tools.into_iter().map(|tool| (tool.name, tool.category)));
            (known.dropped, known.quarantined) = (page.dropped, page.quarantined);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        for path in ["upstreams", "peers"] {
            let page = client.document(path, &BTreeMap::new()).await?;
            let Targets { targets } = serde_json::from_str(page.get()).map_err(ClientError::NotMcp)?;
            known.away.extend(targets.iter().filter(|target| target.state != "ready").map(Target::note));
        }
        Ok(known)
    }

    /// Which tools the list does not have, for people who miss some.
    fn kept_back(&self) -> Vec<String> {
        let dropped = format!("tools with a definition that breaks clients: {}; /admin/api/upstreams says why", self.dropped);
        let quarantined = format!("tools that wait to be accepted: {}; see `twinway tools quarantined`", self.quarantined);
        let notes = [(self.dropped, dropped), (self.quarantined, quarantined)];
        let kept_back = notes.into_iter().filter(|(count, _)| *count > 0).map(|(_, note)| note);
        kept_back.chain(self.away.iter().cloned()).collect()
    }
}

impl Call {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let client = self.gateway.client()?;
        let raw = call(&client, &self.tool, self.arguments, self.explain).await?;
        let result: ToolResult = serde_json::from_str(raw.get()).map_err(ClientError::NotMcp)?;
        if output.is_json() {
            output.raw_line(raw.get())?;
        } else {
            output.raw_line(&result.text())?;
            if let Some(explanation) = result.explanation().filter(|_| self.explain) {
                output.raw_line(&format!("  {explanation}"))?;
            }
        }
        if result.result_type.as_deref() == Some("input_required") {
            return Err(Failure::failed(
                "the tool asks for more before it runs, and nobody can be asked from here; use an MCP client",
            ));
        }
        if result.is_error { Err(Failure::ToolError) } else { Ok(()) }
    }
}

/// Calls a tool; the result is the raw bytes the gateway answered.
pub(super) async fn call(
    client: &Client,
    tool: &str,
    arguments: Map<String, Value>,
    explain: bool,
) -> Result<Box<RawValue>, ClientError> {
    let mut params = Map::new();
    params.insert("name".to_owned(), tool.into());
    params.insert("arguments".to_owned(), arguments.into());
    if explain {
        params.insert("_meta".to_owned(), json!({ key::EXPLAIN: true }));
    }
    client.ask("tools/call", Some(tool), params).await
}

impl ToolResult {
    /// Texts as they are; anything else by its type. The structured content when there is nothing else.
    pub(super) fn text(&self) -> String {
        if let (true, Some(structured)) = (self.content.is_empty(), &self.structured_content) {
            return structured.to_string();
        }
        let block = |block: &Map<String, Value>| match block.get("text").and_then(Value::as_str) {
            Some(text) => text.to_owned(),
            None => format!("[{}]", block.get("type").and_then(Value::as_str).unwrap_or("content")),
        };
        self.content.iter().map(block).collect::<Vec<_>>().join("\n")
    }

    /// The runtime that made the call and the target that answered it, if the gateway explained that.
    pub(super) fn way(&self) -> Option<(&str, &str)> {
        let explained = self.meta.get(key::EXPLAIN)?;
        Some((explained.get("runtime")?.as_str()?, explained.get("target")?.as_str()?))
    }

    /// The way the call took, in a sentence.
    pub(super) fn explanation(&self) -> Option<String> {
        let explained = self.meta.get(key::EXPLAIN)?;
        let text = |name: &str| explained.get(name).and_then(Value::as_str);
        let microseconds = |name: &str| explained.get(name).and_then(Value::as_u64);
        Some(format!(
            "over the {} runtime to {} ({}): {} us in all, {} us of them in the gateway, {} us on the way and at the tool",
            text("runtime")?,
            text("target")?,
            text("reason")?,
            microseconds("total_us")?,
            microseconds("gateway_us")?,
            microseconds("runtime_us")?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_what_a_tool_said_in_whatever_form_it_did() {
        let cases = [
            (
                r#"{"content":[{"type":"text","text":"a"},{"type":"image","data":"AA=="}],"structuredContent":{"a":1}}"#,
                "a\n[image]",
            ),
            (r#"{"content":[],"structuredContent":{"sum":3}}"#, r#"{"sum":3}"#),
            (r#"{"structuredContent":[1]}"#, "[1]"),
            (r#"{"content":[]}"#, ""),
        ];
        for (result, expected) in cases {
            let result: ToolResult = serde_json::from_str(result).unwrap();

            assert_eq!(result.text(), expected);
        }
    }
}
