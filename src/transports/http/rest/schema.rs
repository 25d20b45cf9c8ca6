//! A tool's JSON Schema as part of an OpenAPI document: references point to where it stands there, and what is no schema of
//! OpenAPI's dialect (2020-12) is left out, so that one tool cannot make the whole document invalid.

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

/// The schema as it stands at `place`, a reference like `#/components/schemas/x`. `None` when it cannot stand there: it is
/// no valid schema, or refers to what is not in it.
pub(super) fn moved(schema: &Value, place: &str) -> Option<Value> {
    Move { root: schema, place }.schema(schema, true)
}

struct Move<'a> {
    root: &'a Value,
    place: &'a str,
}

impl Move<'_> {
    fn schema(&self, schema: &Value, is_root: bool) -> Option<Value> {
        let Value::Object(members) = schema else { return schema.is_boolean().then(|| schema.clone()) };
        let mut out = Map::new();
        for (key, value) in members {
            match key.as_str() {
                // All references are followed here, so that no other base or name is needed; a discriminator may map to
                // places that are elsewhere now. A resource within the schema would change what references mean.
                "$schema" | "$anchor" | "discriminator" => {}
                "$id" if is_root => {}
                "$id" | "$dynamicRef" | "$dynamicAnchor" | "$vocabulary" => return None,
                _ => {
                    out.insert(key.clone(), self.member(key, value)?);
                }
            }
        }
        Some(out.into())
    }

    /// The value of a keyword; `None` when it cannot be one (JSON Schema 2020-12, meta-schemas).
    fn member(&self, key: &str, value: &Value) -> Option<Value> {
        let kept = |is_valid: bool| is_valid.then(|| value.clone());
        match key {
            "$ref" => self.reference(value.as_str()?).map(Value::from),
            "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas" => {
                let moved = value.as_object()?.iter().map(|(name, schema)| Some((name.clone(), self.schema(schema, false)?)));
                moved.collect::<Option<Map<_, _>>>().map(Value::from)
            }
            "allOf" | "anyOf" | "oneOf" | "prefixItems" => {
                let schemas = value.as_array().filter(|schemas| !schemas.is_empty())?;
                schemas.iter().map(|schema| self.schema(schema, false)).collect::<Option<Vec<_>>>().map(Value::from)
            }
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
            | "contentSchema" => self.schema(value, false),
            "type" => kept(is_type(value)),
            "required" => kept(is_names(value)),
            "dependentRequired" => kept(value.as_object()?.values().all(is_names)),
            "enum" | "examples" => kept(value.is_array()),
            "multipleOf" => kept(value.as_f64().is_some_and(|number| number > 0.0)),
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => kept(value.is_number()),
            "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" | "minContains"
            | "maxContains" => kept(value.is_u64()),
            "uniqueItems" | "readOnly" | "writeOnly" | "deprecated" => kept(value.is_boolean()),
            "pattern" | "format" | "title" | "description" | "$comment" | "contentEncoding" | "contentMediaType" => {
                kept(value.is_string())
            }
            _ => Some(value.clone()),
        }
    }

    /// A reference within the schema, as it reads from the whole document.
    fn reference(&self, reference: &str) -> Option<String> {
        let pointer = reference.strip_prefix('#')?;
        let decoded = percent_decode_str(pointer).decode_utf8().ok()?;
        self.root.pointer(&decoded)?;
        Some(format!("{}{pointer}", self.place))
    }
}

fn is_type(value: &Value) -> bool {
    const TYPES: [&str; 7] = ["null", "boolean", "object", "array", "number", "string", "integer"];
    let is_one = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    is_one(value) || (is_names(value) && value.as_array().is_some_and(|types| !types.is_empty() && types.iter().all(is_one)))
}

/// An array of strings that differ.
fn is_names(value: &Value) -> bool {
    let Some(names) = value.as_array() else { return false };
    names.iter().enumerate().all(|(place, name)| name.is_string() && !names[..place].contains(name))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use serde_json::json;

    use super::*;

    #[test]
    fn references_point_to_where_the_schema_stands() {
        let schema = json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "properties": { "$ref": { "$ref": "#/$defs/a~1b" }, "all": { "$ref": "#" } },
            "$defs": { "a/b": { "enum": [{ "$ref": "#/not/a/reference" }] } },
        });

        let moved = moved(&schema, "#/components/schemas/x").expect("a schema");

        assert_eq!(moved["properties"]["$ref"]["$ref"], "#/components/schemas/x/$defs/a~1b");
        assert_eq!(moved["properties"]["all"]["$ref"], "#/components/schemas/x");
        assert_eq!(moved["$defs"]["a/b"], schema["$defs"]["a/b"]);
        assert!(moved.get("$schema").is_none());
    }

    #[test]
    fn what_would_make_the_document_invalid_is_none() {
        for schema in [
            json!([]),
            json!("object"),
            json!({ "type": "any" }),
            json!({ "properties": { "a": { "type": ["string", "string"] } } }),
            json!({ "items": [{ "type": "string" }] }),
            json!({ "minimum": 1, "exclusiveMinimum": true }),
            json!({ "required": "a" }),
            json!({ "$ref": "#/$defs/missing" }),
            json!({ "$ref": "https://elsewhere.example/schema" }),
            json!({ "$defs": { "a": { "$id": "urn:a" } } }),
            json!({ "allOf": [] }),
            json!({ "maxLength": -1 }),
        ] {
            assert_eq!(moved(&schema, "#/x"), None, "{schema}");
        }
    }

    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            Just(json!(true)),
            Just(json!(-1)),
            Just(json!(2.5)),
            Just(json!("object")),
            Just(json!("#")),
            Just(json!([])),
            Just(json!(["a", "a"])),
            Just(json!({})),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let keywords = [
                "$ref",
                "type",
                "properties",
                "$defs",
                "items",
                "prefixItems",
                "anyOf",
                "not",
                "required",
                "dependentRequired",
                "enum",
                "multipleOf",
                "maximum",
                "minLength",
                "uniqueItems",
                "pattern",
                "title",
                "default",
                "additionalProperties",
            ];
            let member = (prop::sample::select(keywords.to_vec()), inner.clone());
            prop_oneof![
                vec(inner, 0..3).prop_map(Value::from),
                vec(member, 0..4).prop_map(|members| members
                    .into_iter()
                    .map(|(k, v)| (k.to_owned(), v))
                    .collect::<Map<_, _>>()
                    .into()),
            ]
        })
    }

    proptest! {
        /// The meta-schema is the judge: whatever is let through is a schema.
        #[test]
        fn what_is_moved_is_a_schema(schema in anything()) {
            if let Some(moved) = moved(&schema, "#") {
                prop_assert!(jsonschema::meta::is_valid(&moved), "{moved}");
            }
        }
    }
}
