//! A raw JSON value on its way into a path, a query, a header, a cookie or a form.

use std::borrow::Cow;

use serde_json::Value;
use twinway_proto::json::{elements, members, string};

use super::document::Document;

/// Levels of a schema that are looked at to learn its types.
const DEPTH_MAX: usize = 16;

/// A value as far as serialisation distinguishes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape<'a> {
    Null,
    /// The text to be sent: a string without its quotes, a number or a boolean as it was written.
    Text(Cow<'a, str>),
    /// Raw elements.
    Array(Vec<&'a str>),
    /// Names and raw values.
    Object(Vec<(Cow<'a, str>, &'a str)>),
}

impl<'a> Shape<'a> {
    /// Reads raw JSON that was checked. `None` for a string with a lone surrogate, which no text can hold.
    pub(crate) fn read(raw: &'a str) -> Option<Self> {
        let raw = raw.trim_ascii();
        match raw.as_bytes().first()? {
            b'n' => Some(Self::Null),
            b'"' => string(raw).map(Self::Text),
            b'[' => elements(raw).map(|range| range.ok().map(|range| &raw[range])).collect::<Option<_>>().map(Self::Array),
            b'{' => {
                let member = |member: Result<twinway_proto::json::Member<'a>, _>| {
                    let member = member.ok()?;
                    // A key borrows from the text only when it has no escapes; owning it is simpler than telling them apart.
                    Some((Cow::Owned(member.key.text().into_owned()), member.value))
                };
                members(raw).map(member).collect::<Option<_>>().map(Self::Object)
            }
            _ => Some(Self::Text(Cow::Borrowed(raw))),
        }
    }

    /// What to call it in a message.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Text(_) => "a plain value",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// The JSON types that a schema allows; empty when it does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Types(u8);

impl Types {
    const NAMES: [&'static str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];
    const BOOLEAN: u8 = 1 << 1;
    const INTEGER: u8 = 1 << 2;
    const NUMBER: u8 = 1 << 3;
    const STRING: u8 = 1 << 4;
    const ARRAY: u8 = 1 << 5;
    const OBJECT: u8 = 1 << 6;

    /// The types of a schema of the document.
    pub(crate) fn of(schema: &Value, document: &Document) -> Self {
        Self::at(schema, document, 0)
    }

    fn at(schema: &Value, document: &Document, depth: usize) -> Self {
        let Ok(schema) = document.resolve(schema) else { return Self::default() };
        if depth > DEPTH_MAX {
            return Self::default();
        }
        match &schema["type"] {
            Value::String(name) => return Self::named(name),
            Value::Array(names) => {
                return Self(names.iter().filter_map(Value::as_str).fold(0, |all, name| all | Self::named(name).0));
            }
            _ => {}
        }
        for keyword in ["anyOf", "oneOf"] {
            let Some(choices) = schema[keyword].as_array() else { continue };
            let choices: Vec<_> = choices.iter().map(|choice| Self::at(choice, document, depth + 1)).collect();
            // One choice that says nothing allows everything.
            let all_say = choices.iter().all(|choice| choice.0 != 0);
            return if all_say { Self(choices.iter().fold(0, |all, choice| all | choice.0)) } else { Self::default() };
        }
        let parts = schema["allOf"].as_array().into_iter().flatten();
        let known = parts.map(|part| Self::at(part, document, depth + 1)).find(|types| types.0 != 0);
        known.unwrap_or_else(|| if schema["properties"].is_object() { Self(Self::OBJECT) } else { Self::default() })
    }

    fn named(name: &str) -> Self {
        Self(Self::NAMES.iter().position(|known| *known == name).map_or(0, |place| 1 << place))
    }

    /// Whether the schema allows objects and nothing else.
    pub(crate) const fn is_object(self) -> bool {
        self.0 == Self::OBJECT
    }

    /// Whether the schema allows arrays and nothing else, beside null.
    pub(crate) const fn is_array(self) -> bool {
        self.0 & !1 == Self::ARRAY
    }

    /// Whether a value fits, so far as its text would be read: `"5"` is sent like `5`, so both are integers.
    pub(crate) fn allow(self, shape: &Shape<'_>) -> bool {
        if self.0 == 0 {
            return true;
        }
        match shape {
            // Null is not sent at all; whether it may be missing is decided elsewhere.
            Shape::Null => true,
            Shape::Array(_) => self.0 & Self::ARRAY != 0,
            Shape::Object(_) => self.0 & Self::OBJECT != 0,
            Shape::Text(text) => {
                self.0 & Self::STRING != 0
                    || (self.0 & Self::BOOLEAN != 0 && matches!(&**text, "true" | "false"))
                    || (self.0 & Self::NUMBER != 0 && text.parse::<f64>().is_ok_and(f64::is_finite))
                    || (self.0 & Self::INTEGER != 0 && is_integer(text))
            }
        }
    }

    /// `integer or string`, for messages.
    pub(crate) fn describe(self) -> String {
        let names = Self::NAMES.iter().enumerate().filter(|(place, _)| self.0 & (1 << place) != 0).map(|(_, name)| *name);
        names.collect::<Vec<_>>().join(" or ")
    }
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    // `5.0` is an integer to JSON Schema.
    let digits =
        digits.split_once('.').map_or(digits, |(whole, rest)| if rest.bytes().all(|byte| byte == b'0') { whole } else { "" });
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn types_are_found_behind_references_and_choices() {
        let document = Document::read(
            json!({"openapi": "3.1.0", "a": {"enum": ["x"], "type": "string"}, "loop": {"anyOf": [{"$ref": "#/loop"}]}})
                .to_string()
                .as_bytes(),
        )
        .unwrap();
        let cases = [
            (json!({"type": "integer"}), "integer"),
            (json!({"anyOf": [{"type": "integer"}, {"type": "null"}]}), "null or integer"),
            (json!({"anyOf": [{"type": "integer"}, {}]}), ""),
            (json!({"$ref": "#/a"}), "string"),
            (json!({"allOf": [{"description": "d"}, {"$ref": "#/a"}]}), "string"),
            (json!({"properties": {}}), "object"),
            (json!({"$ref": "#/loop"}), ""),
            (json!({"$ref": "#/gone"}), ""),
        ];
        for (schema, expected) in cases {
            assert_eq!(Types::of(&schema, &document).describe(), expected, "{schema}");
        }
    }

    #[test]
    fn a_value_fits_when_its_text_would_be_read_as_the_type() {
        let document = Document::read(br#"{"openapi":"3.1.0"}"#).unwrap();
        let cases = [
            ("integer", "5", true),
            ("integer", r#""5""#, true),
            ("integer", "5.0", true),
            ("integer", "5.5", false),
            ("integer", r#""five""#, false),
            ("integer", "true", false),
            ("integer", "12345678901234567890123", true),
            ("number", "1e3", true),
            ("number", r#""NaN""#, false),
            ("boolean", r#""true""#, true),
            ("boolean", "1", false),
            ("string", "5", true),
            ("string", "[1]", false),
            ("array", r#""a""#, false),
            ("object", "{}", true),
        ];
        for (name, raw, fits) in cases {
            let types = Types::of(&json!({ "type": name }), &document);

            assert_eq!(types.allow(&Shape::read(raw).unwrap()), fits, "{raw} as {name}");
        }
    }
}
