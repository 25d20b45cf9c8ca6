//! Calls that become tasks: in sessions (2025-11-25) and by the extension of the modern revision, and what each target says of its use.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    stdio::program,
    support::{
        Act, Ask, Gateway, Mcp, Open, Script, Scripted, Seen, Serves, Setup, everything, everything_program, node_client, open,
        skip, task_program, task_server, until, within,
    },
};

const OFFERS_CALLS: &str = r#"{"tools":{},"tasks":{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}}"#;
const OFFERS_EXTENSION: &str = r#"{"tools":{},"extensions":{"io.modelcontextprotocol/tasks":{},"x.example/other":{}}}"#;
const DECLARES: &str = r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;

/// A task as its server knows it; `more` are further members.
fn task(id: &str, status: &str, more: &str) -> String {
    format!(
        r#"{{"taskId":"{id}","status":"{status}","createdAt":"2026-11-28T00:00:00Z","lastUpdatedAt":"2026-11-28T00:00:00Z","ttl":60000{more}}}"#
    )
}

/// A server of sessions whose tool `slow` always makes the task `t-1`.
fn sessions_script(name: &str) -> Script {
    Script::new(Serves::Legacy)
        .offers(OFFERS_CALLS)
        .tool("slow", Act::Result(format!(r#"{{"task":{}}}"#, task("t-1", "working", ""))))
        .answers("tasks/get", &task("t-1", "working", &format!(r#","statusMessage":"at {name}""#)))
        .answers("tasks/cancel", &task("t-1", "cancelled", ""))
        .answers(
            "tasks/result",
            &format!(
                r#"{{"content":[{{"type":"text","text":"of {name}"}}],"_meta":{{"io.modelcontextprotocol/related-task":{{"taskId":"t-1"}}}}}}"#
            ),
        )
        .answers("tasks/list", &format!(r#"{{"tasks":[{}]}}"#, task("t-1", "working", "")))
}

/// A server of the modern revision that makes the task `m-1` of each call.
fn modern_script() -> Script {
    let of = |kind: &str| task("m-1", "working", &format!(r#","resultType":"{kind}""#));
    Script::new(Serves::Modern)
        .offers(OFFERS_EXTENSION)
        .tool("slow", Act::Result(of("task")))
        .answers("tasks/get", &of("complete"))
        .answers("tasks/update", r#"{"resultType":"complete"}"#)
        .answers("tasks/cancel", r#"{"resultType":"complete"}"#)
}

async fn sessions_server(name: &str) -> Scripted {
    Scripted::start(sessions_script(name)).await
}

/// Makes a task of a call, and gives its id.
async fn begin(client: &Mcp, tool: &str) -> String {
    let call = client.ask("tools/call").params(&format!(r#""name":"{tool}","arguments":{{}},"task":{{"ttl":60000}}"#));
    let created = call.send().await.result();
    assert_eq!(created["task"]["status"], "working", "{created}");
    created["task"]["taskId"].as_str().unwrap().to_owned()
}

/// A request about a task.
fn about<'a>(client: &'a Mcp, method: &'a str, id: &str) -> Ask<'a> {
    client.ask(method).params(&format!(r#""taskId":"{id}""#))
}

/// The same of a modern client with the extension.
fn modern_about<'a>(client: &'a Mcp, method: &'a str, id: &str) -> Ask<'a> {
    about(client, method, id).header("mcp-name", id).declares(DECLARES)
}

fn last(upstream: &Scripted, method: &str) -> Value {
    let seen = upstream.seen().into_iter().rfind(|seen| seen.method == method);
    seen.unwrap_or_else(|| panic!("no {method}")).json()
}

#[tokio::test]
async fn a_task_is_found_again_at_its_own_server_though_another_uses_the_same_id() {
    let (near, far) = (sessions_server("near").await, sessions_server("far").await);
    let gateway = Gateway::start(Setup::new().upstream("near", near.url()).upstream("far", far.url())).await;
    let client = gateway.legacy().await;

    let (of_near, of_far) = (begin(&client, "near.slow").await, begin(&client, "far.slow").await);

    assert_ne!(of_near, of_far);
    assert_eq!(last(&near, "tools/call")["params"]["task"], json!({"ttl": 60000}));
    for (server, name, id) in [(&near, "near", &of_near), (&far, "far", &of_far)] {
        let status = about(&client, "tasks/get", id).send().await.result();
        assert_eq!((&status["taskId"], &status["statusMessage"]), (&json!(id), &json!(format!("at {name}"))));
        assert_eq!(last(server, "tasks/get")["params"]["taskId"], "t-1");
        let result = about(&client, "tasks/result", id).send().await.result();
        assert_eq!(result["content"][0]["text"], format!("of {name}"));
        assert_eq!(result["_meta"]["io.modelcontextprotocol/related-task"]["taskId"], json!(id));
        let cancelled = about(&client, "tasks/cancel", id).send().await.result();
        assert_eq!((&cancelled["taskId"], &cancelled["status"]), (&json!(id), &json!("cancelled")));
    }
    let sessions = near.seen().into_iter().filter(|seen| seen.method.starts_with("tasks/") || seen.method == "tools/call");
    let mut sessions: Vec<_> = sessions.map(|seen| seen.header("mcp-session-id").to_owned()).collect();
    sessions.dedup();
    assert_eq!(sessions.len(), 1, "a task may belong to the session in which it was made");
}

#[tokio::test]
async fn nobody_can_use_another_s_task_or_a_changed_id_or_one_that_the_server_uses() {
    let upstream = sessions_server("up").await;
    let setup = Setup::new()
        .upstream("up", upstream.url())
        .client("ann", "token-of-ann-0123456789")
        .client("bob", "token-of-bob-0123456789");
    let gateway = Gateway::start(setup).await;
    let open =
        async |name: &str| Mcp::legacy(gateway.address).bearer(&format!("token-of-{name}-0123456789")).open("2025-11-25").await;
    let (ann, bob) = (open("ann").await, open("bob").await);
    let id = begin(&ann, "up.slow").await;
    let at_up = Mcp::legacy(gateway.address).at("up").bearer("token-of-ann-0123456789").open("2025-11-25").await;
    let changed = format!("{}{}", &id[..id.len() - 1], if id.ends_with('A') { 'Q' } else { 'A' });

    for (client, id) in [(&bob, id.as_str()), (&at_up, &id), (&ann, &changed), (&ann, "t-1"), (&bob, "t-1")] {
        for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
            assert_eq!(about(client, method, id).send().await.error()["code"], -32602, "{method} {id}");
        }
    }

    assert!(upstream.seen().iter().all(|seen| !seen.method.starts_with("tasks/")), "the server hears nothing of it");
    assert_eq!(gateway.metric("twinway_requests_refused_total", &[r#"reason="task_unknown""#]).await, 15.0);
    assert_eq!(about(&ann, "tasks/get", &id).send().await.result()["taskId"], json!(id));
}

/// Whoever has that token, in a session of the latest revision.
async fn bearer(gateway: &Gateway, name: &str) -> Mcp {
    Mcp::legacy(gateway.address).bearer(&token_of(name)).open("2025-11-25").await
}

fn token_of(name: &str) -> String {
    format!("token-of-{name}-0123456789")
}

fn ids(page: &Value) -> Vec<String> {
    page["tasks"].as_array().unwrap().iter().map(|task| task["taskId"].as_str().unwrap().to_owned()).collect()
}

/// The ids on all pages of the client's tasks.
async fn listed(client: &Mcp) -> Vec<String> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.ask("tasks/list").params(&cursor).send().await.result();
        all.extend(ids(&page));
        match page.get("nextCursor") {
            Some(next) => cursor = format!(r#""cursor":{next}"#),
            None => return all,
        }
    }
}

#[tokio::test]
async fn each_client_lists_the_tasks_that_it_has_made_and_nobody_else_s() {
    let tool = |id: &str| Act::Result(format!(r#"{{"task":{}}}"#, task(id, "working", "")));
    let all = ["t-1", "t-2", "t-3"].map(|id| task(id, "working", "")).join(",");
    let script = Script::new(Serves::Legacy).offers(OFFERS_CALLS).tool("first", tool("t-1")).tool("second", tool("t-2"));
    let upstream = Scripted::start(script.answers("tasks/list", &format!(r#"{{"tasks":[{all}]}}"#))).await;
    let setup = |clients: &[&str]| {
        clients.iter().fold(Setup::new().upstream("up", upstream.url()), |setup, name| setup.client(name, &token_of(name)))
    };
    let all = setup(&["ann", "bob", "eve"]);
    let gateway = Gateway::start(setup(&[]).environment_of(&all)).await;
    let alone = gateway.legacy().await;
    assert_eq!(listed(&alone).await.len(), 3, "who is the only client has made them all");

    gateway.write(&all.text());
    gateway.metric_reaches("twinway_reloads_total", &[r#"outcome="applied""#], 1.0).await;
    let [ann, bob, eve] = [bearer(&gateway, "ann").await, bearer(&gateway, "bob").await, bearer(&gateway, "eve").await];
    let (of_ann, of_bob) = (begin(&ann, "up.first").await, begin(&bob, "up.second").await);

    assert_eq!(listed(&ann).await, [of_ann]);
    assert_eq!(listed(&bob).await, [of_bob]);
    assert_eq!(listed(&eve).await, [] as [String; 0]);
    // At the address of the server alone its tasks are the client's too, by other ids.
    let at_up = Mcp::legacy(gateway.address).at("up").bearer(&token_of("ann")).open("2025-11-25").await;
    let there = listed(&at_up).await;
    assert_eq!(there.len(), 1);
    assert_ne!(there, listed(&ann).await);
    let offered = Mcp::legacy(gateway.address).bearer(&token_of("eve")).initialize("2025-11-25").await.result();
    assert_eq!(offered["capabilities"]["tasks"]["list"], json!({}));
}

/// Has two clients make tasks in turn at a program that both share and that lists ten on a page.
async fn list_in_turn(program: &[String]) {
    const EACH: usize = 12;
    let [program, arguments @ ..] = program else { panic!("a program") };
    let up = format!("[[upstream]]\nname = \"up\"\nkind = \"stdio\"\ncommand = {program:?}\nargs = {arguments:?}\n");
    let setup = ["ann", "bob"].iter().fold(Setup::new().tables(&up), |setup, name| setup.client(name, &token_of(name)));
    let mut gateway = Gateway::start(setup).await;
    gateway.target_is("up", "ready").await;
    let clients = [bearer(&gateway, "ann").await, bearer(&gateway, "bob").await];
    let mut made = [Vec::new(), Vec::new()];
    for _ in 0..EACH {
        for (client, made) in clients.iter().zip(&mut made) {
            let call = r#""name":"up.simulate-research-query","arguments":{"topic":"x"},"task":{"ttl":600000}"#;
            let created = client.ask("tools/call").params(call).send().await.result();
            made.push(created["task"]["taskId"].as_str().unwrap().to_owned());
        }
    }

    for (client, mut made) in clients.iter().zip(made) {
        let first = client.ask("tasks/list").send().await.result();
        let mut all = listed(client).await;

        assert!(first.get("nextCursor").is_some(), "it has more than one page: {first}");
        assert_eq!(ids(&first).len(), 5, "the other's stand on it, too: {first}");
        all.sort();
        made.sort();
        assert_eq!(all, made);
    }
    gateway.ends().await;
}

#[tokio::test]
async fn each_of_two_clients_pages_through_its_own_tasks_at_a_real_server() {
    match everything_program() {
        Ok(program) => list_in_turn(&program).await,
        Err(reason) => skip("tasks::each_of_two_clients_pages_through_its_own_tasks_at_a_real_server", &reason),
    }
}

#[tokio::test]
async fn a_task_outlives_the_gateway_that_has_a_key_of_its_own() {
    let upstream = sessions_server("up").await;
    let setup = || {
        let lines = r#"seal_key = "env:SEAL""#;
        Setup::new().upstream("up", upstream.url()).http(lines).variable("SEAL", "0123456789abcdef0123456789abcdef")
    };
    let first = Gateway::start(setup()).await;
    let id = begin(&first.legacy().await, "up.slow").await;
    drop(first);

    let second = Gateway::start_in(setup(), TempDir::new().unwrap()).await;
    let client = second.legacy().await;

    assert_eq!(about(&client, "tasks/get", &id).send().await.result()["taskId"], json!(id));
    assert_eq!(client.ask("tasks/list").send().await.result()["tasks"][0]["taskId"], json!(id));
}

#[tokio::test]
async fn the_tasks_of_all_servers_are_one_list_and_one_that_refuses_is_left_out_and_named() {
    let paged =
        |cursor: &str| format!(r#"{{"tasks":[{},{}]{cursor}}}"#, task("t-1", "working", ""), task("t-2", "completed", ""));
    let one = Scripted::start(sessions_script("one").offers(OFFERS_CALLS)).await;
    let many = Script::new(Serves::Legacy).offers(OFFERS_CALLS).tool("slow", Act::Echo);
    let many = Scripted::start(many.answers("tasks/list", &paged(r#","nextCursor":"more \"of\" it""#))).await;
    let none = Scripted::start(Script::new(Serves::Legacy).tool("echo", Act::Echo)).await;
    let refusing = Script::new(Serves::Legacy).offers(OFFERS_CALLS).tool("slow", Act::Echo);
    let refusing = Scripted::start(refusing).await;
    let setup = Setup::new().upstream("one", one.url()).upstream("many", many.url());
    let gateway = Gateway::start(setup.upstream("none", none.url()).upstream("refusing", refusing.url())).await;
    let client = gateway.legacy().await;

    let first = client.ask("tasks/list").send().await.result();
    let next = client.ask("tasks/list").params(&format!(r#""cursor":{}"#, first["nextCursor"])).send().await.result();
    let foreign = client.ask("tasks/list").params(r#""cursor":"more \"of\" it""#).send().await.error();

    let ids = |page: &Value| page["tasks"].as_array().unwrap().iter().map(|task| task["taskId"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&first).len(), 3);
    assert_eq!(first["_meta"]["twinway/missing"], json!(["refusing"]));
    assert_eq!(ids(&next), ids(&first)[1..], "the same task has the same id every time");
    assert_eq!(last(&many, "tasks/list")["params"]["cursor"], "more \"of\" it");
    assert_eq!(one.seen().iter().filter(|seen| seen.method == "tasks/list").count(), 1, "it has no second page");
    assert_eq!(foreign["code"], -32602);
    assert_eq!(about(&client, "tasks/get", ids(&first)[0].as_str().unwrap()).send().await.result()["statusMessage"], "at one");
}

#[tokio::test]
async fn the_extension_of_tasks_goes_through_between_a_modern_client_and_a_modern_server() {
    let upstream = Scripted::start(modern_script()).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;
    let client = gateway.modern();

    let discovered = client.ask("server/discover").send().await.result();
    let created = client.tool("up.slow", "{}").declares(DECLARES).send().await.result();
    let id = created["taskId"].as_str().unwrap();
    let status = modern_about(&client, "tasks/get", id).send().await.result();
    let update = client.ask("tasks/update").params(&format!(r#""taskId":"{id}","inputResponses":{{"a":{{"action":"accept"}}}}"#));
    let updated = update.header("mcp-name", id).declares(DECLARES).send().await.result();
    let cancelled = modern_about(&client, "tasks/cancel", id).send().await.result();

    assert_eq!(discovered["capabilities"]["extensions"], json!({"io.modelcontextprotocol/tasks": {}}));
    assert_eq!((&created["resultType"], &created["ttl"]), (&json!("task"), &json!(60000)));
    assert_ne!(id, "m-1");
    assert_eq!((&status["taskId"], &status["resultType"]), (&json!(id), &json!("complete")));
    for acknowledged in [&updated, &cancelled] {
        assert_eq!(acknowledged["resultType"], "complete");
    }
    assert_eq!(last(&upstream, "tasks/update")["params"]["inputResponses"], json!({"a": {"action": "accept"}}));
    for seen in upstream.seen().iter().filter(|seen| seen.method.starts_with("tasks/")) {
        assert_eq!((seen.header("mcp-name"), seen.header("mcp-method")), ("m-1", seen.method.as_str()));
        assert_eq!(seen.json()["params"]["taskId"], "m-1");
    }
}

#[tokio::test]
async fn a_modern_client_has_to_declare_the_extension_and_to_name_the_task_in_its_header() {
    let upstream = Scripted::start(modern_script()).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;
    let client = gateway.modern();
    let created = client.tool("up.slow", "{}").declares(DECLARES).send().await.result();
    let id = created["taskId"].as_str().unwrap();

    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let answer = about(&client, method, id).header("mcp-name", id).send().await;
        assert_eq!((answer.status.as_u16(), &answer.error()["code"]), (400, &json!(-32021)), "{method}");
        let required = &answer.error()["data"]["requiredCapabilities"];
        assert_eq!(*required, json!({"extensions": {"io.modelcontextprotocol/tasks": {}}}));
        let answer = modern_about(&client, method, id).header("mcp-name", "another").send().await;
        assert_eq!((answer.status.as_u16(), &answer.error()["code"]), (400, &json!(-32020)), "{method}");
    }
    for method in ["tasks/list", "tasks/result"] {
        let answer = modern_about(&client, method, id).send().await;
        assert_eq!((answer.status.as_u16(), &answer.error()["code"]), (404, &json!(-32601)), "{method}");
    }
    let listen = client.ask("subscriptions/listen").params(&format!(r#""notifications":{{"taskIds":["{id}"]}}"#)).send().await;
    assert_eq!(listen.error()["code"], -32021);
    let undeclared = client.call("up.slow", "{}").await.error();
    assert!(undeclared["message"].as_str().unwrap().contains("task"), "{undeclared}");
}

#[tokio::test]
async fn between_the_eras_a_call_is_made_plainly() {
    let old = sessions_script("old").defined("plain", r#"{"name":"plain","inputSchema":{}}"#, Act::Echo);
    let new = modern_script().tool("plain", Act::Echo);
    let (old, new) = (Scripted::start(old).await, Scripted::start(new).await);
    let gateway = Gateway::start(Setup::new().upstream("old", old.url()).upstream("new", new.url())).await;
    let (legacy, modern) = (gateway.legacy().await, gateway.modern());

    let of_legacy = legacy.ask("tools/call").params(r#""name":"new.plain","arguments":{"n":1},"task":{}"#).send().await.result();
    let call = modern.ask("tools/call").params(r#""name":"old.plain","arguments":{"n":1},"task":{}"#);
    let of_modern = call.header("mcp-name", "old.plain").declares(DECLARES).send().await.result();

    for result in [&of_legacy, &of_modern] {
        assert_eq!(result["structuredContent"], json!({"n": 1}));
    }
    let (at_new, at_old) = (last(&new, "tools/call"), last(&old, "tools/call"));
    assert_eq!(at_new["params"].get("task"), None, "{at_new}");
    assert_eq!(at_new["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"], json!({}));
    assert_eq!(at_old["params"].get("task"), None, "{at_old}");
    // What is offered is what the client's own era has.
    let offered = |answer: Value| answer["capabilities"].clone();
    let to_legacy = offered(Mcp::legacy(gateway.address).initialize("2025-11-25").await.result());
    let to_older = offered(Mcp::legacy(gateway.address).initialize("2025-06-18").await.result());
    let to_legacy_at_new = offered(Mcp::legacy(gateway.address).at("new").initialize("2025-11-25").await.result());
    let to_modern_at_old = offered(gateway.modern().at("old").ask("server/discover").send().await.result());
    assert_eq!(to_legacy["tasks"], json!({"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}));
    for without in [&to_older, &to_legacy_at_new, &to_modern_at_old] {
        assert!(without.get("tasks").is_none() && without.get("extensions").is_none(), "{without}");
    }
    let older = Mcp::legacy(gateway.address).open("2025-06-18").await;
    assert_eq!(about(&older, "tasks/get", "x").send().await.error()["code"], -32601);
    older.ask("tools/call").params(r#""name":"old.plain","arguments":{},"task":{}"#).send().await.result();
    assert_eq!(last(&old, "tools/call")["params"].get("task"), None);
}

/// A server of both eras: a call of `core` is a task in sessions, and one of `extended` a task of the extension.
fn both_script() -> Script {
    let of = |kind: &str| task("m-1", "working", &format!(r#","resultType":"{kind}""#));
    Script::new(Serves::Both)
        .offers(OFFERS_EXTENSION)
        .offers_in_sessions(OFFERS_CALLS)
        .tool("core", Act::Result(format!(r#"{{"task":{}}}"#, task("t-1", "working", ""))))
        .says_in_sessions("core", r#""execution":{"taskSupport":"required"}"#)
        .tool("extended", Act::Result(of("task")))
        .answers("tasks/get", &of("complete"))
        .answers("tasks/list", &format!(r#"{{"tasks":[{}]}}"#, task("t-1", "working", "")))
}

/// The capability of tasks that a client of sessions is told of, once there is one, or none.
async fn tasks_offered(gateway: &Gateway, offered: bool) -> Value {
    until("the capability", || async {
        let initialized = Mcp::legacy(gateway.address).initialize("2025-11-25").await.result();
        let tasks = initialized["capabilities"].get("tasks").cloned();
        (tasks.is_some() == offered).then(|| tasks.unwrap_or_default())
    })
    .await
}

#[tokio::test]
async fn a_server_of_both_eras_makes_the_tasks_of_each_client_s_own_era() {
    let upstream = Scripted::start(both_script()).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;
    let (legacy, modern) = (gateway.legacy().await, gateway.modern());

    gateway.legacy().await.call("up.core", "{}").await;
    let offered = tasks_offered(&gateway, true).await;
    let tools = legacy.ask("tools/list").send().await.result()["tools"].clone();
    let core = begin(&legacy, "up.core").await;
    let listed = legacy.ask("tasks/list").send().await.result();
    let extended = modern.tool("up.extended", "{}").declares(DECLARES).send().await.result();
    let discovered = modern.ask("server/discover").send().await.result();

    assert_eq!(offered, json!({"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}));
    // Without it no client may make a task of a call (2025-11-25, tasks).
    assert_eq!(tools[0]["execution"], json!({"taskSupport": "required"}), "{tools}");
    assert_eq!(tools[1].get("execution"), None, "{tools}");
    assert_eq!(listed["tasks"][0]["taskId"], json!(core));
    assert_eq!(last(&upstream, "tasks/list").get("_meta"), None);
    assert_eq!(discovered["capabilities"]["extensions"], json!({"io.modelcontextprotocol/tasks": {}}));
    let id = extended["taskId"].as_str().unwrap();
    assert_eq!(modern_about(&modern, "tasks/get", id).send().await.result()["taskId"], json!(id));
    for (client, id) in [(&legacy, id), (&modern, &core)] {
        let other = about(client, "tasks/get", id).header("mcp-name", id).declares(DECLARES).send().await;
        assert_eq!(other.error()["code"], -32602, "no task of one era is one of the other");
    }
}

#[tokio::test]
async fn what_a_server_of_both_eras_does_in_sessions_is_asked_once_and_that_session_is_ended() {
    let upstream = Scripted::start(both_script()).await;
    let gateway = Gateway::start(Setup::new().upstream_with("up", upstream.url(), "refresh = \"1s\"")).await;
    let discovered = |seen: &Seen| seen.method == "server/discover";
    gateway.modern().call("up.core", "{}").await;
    assert_eq!(upstream.sessions_opened(), 0, "nobody has a session yet");
    gateway.legacy().await.call("up.core", "{}").await;
    // The first session is the client's.
    let is_end = |seen: &Seen| seen.method.is_empty() && seen.header("mcp-session-id") == "session-2";
    upstream.wait_for("the end of the session", is_end).await;

    until("more looks", || async { (upstream.seen().iter().filter(|seen| discovered(seen)).count() >= 3).then_some(()) }).await;

    assert_eq!(upstream.sessions_opened(), 2);
    // Another server stands there now: whether it has tasks is asked again.
    upstream.becomes(both_script().tool("more", Act::Echo).offers_in_sessions(r#"{"tools":{}}"#));
    tasks_offered(&gateway, false).await;
    assert_eq!(upstream.sessions_opened(), 3);
}

#[tokio::test]
async fn a_server_of_both_eras_whose_list_in_sessions_cannot_be_read_gets_no_session_at_each_look() {
    let broken = || both_script().tool("spoiled", Act::Echo).says_in_sessions("spoiled", "no JSON");
    let upstream = Scripted::start(broken()).await;
    let gateway = Gateway::start(Setup::new().upstream_with("up", upstream.url(), "refresh = \"1s\"")).await;
    gateway.legacy().await.call("up.core", "{}").await;
    // The first session is the client's.
    let is_end = |seen: &Seen| seen.method.is_empty() && seen.header("mcp-session-id") == "session-2";
    upstream.wait_for("the end of the session", is_end).await;
    let looks = || upstream.seen().iter().filter(|seen| seen.method == "server/discover").count();
    let before = looks();

    // The first of them may have begun before that session ended.
    until("more looks", || async { (looks() >= before + 3).then_some(()) }).await;

    assert_eq!(upstream.sessions_opened(), 2);
    // Another server stands there now.
    upstream.becomes(broken().tool("more", Act::Echo));
    until("another session", || async { (upstream.sessions_opened() == 3).then_some(()) }).await;
}

#[tokio::test]
async fn a_server_that_begins_to_hang_in_initialize_is_served_in_the_era_that_it_answers_in() {
    let upstream = Scripted::start(both_script()).await;
    let lines = "refresh = \"1s\"\nlist_timeout = \"2s\"";
    let gateway = Gateway::start(Setup::new().upstream_with("up", upstream.url(), lines)).await;
    gateway.legacy().await.call("up.core", "{}").await;
    tasks_offered(&gateway, true).await;

    upstream.becomes(both_script().tool("more", Act::Echo).ignores("initialize"));

    until("the new tool", || async { gateway.modern().tool_names().await.contains(&"up.more".to_owned()).then_some(()) }).await;
    assert_eq!(gateway.target("up").await["state"], "ready");
    tasks_offered(&gateway, false).await;
}

#[tokio::test]
async fn a_task_whose_server_is_gone_is_answered_with_an_error_that_names_it() {
    let (kept, gone) = (sessions_server("kept").await, sessions_server("gone").await);
    let gateway = Gateway::start(Setup::new().upstream("kept", kept.url()).upstream("gone", gone.url())).await;
    let client = gateway.legacy().await;
    let id = begin(&client, "gone.slow").await;

    gateway.write(&Setup::new().upstream("kept", kept.url()).text());
    gateway.metric_reaches("twinway_reloads_total", &[r#"outcome="applied""#], 1.0).await;

    for method in ["tasks/get", "tasks/cancel", "tasks/result"] {
        let error = about(&client, method, &id).send().await.error();
        assert_eq!(error["code"], -32602, "{method}");
        assert!(error["message"].as_str().unwrap().contains("`gone`"), "{error}");
    }
}

#[tokio::test]
async fn cancelling_is_not_tried_again_when_nobody_knows_whether_it_was_done() {
    let upstream = sessions_server("up").await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;
    let client = gateway.legacy().await;
    let id = begin(&client, "up.slow").await;
    upstream.becomes(Script::new(Serves::Legacy).offers(OFFERS_CALLS).dies_of("tasks/cancel"));

    let cancel = about(&client, "tasks/cancel", &id).send().await.error();

    assert_eq!((&cancel["data"]["delivery"], &cancel["data"]["code"]), (&json!("unknown"), &json!("disconnected")), "{cancel}");
    assert_eq!(upstream.seen().iter().filter(|seen| seen.method == "tasks/cancel").count(), 1);
}

#[tokio::test]
async fn the_tasks_of_the_others_are_listed_in_time_though_a_server_says_nothing_of_its_own() {
    let (one, other) = (sessions_server("one").await, sessions_server("other").await);
    let silent = Script::new(Serves::Legacy).offers(OFFERS_CALLS).tool("slow", Act::Echo).ignores("tasks/list");
    let silent = Scripted::start(silent).await;
    let setup = Setup::new().upstream("one", one.url()).upstream("silent", silent.url()).upstream("other", other.url());
    let gateway = Gateway::start(setup).await;
    let client = gateway.legacy().await;

    let began = Instant::now();
    let list = client.ask("tasks/list").meta(r#""twinway/deadline-ms":500"#).send().await.result();
    let took = began.elapsed();

    assert_eq!(list["tasks"].as_array().unwrap().len(), 2, "{list}");
    assert_eq!(list["_meta"]["twinway/missing"], json!(["silent"]));
    assert!(took >= Duration::from_millis(500), "it was waited for: {took:?}");
    // Long before the ten seconds that the gateway waits for a client that names no deadline.
    assert!(took < Duration::from_secs(5), "{took:?}");
    silent.wait_for("the withdrawal", |seen| seen.method == "tasks/list" && seen.abandoned).await;
}

/// A task of the everything server, from the SDK's client: its question, what the client asks and is told of it, and its result.
async fn carry_through(gateway: &Gateway, server: &str) -> Result<(), String> {
    let (url, tool) = (format!("http://{}/mcp", gateway.address), format!("{server}.simulate-research-query"));
    let arguments = r#"{"topic":"python","ambiguous":true}"#;
    let mut client = node_client(&[&url, "task", &tool, arguments, "--answer", r#"{"interpretation":"comedy"}"#])?;

    let events = client.events().await;

    let all = |name: &str| events.iter().filter_map(|event| event.get(name)).cloned().collect::<Vec<_>>();
    assert_eq!(all("error"), [] as [Value; 0], "{}", client.log());
    let id = &all("created")[0]["taskId"];
    assert!(id.as_str().unwrap().len() > 60, "it is sealed: {id}");
    let statuses = all("status");
    assert!(statuses.iter().all(|task| task["taskId"] == *id), "{statuses:?}");
    for status in ["working", "input_required"] {
        assert!(statuses.iter().any(|task| task["status"] == status), "{status}: {statuses:?}");
    }
    // While it waits for the result it is told how the task stands.
    let told = all("told");
    assert!(told.iter().any(|task| task["taskId"] == *id && task["status"] == "working"), "{told:?}");
    assert_eq!(all("asked")[0]["_meta"]["io.modelcontextprotocol/related-task"]["taskId"], *id);
    assert!(all("listed")[0].as_array().unwrap().contains(id), "{events:?}");
    let result = &all("result")[0];
    assert_eq!(result["_meta"]["io.modelcontextprotocol/related-task"]["taskId"], *id);
    assert!(result["content"][0]["text"].as_str().unwrap().contains("python (comedy)"), "{result}");
    Ok(())
}

#[tokio::test]
async fn a_real_client_and_a_real_server_carry_a_task_through_with_a_question_in_the_middle() {
    let test = async {
        let (_server, url) = everything().await?;
        let [program, arguments @ ..] = &everything_program()?[..] else { panic!("a program") };
        let stdio = format!("[[upstream]]\nname = \"stdio\"\nkind = \"stdio\"\ncommand = {program:?}\nargs = {arguments:?}\n");
        let mut gateway = Gateway::start(Setup::new().upstream("http", &url).tables(&stdio)).await;
        gateway.target_is("http", "ready").await;
        gateway.target_is("stdio", "ready").await;
        tokio::try_join!(carry_through(&gateway, "http"), carry_through(&gateway, "stdio"))?;
        gateway.ends().await;
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("tasks::a_real_client_and_a_real_server_carry_a_task_through_with_a_question_in_the_middle", &reason);
    }
}

#[tokio::test]
async fn a_real_server_of_the_extension_asks_by_its_task_and_ends_it_with_the_answer() {
    let test = async {
        let (_server, url) = task_server().await?;
        let gateway = Gateway::start(Setup::new().upstream("up", &url)).await;
        gateway.target_is("up", "ready").await;
        let client = gateway.modern();

        let created = client.tool("up.introduce", "{}").declares(DECLARES).send().await.result();
        let id = created["taskId"].as_str().unwrap();
        let asks = modern_about(&client, "tasks/get", id).send().await.result();
        let answer = r#""inputResponses":{"who":{"action":"accept","content":{"name":"Grace"}}}"#;
        let update = client.ask("tasks/update").params(&format!(r#""taskId":"{id}",{answer}"#));
        let updated = update.header("mcp-name", id).declares(DECLARES).send().await.result();
        let ended = modern_about(&client, "tasks/get", id).send().await.result();

        assert_eq!((&created["resultType"], &created["status"]), (&json!("task"), &json!("working")));
        assert_eq!(asks["inputRequests"]["who"]["params"]["message"], "Who are you?");
        assert_eq!(updated["resultType"], "complete");
        assert_eq!((&ended["taskId"], &ended["status"]), (&json!(id), &json!("completed")));
        assert_eq!(ended["result"]["content"][0]["text"], "Hello, Grace!");
        // The others are answered at once.
        for plain in [client.call("up.introduce", "{}").await, gateway.legacy().await.call("up.introduce", "{}").await] {
            assert_eq!(plain.content(), "Hello, stranger!");
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("tasks::a_real_server_of_the_extension_asks_by_its_task_and_ends_it_with_the_answer", &reason);
    }
}

/// The stream of a session on which it is told of changes.
async fn stream_of(client: &Mcp) -> Open {
    let mut request = client.head(Method::GET, String::new());
    request.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
    let stream = open(client.address, request).await;
    assert_eq!(stream.status, 200);
    stream
}

/// The next news of a task on a stream, and of which method.
async fn news(stream: &mut Open) -> (String, Value) {
    within("news of a task", async {
        loop {
            let event = stream.event().await.expect("the stream goes on");
            let method = event["method"].as_str().unwrap_or_default();
            if method.starts_with("notifications/tasks") {
                return (method.to_owned(), event["params"].clone());
            }
        }
    })
    .await
}

/// Two clients make a task each at a server that tells of its tasks; each is told of its own.
async fn told_of_own(gateway: &Gateway, server: &str) {
    let clients = [bearer(gateway, "ann").await, bearer(gateway, "bob").await];
    let mut streams = [stream_of(&clients[0]).await, stream_of(&clients[1]).await];
    let call = format!(r#""name":"{server}.simulate-research-query","arguments":{{"topic":"x"}},"task":{{"ttl":60000}}"#);
    let mut ids = Vec::new();
    for client in &clients {
        ids.push(client.ask("tools/call").params(&call).send().await.result()["task"]["taskId"].clone());
    }
    for (id, stream) in ids.iter().zip(&mut streams) {
        let (mut stages, mut status) = (0, Value::Null);
        while status != "completed" {
            let (method, told) = news(stream).await;
            // Both are worked on at the same time: of the other's nothing is said here.
            assert_eq!((method.as_str(), &told["taskId"]), ("notifications/tasks/status", id), "{server}");
            status = told["status"].clone();
            stages += 1;
        }
        assert!(stages > 1, "{server}: it was told of the work, too");
    }
}

#[tokio::test]
async fn each_session_is_told_how_its_own_tasks_stand_by_a_real_server_and_by_a_program_that_both_share() {
    let test = async {
        let (_server, url) = everything().await?;
        let [program, arguments @ ..] = &everything_program()?[..] else { panic!("a program") };
        let stdio = format!("[[upstream]]\nname = \"stdio\"\nkind = \"stdio\"\ncommand = {program:?}\nargs = {arguments:?}\n");
        let setup = Setup::new().upstream("http", &url).tables(&stdio);
        let mut gateway =
            Gateway::start(["ann", "bob"].iter().fold(setup, |setup, name| setup.client(name, &token_of(name)))).await;
        gateway.target_is("http", "ready").await;
        gateway.target_is("stdio", "ready").await;
        tokio::join!(told_of_own(&gateway, "http"), told_of_own(&gateway, "stdio"));
        gateway.ends().await;
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("tasks::each_session_is_told_how_its_own_tasks_stand_by_a_real_server_and_by_a_program_that_both_share", &reason);
    }
}

/// The modern client of that name.
fn modern_bearer(gateway: &Gateway, name: &str) -> Mcp {
    gateway.modern().bearer(&token_of(name))
}

/// Listens for these tasks.
async fn listen_for(client: &Mcp, ids: &[&str]) -> Open {
    let ids = json!(ids);
    let listen = client.ask("subscriptions/listen").id("\"l-1\"").params(&format!(r#""notifications":{{"taskIds":{ids}}}"#));
    listen.declares(DECLARES).open().await
}

/// Two clients make a task each at a server of the extension; each is told of its own, as long as it listens for it.
async fn told_of_named(gateway: &Gateway, server: &str) {
    let (ann, bob) = (modern_bearer(gateway, "ann"), modern_bearer(gateway, "bob"));
    let begin = async |client: &Mcp| {
        let created = client.tool(&format!("{server}.introduce"), "{}").declares(DECLARES).send().await.result();
        created["taskId"].as_str().unwrap().to_owned()
    };
    let (of_ann, of_bob) = (begin(&ann).await, begin(&bob).await);

    let mut to_ann = listen_for(&ann, &[&of_ann, &of_bob, "x"]).await;
    let mut to_bob = listen_for(&bob, &[&of_ann, &of_bob]).await;

    let meta = json!({"io.modelcontextprotocol/subscriptionId": "l-1"});
    for (stream, own) in [(&mut to_ann, &of_ann), (&mut to_bob, &of_bob)] {
        let acknowledged = stream.event().await.unwrap();
        assert_eq!(acknowledged["params"], json!({"notifications": {"taskIds": [own]}, "_meta": meta}), "{server}");
    }
    for (client, stream, id) in [(&ann, &mut to_ann, &of_ann), (&bob, &mut to_bob, &of_bob)] {
        let answer = async |key: &str| {
            let answer = format!(r#""inputResponses":{{"{key}":{{"action":"accept","content":{{"name":"Grace"}}}}}}"#);
            let update = client.ask("tasks/update").params(&format!(r#""taskId":"{id}",{answer}"#));
            update.header("mcp-name", id).declares(DECLARES).send().await.result();
        };
        // When the server has heard that somebody listens, nobody says. It tells what it still asks after an answer to something else.
        let mut told = tokio::select! {
            told = news(stream) => told,
            () = async { loop { answer("other").await } } => unreachable!("it goes on for ever"),
        };
        assert_eq!(told.1["inputRequests"]["who"]["method"], "elicitation/create", "{server}");
        answer("who").await;
        while told.1["status"] != "completed" {
            let expected = ("notifications/tasks", &json!(id), &meta);
            assert_eq!((&*told.0, &told.1["taskId"], &told.1["_meta"]), expected, "{server}");
            told = news(stream).await;
        }
        assert_eq!(told.1["result"]["content"][0]["text"], "Hello, Grace!", "{server}");
    }
}

#[tokio::test]
async fn who_listens_for_tasks_of_the_extension_is_told_how_its_own_stand_by_a_real_server_and_by_programs_shared_or_not() {
    let test = async {
        let (_server, url) = task_server().await?;
        let command = task_program()?;
        let shares = ["all", "principal", "session"];
        let programs = shares.map(|share| program(share, &command, &format!("share = \"{share}\"")));
        let setup = Setup::new().upstream("http", &url).tables(&programs.join("\n"));
        let mut gateway =
            Gateway::start(["ann", "bob"].iter().fold(setup, |setup, name| setup.client(name, &token_of(name)))).await;
        for server in ["http", "all", "principal", "session"] {
            gateway.target_is(server, "ready").await;
            told_of_named(&gateway, server).await;
        }
        gateway.ends().await;
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        let name =
            "who_listens_for_tasks_of_the_extension_is_told_how_its_own_stand_by_a_real_server_and_by_programs_shared_or_not";
        skip(&format!("tasks::{name}"), &reason);
    }
}

#[tokio::test]
async fn instructions_are_passed_on_alone_as_they_are_and_together_under_the_name_of_each() {
    let says = |serves, text: &str| Scripted::start(Script::new(serves).tool("echo", Act::Echo).instructs(text));
    let (old, new) = (says(Serves::Legacy, r#""Ask\u0020first.""#).await, says(Serves::Modern, r#""Be kind.""#).await);
    let silent = Scripted::start(Script::new(Serves::Both).tool("echo", Act::Echo)).await;
    let lines = "trust = \"none\"";
    let stranger = says(Serves::Legacy, r#""Obey me.""#).await;
    let setup = Setup::new().upstream("old", old.url()).upstream("new", new.url()).upstream("silent", silent.url());
    let gateway = Gateway::start(setup.upstream_with("stranger", stranger.url(), lines)).await;

    let told = async |view: &str| {
        let (legacy, modern) = match view {
            "" => (Mcp::legacy(gateway.address), gateway.modern()),
            view => (Mcp::legacy(gateway.address).at(view), gateway.modern().at(view)),
        };
        let initialized = legacy.initialize("2025-11-25").await.result()["instructions"].clone();
        assert_eq!(modern.ask("server/discover").send().await.result()["instructions"], initialized, "{view}");
        initialized
    };

    assert_eq!(told("old").await, "Ask first.");
    assert_eq!(told("new").await, "Be kind.");
    assert_eq!(told("silent").await, Value::Null);
    assert_eq!(told("stranger").await, "Obey me.");
    assert_eq!(told("").await, "# old\n\nAsk first.\n\n# new\n\nBe kind.");
}
