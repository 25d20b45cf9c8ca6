//! Converts schemas of OpenAPI 3.0 and 3.1 to JSON Schema 2020-12 that stands alone.
//!
//! Only keywords of 2020-12 with values of the right shape pass, so that what comes out is a valid schema whatever went in.
//! References become `$defs`, cycles included: nothing is ever inlined twice.

use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::{Map, Value, json};

use super::document::{Dialect, Document, Unusable, reference};
use crate::percent;

/// Levels of one schema between references. Written by hand they have ten; what is deeper was made to be deep.
const DEPTH_MAX: usize = 64;

/// Whether a schema is for what is sent or for what is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// `readOnly` members are left out (OpenAPI 3.1.1, section 4.8.24).
    Request,
    /// `writeOnly` members are left out.
    Response,
}

/// Converts the schemas of one tool and collects what they refer to.
#[derive(Debug)]
pub(crate) struct Schemas<'d> {
    document: &'d Document,
    direction: Direction,
    /// From references to keys of `$defs`.
    keys: HashMap<Box<str>, Box<str>>,
    taken: HashSet<Box<str>>,
    waiting: VecDeque<Box<str>>,
}

/// `$defs`, and whether they hold everything.
#[derive(Debug)]
pub(crate) struct Defs {
    pub(crate) map: Map<String, Value>,
    /// There was more than the bound: what is deepest accepts anything.
    pub(crate) cut: bool,
}

impl<'d> Schemas<'d> {
    pub(crate) fn new(document: &'d Document, direction: Direction) -> Self {
        let (keys, taken, waiting) = (HashMap::new(), HashSet::new(), VecDeque::new());
        Self { document, direction, keys, taken, waiting }
    }

    /// The schema in 2020-12, its references led to `#/$defs/`.
    pub(crate) fn convert(&mut self, schema: &Value) -> Result<Value, Unusable> {
        self.convert_at(schema, 0)
    }

    /// Everything that was referred to, from near to far, up to about `bytes_max`.
    pub(crate) fn defs(mut self, bytes_max: usize) -> Result<Defs, Unusable> {
        let mut defs = Defs { map: Map::new(), cut: false };
        let mut bytes = 0;
        while let Some(reference) = self.waiting.pop_front() {
            let key = self.keys[&reference].clone();
            let known = self.waiting.len();
            let mut definition = json!({ "description": "Not described here: any value is passed on." });
            if !defs.cut {
                let whole = self.convert(self.document.at(&reference)?)?;
                bytes += whole.to_string().len();
                if bytes <= bytes_max {
                    definition = whole;
                } else {
                    defs.cut = true;
                    self.waiting.truncate(known);
                }
            }
            defs.map.insert(key.into(), definition);
        }
        Ok(defs)
    }

    fn convert_at(&mut self, schema: &Value, depth: usize) -> Result<Value, Unusable> {
        if depth > DEPTH_MAX {
            return Err(Unusable::TooDeep(DEPTH_MAX));
        }
        let members = match schema {
            Value::Bool(_) => return Ok(schema.clone()),
            Value::Object(members) => members,
            _ => return Ok(json!({})),
        };
        let mut out = Map::new();
        if let Some(reference) = reference(schema) {
            out.insert("$ref".to_owned(), format!("#/$defs/{}", self.key(reference)?).into());
            if self.document.dialect == Dialect::V30 {
                return Ok(out.into());
            }
        }
        for (keyword, value) in members {
            if let Some(value) = self.keyword(keyword, value, depth)? {
                out.insert(keyword.clone(), value);
            }
        }
        self.adapt(members, &mut out);
        if self.document.dialect == Dialect::V30 && members.get("nullable") == Some(&Value::Bool(true)) {
            return Ok(nullable(out));
        }
        Ok(out.into())
    }

    /// The value of a keyword, converted; `None` when it means nothing in 2020-12.
    fn keyword(&mut self, keyword: &str, value: &Value, depth: usize) -> Result<Option<Value>, Unusable> {
        let converted = match keyword {
            "items" if value.is_array() => return Ok(None),
            "items"
            | "additionalProperties"
            | "unevaluatedItems"
            | "unevaluatedProperties"
            | "contains"
            | "propertyNames"
            | "not"
            | "if"
            | "then"
            | "else"
            | "contentSchema" => is_schema(value).then(|| self.convert_at(value, depth + 1)).transpose()?,
            "allOf" | "anyOf" | "oneOf" | "prefixItems" => self.list(value, depth)?,
            "properties" | "patternProperties" | "dependentSchemas" => self.map(value, depth)?,
            _ => plain(keyword, value),
        };
        Ok(converted)
    }

    fn list(&mut self, value: &Value, depth: usize) -> Result<Option<Value>, Unusable> {
        let Some(schemas) = value.as_array().filter(|schemas| !schemas.is_empty()) else { return Ok(None) };
        let converted: Result<Vec<_>, _> = schemas.iter().map(|schema| self.convert_at(schema, depth + 1)).collect();
        converted.map(|schemas| Some(schemas.into()))
    }

    fn map(&mut self, value: &Value, depth: usize) -> Result<Option<Value>, Unusable> {
        let Some(schemas) = value.as_object() else { return Ok(None) };
        let mut converted = Map::new();
        for (name, schema) in schemas {
            if !self.is_hidden(schema) {
                converted.insert(name.clone(), self.convert_at(schema, depth + 1)?);
            }
        }
        Ok(Some(converted.into()))
    }

    /// Whether a member does not travel in this direction.
    pub(crate) fn is_hidden(&self, schema: &Value) -> bool {
        let keyword = match self.direction {
            Direction::Request => "readOnly",
            Direction::Response => "writeOnly",
        };
        schema.get(keyword) == Some(&Value::Bool(true))
    }

    /// What one keyword means depends on another.
    fn adapt(&self, members: &Map<String, Value>, out: &mut Map<String, Value>) {
        for (exclusive, inclusive) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
            if members.get(exclusive) == Some(&Value::Bool(true))
                && let Some(bound) = out.remove(inclusive)
            {
                out.insert(exclusive.to_owned(), bound);
            }
        }
        // Tuples of older drafts.
        if let Some(tuple @ Value::Array(_)) = members.get("items")
            && !out.contains_key("prefixItems")
            && !tuple.as_array().is_none_or(Vec::is_empty)
        {
            out.insert("items".to_owned(), json!({}));
        }
        if let Some(example) = members.get("example")
            && !out.contains_key("examples")
        {
            out.insert("examples".to_owned(), json!([example]));
        }
        if members.get("format").and_then(Value::as_str) == Some("byte") {
            out.insert("contentEncoding".to_owned(), "base64".into());
        }
        if let (Some(properties), Some(Value::Array(required))) = (members.get("properties"), out.get_mut("required")) {
            required.retain(|name| !name.as_str().and_then(|name| properties.get(name)).is_some_and(|one| self.is_hidden(one)));
        }
    }

    /// The key of `$defs` for a reference, which leads somewhere.
    fn key(&mut self, reference: &str) -> Result<Box<str>, Unusable> {
        if let Some(key) = self.keys.get(reference) {
            return Ok(key.clone());
        }
        self.document.resolve(self.document.at(reference)?)?;
        let last = percent::decode(reference.rsplit('/').next().unwrap_or_default());
        let plain = super::names::plain(&last, DEF_NAME_BYTES_MAX);
        let key = super::names::unique(&plain, |key| self.taken.contains(key));
        self.taken.insert(key.clone());
        self.keys.insert(reference.into(), key.clone());
        self.waiting.push_back(reference.into());
        Ok(key)
    }
}

/// Names of definitions are for reading only; generators nest the names of their types in them.
const DEF_NAME_BYTES_MAX: usize = 128;

const fn is_schema(value: &Value) -> bool {
    matches!(value, Value::Object(_) | Value::Bool(_))
}

/// A keyword that holds no schema: itself when its value has the right shape.
fn plain(keyword: &str, value: &Value) -> Option<Value> {
    let fits = match keyword {
        "type" => return types(value),
        "required" => return unique_strings(value),
        "enum" | "examples" => value.as_array().is_some_and(|values| !values.is_empty()),
        "const" | "default" => true,
        "title" | "description" | "format" | "pattern" | "contentEncoding" | "contentMediaType" | "$comment" => value.is_string(),
        "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" | "minContains"
        | "maxContains" => {
            return count(value);
        }
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => value.is_number(),
        "multipleOf" => value.as_f64().is_some_and(|step| step > 0.0),
        "uniqueItems" | "deprecated" | "readOnly" | "writeOnly" => value.is_boolean(),
        "dependentRequired" => {
            value.as_object().is_some_and(|map| map.values().all(|names| unique_strings(names).as_ref() == Some(names)))
        }
        // `discriminator`, `xml`, `externalDocs`, `x-…`: nothing that a JSON Schema says.
        _ => false,
    };
    fits.then(|| value.clone())
}

/// A count; some generators write `10.0`.
fn count(value: &Value) -> Option<Value> {
    let whole =
        value.as_u64().or_else(|| value.as_f64().filter(|count| *count >= 0.0 && count.fract() == 0.0).map(|count| count as u64));
    whole.map(Value::from)
}

const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];

fn types(value: &Value) -> Option<Value> {
    let known = |name: &Value| name.as_str().is_some_and(|name| TYPES.contains(&name));
    match value {
        Value::String(_) if known(value) => Some(value.clone()),
        Value::Array(_) => {
            unique_strings(value).filter(|names| names.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(known)))
        }
        _ => None,
    }
}

fn unique_strings(value: &Value) -> Option<Value> {
    let mut seen = HashSet::new();
    let names = value.as_array()?.iter().filter(|name| name.as_str().is_some_and(|name| seen.insert(name.to_owned())));
    Some(names.cloned().collect())
}

/// `nullable: true` of OpenAPI 3.0.
fn nullable(mut schema: Map<String, Value>) -> Value {
    if let Some(Value::Array(values)) = schema.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
    if let Some(Value::String(one)) = schema.get("type") {
        let both = json!([one, "null"]);
        schema.insert("type".to_owned(), both);
        return schema.into();
    }
    if !["allOf", "anyOf", "oneOf", "not"].iter().any(|keyword| schema.contains_key(*keyword)) {
        return schema.into();
    }
    let mut out = Map::new();
    for note in ["title", "description", "default"] {
        if let Some(value) = schema.remove(note) {
            out.insert(note.to_owned(), value);
        }
    }
    out.insert("anyOf".to_owned(), json!([schema, { "type": "null" }]));
    out.into()
}

#[cfg(test)]
mod tests;
