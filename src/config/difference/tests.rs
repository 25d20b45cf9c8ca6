//! Which keys differ, and that what can be taken over is exactly what is taken over.

use std::path::Path as FilePath;

use proptest::prelude::*;

use super::*;
use crate::config::schema;

const PEER: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
const TOKENS: [(&str, &str); 2] = [("ONE", "correct-horse-battery-staple-one!"), ("TWO", "correct-horse-battery-staple-two!")];

fn config(text: &str) -> Config {
    Config::parse_within(text, FilePath::new("/test.toml"), &TOKENS.into()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn upstream(name: &str, more: &str) -> String {
    format!("[[upstream]]\nname = \"{name}\"\nurl = \"http://{name}\"\n{more}\n")
}

fn shown(old: &str, new: &str) -> Vec<String> {
    config(old).difference(&config(new)).iter().map(ToString::to_string).collect()
}

#[test]
fn each_key_that_differs_is_named_with_what_it_was_and_is() {
    let old = format!("[http]\nlisten = \"127.0.0.1:1\"\n{}{}", upstream("a", ""), upstream("b", "concurrency = 7"));
    let new = format!("[http]\nlisten = \"127.0.0.1:2\"\n{}{}", upstream("b", "concurrency = 8"), upstream("c", ""));

    let found = shown(&old, &new);

    assert_eq!(found.len(), 4, "{found:#?}");
    assert_eq!(found[0], r#"~ http.listen = "127.0.0.1:1" -> "127.0.0.1:2"  (needs a restart)"#);
    assert_eq!(found[1], "~ upstream.b.concurrency = 7 -> 8");
    assert!(found[2].starts_with(r#"+ upstream.c = {"name":"c""#), "{found:#?}");
    assert!(found[3].starts_with(r#"- upstream.a = {"name":"a""#), "{found:#?}");
}

#[test]
fn a_secret_that_changed_is_found_and_not_shown() {
    let with = |token: &str| upstream("a", &format!("bearer = \"env:{token}\""));

    assert_eq!(shown(&with("ONE"), &with("TWO")), [r#"~ upstream.a.bearer = "***", another"#]);
    assert_eq!(shown(&with("ONE"), &upstream("a", "")), [r#"- upstream.a.bearer = "***""#]);
    let added = shown("", &with("ONE"));
    assert!(added[0].contains(r#""bearer":"***""#), "{added:#?}");
    assert!(with("ONE").is_ascii() && shown(&with("ONE"), &with("ONE")).is_empty());
}

#[test]
fn rules_stand_by_their_pattern_and_their_order_counts() {
    let rule = |pattern: &str, priority: u8| format!("[[tool]]\nmatch = \"{pattern}\"\npriority = {priority}\n");

    let inserted = shown(&rule("a.*", 1), &format!("{}{}", rule("b", 1), rule("a.*", 2)));
    let swapped = shown(&format!("{}{}", rule("a", 1), rule("b", 1)), &format!("{}{}", rule("b", 1), rule("a", 1)));

    assert_eq!(inserted.len(), 2, "{inserted:#?}");
    assert!(inserted[0].starts_with("+ tool.b = "), "{inserted:#?}");
    assert_eq!(inserted[1], r#"~ tool."a.*".priority = 1 -> 2"#);
    assert_eq!(swapped, [r#"~ tool = ["a","b"] -> ["b","a"]"#]);
}

#[test]
fn entries_without_a_name_of_their_own_are_compared_as_a_whole() {
    let rule = |priority: u8| format!("[[tool]]\nmatch = \"a\"\npriority = {priority}\n");

    let found = config(&rule(1).repeat(2)).difference(&config(&format!("{}{}", rule(1), rule(2))));

    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((&*found[0].key, found[0].change), ("tool", Kind::Changed));
}

#[test]
fn peers_wait_for_a_restart_when_their_node_does() {
    let peer = format!("[p2p]\n[[peer]]\nname = \"far\"\naddress = \"/ip4/192.0.2.7/tcp/1/p2p/{PEER}\"\n");
    let effects = |old: &str, new: &str| -> Vec<(String, Effect)> {
        config(old).difference(&config(new)).into_iter().map(|change| (change.key, change.effect)).collect()
    };

    assert_eq!(effects("", &peer), [("p2p".to_owned(), Effect::Restart), ("peer.far".to_owned(), Effect::Restart)]);
    assert_eq!(effects("[p2p]\n", &peer), [("peer.far".to_owned(), Effect::Live)]);
    assert!(config("").with_live_of(&config(&peer)).peer.is_empty());
}

/// The names of the keys below which a running gateway takes everything over, as the schema has them.
#[test]
fn every_live_key_is_in_the_schema() {
    let schema = serde_json::to_value(schema()).unwrap();
    for key in LIVE.iter().chain(&LIVE_P2P) {
        let mut node = &schema;
        for step in key.split('.') {
            node = follow(&schema, node);
            node = &node["properties"][step];
            assert!(node.is_object(), "`{key}` is not in the schema");
        }
    }
}

/// A table behind a reference, an `anyOf` with null, or neither.
fn follow<'s>(schema: &'s Value, node: &'s Value) -> &'s Value {
    let alternatives = node["anyOf"].as_array().and_then(|all| all.first()).unwrap_or(node);
    match alternatives["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
        Some(name) => &schema["$defs"][name],
        None => alternatives,
    }
}

/// Tables with some of the keys that there are, and values that fit together however they are mixed.
fn any_config() -> impl Strategy<Value = String> {
    let http = subset(&[
        "listen = \"127.0.0.1:9\"",
        "allow_anonymous = true",
        "allowed_hosts = [\"a\"]",
        "allowed_origins = [\"http://a\"]",
        "body_bytes_max = 9",
        "json_depth_max = 9",
        "workers = 1",
        "drain_timeout = \"9s\"",
        "page_size = 9",
        "separator = \"__\"",
        "exposure = \"lazy\"",
        "seal_key = \"env:ONE\"",
        "sessions_max = 9",
        "session_idle = \"9s\"",
        "session_ttl = \"90h\"",
        "session_replay_bytes_max = 9",
        "stream_time_max = \"9s\"",
        "input_timeout = \"9s\"",
    ]);
    let p2p = subset(&["key_file = \"other\"", "authority = \"allowlist\"", "frame_bytes_max = 9", "hide_listen_addrs = true"]);
    let peers = subset(&["a", "b"]).prop_map(|names| {
        let peer = |name: &str| format!("[[peer]]\nname = \"peer-{name}\"\naddress = \"/ip4/192.0.2.7/tcp/1/p2p/{PEER}\"\n");
        names.split_whitespace().map(peer).collect::<String>()
    });
    let node = prop_oneof![Just(String::new()), (p2p, peers).prop_map(|(p2p, peers)| format!("[p2p]\n{p2p}{peers}"))];
    let tables = subset(&[
        "[admission]\nin_flight_max = 9",
        "[telemetry]\nsample_ratio = 0.5",
        "[[http.client]]\nname = \"one\"\ntoken = \"env:ONE\"",
        "[[http.client]]\nname = \"two\"\ntoken = \"env:TWO\"",
        "[[upstream]]\nname = \"a\"\nurl = \"http://a\"",
        "[[upstream]]\nname = \"b\"\nurl = \"http://b\"\nbearer = \"env:ONE\"",
        "[[tool]]\nmatch = \"a\"\npriority = 1",
        "[[tool]]\nmatch = \"b\"\ntimeout = \"9s\"",
    ]);
    (http, node, tables).prop_map(|(http, node, tables)| format!("[http]\n{http}{node}{tables}"))
}

fn subset(lines: &[&'static str]) -> impl Strategy<Value = String> + use<> {
    let count = lines.len();
    let chosen = prop::sample::subsequence(lines.to_vec(), 0..=count);
    chosen.prop_map(|lines| lines.iter().map(|line| format!("{line}\n")).collect())
}

proptest! {
    #[test]
    fn what_is_taken_over_is_what_is_said_to_be_live(old in any_config(), new in any_config()) {
        let (old, new) = (config(&old), config(&new));

        let merged = old.with_live_of(&new);

        let keys = |changes: Vec<Change>, wanted: Effect| -> Vec<String> {
            changes.into_iter().filter(|change| change.effect == wanted).map(|change| change.key).collect()
        };
        let changes = old.difference(&new);
        prop_assert_eq!(keys(old.difference(&merged), Effect::Restart), Vec::<String>::new());
        prop_assert_eq!(keys(merged.difference(&new), Effect::Live), Vec::<String>::new());
        prop_assert_eq!(keys(old.difference(&merged), Effect::Live), keys(changes.clone(), Effect::Live));
        prop_assert_eq!(keys(merged.difference(&new), Effect::Restart), keys(changes, Effect::Restart));
        prop_assert!(new.difference(&new).is_empty());
    }
}
