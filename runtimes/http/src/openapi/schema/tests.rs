//! Tables of schemas before and after.

use proptest::prelude::*;

use super::*;

#[expect(clippy::needless_pass_by_value, reason = "cases are written where they are used")]
fn document(version: &str, schemas: Value) -> Document {
    let root = json!({ "openapi": version, "components": { "schemas": schemas } });
    Document::read(root.to_string().as_bytes()).unwrap()
}

#[expect(clippy::needless_pass_by_value, reason = "cases are written where they are used")]
fn convert(version: &str, schema: Value) -> Value {
    Schemas::new(&document(version, json!({})), Direction::Request).convert(&schema).unwrap()
}

#[test]
fn what_is_special_to_3_0_becomes_2020_12() {
    let cases = [
        (json!({"type": "string", "nullable": true}), json!({"type": ["string", "null"]})),
        (json!({"type": "string", "nullable": true, "enum": ["a"]}), json!({"type": ["string", "null"], "enum": ["a", null]})),
        (json!({"type": "integer", "minimum": 1, "exclusiveMinimum": true}), json!({"type": "integer", "exclusiveMinimum": 1})),
        (json!({"type": "integer", "maximum": 1, "exclusiveMaximum": false}), json!({"type": "integer", "maximum": 1})),
        (
            json!({"nullable": true, "allOf": [{"type": "object"}], "description": "d"}),
            json!({"description": "d", "anyOf": [{"allOf": [{"type": "object"}]}, {"type": "null"}]}),
        ),
        (json!({"type": "string", "format": "byte"}), json!({"type": "string", "format": "byte", "contentEncoding": "base64"})),
        (json!({"type": "string", "example": "x"}), json!({"type": "string", "examples": ["x"]})),
        (json!({"nullable": true}), json!({})),
    ];
    for (before, after) in cases {
        assert_eq!(convert("3.0.3", before.clone()), after, "{before}");
    }
}

#[test]
fn what_is_no_valid_keyword_is_dropped() {
    let before = json!({"type": "any", "required": true, "enum": [], "minLength": -1, "pattern": 3, "properties": [], "xml": {},
                        "discriminator": {"propertyName": "x"}, "x-own": 1, "allOf": [], "multipleOf": 0, "$schema": "x",
                        "maxItems": 3.0, "title": "kept"});

    assert_eq!(convert("3.1.0", before), json!({"maxItems": 3, "title": "kept"}));
}

#[test]
fn a_property_may_be_called_like_a_keyword() {
    let before = json!({"type": "object", "properties": {"$ref": {"type": "string"}, "type": {"type": "integer"}}, "required": ["type", "type"]});
    let after =
        json!({"type": "object", "properties": {"$ref": {"type": "string"}, "type": {"type": "integer"}}, "required": ["type"]});

    assert_eq!(convert("3.1.0", before), after);
}

#[test]
fn members_of_the_other_direction_are_left_out() {
    let schema = json!({"type": "object", "required": ["id", "secret", "name"], "properties": {
        "id": {"type": "integer", "readOnly": true}, "secret": {"type": "string", "writeOnly": true}, "name": {"type": "string"}}});
    let document = document("3.0.0", json!({}));
    let required = |direction| Schemas::new(&document, direction).convert(&schema).unwrap()["required"].clone();

    assert_eq!(required(Direction::Request), json!(["secret", "name"]));
    assert_eq!(required(Direction::Response), json!(["id", "name"]));
}

#[test]
fn cycles_stay_cycles_in_defs() {
    let document = document(
        "3.1.0",
        json!({"Node": {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Node"}, "leaf": {"$ref": "#/components/schemas/a~1b"}}},
               "a/b": {"type": "string"}}),
    );
    let mut schemas = Schemas::new(&document, Direction::Request);

    let root = schemas.convert(&json!({"$ref": "#/components/schemas/Node", "description": "kept"})).unwrap();
    let defs = schemas.defs(10_000).unwrap();

    assert_eq!(root, json!({"$ref": "#/$defs/Node", "description": "kept"}));
    assert_eq!(defs.map["Node"]["properties"]["next"], json!({"$ref": "#/$defs/Node"}));
    assert_eq!(defs.map["Node"]["properties"]["leaf"]["$ref"], "#/$defs/a_1b");
    assert_eq!(defs.map["a_1b"], json!({"type": "string"}));
    assert!(!defs.cut);
}

#[test]
fn what_is_too_much_accepts_anything_and_dangles_nowhere() {
    let next =
        |at: usize| json!({"type": "object", "properties": {"next": {"$ref": format!("#/components/schemas/S{}", at + 1)}}});
    let mut all: Map<String, Value> = (0..100).map(|at| (format!("S{at}"), next(at))).collect();
    all.insert("S100".to_owned(), json!({"type": "string"}));
    let document = document("3.1.0", all.into());
    let mut schemas = Schemas::new(&document, Direction::Request);
    schemas.convert(&json!({"$ref": "#/components/schemas/S0"})).unwrap();

    let defs = schemas.defs(500).unwrap();

    assert!(defs.cut);
    assert!(defs.map.len() < 20);
    for definition in defs.map.values() {
        let Some(next) = definition["properties"]["next"]["$ref"].as_str() else { continue };
        assert!(defs.map.contains_key(next.trim_start_matches("#/$defs/")), "{next}");
    }
}

#[test]
fn references_that_lead_nowhere_are_named() {
    let document = document("3.1.0", json!({"A": {"$ref": "#/components/schemas/B"}, "B": {"$ref": "#/components/schemas/A"}}));
    let refused =
        |reference: &str| Schemas::new(&document, Direction::Request).convert(&json!({ "$ref": reference })).unwrap_err();

    assert!(matches!(refused("#/components/schemas/A"), Unusable::ReferenceCycle(_)));
    assert_eq!(refused("https://evil.example/a.json"), Unusable::RemoteReference("https://evil.example/a.json".into()));
    assert_eq!(refused("#/components/schemas/C"), Unusable::MissingReference("#/components/schemas/C".into()));
}

#[test]
fn depth_is_bounded() {
    let deep = (0..100).fold(json!({}), |inner, _| json!({ "items": inner }));

    let refused = Schemas::new(&document("3.1.0", json!({})), Direction::Request).convert(&deep).unwrap_err();

    assert_eq!(refused, Unusable::TooDeep(DEPTH_MAX));
}

fn anything() -> impl Strategy<Value = Value> {
    let keyword = prop::sample::select(vec![
        "type",
        "required",
        "properties",
        "items",
        "allOf",
        "enum",
        "$ref",
        "nullable",
        "minimum",
        "exclusiveMinimum",
        "pattern",
        "not",
        "additionalProperties",
        "dependentRequired",
        "default",
        "example",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        prop::sample::select(vec!["string", "object", "#/components/schemas/S", "x"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keyword.clone(), inner), 0..5).prop_map(|members| members
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect::<Map<_, _>>()
                .into()),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_goes_in_a_valid_schema_comes_out(schema in anything(), version in prop::sample::select(vec!["3.0.3", "3.1.0"])) {
        let document = document(version, json!({ "S": schema }));
        let mut schemas = Schemas::new(&document, Direction::Request);
        if let Ok(mut converted) = schemas.convert(&schema)
            && let Ok(defs) = schemas.defs(100_000)
        {
            if let Value::Object(root) = &mut converted {
                root.insert("$defs".to_owned(), defs.map.into());
            }
            prop_assert!(jsonschema::meta::is_valid(&converted), "{schema} became {converted}");
        }
    }
}
