//! Calls over libp2p: between gateways, and with a foreign peer in either direction.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use runtime_mcpp::Identity;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    hostile::Stranger,
    support::{Act, Era, Gateway, Mcp, Program, Script, Scripted, Serves, Setup, python_program, python_server, skip, until},
};

/// A node that everybody on this machine may call.
const OPEN: &str = "[p2p]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nauthority = \"open-loopback\"\n";

fn peer(name: &str, address: &str) -> String {
    format!("[[peer]]\nname = \"{name}\"\naddress = \"{address}\"\n")
}

/// Two gateways: `near` has `far` as its peer, and `far` has an upstream `up` at that URL.
pub(crate) async fn pair(url: &str) -> (Gateway, Gateway) {
    let far = Gateway::start(Setup::new().upstream("up", url).tables(OPEN)).await;
    far.target_is("up", "ready").await;
    (near(&far, "").await, far)
}

/// A gateway with that peer, and further tables.
async fn near(far: &Gateway, tables: &str) -> Gateway {
    let tables = format!("[p2p]\n{}{tables}", peer("far", far.p2p()));
    let near = Gateway::start(Setup::new().tables(&tables)).await;
    near.target_is("far", "ready").await;
    near
}

async fn scripted() -> Scripted {
    Scripted::start(Script::new(Serves::Both).tool("echo", Act::Echo).tool("fail", Act::Echo).tool("read", Act::Echo)).await
}

#[tokio::test]
async fn a_peers_tools_are_listed_and_called_in_both_eras() {
    let (upstream, url) = match python_server(&[]).await {
        Ok(started) => started,
        Err(reason) => return skip("p2p::a_peers_tools_are_listed_and_called_in_both_eras", &reason),
    };
    let (near, _far) = pair(&url).await;
    for era in [Era::Modern, Era::Legacy] {
        let client = near.client(era).await;

        let names = client.tool_names().await;
        let answer = client.tool("far.up.add", r#"{"a":2,"b":40}"#).meta(r#""twinway/explain":true"#).send().await.result();
        let failed = client.call("far.up.fail", "{}").await.result();

        assert!(names.contains(&"far.up.add".to_owned()), "{era:?}: {names:?}");
        assert_eq!(answer["structuredContent"]["sum"], 42, "{era:?}: {answer}");
        let explained = &answer["_meta"]["twinway/explain"];
        assert_eq!((&explained["runtime"], &explained["target"]), (&json!("mcpp"), &json!("far")), "{era:?}: {answer}");
        assert_eq!(failed["isError"], true, "{era:?}: a tool that fails has answered: {failed}");
    }
    drop(upstream);
}

#[tokio::test]
async fn progress_crosses_both_gateways_with_the_clients_own_token() {
    let upstream = Scripted::start(Script::new(Serves::Both).tool("progress", Act::Progress(3))).await;
    let (near, _far) = pair(&upstream.url()).await;
    for era in [Era::Modern, Era::Legacy] {
        for token in ["\"mine\"", "17"] {
            let ask = near.client(era).await;
            let answer = ask.tool("far.up.progress", r#"{"n":1}"#).meta(&format!(r#""progressToken":{token}"#)).send().await;

            let messages = answer.messages();
            let reports: Vec<_> = messages.iter().filter(|message| message["method"] == "notifications/progress").collect();
            let steps: Vec<_> = reports.iter().map(|report| report["params"]["progress"].as_u64().unwrap()).collect();
            assert_eq!(steps, [1, 2, 3], "{era:?}: {messages:?}");
            let token: Value = serde_json::from_str(token).unwrap();
            assert!(reports.iter().all(|report| report["params"]["progressToken"] == token), "{era:?}: {messages:?}");
            assert_eq!(answer.result()["structuredContent"]["n"], 1);
        }
    }
}

#[tokio::test]
async fn ten_thousand_reports_cross_both_gateways_in_order_to_a_client_that_reads() {
    let flood = Act::Flood { steps: 10_000, bytes: 64 };
    let upstream = Scripted::start(Script::new(Serves::Both).tool("flood", flood)).await;
    let (near, _far) = pair(&upstream.url()).await;
    for era in [Era::Modern, Era::Legacy] {
        let client = near.client(era).await;

        let answer = client.tool("far.up.flood", "{}").meta(r#""progressToken":1"#).send().await;

        let messages = answer.messages();
        let steps = messages.iter().filter_map(|message| message["params"]["progress"].as_u64());
        assert!(steps.eq(1..=10_000), "{era:?}: {} messages", messages.len());
        assert_eq!(messages.len(), 10_001, "{era:?}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_the_call_at_the_far_upstream() {
    let upstream = Scripted::start(Script::new(Serves::Modern).tool("hold", Act::Hold)).await;
    let (near, _far) = pair(&upstream.url()).await;
    let client = near.modern();

    tokio::select! {
        _ = client.tool("far.up.hold", "{}").send() => panic!("it is held"),
        () = upstream.wait_for_calls(1) => {}
    }

    upstream.wait_for("the cancel", |seen| seen.tool == "hold" && seen.abandoned).await;
}

#[tokio::test]
async fn a_legacy_client_cancels_the_call_at_the_far_upstream() {
    let upstream = Scripted::start(Script::new(Serves::Modern).tool("hold", Act::Hold)).await;
    let (near, _far) = pair(&upstream.url()).await;
    let client = near.legacy().await;

    let cancelled = async {
        upstream.wait_for_calls(1).await;
        assert!(!upstream.calls()[0].abandoned);
        client.notify("notifications/cancelled", r#""requestId":"seven""#).await;
        upstream.wait_for("the cancel", |seen| seen.tool == "hold" && seen.abandoned).await;
    };
    tokio::select! {
        _ = async { client.tool("far.up.hold", "{}").id("\"seven\"").send().await; std::future::pending::<()>().await } => {}
        () = cancelled => {}
    }
}

#[tokio::test]
async fn two_gateways_that_are_each_others_peers_settle() {
    let (near_upstream, far_upstream) = (scripted().await, scripted().await);
    let (near_port, far_port) = (free_port(), free_port());
    let start =
        async |port: u16, own: &str, upstream: &Scripted, other: &str, other_port: u16, other_key: &TempDir, folder: TempDir| {
            let other_id = Identity::load_or_create(&other_key.path().join("twinway.key")).unwrap().peer_id();
            let tables = format!(
                "[p2p]\nlisten = [\"/ip4/127.0.0.1/tcp/{port}\"]\nauthority = \"open-loopback\"\n{}refresh = \"1s\"\n",
                peer(other, &format!("/ip4/127.0.0.1/tcp/{other_port}/p2p/{other_id}"))
            );
            Gateway::start_in(Setup::new().upstream(own, upstream.url()).tables(&tables), folder).await
        };
    let (near_folder, far_folder, near_key) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    Identity::load_or_create(&near_folder.path().join("twinway.key")).unwrap();
    std::fs::copy(near_folder.path().join("twinway.key"), near_key.path().join("twinway.key")).unwrap();

    let near = start(near_port, "a", &near_upstream, "far", far_port, &far_folder, near_folder).await;
    let far = start(far_port, "b", &far_upstream, "near", near_port, &near_key, far_folder).await;

    let expected = |own: &str, other: &str| -> Vec<String> {
        let mut names: Vec<_> =
            ["echo", "fail", "read"].iter().flat_map(|tool| [format!("{own}.{tool}"), format!("{other}.{tool}")]).collect();
        names.sort();
        names
    };
    let cases = [(&near, expected("a", "far.b")), (&far, expected("b", "near.a"))];
    for (gateway, expected) in &cases {
        until("both to list everything", || async {
            (sorted(gateway.modern().tool_names().await).len() >= expected.len()).then_some(())
        })
        .await;
    }
    // They list each other anew in each second; nobody ever lists its own tools back.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        for (gateway, expected) in &cases {
            assert_eq!(&sorted(gateway.modern().tool_names().await), expected);
        }
        near.modern().call("far.b.echo", "{}").await.result();
        far.modern().call("near.a.echo", "{}").await.result();
    }
}

#[tokio::test]
async fn a_peer_lists_and_calls_what_the_authority_allows_and_nothing_else() {
    let upstream = scripted().await;
    let folder = TempDir::new().unwrap();
    let key = folder.path().join("known.key");
    let known = || Identity::load_or_create(&key).unwrap();
    let narrow =
        format!("authority = \"allowlist\"\n[[p2p.allow]]\npeer = \"{}\"\ntools = [\"up.e*\", \"up.read\"]\n", known().peer_id());
    let cases = [
        ("deny is the default", String::new(), true, vec![]),
        ("the globs of the allowlist", narrow.clone(), true, vec!["up.echo", "up.read"]),
        ("another key", narrow, false, vec![]),
        ("open on loopback", "authority = \"open-loopback\"\n".to_owned(), false, vec!["up.echo", "up.fail", "up.read"]),
    ];
    for (what, lines, is_known, expected) in cases {
        let tables = format!("[p2p]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\n{lines}");
        let gateway = Gateway::start(Setup::new().upstream("up", upstream.url()).tables(&tables)).await;
        gateway.target_is("up", "ready").await;
        let identity = if is_known { known() } else { Identity::ephemeral() };
        let stranger = Stranger::known_as(identity, &gateway).await;
        let mut stream = stranger.conversation().await;

        let listed = stream.ask("tools/list", json!({})).await;
        let listed: Vec<_> =
            listed["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
        assert_eq!(listed, expected, "{what}");
        for tool in ["up.echo", "up.fail", "up.read"] {
            let calls = upstream.calls().len();
            let answer = stream.ask("tools/call", json!({"name": tool, "arguments": {}})).await;
            assert_eq!(answer.get("result").is_some(), expected.contains(&tool), "{what}: {tool}: {answer}");
            assert_eq!(upstream.calls().len() - calls, usize::from(expected.contains(&tool)), "{what}: {tool}");
        }
    }
}

#[tokio::test]
async fn a_peer_killed_in_mid_call_leaves_the_outcome_unknown_and_the_tool_runs_once() {
    const NAME: &str = "p2p::a_peer_killed_in_mid_call_leaves_the_outcome_unknown_and_the_tool_runs_once";
    let scratch = TempDir::new().unwrap();
    let counter = scratch.path().join("counter");
    let (mut upstream, url) = match python_server(&["--counter", counter.to_str().unwrap()]).await {
        Ok(started) => started,
        Err(reason) => return skip(NAME, &reason),
    };
    let count = || std::fs::read_to_string(&counter).unwrap();
    let port = free_port();
    let tables = format!("[p2p]\nlisten = [\"/ip4/127.0.0.1/tcp/{port}\"]\nauthority = \"open-loopback\"\n");
    let setup = || Setup::new().upstream("up", &url).tables(&tables);
    let mut far = Gateway::start(setup()).await;
    far.target_is("up", "ready").await;
    let near = near(&far, "[[tool]]\nmatch = \"far.*\"\ntimeout = \"10s\"\n").await;
    let client = near.modern();
    let began = Instant::now();

    let killing = async {
        assert_eq!(upstream.event_with("event").await, "counted");
        far.program.kill();
    };
    let (answer, ()) = tokio::join!(client.call("far.up.count", r#"{"seconds":60}"#), killing);

    assert!(began.elapsed() < Duration::from_secs(10), "within the deadline: {:?}", began.elapsed());
    assert_eq!(answer.error()["data"]["delivery"], "unknown", "{:?}", answer.error());
    assert_eq!(count(), "1", "it ran once");

    let Gateway { folder, program, ready, .. } = far;
    drop(program);
    let far = Gateway::start_in(setup(), folder).await;
    assert_eq!(far.ready["p2p"], ready["p2p"], "the same key and port");
    far.target_is("up", "ready").await;
    let answer = client.call("far.up.count", "{}").await.result();
    assert_eq!(answer["structuredContent"]["count"], 2, "{answer}");
}

#[tokio::test]
async fn a_peer_that_is_dead_at_the_start_delays_nobody() {
    let upstream = scripted().await;
    let nobody = format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", free_port(), Identity::ephemeral().peer_id());
    // An address where connections get no answer at all (RFC 5737).
    let silent = format!("/ip4/192.0.2.1/tcp/4001/p2p/{}", Identity::ephemeral().peer_id());
    let tables = format!("[p2p]\n{}{}", peer("nobody", &nobody), peer("silent", &silent));
    let began = Instant::now();

    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url()).tables(&tables)).await;
    let ready_after = began.elapsed();
    gateway.target_is("up", "ready").await;
    let began = Instant::now();
    let names = gateway.modern().tool_names().await;
    gateway.modern().call("up.echo", "{}").await.result();

    assert!(ready_after < Duration::from_secs(3), "{ready_after:?}");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(names, ["up.echo", "up.fail", "up.read"]);
    assert_eq!(gateway.get("/health/ready").await.status, 200);
    gateway.target_is("nobody", "failed").await;
}

#[tokio::test]
async fn the_key_of_a_node_is_private_and_outlives_it() {
    let first = Gateway::start(Setup::new().tables(OPEN)).await;
    let id = first.peer_id().to_owned();
    let Gateway { folder, program, .. } = first;
    drop(program);
    let key = folder.path().join("twinway.key");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let second = Gateway::start_in(Setup::new().tables(OPEN), folder).await;

    assert_eq!(second.peer_id(), id);
}

/// Runs the py-libp2p client; everything that it printed.
async fn python_peer(arguments: &[&str]) -> Result<Vec<Value>, String> {
    let mut command = python_program("p2p_client.py")?;
    command.args(arguments);
    Ok(Program::start(command).events().await)
}

fn printed(events: &[Value], member: &str) -> Value {
    events.iter().find_map(|event| event.get(member)).cloned().unwrap_or(Value::Null)
}

#[tokio::test]
async fn a_foreign_peer_calls_what_its_key_allows_in_both_bindings() {
    let (known, other) = ("11".repeat(32), "22".repeat(32));
    let peer_id = match python_peer(&["print-id", "--seed", &known]).await {
        Ok(events) => printed(&events, "peerId").as_str().unwrap().to_owned(),
        Err(reason) => return skip("p2p::a_foreign_peer_calls_what_its_key_allows_in_both_bindings", &reason),
    };
    let upstream = scripted().await;
    let lines = format!("authority = \"allowlist\"\n[[p2p.allow]]\npeer = \"{peer_id}\"\ntools = [\"up.echo\"]\n");
    let tables = format!("[p2p]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\n{lines}");
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url()).tables(&tables)).await;
    gateway.target_is("up", "ready").await;
    let address = gateway.p2p();
    let call = ["--call", "up.echo", r#"{"text":"hello"}"#];
    for binding in ["legacy", "modern"] {
        let (as_known, as_other) = ([binding, address, "--seed", &known], [binding, address, "--seed", &other]);
        let (as_known, as_other) = ([&as_known, &call[..]].concat(), [&as_other, &call[..]].concat());
        let (allowed, refused) = tokio::join!(python_peer(&as_known), python_peer(&as_other));
        let (allowed, refused) = (allowed.unwrap(), refused.unwrap());

        let result = printed(&allowed, "result");
        // The legacy binding is of a revision that knows no structure.
        let said = if binding == "legacy" { &result["content"][0]["text"] } else { &result["structuredContent"]["text"] };
        let expected = if binding == "legacy" { r#"{"text":"hello"}"# } else { "hello" };
        assert_eq!(said, expected, "{binding}: {allowed:?}");
        assert!(printed(&refused, "error")["code"].is_i64(), "{binding}: {refused:?}");
        if binding == "legacy" {
            assert_eq!(printed(&allowed, "tools").as_array().map(Vec::len), Some(1), "{allowed:?}");
            assert_eq!(printed(&refused, "tools").as_array().map(Vec::len), Some(0), "{refused:?}");
        }
    }
    assert_eq!(upstream.calls().len(), 2, "only the known key has called");
}

#[tokio::test]
async fn a_foreign_peers_tool_is_called_through_the_gateway() {
    let mut command = match python_program("p2p_server.py") {
        Ok(command) => command,
        Err(reason) => return skip("p2p::a_foreign_peers_tool_is_called_through_the_gateway", &reason),
    };
    command.arg("--until-stdin-closes");
    let mut foreign = Program::start(command);
    let ready = foreign.event_with("ready").await;
    let tables = format!("[p2p]\n{}", peer("py", ready["multiaddr"].as_str().unwrap()));
    let gateway = Gateway::start(Setup::new().tables(&tables)).await;
    gateway.target_is("py", "ready").await;
    let large = "x".repeat(200_000);
    for era in [Era::Modern, Era::Legacy] {
        let client: Mcp = gateway.client(era).await;

        assert_eq!(client.tool_names().await, ["py.echo"], "{era:?}");
        for text in ["hello", &large] {
            assert_eq!(client.call("py.echo", &json!({ "text": text }).to_string()).await.content(), text, "{era:?}");
        }
    }
}

/// A port that nobody listens on now. A node has to know the other's before that one runs.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}
