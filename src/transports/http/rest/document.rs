//! `/openapi.json`: the catalogue as an OpenAPI document, one operation for each tool (OpenAPI 3.1.0).

use std::collections::HashSet;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::{EXECUTE, LIST, schema};
use crate::catalog::{Entry, View};

/// What stays as it is in a path: RFC 3986's unreserved. Braces would be a template.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The document about this view. `bearer` tells whether clients need a token.
pub(super) fn document(view: &View, bearer: bool) -> Vec<u8> {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    schemas.insert("Problem".to_owned(), problem());
    let mut keys = HashSet::from(["Problem".to_owned()]);
    let mut listing = json!({ "operationId": "list_tools", "summary": "All tools" });
    listing["responses"] = responses(&json!({
        "type": "object",
        "properties": { "tools": { "type": "array", "items": { "type": "object" } }, "count": { "type": "integer" } },
        "required": ["tools", "count"],
    }));
    keys.insert("list_tools".to_owned());
    paths.insert(LIST.to_owned(), json!({ "get": listing }));
    for entry in view.tools.iter() {
        let key = key(&entry.public, &mut keys);
        let path = format!("{EXECUTE}{}", utf8_percent_encode(&entry.public, SEGMENT));
        paths.insert(path, json!({ "post": tool(entry, &key, &mut schemas) }));
    }
    let mut components = json!({
        "schemas": schemas,
        "responses": { "Problem": {
            "description": "The tool or the gateway refuses or fails.",
            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
        } },
    });
    let mut document = json!({
        "openapi": "3.1.0",
        "info": { "title": "Twinway", "version": env!("CARGO_PKG_VERSION"), "description": "Every tool behind this gateway." },
        "paths": paths,
    });
    if bearer {
        components["securitySchemes"] = json!({ "bearer": { "type": "http", "scheme": "bearer" } });
        document["security"] = json!([{ "bearer": [] }]);
    }
    document["components"] = components;
    serde_json::to_vec(&document).expect("our documents have only strings for keys")
}

fn tool(entry: &Entry, key: &str, schemas: &mut Map<String, Value>) -> Value {
    let definition: Value = serde_json::from_slice(&entry.definition).unwrap_or_default();
    let arguments = component(schemas, key, definition.get("inputSchema")).unwrap_or_else(|| json!({ "type": "object" }));
    let result = component(schemas, &format!("{key}.result"), definition.get("outputSchema")).unwrap_or_else(|| json!({}));
    let mut operation = json!({
        "operationId": key,
        "summary": definition["title"].as_str().unwrap_or(&entry.public),
        "tags": [entry.chosen().target.as_str()],
    });
    if let Some(description) = definition["description"].as_str() {
        operation["description"] = description.into();
    }
    if entry.deprecated.is_some() {
        operation["deprecated"] = true.into();
    }
    operation["requestBody"] = json!({
        "required": arguments_required(&definition),
        "content": { "application/json": { "schema": arguments } },
    });
    operation["responses"] = responses(&json!({
        "type": "object",
        "properties": { "tool": { "const": &*entry.public }, "status": { "const": "success" }, "result": result },
        "required": ["tool", "status", "result"],
    }));
    operation
}

fn responses(success: &Value) -> Value {
    let problem = json!({ "$ref": "#/components/responses/Problem" });
    json!({
        "200": { "description": "Success.", "content": { "application/json": { "schema": success } } },
        "404": problem,
        "500": problem,
        "default": problem,
    })
}

/// A body may be left out where no argument must be given.
fn arguments_required(definition: &Value) -> bool {
    definition["inputSchema"]["required"].as_array().is_some_and(|names| !names.is_empty())
}

/// Puts a tool's schema among the components; `None` when there is none that OpenAPI can have.
fn component(schemas: &mut Map<String, Value>, key: &str, found: Option<&Value>) -> Option<Value> {
    let reference = format!("#/components/schemas/{key}");
    schemas.insert(key.to_owned(), schema::moved(found?, &reference)?);
    Some(json!({ "$ref": reference }))
}

/// A name as keys of components may be (OpenAPI 3.1.0, section 4.8.7), different from all before.
fn key(name: &str, taken: &mut HashSet<String>) -> String {
    let allowed = |char: char| char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-');
    let plain: String = name.chars().map(|char| if allowed(char) { char } else { '_' }).collect();
    let numbered = (2..).map(|number| format!("{plain}-{number}"));
    let free = std::iter::once(plain.clone()).chain(numbered);
    let key = free.into_iter().find(|key| !taken.contains(key) && !taken.contains(&format!("{key}.result")));
    let key = key.unwrap_or(plain);
    taken.insert(format!("{key}.result"));
    taken.insert(key.clone());
    key
}

fn problem() -> Value {
    json!({
        "type": "object",
        "properties": {
            "detail": { "description": "What went wrong, and where." },
            "data": {
                "type": "object",
                "properties": {
                    "code": { "type": "string" },
                    "origin": { "enum": ["caller", "gateway", "runtime"] },
                    "delivery": { "description": "Whether the tool may have run.", "enum": ["not_sent", "unknown", "answered"] },
                    "retryAfterMs": { "type": "integer" },
                },
            },
        },
        "required": ["detail"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_different_whatever_the_names_are() {
        let mut taken = HashSet::new();
        let names = ["a b", "a_b", "a.result", "a", "ü", "a/b", "a"];
        let keys: Vec<_> = names.iter().map(|name| key(name, &mut taken)).collect();

        assert_eq!(keys, ["a_b", "a_b-2", "a.result", "a-2", "_", "a_b-3", "a-3"]);
    }
}
