//! Messages that gateways tend to break, as tables.

#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use bytes::Bytes;
use twinway_proto::{
    envelope::{EnvelopeError, Message, parse, request, splice},
    rope::{Builder, Rope},
};

/// Arguments that a typed model would change.
fn delicate_arguments() -> Vec<String> {
    vec![
        r#"{"n":12345678901234567890123}"#.to_owned(),
        r#"{"n":1e400,"m":-0,"o":1.10,"p":1E+2}"#.to_owned(),
        r#"{"z":1,"a":2,"z":3}"#.to_owned(),
        r#"{"s":"\ud800","t":"\udc00\ud800"}"#.to_owned(),
        r#"{"s":"\u0061\/","t":"a/"}"#.to_owned(),
        r#"{ "spaced" : [ 1 , 2 ] }"#.to_owned(),
        format!("{{\"deep\":{}1{}}}", "[".repeat(64), "]".repeat(64)),
        "{\"text\":\"世界 \u{2028}\u{1F600}\"}".to_owned(),
    ]
}

#[test]
fn arguments_travel_as_they_came() {
    for arguments in delicate_arguments() {
        let text = format!(
            r#"{{"params":{{"arguments":{arguments},"name":"gpu.add"}},"method":"tools/call","jsonrpc":"2.0","id":"a"}}"#
        );
        let bytes = Bytes::from(text.clone());

        let Ok(Message::Request(parsed)) = parse(&bytes) else { panic!("{text}") };
        let params = parsed.params.unwrap();
        let raw = bytes.slice(params.range);
        let mut spliced = Builder::default();
        splice(&raw, &[(params.name.unwrap(), b"\"add\"")], &mut spliced);
        let sent = request(41, &parsed.method, Some(spliced.finish())).into_bytes();

        let expected =
            format!(r#"{{"jsonrpc":"2.0","id":41,"method":"tools/call","params":{{"arguments":{arguments},"name":"add"}}}}"#);
        assert_eq!(sent, expected);
    }
}

#[test]
fn a_result_travels_as_it_came() {
    for result in delicate_arguments() {
        let text = format!(r#"{{"result":{result},"jsonrpc":"2.0","id":41}}"#);

        let Ok(Message::Response(response)) = parse(text.as_bytes()) else { panic!("{text}") };
        let raw = Bytes::copy_from_slice(text[response.result.range].as_bytes());
        let sent = twinway_proto::envelope::response("\"a\"", Rope::from(raw)).into_bytes();

        assert_eq!(sent, format!(r#"{{"jsonrpc":"2.0","id":"a","result":{result}}}"#));
    }
}

#[test]
fn an_id_keeps_its_kind_and_spelling() {
    for id in ["0", "-7", "9007199254740993", "12345678901234567890123", r#""""#, r#""7""#, r#""\u0061""#, r#""\ud800""#] {
        for text in [
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#),
            format!(r#"{{"method":"ping","params":{{"arguments":{{"id":5}}}},"jsonrpc":"2.0","id":{id}}}"#),
            format!(r#"{{"method":"ping","jsonrpc":"2.0","\u0069d" : {id} }}"#),
        ] {
            let Ok(Message::Request(request)) = parse(text.as_bytes()) else { panic!("{text}") };
            assert_eq!(request.id, id, "{text}");
        }
    }
}

#[test]
fn members_that_decide_something_are_refused_when_they_are_there_twice() {
    let cases = [
        r#"{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"\u0069d":2,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"par\u0061ms":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"params":[]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"result":5}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":5,"error":{}}"#,
    ];

    for text in cases {
        assert!(matches!(parse(text.as_bytes()), Err(EnvelopeError::Invalid { .. })), "{text}: {:?}", parse(text.as_bytes()));
    }
}

#[test]
fn what_is_not_json_is_told_apart_from_what_is_no_message() {
    let too_deep = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{"a":{}{}}}}}"#, "[".repeat(127), "]".repeat(127));
    let not_json: [&[u8]; 7] =
        [b"", b"{", b"{\"jsonrpc\":\"2.0\",}", b"\xEF\xBB\xBF{}", b"{\"a\":\"\xFF\"}", b"{} {}", too_deep.as_bytes()];
    let no_message: [&[u8]; 5] = [b"{}", b"7", b"null", b"\"{}\"", b"{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"ping\"}"];

    for bytes in not_json {
        assert!(matches!(parse(bytes), Err(EnvelopeError::Json(_))), "{}", bytes.escape_ascii());
    }
    for bytes in no_message {
        assert!(matches!(parse(bytes), Err(EnvelopeError::Invalid { .. })), "{}", bytes.escape_ascii());
    }
}
