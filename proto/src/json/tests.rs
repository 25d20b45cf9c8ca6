//! What the scanner finds, and what it refuses.

use super::*;

#[test]
fn members_come_in_their_order_with_their_spelling() {
    let text = r#" { "b" : 1e400 , "a":[{}, "x"],"\u0061":12345678901234567890123 } "#;

    let found: Vec<_> = members(text).map(|member| member.unwrap()).map(|m| (m.key.raw, m.value)).collect();

    assert_eq!(found, [("\"b\"", "1e400"), ("\"a\"", r#"[{}, "x"]"#), (r#""\u0061""#, "12345678901234567890123")]);
}

#[test]
fn an_escaped_key_is_recognised() {
    let member = members(r#"{"\u0069d":1}"#).next().unwrap().unwrap();

    assert!(member.key.is("id"));
}

#[test]
fn faults_name_the_byte() {
    let cases: [(&[u8], usize, Fault); 9] = [
        (b"", 0, Fault::End),
        (b"{\"a\":1,}", 7, Fault::Byte),
        (b"[1 2]", 3, Fault::Byte),
        (b"{\"a\" 1}", 5, Fault::Byte),
        (b"01", 1, Fault::Trailing),
        (b"tru", 3, Fault::End),
        (b"\"\x01\"", 1, Fault::Byte),
        (b"\"\xff\"", 1, Fault::Utf8),
        (b"{} {}", 3, Fault::Trailing),
    ];
    for (text, at, fault) in cases {
        assert_eq!(check(text), Err(JsonError { at, fault }), "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn depth_is_bounded_and_counts_every_level() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));

    // The innermost empty pair is taken whole and opens no level of its own.
    assert_eq!(check(nested(DEPTH_MAX).as_bytes()), Ok(()));
    assert_eq!(check(nested(DEPTH_MAX + 1).as_bytes()), Err(JsonError { at: DEPTH_MAX, fault: Fault::Depth }));
}
