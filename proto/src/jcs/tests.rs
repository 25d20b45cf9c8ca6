//! Canonical forms: the samples of RFC 8785, the vectors of MCP++, and what has to hold for every text.

use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn form(raw: &str) -> Result<String, Uncanonical> {
    canonical(raw).map(|bytes| String::from_utf8(bytes).unwrap())
}

#[test]
fn the_examples_of_the_standard() {
    // RFC 8785, section 3.2.2.
    let example = r#"{
        "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
        "literals": [null, true, false]
    }"#;
    // The first number of the example is one that a double rounds: ours is refused, and written as the double it becomes.
    assert_eq!(form(example), Err(Uncanonical::InexactNumber));
    assert_eq!(
        form(&example.replace("333333333.33333329", "333333333.3333333")).unwrap(),
        r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}"#
    );
    // Section 3.2.3: the order is that of UTF-16, where a surrogate comes before U+FB33.
    let unsorted = r#"{"\u20ac":"E","\r":"C","\ufb33":"H","1":"O","\ud83d\ude00":"F","\u0080":"X","\u00f6":"L"}"#;
    let keys = "{\"\\r\":\"C\",\"1\":\"O\",\"\u{80}\":\"X\",\"ö\":\"L\",\"€\":\"E\",\"😀\":\"F\",\"\u{fb33}\":\"H\"}";
    assert_eq!(form(unsorted).unwrap(), keys);
}

#[test]
fn numbers_are_written_as_ecmascript_writes_them() {
    // RFC 8785, appendix B.
    let samples: [(u64, &str); 20] = [
        (0x0000_0000_0000_0000, "0"),
        (0x0000_0000_0000_0001, "5e-324"),
        (0x8000_0000_0000_0001, "-5e-324"),
        (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
        (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
        (0x4340_0000_0000_0000, "9007199254740992"),
        (0xc340_0000_0000_0000, "-9007199254740992"),
        (0x4430_0000_0000_0000, "295147905179352830000"),
        (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
        (0x44b5_2d02_c7e1_4af6, "1e+23"),
        (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
        (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
        (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
        (0x444b_1ae4_d6e2_ef50, "1e+21"),
        (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
        (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
        (0x41b3_de43_5555_5553, "333333333.3333332"),
        (0x41b3_de43_5555_5554, "333333333.33333325"),
        (0x41b3_de43_5555_5555, "333333333.3333333"),
        (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
    ];
    for (bits, expected) in samples {
        let shortest = format!("{:e}", f64::from_bits(bits));

        assert_eq!(form(&shortest).unwrap(), expected, "{bits:016x}");
    }
}

#[test]
fn what_would_become_another_text_is_refused() {
    let cases = [
        (r#"{"a":1,"a":1}"#, Uncanonical::DuplicateKey),
        (r#"{"a":1,"b":2,"\u0061":3}"#, Uncanonical::DuplicateKey),
        (r#"{"x":{"b":1,"a":2,"b":3}}"#, Uncanonical::DuplicateKey),
        (r#"["\ud800"]"#, Uncanonical::LoneSurrogate),
        (r#"{"\udc00x":1}"#, Uncanonical::LoneSurrogate),
        ("9007199254740993", Uncanonical::InexactNumber),
        ("12345678901234567890123", Uncanonical::InexactNumber),
        ("0.1000000000000000055", Uncanonical::InexactNumber),
        ("1e400", Uncanonical::InexactNumber),
        ("1e-400", Uncanonical::InexactNumber),
        ("1e99999999999", Uncanonical::InexactNumber),
        ("-0", Uncanonical::InexactNumber),
        ("-0.0e7", Uncanonical::InexactNumber),
    ];
    for (text, expected) in cases {
        assert_eq!(form(text), Err(expected), "{text}");
    }
    assert!(matches!(form("{} {}"), Err(Uncanonical::Json(_))));
    assert!(matches!(form(&"[".repeat(1_000_000)), Err(Uncanonical::Json(_))));
}

#[test]
fn spellings_of_one_value_have_one_form() {
    let cases = [
        ("0.10", "0.1"),
        ("0e9", "0"),
        ("100e-2", "1"),
        ("1.0", "1"),
        ("-12.5E1", "-125"),
        ("9007199254740991", "9007199254740991"),
        ("1000000000000000000000", "1e+21"),
        (r#""\u00e9\/""#, "\"é/\""),
        ("[ ]", "[]"),
        (r#"{"b":[{"d":1,"c":{}}],"a":[]}"#, r#"{"a":[],"b":[{"c":{},"d":1}]}"#),
    ];
    for (text, expected) in cases {
        assert_eq!(form(text).as_deref(), Ok(expected), "{text}");
    }
}

/// The vectors of MCP++ lie beside the repository, and not everywhere.
#[test]
fn the_vectors_of_mcpp() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find_map(|above| {
        let folder = above.join("shared/vectors/jcs");
        folder.is_dir().then_some(folder)
    });
    let Some(folder) = folder else { return eprintln!("skipped: no shared/vectors/jcs beside the repository") };
    let mut seen = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let document: Value = serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap();
        for case in document["cases"].as_array().unwrap() {
            // The index repeats the cases without their texts.
            let (Some(source), Some(expected)) = (case.get("source"), case["canonical_utf8"].as_str()) else { continue };
            assert_eq!(form(&source.to_string()).unwrap(), expected, "{}", case["id"]);
            seen += 1;
        }
    }
    assert!(seen >= 8, "only {seen} positive cases were found");
}

/// JSON without numbers that a double rounds.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        // Fractions that serde_json reads exactly; it rounds longer ones differently.
        any::<i16>().prop_map(|number| Value::from(f64::from(number) / 8.0 + 0.125)),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(".*", inner, 0..6).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The same value with the members of each object the other way round.
fn reversed(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            Value::Object(members.iter().rev().map(|(key, value)| (key.clone(), reversed(value))).collect())
        }
        Value::Array(items) => items.iter().map(reversed).collect(),
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn the_form_means_the_same_and_is_its_own_form_however_the_text_was_spelled(value in value()) {
        let form_of = |value: &Value| form(&value.to_string()).unwrap();

        let canonical = form_of(&value);

        // Numbers without a fraction come back as integers: what they mean is the same.
        let as_doubles = |text: &str| serde_json::from_str::<Value>(text).map(|value| doubles(&value)).unwrap();
        prop_assert_eq!(as_doubles(&canonical), doubles(&value));
        prop_assert_eq!(&form(&canonical).unwrap(), &canonical);
        prop_assert_eq!(&form_of(&reversed(&value)), &canonical);
        prop_assert_eq!(&form(&serde_json::to_string_pretty(&value).unwrap()).unwrap(), &canonical);
    }

    #[test]
    fn a_number_reads_as_the_double_it_was(value in any::<f64>()) {
        prop_assume!(value.is_finite() && (value != 0.0 || value.is_sign_positive()));

        let written = form(&format!("{value:e}")).unwrap();

        prop_assert_eq!(written.parse::<f64>().map(f64::to_bits), Ok(value.to_bits()));
    }

}

fn doubles(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(items) => items.iter().map(doubles).collect(),
        Value::Object(members) => Value::Object(members.iter().map(|(key, value)| (key.clone(), doubles(value))).collect()),
        other => other.clone(),
    }
}
