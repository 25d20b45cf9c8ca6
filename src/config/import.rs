//! Reads the servers of other programs' configurations: `.mcp.json`, Claude Desktop's and Cursor's `mcpServers`, VS Code's `servers`.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

/// The tables that such a file becomes, and what is to be said of them.
#[derive(Debug, Default)]
pub struct Imported {
    /// `[[upstream]]` tables, as TOML.
    pub text: String,
    /// How many.
    pub upstreams: usize,
    /// What could not be taken over, and what somebody should look at.
    pub notes: Vec<String>,
}

/// A file holds no servers.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Not JSON, even with comments taken out.
    #[error("the file is not JSON")]
    Json(#[from] serde_json::Error),
    /// None of the members that hold servers.
    #[error("the file has none of `mcpServers`, `servers` and `mcp.servers`, which hold servers of MCP")]
    NoServers,
    /// It could not be written as TOML.
    #[error("a server cannot be written as TOML")]
    Toml(#[from] toml::ser::Error),
}

/// A table in the order in which people write it.
#[derive(Serialize)]
struct Table {
    name: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cwd: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Document {
    upstream: [Table; 1],
}

/// A server as those programs write it; other members are theirs.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Server {
    command: Option<String>,
    args: Vec<String>,
    env: Map<String, Value>,
    #[serde(rename = "envFile")]
    env_file: Option<String>,
    cwd: Option<String>,
    url: Option<String>,
    #[serde(rename = "serverUrl")]
    server_url: Option<String>,
    #[serde(rename = "httpUrl")]
    http_url: Option<String>,
    headers: Map<String, Value>,
    disabled: bool,
}

/// Reads the text of such a file. Comments and commas too many, as VS Code allows them, are passed over.
///
/// # Errors
/// [`ImportError`].
pub fn import(text: &str) -> Result<Imported, ImportError> {
    // Some editors on Windows begin files with a byte order mark.
    let document: Value = serde_json::from_str(&plain(text.trim_start_matches('\u{feff}')))?;
    let places = [document.get("mcpServers"), document.get("servers"), document.pointer("/mcp/servers")];
    let servers = places.into_iter().flatten().find_map(Value::as_object).ok_or(ImportError::NoServers)?;
    let (mut imported, mut names) = (Imported::default(), HashSet::new());
    for (given, server) in servers {
        let server = match Server::deserialize(server) {
            Ok(server) if server.disabled => {
                imported.notes.push(format!("`{given}` is disabled there, and is left out"));
                continue;
            }
            Ok(server) => server,
            Err(error) => {
                imported.notes.push(format!("`{given}` is left out: {error}"));
                continue;
            }
        };
        let name = name_for(given, &mut names);
        if name != *given {
            imported.notes.push(format!("`{given}` is called `{name}` here: a name has letters, digits, `-` and `_`"));
        }
        match table(name, server, &mut imported.notes) {
            Some(table) => {
                imported.text.push_str(&toml::to_string(&Document { upstream: [table] })?);
                imported.text.push('\n');
                imported.upstreams += 1;
            }
            None => imported.notes.push(format!("`{given}` is left out: it has neither `command` nor `url`")),
        }
    }
    Ok(imported)
}

fn table(name: String, server: Server, notes: &mut Vec<String>) -> Option<Table> {
    let Server { command, args, env, env_file, cwd, url, server_url, http_url, headers, .. } = server;
    let url = url.or(server_url).or(http_url).filter(|_| command.is_none());
    let kind = if command.is_some() { "stdio" } else { "mcp" };
    if command.is_none() && url.is_none() {
        return None;
    }
    let mut texts = |of: &str, values: Map<String, Value>| {
        let text = |(key, value): (String, Value)| {
            let plain = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let text = referred(&plain);
            if text == plain && looks_secret(&key) {
                notes.push(format!("`{name}`: {of} `{key}` stands here as plain text; better `env:NAME` or `file:PATH`"));
            }
            (key, text)
        };
        values.into_iter().map(text).collect::<BTreeMap<_, _>>()
    };
    let (env, headers) = (texts("the variable", env), texts("the header", headers));
    let env_file =
        env_file.map(|file| format!("`{name}`: the variables of `{file}` are not taken over; each stands in `env` here"));
    notes.extend(env_file);
    let texts = args.iter().chain(&command).chain(&url).chain(&cwd).chain(env.values()).chain(headers.values());
    let left = texts.filter(|text| text.contains("${"));
    notes.extend(left.map(|text| format!("`{name}`: `{text}` has a placeholder that nobody fills here")));
    Some(Table { name, kind, url, command, args, cwd, env, headers })
}

/// `${NAME}`, `${env:NAME}` and `${input:NAME}` alone are references to the environment here.
fn referred(text: &str) -> String {
    let inside = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    let name = inside.map(|inside| inside.trim_start_matches("env:").trim_start_matches("input:"));
    let is_name = |name: &&str| !name.is_empty() && !name.contains(['$', '{', '}', ':']);
    name.filter(is_name).map_or_else(|| text.to_owned(), |name| format!("env:{name}"))
}

fn looks_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["token", "key", "secret", "password", "authorization", "cookie"].iter().any(|word| key.contains(word))
}

/// A name that may stand here, and that no other server has.
fn name_for(given: &str, taken: &mut HashSet<String>) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' };
    let base: String = given.chars().map(safe).take(28).collect();
    let base = if base.is_empty() { "server".to_owned() } else { base };
    let numbered = (2..).map(|number| format!("{base}-{number}"));
    let name = std::iter::once(base.clone()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or(base);
    taken.insert(name.clone());
    name
}

/// JSON without comments and without commas before a closing bracket. Strings stay as they are.
fn plain(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(c) = rest.chars().next() {
        let taken = match c {
            '"' => string_len(rest),
            '/' if rest.starts_with("//") => {
                rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
                continue;
            }
            '/' if rest.starts_with("/*") => {
                rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
                continue;
            }
            ']' | '}' => {
                let kept = out.trim_end().trim_end_matches(',').len();
                out.truncate(kept);
                1
            }
            c => c.len_utf8(),
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out
}

fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (place, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return place + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Kind};

    const FILE: &str = r#"{
        // VS Code's own
        "inputs": [{"id": "token", "type": "promptString"}],
        "mcpServers": {
            "file system": {"command": "npx", "args": ["-y", "server-filesystem", "/srv//x"], "env": {"API_KEY": "${input:token}", "N": 3}},
            "file/system": {"command": "uvx", "args": [], "cwd": "/tmp",},
            "remote": {"type": "http", "url": "https://mcp.example/mcp", "headers": {"Authorization": "Bearer abc"}},
            "off": {"command": "x", "disabled": true},
            "empty": {"type": "http"}, /* none */
        },
    }"#;

    #[test]
    fn servers_of_other_programs_become_upstreams_that_are_right() {
        let imported = import(FILE).expect("servers");

        let config = Config::parse_within(
            &imported.text,
            Path::new("twinway.toml"),
            &crate::config::Environment::from([("token", "0123456789abcdef")]),
        );
        let config = config.expect("a good configuration");
        let names: Vec<_> = config.upstream.iter().map(|upstream| upstream.name.as_str()).collect();
        assert_eq!(names, ["file-system", "file-system-2", "remote"]);
        let first = &config.upstream[0];
        assert_eq!((first.kind, first.command.as_deref()), (Kind::Stdio, Some("npx")));
        assert_eq!(first.args, ["-y", "server-filesystem", "/srv//x"]);
        assert_eq!(first.env["API_KEY"].expose(), "0123456789abcdef");
        assert_eq!(first.env["N"].expose(), "3");
        assert_eq!(config.upstream[2].url.as_ref().map(ToString::to_string).as_deref(), Some("https://mcp.example/mcp"));
        let said = imported.notes.join("\n");
        for what in
            ["`off` is disabled", "`empty` is left out", "`file/system` is called `file-system-2`", "the header `Authorization`"]
        {
            assert!(said.contains(what), "{what}: {said}");
        }
    }

    #[test]
    fn servers_are_found_where_each_program_has_them() {
        for (before, after) in [("\"mcpServers\":", ""), ("\"servers\":", ""), ("\"mcp\":{\"servers\":", "}")] {
            let file = format!(r#"{{{before}{{"one":{{"type":"stdio","command":"npx"}}}}{after}}}"#);

            let imported = import(&file).expect(&file);

            assert_eq!(imported.upstreams, 1, "{file}");
            assert!(imported.text.contains("name = \"one\"") && imported.text.contains("command = \"npx\""), "{}", imported.text);
        }
    }

    #[test]
    fn what_nobody_fills_here_is_named() {
        let file = "\u{feff}{\"mcpServers\":{\"one\":{\"command\":\"npx\",\"cwd\":\"${workspaceFolder}/x\",\"envFile\":\".env\",\"env\":{\"A\":\"a-${B}\"}},\
            \"two\":{\"url\":\"https://x.example/mcp\",\"headers\":{\"X-Key\":\"Bearer ${input:key}\"}}}}";

        let said = import(file).expect("servers").notes.join("\n");

        for what in ["`${workspaceFolder}/x` has", "`a-${B}` has", "`Bearer ${input:key}` has", "the variables of `.env`"] {
            assert!(said.contains(what), "{what}: {said}");
        }
    }

    #[test]
    fn a_file_without_servers_is_named_as_such() {
        assert!(matches!(import("{}"), Err(ImportError::NoServers)));
        assert!(matches!(import("[mcp]"), Err(ImportError::Json(_))));
    }
}
