//! What an operator may ask a running gateway, over HTTP and from the command line.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Act, Gateway, Program, Script, Scripted, Serves, Setup, closed_port, send, until};

const RULES: &str = "[[tool]]\nmatch = \"up.add\"\ncategory = \"sums\"\npriority = 9";

fn script() -> Script {
    let failing = Act::Result(r#"{"content":[],"isError":true}"#.to_owned());
    Script::new(Serves::Both).tool("add", Act::Echo).tool("echo", Act::Echo).tool("fail", failing)
}

async fn document(gateway: &Gateway, path: &str) -> Value {
    let answer = gateway.get(&format!("/admin/api/{path}")).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// Runs the program to its end: what it printed, as lines.
async fn twinway(gateway: &Gateway, arguments: &[&str]) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinway"));
    command.args(arguments).arg("--endpoint").arg(format!("http://{}", gateway.address));
    let mut program = Program::start(command);
    let mut lines = Vec::new();
    while let Some(line) = program.line().await {
        lines.push(line);
    }
    if lines.is_empty() {
        until("a complaint", || async { (!program.log().is_empty()).then_some(()) }).await;
        lines.push(program.log());
    }
    lines
}

#[tokio::test]
async fn tools_have_their_metadata_with_its_sources_and_what_is_not_there_is_named() {
    let upstream = Scripted::start(script()).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url()).tables(RULES)).await;

    let sums = document(&gateway, "tools?category=sums").await;
    let unknown = gateway.get("/admin/api/route/up.nothing").await;

    assert_eq!(sums["tools"].as_array().map(Vec::len), Some(1));
    assert_eq!((&sums["tools"][0]["name"], &sums["total"]), (&json!("up.add"), &json!(3)));
    assert_eq!(sums["tools"][0]["metadata"]["priority"], json!({"value": 9, "said_by": "rule"}));
    assert_eq!(sums["tools"][0]["metadata"]["timeout"]["said_by"], "default");
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.error()["message"], "there is no tool `up.nothing`");
    assert_eq!(gateway.get("/admin/api/tools?page=1").await.status, 400);
    gateway.modern().call("up.add", "{}").await.result();
    assert_eq!(gateway.metric("twinway_call_duration_seconds_count", &["category=\"sums\""]).await, 1.0);
}

#[tokio::test]
async fn whoever_may_not_call_may_not_ask_either() {
    let gateway = Gateway::start(Setup::new().client("alice", "alice-has-a-token")).await;

    for path in ["tools", "route/x", "upstreams", "peers", "compare", "changes", "quarantine"] {
        let path = format!("/admin/api/{path}");
        let refused = gateway.get(&path).await;
        assert_eq!((refused.status.as_u16(), refused.header("www-authenticate")), (401, "Bearer"), "{path}");
        let stranger = http::Request::get(&path).header("host", "evil.example").body(String::new()).unwrap();
        assert_eq!(send(gateway.address, stranger).await.status, 403, "{path}");
    }
    let allowed = http::Request::get("/admin/api/tools").header("authorization", "Bearer alice-has-a-token");
    assert_eq!(send(gateway.address, allowed.body(String::new()).unwrap()).await.status, 200);
}

#[tokio::test]
async fn a_comparison_counts_real_calls_and_says_so_where_there_are_none() {
    let upstream = Scripted::start(script()).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;
    let client = gateway.modern();
    for _ in 0..5 {
        client.call("up.add", "{}").await.result();
    }
    client.call("up.fail", "{}").await.result();

    let compared = document(&gateway, "compare?limit=10").await;

    let route = |place: usize| &compared["tools"][place]["routes"][0];
    assert_eq!((&route(0)["samples"], &route(0)["tool_errors"]), (&json!(5), &json!(0)));
    let counted: u64 =
        route(0)["latency_us"]["histogram"].as_array().unwrap().iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, 5);
    assert!(route(0)["latency_us"]["p50"].as_u64() > Some(0));
    assert_eq!((&route(1)["samples"], &route(1)["note"]), (&json!(0), &json!("nothing recorded")));
    assert_eq!((&route(2)["samples"], &route(2)["tool_errors"], &route(2)["latency_us"]), (&json!(0), &json!(1), &Value::Null));
    assert_eq!(compared["tools"][0]["comparable"], false, "there is one route only");
}

#[tokio::test]
async fn a_dead_upstream_says_why_and_which_names_were_refused() {
    let (first, second) = (Scripted::start(script()).await, Scripted::start(script()).await);
    let never = "prefix = \"never\"";
    let setup = Setup::new().upstream_with("first", first.url(), never).upstream_with("second", second.url(), never);
    let gateway = Gateway::start(setup.upstream("dead", closed_port().await)).await;
    gateway.target_is("dead", "failed").await;

    let upstreams = document(&gateway, "upstreams").await["upstreams"].clone();

    let of = |name: &str| upstreams.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone();
    assert!(of("dead")["reason"].is_string(), "{upstreams}");
    assert_eq!((&of("first")["state"], &of("first")["tools"]), (&json!("ready"), &json!(3)));
    assert_eq!(of("second")["refused"][0], json!({"tool": "add", "held_by": "first"}));
    assert_eq!(document(&gateway, "peers").await, json!({"peers": []}));
}

#[tokio::test]
async fn a_tool_that_changes_is_told_with_its_versions() {
    let version = |version: &str| {
        let meta = format!(r#""_meta":{{"twinway/metadata":{{"schema_version":"{version}"}}}}"#);
        Script::new(Serves::Both).defined(
            "add",
            &format!(r#"{{"name":"add","inputSchema":{{"type":"object"}},{meta}}}"#),
            Act::Echo,
        )
    };
    let upstream = Scripted::start(version("1.0")).await;
    let gateway = Gateway::start(Setup::new().upstream_with("up", upstream.url(), "refresh = \"50ms\"")).await;
    gateway.target_is("up", "ready").await;
    let first = document(&gateway, "changes").await["changes"].as_array().unwrap().last().unwrap()["number"].clone();

    upstream.becomes(version("2.0"));

    let change =
        until("the change", || async { document(&gateway, &format!("changes?since={first}")).await["changes"].get(0).cloned() })
            .await;
    let expected = json!([{"tool": "up.add", "old_schema_version": "1.0", "new_schema_version": "2.0", "definition": true}]);
    assert_eq!((&change["views"][0]["view"], &change["views"][0]["changed"]["first"]), (&json!(""), &expected));
    assert_eq!(change["views"][1]["view"], "up", "the view of the upstream alone changed too");
    assert_eq!(gateway.metric("twinway_catalogue_changes_total", &["change=\"changed\""]).await, 1.0);
    gateway.program.logs("a tool is not what it was").await;
}

#[tokio::test]
async fn the_command_line_explains_routes_and_picks_categories() {
    let upstream = Scripted::start(script()).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url()).tables(RULES)).await;

    let told = twinway(&gateway, &["route", "explain", "up.add"]).await.join("\n");
    let json = twinway(&gateway, &["route", "explain", "up.add", "--json"]).await.join("");
    let unknown = twinway(&gateway, &["route", "explain", "up.nothing"]).await.join("");

    assert!(told.starts_with("up.add -> up over the http runtime (only_candidate: "), "{told}");
    assert!(told.lines().any(|line| line.split_whitespace().eq(["priority", "9", "rule", "up.add"])), "{told}");
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["route"]["reason"], "only_candidate");
    assert!(unknown.contains("there is no tool `up.nothing`"), "{unknown}");
    assert_eq!(twinway(&gateway, &["tools", "--category", "sums"]).await, ["up.add  [sums] "]);
    assert_eq!(twinway(&gateway, &["tools"]).await.len(), 3);
}
