//! `tools/list`: what is merged, under which names, in which pages, and what becomes of a dead upstream's tools.

use std::collections::BTreeSet;

use serde_json::json;
use tokio::time::{Duration, Instant};

use crate::support::{Act, Era, Gateway, Script, Scripted, Serves, Setup, python_server, skip, until};

async fn server(tools: &[&str]) -> Scripted {
    let script = tools.iter().fold(Script::new(Serves::Both), |script, name| script.tool(name, Act::Echo));
    Scripted::start(script).await
}

#[tokio::test]
async fn the_merged_view_prefixes_names_and_the_view_of_one_upstream_does_not() {
    let (a, b) = (server(&["echo", "add"]).await, server(&["echo"]).await);
    let gateway = Gateway::start(Setup::new().upstream("a", a.url()).upstream("b", b.url())).await;
    for era in [Era::Modern, Era::Legacy] {
        assert_eq!(gateway.client(era).await.tool_names().await, ["a.add", "a.echo", "b.echo"], "{era:?}");
    }

    let alone = gateway.modern().at("a");

    assert_eq!(alone.tool_names().await, ["add", "echo"]);
    assert_eq!(alone.call("add", r#"{"x":1}"#).await.result()["structuredContent"], json!({"x": 1}));
    assert_eq!(gateway.modern().at("nobody").ask("tools/list").send().await.status, 404);
}

#[tokio::test]
async fn a_definition_is_passed_on_as_it_came_but_for_its_name() {
    let definition =
        r#"{"x-unknown":1e400,"name":"odd","inputSchema":{"type":"object","b":1,"a":12345678901234567890123},"title":"\u00e9"}"#;
    let upstream = Scripted::start(Script::new(Serves::Both).defined("odd", definition, Act::Echo)).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;

    let merged = gateway.modern().ask("tools/list").send().await.text();
    let alone = gateway.modern().at("up").ask("tools/list").send().await.text();

    assert!(merged.contains(&definition.replace("\"odd\"", "\"up.odd\"")), "{merged}");
    assert!(alone.contains(definition), "{alone}");
}

#[tokio::test]
async fn pages_of_three_hold_every_tool_of_many_upstreams_once() {
    let names: Vec<String> = (0..10).map(|number| format!("tool-{number}")).collect();
    let script = names.iter().fold(Script::new(Serves::Both).page_size(4), |script, name| script.tool(name, Act::Echo));
    let (a, b) = (Scripted::start(script.clone()).await, Scripted::start(script).await);
    let setup = Setup::new().http("page_size = 3").upstream("a", a.url()).upstream("b", b.url());
    let gateway = Gateway::start(setup).await;
    let expected: Vec<String> = ["a", "b"].iter().flat_map(|up| names.iter().map(move |name| format!("{up}.{name}"))).collect();

    for era in [Era::Modern, Era::Legacy] {
        let client = gateway.client(era).await;
        let pages = client.pages().await;
        let sizes: Vec<_> = pages.iter().map(|page| page["tools"].as_array().unwrap().len()).collect();

        assert_eq!(sizes, [3, 3, 3, 3, 3, 3, 2], "{era:?}");
        assert_eq!(client.tool_names().await, expected, "{era:?}");
        let foreign = client.ask("tools/list").params(r#""cursor":"made-up""#).send().await;
        assert_eq!(foreign.error()["code"], -32602, "{era:?}");
    }
}

#[tokio::test]
async fn pages_of_three_hold_every_tool_of_the_python_server_once() {
    let (_server, url) = match python_server(&["--tools", "120", "--page-size", "7"]).await {
        Ok(server) => server,
        Err(reason) => return skip("lists::pages_of_three_hold_every_tool_of_the_python_server_once", &reason),
    };
    let gateway = Gateway::start(Setup::new().http("page_size = 3").upstream("py", &url)).await;
    gateway.target_is("py", "ready").await;

    for era in [Era::Modern, Era::Legacy] {
        let names = gateway.client(era).await.tool_names().await;

        let distinct: BTreeSet<_> = names.iter().collect();
        assert_eq!((names.len(), distinct.len()), (127, 127), "{era:?}");
    }
}

#[tokio::test]
async fn the_last_known_tools_of_a_dead_upstream_stay_and_are_marked_stale_until_it_is_back() {
    let script = Script::new(Serves::Both).tool("echo", Act::Echo);
    let (dying, alive) = (Scripted::start(script.clone()).await, Scripted::start(script.clone()).await);
    let address = dying.address();
    let setup = Setup::new().upstream_with("dying", dying.url(), "refresh = \"50ms\"").upstream("alive", alive.url());
    let gateway = Gateway::start(setup).await;

    dying.stop().await;
    gateway.target_is("dying", "stale").await;

    for era in [Era::Modern, Era::Legacy] {
        let client = gateway.client(era).await;
        assert_eq!(client.tool_names().await, ["alive.echo", "dying.echo"], "{era:?}");
        let page = client.ask("tools/list").send().await.result();
        assert_eq!(page["_meta"]["twinway/stale"], json!(["dying"]), "{era:?}");
        assert_eq!(client.call("alive.echo", "{}").await.status, 200, "{era:?}");
    }

    let _back = Scripted::start_at(script, address).await;
    gateway.target_is("dying", "ready").await;
    let page = gateway.modern().ask("tools/list").send().await.result();
    assert_eq!(page["_meta"]["twinway/stale"], serde_json::Value::Null);
}

#[tokio::test]
async fn while_an_upstream_hangs_its_last_known_tools_are_listed_within_its_deadline_and_marked_stale_once_it_has_passed() {
    let script = Script::new(Serves::Both).tool("echo", Act::Echo);
    let (hanging, alive) = (Scripted::start(script.clone()).await, Scripted::start(script.clone()).await);
    let lines = "refresh = \"50ms\"\nlist_timeout = \"2s\"";
    let setup = Setup::new().upstream_with("hanging", hanging.url(), lines).upstream("alive", alive.url());
    let gateway = Gateway::start(setup).await;
    gateway.target_is("hanging", "ready").await;
    gateway.target_is("alive", "ready").await;
    let clients = [gateway.modern(), gateway.legacy().await];

    hanging.becomes(script.clone().hangs());
    for client in &clients {
        until("the mark", || async {
            let began = Instant::now();
            let page = client.ask("tools/list").send().await.result();
            let names: Vec<_> = page["tools"].as_array().unwrap().iter().map(|tool| tool["name"].clone()).collect();

            assert!(began.elapsed() < Duration::from_secs(2), "{:?}: {:?}", client.era, began.elapsed());
            assert_eq!(names, ["alive.echo", "hanging.echo"], "{:?}", client.era);
            (page["_meta"]["twinway/stale"] == json!(["hanging"])).then_some(())
        })
        .await;
    }

    hanging.becomes(script);
    gateway.target_is("hanging", "ready").await;
    assert_eq!(clients[0].ask("tools/list").send().await.result()["_meta"]["twinway/stale"], serde_json::Value::Null);
}

#[tokio::test]
async fn a_name_is_prefixed_only_on_conflict_where_the_configuration_says_so() {
    let (a, b) = (server(&["echo", "only-a"]).await, server(&["echo", "only-b"]).await);
    let on_conflict = "prefix = \"on_conflict\"";
    let setup = Setup::new().upstream_with("a", a.url(), on_conflict).upstream_with("b", b.url(), on_conflict);
    let gateway = Gateway::start(setup).await;

    assert_eq!(gateway.modern().tool_names().await, ["a.echo", "b.echo", "only-a", "only-b"]);
    assert_eq!(gateway.modern().call("only-b", "{}").await.status, 200);
    assert_eq!(b.calls().len(), 1);
}

#[tokio::test]
async fn a_name_that_would_shadow_another_targets_tool_is_refused_and_reported() {
    let (first, second) = (server(&["echo"]).await, server(&["echo", "own"]).await);
    let never = "prefix = \"never\"";
    let setup = Setup::new().upstream_with("first", first.url(), never).upstream_with("second", second.url(), never);
    let gateway = Gateway::start(setup).await;

    assert_eq!(gateway.modern().tool_names().await, ["echo", "own"]);
    gateway.modern().call("echo", "{}").await.result();

    assert_eq!((first.calls().len(), second.calls().len()), (1, 0));
    let refused = gateway.get("/health/runtime").await.json()["refused"].clone();
    assert_eq!(refused, json!([{"tool": "echo", "target": "second", "held_by": "first"}]));
}

#[tokio::test]
async fn a_name_of_more_than_64_characters_gets_a_stable_short_form_that_can_be_called() {
    let long = "x".repeat(100);
    let other = format!("{}y", "x".repeat(99));
    let upstream = server(&[&long, &other]).await;
    let setup = || Setup::new().upstream("up", upstream.url());
    let names = {
        let gateway = Gateway::start(setup()).await;
        let names = gateway.modern().tool_names().await;
        for name in &names {
            assert_eq!(gateway.modern().call(name, "{}").await.status, 200, "{name}");
        }
        names
    };

    let again = Gateway::start(setup()).await.modern().tool_names().await;

    assert_eq!(names.iter().map(String::len).collect::<Vec<_>>(), [64, 64]);
    assert_ne!(names[0], names[1]);
    assert_eq!(names, again, "the next process gives the same names");
    let called: BTreeSet<_> = upstream.calls().into_iter().map(|call| call.tool).collect();
    assert_eq!(called, BTreeSet::from([long, other]));
}
