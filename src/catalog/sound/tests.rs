//! What becomes of definitions, as tables.

use bytes::Bytes;

use super::*;

const CARE: Care = Care { strips_hidden_text: true };

fn tool(definition: &str) -> Item {
    let raw = Bytes::from(definition.to_owned());
    let name = runtime_mcp::handshake::part(&raw, "name").and_then(|name| serde_json::from_slice::<String>(&name).ok());
    Item { name: name.unwrap_or_default().into(), definition: raw }
}

/// The name, the text and the flaws; or why there is none.
fn judged(definition: &str, care: Care) -> Result<(String, String, Vec<Flaw>), Flaw> {
    match judge(&tool(definition), care) {
        Verdict::Offered { tool, repaired } => {
            Ok((tool.name.to_string(), String::from_utf8(tool.definition.to_vec()).unwrap(), repaired))
        }
        Verdict::Dropped(flaw) => Err(flaw),
    }
}

fn with_schema(schema: &str) -> String {
    format!(r#"{{"name":"x","inputSchema":{schema}}}"#)
}

#[test]
fn a_sound_definition_is_the_same_bytes_whatever_else_it_holds() {
    let cases = [
        r#"{"name":"x","inputSchema":{"type":"object"}}"#,
        r#" { "x-vendor" : null , "name" : "x.y_z-1" , "inputSchema" : { "type" : "object" , "default":{"title":null} } } "#,
        r#"{"name":"x","inputSchema":{"$schema":"a","type":"obj\u0065ct","properties":{"description":{"type":"string"}},"required":[]},"outputSchema":true}"#,
        r#"{"name":"x","description":"F\u00fcr ☂️ 👩‍💻 می‌خواهم 1️⃣ \r\n\t","inputSchema":{"type":"object","big":12345678901234567890123,"twice":1,"twice":2}}"#,
        r#"{"name":"x","annotations":{"readOnlyHint":true,"title":"T","other":null},"icons":[],"inputSchema":{"type":"object","const":"a\u200bb"}}"#,
    ];
    for definition in cases {
        let (name, text, flaws) = judged(definition, CARE).unwrap();

        assert_eq!((text.as_str(), flaws.as_slice(), name.starts_with('x')), (definition, [].as_slice(), true));
    }
    let longest = "n".repeat(128);
    let definition = with_schema(ANY_OBJECT).replace('x', &longest);
    assert_eq!(judged(&definition, CARE), Ok((longest, definition, vec![])));
}

#[test]
fn what_breaks_a_client_is_repaired_and_nothing_beside_it_is_touched() {
    let cases = [
        (r#"{"name":"x"}"#, r#"{"inputSchema":{"type":"object"},"name":"x"}"#, vec![Flaw::InputSchema]),
        (r#"{"name":"x", "inputSchema" : null}"#, r#"{"name":"x", "inputSchema" : {"type":"object"}}"#, vec![Flaw::InputSchema]),
        (
            r#"{"name":"x","inputSchema":{ "properties":[], "required": null }}"#,
            r#"{"name":"x","inputSchema":{"type":"object", "properties":{} }}"#,
            vec![Flaw::InputSchema],
        ),
        (
            r#"{"name":"x","inputSchema":{"type":["null","object"]}}"#,
            r#"{"name":"x","inputSchema":{"type":"object"}}"#,
            vec![Flaw::InputSchema],
        ),
        (
            r#"{"title":null , "name":"x" , "annotations":null,"outputSchema": null,"inputSchema":{"type":"object"}, "description":7 }"#,
            r#"{  "name":"x","inputSchema":{"type":"object"} }"#,
            vec![Flaw::Member],
        ),
        (
            r#"{"name":"x","annotations":{"title":null, "readOnlyHint":null,"idempotentHint":true},"inputSchema":{"type":"object"}}"#,
            r#"{"name":"x","annotations":{"idempotentHint":true},"inputSchema":{"type":"object"}}"#,
            vec![Flaw::Member],
        ),
        (
            r#"{"name":"x","inputSchema":{"type":"object","properties":{"a":{"anyOf":[{"description":"b\u202ec"},{}]}}},"description":"a\u200bb"}"#,
            r#"{"name":"x","inputSchema":{"type":"object","properties":{"a":{"anyOf":[{"description":"bc"},{}]}}},"description":"ab"}"#,
            vec![Flaw::HiddenText],
        ),
    ];
    for (definition, expected, flaws) in cases {
        assert_eq!(judged(definition, CARE), Ok(("x".to_owned(), expected.to_owned(), flaws)), "{definition}");
    }
}

#[test]
fn what_cannot_be_repaired_is_dropped_with_the_reason() {
    let mirrored = |annotation: &str, kind: &str| {
        with_schema(&format!(r#"{{"type":"object","properties":{{"a":{{"type":"{kind}","x-mcp-header":{annotation}}}}}}}"#))
    };
    let cases = [
        (r#"{"title":"nameless"}"#.to_owned(), Flaw::Nameless),
        (r#"{"name":7}"#.to_owned(), Flaw::Nameless),
        (r#"{"name":"\ud800"}"#.to_owned(), Flaw::Nameless),
        (r#"["name"]"#.to_owned(), Flaw::Nameless),
        (r#"{"name":"x","n\u0061me":"y"}"#.to_owned(), Flaw::RepeatedMember),
        (mirrored("\"\"", "string"), Flaw::ParamHeader),
        (mirrored("\"A B\"", "string"), Flaw::ParamHeader),
        (mirrored("7", "string"), Flaw::ParamHeader),
        (mirrored("\"A\"", "object"), Flaw::ParamHeader),
        (with_schema(r#"{"type":"string"}"#), Flaw::InputType),
        (with_schema(r#"{"type":["string","null"]}"#), Flaw::InputType),
        (with_schema(r#"{"type":null}"#), Flaw::InputType),
    ];
    for (definition, flaw) in cases {
        assert_eq!(judged(&definition, CARE), Err(flaw), "{definition}");
    }
    assert!(judged(&mirrored("\"Region\"", "string"), CARE).is_ok());
}

#[test]
fn a_name_that_is_none_gets_one_that_says_where_it_comes_from() {
    for own in ["get weather/now", "", "wetter.für.oslo", "a\u{200b}b", &"n".repeat(129)] {
        let definition = serde_json::json!({ "name": own, "inputSchema": { "type": "object" } }).to_string();

        let (name, text, flaws) = judged(&definition, CARE).unwrap();

        let fits = |char: char| char.is_ascii_alphanumeric() || "_.-".contains(char);
        assert!((1..=64).contains(&name.len()) && name.chars().all(fits), "{own}: {name}");
        assert_eq!(flaws, [Flaw::Name], "{own}");
        assert_eq!(text, format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}}}"#));
    }
}

#[test]
fn hidden_text_is_taken_out_and_what_scripts_and_emojis_need_stays() {
    let tags: String = "do evil".chars().map(|char| char::from_u32(0xe0000 + char as u32).unwrap()).collect();
    let cases = [
        (format!("Adds.{tags}"), "Adds."),
        ("a\u{200d}b\u{200c}\u{200d}\u{200c}c".to_owned(), "abc"),
        ("\u{202e}evil\u{202c} \u{2066}x\u{2069}".to_owned(), "evil x"),
        ("\u{1b}[8mhidden\u{1b}[0m".to_owned(), "[8mhidden[0m"),
        ("x\u{fe01}\u{fe02}\u{fe03}".to_owned(), "x\u{fe01}"),
        ("👩\u{200d}💻 می\u{200c}خواهم ☂\u{fe0f}".to_owned(), "👩\u{200d}💻 می\u{200c}خواهم ☂\u{fe0f}"),
        ("tab\tline\nünïcödé".to_owned(), "tab\tline\nünïcödé"),
    ];
    for (text, expected) in cases {
        assert_eq!(shown(&text), expected, "{text:?}");
    }
}

#[test]
fn half_a_character_hides_nothing_and_breaks_nobody() {
    let definition = r#"{"name":"x","description":"\ud83d\ude00 \ud800\\u \udc00\u200b\n","inputSchema":{"type":"object"}}"#;

    let (_, text, flaws) = judged(definition, CARE).unwrap();

    assert_eq!(flaws, [Flaw::HiddenText]);
    assert_eq!(text, "{\"name\":\"x\",\"description\":\"😀 \u{fffd}\\\\u \u{fffd}\\n\",\"inputSchema\":{\"type\":\"object\"}}");
}

#[test]
fn hidden_text_stays_where_the_configuration_says_so() {
    let definition = r#"{"name":"x","description":"a\u200bb","inputSchema":{"type":"object"}}"#;

    let (_, text, flaws) = judged(definition, Care { strips_hidden_text: false }).unwrap();

    assert_eq!((text.as_str(), flaws), (definition, vec![]));
}
