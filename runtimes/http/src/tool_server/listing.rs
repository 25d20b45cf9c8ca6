//! Reads `GET /tools/list`: `{"tools": [...]}` or a bare array, of names or of objects that describe a tool.

use std::collections::HashSet;

use bytes::Bytes;
use runtime_api::{CallError, Delivery, ErrorCode, Item};
use runtime_mcp::{handshake::part, listing::ITEMS_MAX};
use tracing::warn;
use twinway_proto::json::{self, Key, elements, members, text};

use crate::percent;

/// What such servers call the schema of a tool's arguments; the first is MCP's own.
const SCHEMA_KEYS: [&str; 4] = ["inputSchema", "input_schema", "parameters", "schema"];

/// The schema of a tool of which only the name is known.
const ANY_ARGUMENTS: &[u8] = br#"{"type":"object"}"#;

/// All tools in the server's order. Of a name listed twice the first stays.
pub(super) fn read(body: &Bytes) -> Result<Vec<Item>, CallError> {
    json::check(body).map_err(|error| broken("a tool list that is not JSON").with_source(error))?;
    let array = if body.trim_ascii().starts_with(b"{") {
        part(body, "tools").ok_or_else(|| broken("a tool list without `tools`"))?
    } else {
        body.clone()
    };
    let mut tools = Vec::new();
    let mut seen = HashSet::new();
    for range in elements(text(&array)) {
        let range = range.map_err(|error| broken("a tool list that is not an array").with_source(error))?;
        let tool = tool(&array.slice(range))?;
        if tools.len() == ITEMS_MAX {
            return Err(broken("a tool list of more than 10000 tools"));
        }
        if !percent::is_segment(&tool.name) {
            warn!(tool = %tool.name, "tool is not offered: its name means another path");
        } else if seen.insert(tool.name.clone()) {
            tools.push(tool);
        }
    }
    Ok(tools)
}

fn tool(element: &Bytes) -> Result<Item, CallError> {
    if let Some(name) = json::string(text(element)) {
        let mut definition = br#"{"name":"#.to_vec();
        definition.extend_from_slice(element);
        definition.extend_from_slice(br#","inputSchema":"#);
        definition.extend_from_slice(ANY_ARGUMENTS);
        definition.push(b'}');
        return Ok(Item { name: name.into(), definition: definition.into() });
    }
    let name = part(element, "name").and_then(|raw| json::string(text(&raw)).map(|name| name.into()));
    let name = name.ok_or_else(|| broken("a tool without a name"))?;
    Ok(Item { name, definition: described(element) })
}

/// The definition as MCP has it. One that is so already stays byte for byte.
fn described(element: &Bytes) -> Bytes {
    let found = SCHEMA_KEYS.iter().find_map(|key| Some((*key, part(element, key).filter(|raw| raw.starts_with(b"{"))?)));
    match found {
        Some(("inputSchema", schema)) if is_object_schema(&schema) => element.clone(),
        Some((key, schema)) => rewritten(element, key, &object_schema(&schema)),
        None => rewritten(element, "inputSchema", ANY_ARGUMENTS),
    }
}

/// The element with `schema` as its only schema. A null description is none.
fn rewritten(element: &Bytes, key: &str, schema: &[u8]) -> Bytes {
    let keep = |named: &Key<'_>, value: &str| !(named.is(key) || named.is("inputSchema") || value == "null");
    let mut out = Vec::with_capacity(element.len() + schema.len());
    out.push(b'{');
    for member in members(text(element)).flatten().filter(|member| keep(&member.key, member.value)) {
        out.extend_from_slice(member.key.raw.as_bytes());
        out.push(b':');
        out.extend_from_slice(member.value.as_bytes());
        out.push(b',');
    }
    out.extend_from_slice(br#""inputSchema":"#);
    out.extend_from_slice(schema);
    out.push(b'}');
    out.into()
}

/// Arguments are an object (MCP, tools), and a schema must say so. One that forgot is completed; what is no schema of an
/// object says nothing that could be kept.
fn object_schema(schema: &Bytes) -> Bytes {
    if is_object_schema(schema) {
        return schema.clone();
    }
    if part(schema, "type").is_some() || part(schema, "properties").is_none() {
        return Bytes::from_static(ANY_ARGUMENTS);
    }
    [br#"{"type":"object","#, &schema[1..]].concat().into()
}

fn is_object_schema(schema: &Bytes) -> bool {
    part(schema, "type").is_some_and(|kind| &kind[..] == b"\"object\"")
}

fn broken(what: &'static str) -> CallError {
    CallError::runtime(ErrorCode::Protocol, Delivery::Answered, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_known_shape_is_read() {
        let any = r#"{"name":"a","inputSchema":{"type":"object"}}"#;
        let typed = r#"{"name":"a","inputSchema":{"type":"object","properties":{"x":{}}}}"#;
        let cases = [
            (r#"["a"]"#, any),
            (r#" {"count":1,"tools":["a","a"]}"#, any),
            (r#"[{"name":"a"}]"#, any),
            (r#"[{"name":"a","description":null}]"#, any),
            (r#"{"tools":[{"name":"a","inputSchema":{"type":"object","properties":{"x":{}}}}]}"#, typed),
            (r#"{"tools":[{"name":"a","input_schema":{"type":"object","properties":{"x":{}}}}]}"#, typed),
            (r#"{"tools":[{"parameters":{"properties":{"x":{}}},"name":"a"}]}"#, typed),
            (r#"{"tools":[{"name":"a","schema":{"x":"string"}}]}"#, any),
            (r#"{"tools":[{"name":"a","inputSchema":null,"parameters":{"type":"string"}}]}"#, any),
        ];
        for (body, expected) in cases {
            let tools = read(&Bytes::from_static(body.as_bytes())).unwrap();

            assert_eq!(tools.len(), 1, "{body}");
            assert_eq!((&*tools[0].name, &tools[0].definition[..]), ("a", expected.as_bytes()), "{body}");
        }
    }

    #[test]
    fn a_definition_of_mcp_stays_byte_for_byte() {
        let definition = r#"{"x": 1.0, "inputSchema":{ "type":"object" }, "description":null, "name":"a"}"#;

        let tools = read(&Bytes::from(format!("[{definition}]"))).unwrap();

        assert_eq!(tools[0].definition, definition);
    }

    #[test]
    fn what_is_no_list_is_refused_and_a_name_that_means_another_path_is_left_out() {
        for body in ["", "7", "{}", r#"{"tools":{}}"#, r#"[{"title":"nameless"}]"#, "[7]", r#"["a"] x"#] {
            assert!(read(&Bytes::from_static(body.as_bytes())).is_err(), "{body}");
        }
        assert!(read(&Bytes::from_static(br#"["..",".",""]"#)).unwrap().is_empty());
    }
}
