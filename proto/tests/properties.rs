//! A bounded run of the properties that the fuzz targets check without bound.

#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

#[path = "../fuzz/properties.rs"]
mod properties;

use proptest::{collection::vec, prelude::*, sample};

/// Texts at the edges of the grammar.
const SCALARS: [&str; 18] = [
    "0",
    "-0",
    "1e400",
    "-1.5E-7",
    "12345678901234567890123",
    "true",
    "false",
    "null",
    r#""""#,
    r#""\ud800""#,
    r#""\ud83d\ude00""#,
    r#""\u0000\/\b""#,
    "\"世界\"",
    "\"line one\u{2028}line two\"",
    r#""2.0""#,
    r#""tools/call""#,
    "{}",
    "[]",
];

const KEYS: [&str; 14] = [
    "jsonrpc",
    "id",
    r"\u0069d",
    "method",
    "params",
    "result",
    "error",
    "name",
    "arguments",
    "_meta",
    "progressToken",
    r"twinway\/explain",
    r"\udc00",
    "a",
];

/// What a mutation writes: bytes that mean something to one of the parsers.
const MEANINGFUL: &[u8] = b"{}[]\",:\\u0123456789eE+-. \n\r\ttfn\x00\x1f\x7f\xc0\xef\xbb\xbf\xff";

fn spaced(text: String) -> impl Strategy<Value = String> {
    sample::select(&["", " ", "\n", "\r\n\t "][..]).prop_map(move |space| format!("{space}{text}{space}"))
}

fn json_text() -> impl Strategy<Value = String> {
    let leaf = sample::select(&SCALARS[..]).prop_map(str::to_owned);
    leaf.prop_recursive(5, 48, 6, |inner| {
        let pair = (sample::select(&KEYS[..]), inner.clone()).prop_map(|(key, value)| format!("\"{key}\":{value}"));
        prop_oneof![
            vec(inner, 0..5).prop_map(|items| format!("[{}]", items.join(","))),
            vec(pair, 0..6).prop_map(|pairs| format!("{{{}}}", pairs.join(","))),
        ]
    })
    .prop_flat_map(spaced)
}

/// Messages, or nearly: the usual members in any order, some twice, some wrong.
fn message_text() -> impl Strategy<Value = String> {
    let usual = sample::select(
        &[
            r#""jsonrpc":"2.0""#,
            r#""id":1"#,
            r#""id":"x""#,
            r#""id":null"#,
            r#""\u0069d":2"#,
            r#""method":"tools/call""#,
            r#""params":{"name":"t","arguments":{"n":1e400,"n":12345678901234567890123},"_meta":{"progressToken":7}}"#,
            r#""params":{"name":"t","n\u0061me":"u"}"#,
            r#""params":[1]"#,
            r#""result":{"isError":true,"_meta":{}}"#,
            r#""result":5"#,
            r#""error":{"code":-32603,"message":"m"}"#,
            r#""\ud800":0"#,
        ][..],
    );
    (vec(usual, 0..5), any::<bool>()).prop_map(|(mut members, valid)| {
        if valid {
            members.push(r#""jsonrpc":"2.0""#);
        }
        format!("{{{}}}", members.join(","))
    })
}

fn mutated(text: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<sample::Index>(), 0..4_u8, sample::select(MEANINGFUL));
    (text, vec(edit, 0..4)).prop_map(|(text, edits)| {
        let mut bytes = text.into_bytes();
        for (at, kind, byte) in edits {
            let at = at.index(bytes.len() + 1);
            match kind {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => bytes[at] = byte,
                2 if at < bytes.len() => drop(bytes.remove(at)),
                3 => bytes.truncate(at),
                _ => {}
            }
        }
        bytes
    })
}

fn json_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => mutated(json_text()),
        4 => mutated(message_text()),
        1 => vec(sample::select(MEANINGFUL), 0..64),
        1 => vec(any::<u8>(), 0..64),
    ]
}

fn stream_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = sample::select(
        &[
            "data",
            "data:",
            "data: ",
            "id",
            "id: ",
            "event: ",
            "retry: ",
            ": ",
            "7",
            "{\"a\":1}",
            "世",
            "\u{feff}",
            "\0",
            "\n",
            "\n",
            "\r",
            "\r\n",
            "\n\n",
            "\r\r",
            "\r\n\r\n",
        ][..],
    );
    prop_oneof![
        6 => vec(piece, 0..40).prop_map(|pieces| pieces.concat().into_bytes()),
        1 => vec(any::<u8>(), 0..200),
        1 => (1..700_usize).prop_map(|length| [b"data: ".to_vec(), vec![b'x'; length], b"\n\n".to_vec()].concat()),
    ]
}

fn frame_bytes() -> impl Strategy<Value = Vec<u8>> {
    let framed = |payload: Vec<u8>| [&u32::try_from(payload.len()).unwrap().to_be_bytes()[..], &payload].concat();
    let frame = prop_oneof![
        4 => json_bytes().prop_map(framed),
        1 => vec(any::<u8>(), 0..520).prop_map(framed),
        1 => any::<u32>().prop_map(|length| length.to_be_bytes().to_vec()),
    ];
    (vec(frame, 0..5), any::<sample::Index>(), any::<bool>()).prop_map(|(frames, at, cut)| {
        let mut bytes = frames.concat();
        if cut {
            bytes.truncate(at.index(bytes.len() + 1));
        }
        bytes
    })
}

fn cuts() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(vec![1]), vec(1..16_u8, 1..8)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_scanner_accepts_what_serde_json_accepts(bytes in json_bytes()) {
        properties::scanner(&bytes);
    }

    #[test]
    fn a_canonical_form_is_its_own(bytes in json_bytes()) {
        properties::canonical(&bytes);
    }

    #[test]
    fn an_envelope_is_read_like_by_a_full_parser(bytes in json_bytes()) {
        properties::envelope(&bytes);
    }

    #[test]
    fn meta_is_read_like_by_a_full_parser(bytes in json_bytes()) {
        properties::request_meta(&bytes);
    }

    #[test]
    fn an_event_stream_has_the_same_events_however_it_is_cut(bytes in stream_bytes(), cuts in cuts()) {
        properties::event_stream(&bytes, &cuts);
    }

    #[test]
    fn any_text_survives_a_mirrored_header(bytes in prop_oneof![any::<String>().prop_map(String::into_bytes), json_bytes()]) {
        properties::mirrored_headers(&bytes);
    }

    #[test]
    fn a_byte_stream_has_the_same_frames_however_it_is_cut(bytes in frame_bytes(), cuts in cuts()) {
        properties::frames(&bytes, &cuts);
    }
}

#[test]
fn the_properties_hold_around_the_depth_bound() {
    for depth in [63, 64, 65, 126, 127, 128, 129, 130, 1000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
            for inner in ["1", "{}", "[]"] {
                let text = [&open.repeat(depth), inner, &close.repeat(depth)].concat();
                properties::scanner(text.as_bytes());
                properties::canonical(text.as_bytes());
                properties::envelope(text.as_bytes());
                properties::request_meta(text.as_bytes());
            }
        }
    }
}
