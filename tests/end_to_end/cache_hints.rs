//! For how long, and for whom, a client may keep what it was told (2026-07-28, caching): `ttlMs` and `cacheScope` of lists, discovery and
//! resources.

use std::fmt::Debug;

use serde_json::{Value, json};

use crate::{
    p2p::pair,
    support::{
        Act, Era, Gateway, LATEST_LEGACY, Mcp, Script, Scripted, Serves, Setup, promising_program, promising_server, skip, until,
        within,
    },
};

const CHANGES: &str = "twinway_catalogue_changes_total";

/// What a modern client may keep of a view, as [`promised`] gives it.
const KEPT: [&str; 5] = ["server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list"];

/// What the gateway promises of what nobody has said anything of.
const DEFAULT: (u64, &str) = (5_000, "private");

/// A test may take so long between what an upstream says and what its client is told.
const SLACK_MS: u64 = 25_000;

const EVERYTHING: &str = r#"{"tools":{},"prompts":{},"resources":{}}"#;

/// Raw caching hints.
fn hints(ttl_ms: u64, scope: &str) -> String {
    format!(r#""ttlMs":{ttl_ms},"cacheScope":"{scope}""#)
}

/// A modern server that has everything and says this of it, in the order of [`KEPT`].
fn promising(said: [(u64, &str); 5]) -> Script {
    let [about, tools, prompts, resources, templates] = said.map(|(ttl_ms, scope)| hints(ttl_ms, scope));
    let prompts = format!(r#"{{"resultType":"complete",{prompts},"prompts":[{{"name":"p"}}]}}"#);
    let resources = format!(r#"{{"resultType":"complete",{resources},"resources":[{{"uri":"x://1","name":"r"}}]}}"#);
    let templates = format!(r#"{{"resultType":"complete",{templates},"resourceTemplates":[]}}"#);
    Script::new(Serves::Modern)
        .offers(EVERYTHING)
        .promises("server/discover", &about)
        .promises("tools/list", &tools)
        .answers("prompts/list", &prompts)
        .answers("resources/list", &resources)
        .answers("resources/templates/list", &templates)
        .tool("echo", Act::Echo)
}

/// What a client is told of one result: milliseconds and a scope.
async fn told(client: &Mcp, method: &str) -> (u64, String) {
    let result = client.ask(method).send().await.result();
    let member = |name: &str| result.get(name).unwrap_or_else(|| panic!("{method}: no {name} in {result}")).clone();
    assert_eq!(member("resultType"), "complete");
    (member("ttlMs").as_u64().unwrap(), member("cacheScope").as_str().unwrap().to_owned())
}

/// Checks what a client is told of everything that it may keep. A promise of an upstream is told as what is left of it.
async fn assert_promised(client: &Mcp, expected: [(u64, &str); 5], what: impl Debug) {
    for (method, (ttl_ms, scope)) in KEPT.into_iter().zip(expected) {
        let (left_ms, told_scope) = told(client, method).await;

        let is_left = left_ms == ttl_ms || (ttl_ms > SLACK_MS && left_ms < ttl_ms && left_ms > ttl_ms - SLACK_MS);
        assert!(is_left, "{what:?} {method}: {left_ms} of {ttl_ms} ms");
        assert_eq!(told_scope, scope, "{what:?} {method}");
    }
}

async fn ready(setup: Setup, targets: &[&str]) -> Gateway {
    let gateway = Gateway::start(setup).await;
    for target in targets {
        gateway.target_is(target, "ready").await;
    }
    gateway
}

#[tokio::test]
async fn each_result_is_promised_for_as_long_and_for_as_many_as_the_least_of_its_upstreams_says() {
    let all = [(30_000, "public"), (60_000, "public"), (90_000, "public"), (120_000, "public"), (150_000, "public")];
    let some = Script::new(Serves::Modern)
        .offers(r#"{"tools":{},"prompts":{}}"#)
        .promises("server/discover", &hints(200_000, "public"))
        .promises("tools/list", &hints(86_400_000, "public"))
        .answers("prompts/list", &format!(r#"{{"resultType":"complete",{},"prompts":[]}}"#, hints(40_000, "private")));
    // In its era such words mean nothing.
    let old = Script::new(Serves::Legacy).offers(r#"{"tools":{},"prompts":{}}"#).tool("echo", Act::Echo);
    let old = old.answers("prompts/list", &format!(r#"{{{},"prompts":[]}}"#, hints(90_000, "public")));
    let (a, b, old) = (Scripted::start(promising(all)).await, Scripted::start(some).await, Scripted::start(old).await);
    let modern = Setup::new().upstream("a", a.url()).upstream("b", b.url());
    let mixed = Setup::new().upstream("a", a.url()).upstream("old", old.url());

    let gateway = ready(modern, &["a", "b"]).await;
    assert_promised(&gateway.modern().at("a"), all, "a").await;
    let of_b = [(200_000, "public"), (300_000, "public"), (40_000, "private"), DEFAULT, DEFAULT];
    assert_promised(&gateway.modern().at("b"), of_b, "b, and none promises longer than five minutes").await;
    let both = [(30_000, "public"), (60_000, "public"), (40_000, "private"), (120_000, "public"), (150_000, "public")];
    assert_promised(&gateway.modern(), both, "a and b").await;

    let gateway = ready(mixed, &["a", "old"]).await;
    assert_promised(&gateway.modern().at("old"), [DEFAULT; 5], "old").await;
    let with_old = [DEFAULT, DEFAULT, DEFAULT, all[3], all[4]];
    assert_promised(&gateway.modern(), with_old, "a, and an old one that has no resources").await;
}

#[tokio::test]
async fn what_depends_on_who_asks_is_for_nobody_else() {
    let public = [(60_000, "public"); 5];
    let private = [(60_000, "private"); 5];
    let upstream = Scripted::start(promising(public)).await;
    let open = ready(Setup::new().upstream("up", upstream.url()), &["up"]).await;
    let known = Setup::new().upstream("up", upstream.url()).client("ada", "a-token-of-ada-here");
    let known = ready(known, &["up"]).await;

    assert_promised(&open.modern(), public, "whoever comes").await;
    assert_promised(&known.modern().bearer("a-token-of-ada-here"), private, "a client with a name").await;
    assert_promised(&open.modern().asking("categories=none"), private, "some categories").await;
    let lazy = [private[0], DEFAULT, private[2], private[3], private[4]];
    assert_promised(&open.modern().asking("exposure=lazy"), lazy, "three tools of the gateway").await;
}

#[tokio::test]
async fn what_an_upstream_says_anew_of_the_same_lists_is_told_and_nobody_is_told_of_a_change() {
    let upstream = Scripted::start(promising([(60_000, "private"); 5])).await;
    let setup = Setup::new().upstream_with("up", upstream.url(), "refresh = \"50ms\"");
    let gateway = ready(setup, &["up"]).await;
    let client = gateway.modern();
    let changes = gateway.metric(CHANGES, &[]).await;
    assert!(changes > 0.0, "its tool was told as one");

    for said in [(120_000, "private"), (120_000, "public"), (60_000, "public"), (0, "private")] {
        upstream.becomes(promising([said; 5]));
        for method in KEPT {
            until(method, || async {
                let (left_ms, scope) = told(&client, method).await;
                let is_left = left_ms <= said.0 && left_ms >= said.0.saturating_sub(SLACK_MS);
                (is_left && scope == said.1).then_some(())
            })
            .await;
        }
    }

    assert!((gateway.metric(CHANGES, &[]).await - changes).abs() < f64::EPSILON);
}

#[tokio::test]
async fn an_upstream_renews_its_promise_at_each_look_and_one_that_is_away_does_not() {
    let upstream = Scripted::start(promising([(2_000, "public"); 5])).await;
    let setup = Setup::new().upstream_with("up", upstream.url(), "refresh = \"50ms\"");
    let gateway = ready(setup, &["up"]).await;
    let client = gateway.modern();

    for method in KEPT {
        within("a promise made anew", async {
            let mut before_ms = u64::MAX;
            loop {
                let (left_ms, _) = told(&client, method).await;
                if left_ms > before_ms {
                    break;
                }
                before_ms = left_ms;
            }
        })
        .await;
    }

    upstream.stop().await;
    gateway.target_is("up", "stale").await;
    within("the end of each promise", async {
        let mut last = [2_000; 5];
        while last != [0; 5] {
            for (method, last_ms) in KEPT.into_iter().zip(&mut last) {
                let (left_ms, scope) = told(&client, method).await;
                assert!(left_ms <= *last_ms, "{method}: {left_ms} ms after {last_ms} ms");
                assert_eq!(scope, "public", "{method}");
                *last_ms = left_ms;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_program_says_of_itself_is_asked_for_anew_when_it_is_over() {
    let test = async {
        let program = promising_program("modern", r#"{"server/discover": [500, "public"]}"#)?;
        let gateway = ready(Setup::new().tables(&child(&program, "refresh = \"100ms\"")), &["child"]).await;
        let client = gateway.modern();

        until("the end of the promise", || async { (told(&client, KEPT[0]).await.0 == 0).then_some(()) }).await;
        let (left_ms, scope) =
            until("a new one", || async { Some(told(&client, KEPT[0]).await).filter(|told| told.0 > 0) }).await;

        assert!(left_ms <= 500 && scope == "public", "{left_ms} ms, {scope}");
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("cache_hints::what_a_program_says_of_itself_is_asked_for_anew_when_it_is_over", &reason);
    }
}

/// The table of an upstream `child`, with further lines.
fn child(command: &[String], lines: &str) -> String {
    let (program, arguments) = command.split_first().unwrap();
    format!("[[upstream]]\nname = \"child\"\nkind = \"stdio\"\ncommand = {program:?}\nargs = {arguments:?}\n{lines}\n")
}

#[tokio::test]
async fn a_peer_is_promised_what_is_left_and_promises_no_more_to_its_own_clients() {
    let upstream = Scripted::start(promising([(60_000, "public"); 5])).await;
    let (near, _far) = pair(&upstream.url()).await;

    // A peer is given tools and nothing else.
    let left = (60_000, "private");
    assert_promised(&near.modern(), [left, left, DEFAULT, DEFAULT, DEFAULT], "tools of a peer").await;
}

#[tokio::test]
async fn a_resource_is_kept_as_its_upstream_says_where_the_client_knows_what_that_is_and_not_at_all_otherwise() {
    let (contents, hints) = (r#""contents":[{"uri":"x://1","text":"t"}]"#, hints(4_321, "public"));
    let said = Some((4_321, "public"));
    let servers = [
        (Serves::Modern, format!(r#"{{"resultType":"complete",{contents},{hints}}}"#), said),
        // Servers may leave out that a result is complete.
        (Serves::Modern, format!("{{{hints},{contents}}}"), said),
        (Serves::Legacy, format!("{{{contents}}}"), Some((0, "private"))),
    ];
    for (serves, result, hinted) in servers {
        let script = Script::new(serves).offers(r#"{"resources":{}}"#).answers("resources/read", &result);
        let script = script.answers("resources/list", r#"{"resources":[{"uri":"x://1","name":"r"}]}"#);
        let upstream = Scripted::start(script).await;
        let gateway = ready(Setup::new().upstream("up", upstream.url()), &["up"]).await;
        for (era, expected) in [(Era::Modern, hinted), (Era::Legacy, None)] {
            let client = gateway.client(era).await;

            let read = client.ask("resources/read").params(r#""uri":"x://1""#).header("mcp-name", "x://1").send().await;

            let (text, result) = (read.text(), read.result());
            let told = result.get("ttlMs").map(|ttl_ms| (ttl_ms.as_u64().unwrap(), result["cacheScope"].as_str().unwrap()));
            assert_eq!((told, text.matches("ttlMs").count()), (expected, usize::from(expected.is_some())), "{era:?} {text}");
            assert_eq!(result["contents"], json!([{"uri": "x://1", "text": "t"}]), "{era:?} {text}");
        }
    }
}

#[tokio::test]
async fn what_the_python_server_says_is_told_to_modern_clients_and_no_legacy_one_hears_of_it() {
    let test = async {
        let all = [(30_000, "public"), (60_000, "private"), (90_000, "public"), (120_000, "private"), (150_000, "public")];
        let mut hints: serde_json::Map<_, _> =
            KEPT.into_iter().zip(all).map(|(method, hint)| (method.to_owned(), json!(hint))).collect();
        hints.insert("resources/read".to_owned(), json!([4_321, "public"]));
        let hints = Value::from(hints).to_string();
        let ((_old, old), (_new, new)) =
            tokio::try_join!(promising_server("legacy", &hints), promising_server("modern", &hints))?;
        let program = promising_program("modern", &hints)?;
        let setup = Setup::new().upstream("old", old).upstream("new", new).tables(&child(&program, ""));
        let gateway = ready(setup, &["old", "new", "child"]).await;
        for (view, expected, read) in
            [("old", [DEFAULT; 5], (0, "private")), ("new", all, (4_321, "public")), ("child", all, (4_321, "public"))]
        {
            let client = gateway.modern().at(view);
            assert_promised(&client, expected, view).await;
            let result = read_one(&client).await;
            assert_eq!((&result["ttlMs"], &result["cacheScope"]), (&json!(read.0), &json!(read.1)), "{view}");

            let client = gateway.legacy_at(view).await;
            for method in &KEPT[1..] {
                assert_no_hint(&client.ask(method).send().await.result(), view);
            }
            assert_no_hint(&client.initialize(LATEST_LEGACY).await.result(), view);
            assert_no_hint(&read_one(&client).await, view);
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("cache_hints::what_the_python_server_says_is_told_to_modern_clients_and_no_legacy_one_hears_of_it", &reason);
    }
}

async fn read_one(client: &Mcp) -> Value {
    let uri = "asking://one";
    let read = client.ask("resources/read").params(&format!(r#""uri":"{uri}""#)).header("mcp-name", uri).send().await;
    let result = read.result();
    assert_eq!(result["contents"][0]["text"], format!("text of {uri}"));
    result
}

/// No member that only the modern revision knows.
fn assert_no_hint(result: &Value, what: &str) {
    let known: Vec<_> = ["resultType", "ttlMs", "cacheScope"].into_iter().filter(|member| result.get(member).is_some()).collect();
    assert!(known.is_empty(), "{what}: {known:?} in {result}");
}
