//! What the gateway writes into a definition; all else stays byte for byte as its target gave it.

use bytes::Bytes;
use runtime_api::Kind;
use twinway_proto::{
    envelope::splice,
    json::{members, write_string},
    rope,
};

/// The definition with another name in it; everything else stays as it is.
pub(super) fn rename(definition: &Bytes, kind: Kind, old: &str, new: &str) -> Bytes {
    if old == new {
        return definition.clone();
    }
    let Some(name) = members(text(definition)).flatten().find(|member| member.key.is(kind.key())) else {
        return definition.clone();
    };
    write(definition, name.range, &quoted(new))
}

/// Whether the `outputSchema` of a tool with this raw definition describes something else than an object (2026-07-28, tools).
#[must_use]
pub fn has_free_output(definition: &str) -> bool {
    let schema = members(definition).flatten().find(|member| member.key.is("outputSchema"));
    schema.is_some_and(|schema| {
        let kind = members(schema.value).flatten().find(|member| member.key.is("type"));
        kind.is_none_or(|kind| kind.value != "\"object\"")
    })
}

/// The definition with a description that begins with the word that the tool is deprecated, which is what models read.
pub(super) fn deprecate(definition: &Bytes, message: Option<&str>) -> Bytes {
    let notice = message.map_or_else(|| "[deprecated] ".to_owned(), |message| format!("[deprecated: {message}] "));
    let description = members(text(definition)).flatten().find(|member| member.key.is("description"));
    match description {
        // Behind the opening quote: what follows it stays as it is spelled.
        Some(member) if member.value.starts_with('"') => {
            let quoted = quoted(&notice);
            let begin = member.range.start + 1;
            write(definition, begin..begin, &quoted[1..quoted.len() - 1])
        }
        Some(member) => write(definition, member.range, &quoted(notice.trim_end())),
        None => {
            let begin = text(definition).find('{').map_or(0, |brace| brace + 1);
            let member = [b"\"description\":", quoted(notice.trim_end()).as_slice(), b","].concat();
            write(definition, begin..begin, &member)
        }
    }
}

fn write(definition: &Bytes, range: std::ops::Range<usize>, text: &[u8]) -> Bytes {
    let mut out = rope::Builder::with_capacity(definition.len() + text.len());
    splice(definition, &[(range, text)], &mut out);
    out.finish().into_bytes()
}

fn quoted(text: &str) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    write_string(&mut quoted, text);
    quoted
}

/// A definition is a part of a message that was checked to be UTF-8.
fn text(definition: &Bytes) -> &str {
    std::str::from_utf8(definition).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renaming_touches_nothing_but_the_name() {
        let definition = Bytes::from_static(br#"{"z":1.0,"name" : "x","x-vendor":{"name":"x"}}"#);

        assert_eq!(rename(&definition, Kind::Tool, "x", "up.x"), r#"{"z":1.0,"name" : "up.x","x-vendor":{"name":"x"}}"#);
    }

    #[test]
    fn an_output_schema_is_free_unless_it_describes_an_object() {
        let cases = [
            (r#"{"name":"x"}"#, false),
            (r#"{"name":"x","outputSchema":{"properties":{},"type":"object"}}"#, false),
            (r#"{"name":"x","outputSchema":{"type":"array"}}"#, true),
            (r#"{"name":"x","outputSchema":{"anyOf":[]}}"#, true),
            (r#"{"name":"x","outputSchema":true}"#, true),
        ];
        for (definition, expected) in cases {
            assert_eq!(has_free_output(definition), expected, "{definition}");
        }
    }

    #[test]
    fn a_deprecated_tool_says_so_in_its_description_and_nowhere_else() {
        let cases = [
            (
                r#"{"name":"x", "description" : "F\u00fcr \ud800","y":1.0}"#,
                r#"{"name":"x", "description" : "[deprecated: use \"u\"] F\u00fcr \ud800","y":1.0}"#,
            ),
            (r#"{"name":"x","description":null}"#, r#"{"name":"x","description":"[deprecated: use \"u\"]"}"#),
            (r#" {"name":"x"}"#, r#" {"description":"[deprecated: use \"u\"]","name":"x"}"#),
        ];
        for (definition, expected) in cases {
            assert_eq!(deprecate(&Bytes::from_static(definition.as_bytes()), Some("use \"u\"")), expected);
        }
        let silent = deprecate(&Bytes::from_static(br#"{"name":"x","description":""}"#), None);
        assert_eq!(silent, r#"{"name":"x","description":"[deprecated] "}"#);
    }
}
