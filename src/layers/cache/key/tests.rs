//! Which calls are the same, and which have no key.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use runtime_api::{Caller, Declared, LegacyClient, Method, Principal, Priority, SessionLife, TraceContext};
use tokio::time::Instant;
use twinway_proto::envelope::{self, Message};

use super::*;

/// A call with these raw members of `params`.
fn call(members: &str) -> Call {
    let message = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"t",{members}}}}}"#);
    let Ok(Message::Request(request)) = envelope::parse(message.as_bytes()) else { panic!("not a request: {message}") };
    let index = request.params.expect("the call has parameters");
    let raw = Bytes::copy_from_slice(&message.as_bytes()[index.range]);
    Call {
        method: Method::ToolsCall,
        target: "up".into(),
        name: "t".into(),
        params: Params {
            raw,
            name: index.name,
            arguments: index.arguments,
            meta: index.meta,
            meta_passes: true,
            ..Params::default()
        },
        principal: Principal::anonymous(),
        client: Client::Modern,
        session: None,
        deadline: Instant::now() + Duration::from_secs(1),
        priority: Priority::default(),
        trace: TraceContext::default(),
        caller: Caller::none(),
    }
}

fn key(call: &Call) -> Result<Key, Bypass> {
    of([Definition::new("http", "up", "t", b"{}")].iter(), call, false)
}

#[tokio::test]
async fn sessions_are_told_apart_where_they_have_a_server_each_and_nowhere_else() {
    let lives = [SessionLife::new(1), SessionLife::new(2)];
    let [one, two] = lives.each_ref().map(|life| Call { session: Some(life.session()), ..arguments("{}") });
    let key =
        |call: &Call, per_session| of([Definition::new("stdio", "up", "t", b"{}")].iter(), call, per_session).expect("a key");

    assert_eq!(key(&one, false), key(&two, false));
    assert_ne!(key(&one, true), key(&two, true));
    assert_eq!(key(&one, true), key(&one.clone(), true));
}

fn arguments(raw: &str) -> Call {
    call(&format!(r#""arguments":{raw}"#))
}

#[tokio::test]
async fn the_same_arguments_have_one_key_however_they_are_spelled() {
    let first = key(&arguments(r#"{"a":1,"b":[0.50,"\u00e9"]}"#));

    for same in [r#"{ "b" : [5e-1, "é"] , "a" : 1 }"#, r#"{"\u0061":1.0,"b":[0.5,"é"]}"#] {
        assert_eq!(key(&arguments(same)), first, "{same}");
    }
    let with_progress = call(r#""_meta":{"progressToken":7,"twinway/explain":true},"arguments":{"a":1,"b":[0.5,"é"]}"#);
    assert_eq!(key(&with_progress), first);
}

#[tokio::test]
async fn whatever_may_change_the_answer_changes_the_key() {
    let one = arguments(r#"{"a":1}"#);
    let legacy = |revision| {
        Client::Legacy(Arc::new(LegacyClient {
            revision,
            capabilities: Bytes::new(),
            info: Bytes::new(),
            declared: Declared::NONE,
        }))
    };
    let definition = |target: &str, tool: &str, raw: &[u8]| Definition::new("http", target, tool, raw);
    let with = |definitions: &[Definition]| of(definitions.iter(), &one, false).expect("a key");

    let keys = [
        key(&one).expect("a key"),
        key(&arguments(r#"{"a":2}"#)).expect("a key"),
        key(&arguments(r#"{"a":"1"}"#)).expect("a key"),
        key(&arguments("{}")).expect("a key"),
        key(&Call { principal: Principal("somebody".into()), ..one.clone() }).expect("a key"),
        key(&Call { client: legacy("2025-11-25"), ..one.clone() }).expect("a key"),
        key(&Call { client: legacy("2025-06-18"), ..one.clone() }).expect("a key"),
        with(&[definition("up", "t", b"{ }")]),
        with(&[definition("down", "t", b"{}")]),
        with(&[definition("up", "u", b"{}")]),
        with(&[definition("u", "pt", b"{}")]),
        with(&[definition("up", "t", b"{}"), definition("down", "t", b"{}")]),
    ];

    for (place, key) in keys.iter().enumerate() {
        assert!(!keys[..place].contains(key), "key {place} is that of another call");
    }
}

#[tokio::test]
async fn a_call_that_cannot_be_told_from_others_with_certainty_has_no_key() {
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(ARGUMENTS_BYTES_MAX));
    let cases = [
        (arguments(r#"{"a":1,"a":2}"#), Bypass::DuplicateKey),
        (arguments(r#"{"a":"\ud800"}"#), Bypass::LoneSurrogate),
        (arguments(r#"{"a":12345678901234567890123}"#), Bypass::InexactNumber),
        (arguments(&long), Bypass::TooLong),
        (call(r#""arguments":{},"task":{"ttl":1}"#), Bypass::OtherParameters),
        (call(r#""arguments":{},"inputResponses":{}"#), Bypass::OtherParameters),
        (call(r#""arguments":{},"_meta":{"com.example/language":"no"}"#), Bypass::OtherParameters),
    ];
    for (call, expected) in cases {
        assert_eq!(key(&call), Err(expected));
    }
}
