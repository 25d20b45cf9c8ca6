//! The arguments of a tool that travel as `Mcp-Param-*` headers, as its input schema declares them with `x-mcp-header`.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::{HeaderFault, MCP_PARAM_PREFIX, encode_value, matches};
use crate::json;

/// 64 mirrored arguments per tool: common HTTP servers take 100 fields per request, and some are needed for the rest.
pub const PARAM_HEADERS_MAX: usize = 64;

const ANNOTATION: &str = "x-mcp-header";

/// Keywords of JSON Schema 2020-12, and `items` of older drafts, below which a schema stands. What is data
/// (`const`, `enum`, `default`, `examples`) is not searched, and `$ref` is not followed.
const ONE_SCHEMA: [&str; 11] = [
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];
const SCHEMA_LISTS: [&str; 5] = ["allOf", "anyOf", "items", "oneOf", "prefixItems"];
const SCHEMA_MAPS: [&str; 4] = ["$defs", "definitions", "dependentSchemas", "patternProperties"];

/// Why the annotations of a schema break the rules. The tool must not be used with mirrored headers then, and a client of
/// revision 2026-07-28 drops it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidParamHeader {
    /// The schema can not be read.
    #[error("the input schema is not JSON")]
    NotJson,
    /// The annotation is not a non-empty HTTP token.
    #[error("`x-mcp-header` of `{0}` is not a header token")]
    NotToken(Box<str>),
    /// Two annotations name one header; their case does not count.
    #[error("`x-mcp-header` names `{0}` twice")]
    Repeated(Box<str>),
    /// The property is neither string nor integer nor boolean.
    #[error("`x-mcp-header` of `{0}` is on a property that is neither string nor integer nor boolean")]
    NotScalar(Box<str>),
    /// The annotation is not reached from the root by `properties` alone.
    #[error("`x-mcp-header` is on a schema that is not reached by `properties` alone")]
    Unreachable,
    /// There are more than [`PARAM_HEADERS_MAX`].
    #[error("more than {PARAM_HEADERS_MAX} properties have `x-mcp-header`")]
    TooMany,
}

/// One mirrored argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamHeader {
    /// The keys that lead to it from the root of the arguments.
    pub path: Box<[Box<str>]>,
    /// Its header, `mcp-param-...`.
    pub name: HeaderName,
}

/// The mirrored arguments of one tool. Most tools have none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParamHeaders {
    headers: Box<[ParamHeader]>,
}

impl ParamHeaders {
    /// Reads the annotations of an input schema (raw JSON). Parses the whole schema: do it once per tool.
    ///
    /// # Errors
    /// The first [`InvalidParamHeader`].
    pub fn from_schema(input_schema: &str) -> Result<Self, InvalidParamHeader> {
        if !input_schema.contains(ANNOTATION) && !input_schema.contains('\\') {
            return Ok(Self::default());
        }
        let schema: Value = serde_json::from_str(input_schema).map_err(|_| InvalidParamHeader::NotJson)?;
        let mut found = Vec::new();
        visit(&schema, Some(&mut Vec::new()), &mut found)?;
        Ok(Self { headers: found.into() })
    }

    /// Whether the tool mirrors nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// The mirrored arguments.
    pub fn iter(&self) -> std::slice::Iter<'_, ParamHeader> {
        self.headers.iter()
    }

    /// The headers to send with a call. Absent and `null` arguments have none, nor have objects and arrays.
    ///
    /// # Errors
    /// [`HeaderFault::Arguments`] when the arguments are no JSON object or a mirrored string is no text.
    pub fn from_arguments(&self, arguments: &str) -> Result<Vec<(HeaderName, HeaderValue)>, HeaderFault> {
        let mut fields = Vec::with_capacity(self.headers.len());
        for header in &self.headers {
            let Some(raw) = header.value_in(arguments)? else { continue };
            fields.push((header.name.clone(), mirror(raw)?));
        }
        Ok(fields)
    }

    /// Checks what a client sent: each mirrored argument has its one header with its value, and no header stands alone.
    /// Headers that the schema does not declare are left alone.
    ///
    /// # Errors
    /// The first [`HeaderFault`].
    pub fn check(&self, sent: &HeaderMap, arguments: &str) -> Result<(), HeaderFault> {
        self.headers.iter().try_for_each(|header| header.check(sent, arguments))
    }
}

impl ParamHeader {
    /// The raw scalar that is mirrored.
    fn value_in<'a>(&self, arguments: &'a str) -> Result<Option<&'a str>, HeaderFault> {
        let mut raw = arguments;
        for key in &self.path {
            // A step into something that is no object finds nothing; arguments as a whole must be one.
            if !raw.trim_ascii_start().starts_with('{') {
                return if raw == arguments { Err(HeaderFault::Arguments) } else { Ok(None) };
            }
            let Some(value) = member(raw, key)? else { return Ok(None) };
            raw = value;
        }
        Ok(is_scalar(raw).then_some(raw))
    }

    fn check(&self, sent: &HeaderMap, arguments: &str) -> Result<(), HeaderFault> {
        let mut copies = sent.get_all(&self.name).iter();
        let field = copies.next();
        if copies.next().is_some() {
            return Err(HeaderFault::Repeated(self.name.clone()));
        }
        match (field, self.value_in(arguments)?) {
            (None, None) => Ok(()),
            (Some(_), None) => Err(HeaderFault::Unexpected(self.name.clone())),
            (None, Some(_)) => Err(HeaderFault::Missing(self.name.clone())),
            (Some(field), Some(raw)) if matches(field, raw)? => Ok(()),
            (Some(_), Some(_)) => Err(HeaderFault::Mismatch(self.name.clone())),
        }
    }
}

/// The last member of that name, which is the one that common parsers keep.
fn member<'a>(object: &'a str, name: &str) -> Result<Option<&'a str>, HeaderFault> {
    let mut found = None;
    for member in json::members(object) {
        let member = member.map_err(|_| HeaderFault::Arguments)?;
        if member.key.is(name) {
            found = Some(member.value);
        }
    }
    Ok(found)
}

fn is_scalar(raw: &str) -> bool {
    matches!(raw.as_bytes().first(), Some(b'"' | b't' | b'f' | b'-' | b'0'..=b'9'))
}

fn mirror(raw: &str) -> Result<HeaderValue, HeaderFault> {
    if raw.starts_with('"') {
        let text = json::string(raw).ok_or(HeaderFault::Arguments)?;
        return Ok(encode_value(&text));
    }
    Ok(encode_value(raw))
}

/// Walks a schema. `path` is `None` where `properties` alone do not lead. `serde_json` has bounded the depth.
fn visit(schema: &Value, mut path: Option<&mut Vec<Box<str>>>, found: &mut Vec<ParamHeader>) -> Result<(), InvalidParamHeader> {
    let Value::Object(keywords) = schema else { return Ok(()) };
    if let Some(annotation) = keywords.get(ANNOTATION) {
        let path = path.as_deref().filter(|path| !path.is_empty()).ok_or(InvalidParamHeader::Unreachable)?;
        found.push(read_annotation(keywords, annotation, path, found)?);
    }
    for (name, property) in keywords.get("properties").and_then(Value::as_object).into_iter().flatten() {
        match path.as_deref_mut() {
            Some(path) => {
                path.push(name.as_str().into());
                visit(property, Some(path), found)?;
                path.pop();
            }
            None => visit(property, None, found)?,
        }
    }
    unreachable_schemas(keywords).try_for_each(|schema| visit(schema, None, found))
}

fn unreachable_schemas(keywords: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    let one = ONE_SCHEMA.iter().filter_map(|keyword| keywords.get(*keyword));
    let lists = SCHEMA_LISTS.iter().filter_map(|keyword| keywords.get(*keyword)?.as_array()).flatten();
    let maps = SCHEMA_MAPS.iter().filter_map(|keyword| keywords.get(*keyword)?.as_object()).flat_map(Map::values);
    one.chain(lists).chain(maps)
}

fn read_annotation(
    keywords: &Map<String, Value>,
    annotation: &Value,
    path: &[Box<str>],
    found: &[ParamHeader],
) -> Result<ParamHeader, InvalidParamHeader> {
    let place = || path.join(".").into_boxed_str();
    let token = annotation.as_str().filter(|token| !token.is_empty()).ok_or_else(|| InvalidParamHeader::NotToken(place()))?;
    let name = HeaderName::try_from(format!("{MCP_PARAM_PREFIX}{token}")).map_err(|_| InvalidParamHeader::NotToken(place()))?;
    if !matches!(keywords.get("type").and_then(Value::as_str), Some("string" | "integer" | "boolean")) {
        return Err(InvalidParamHeader::NotScalar(place()));
    }
    if found.iter().any(|header| header.name == name) {
        return Err(InvalidParamHeader::Repeated(token.into()));
    }
    if found.len() == PARAM_HEADERS_MAX {
        return Err(InvalidParamHeader::TooMany);
    }
    Ok(ParamHeader { path: path.into(), name })
}

#[cfg(test)]
mod tests;
