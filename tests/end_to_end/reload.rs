//! A gateway whose configuration changes while it runs.

use http::Request;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Act, Era, Gateway, Mcp, Script, Scripted, Serves, Setup, send, twinway, until};

/// A node that everybody on this machine may call.
const OPEN: &str = "[p2p]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nauthority = \"open-loopback\"\n";

async fn scripted(serves: Serves) -> Scripted {
    Scripted::start(Script::new(serves).tool("echo", Act::Echo).tool("waits", Act::Hold)).await
}

/// How the last reading of the configuration went.
async fn status(gateway: &Gateway) -> Value {
    gateway.get("/health/runtime").await.json()["configuration"].clone()
}

/// Waits until so many readings of the file ended like that.
async fn reads(gateway: &Gateway, outcome: &str, count: u32) {
    gateway.metric_reaches("twinway_reloads_total", &[&format!("outcome=\"{outcome}\"")], f64::from(count)).await;
}

/// Changes the configuration as an editor does, and waits until it is taken over: the file is seen to change.
pub(crate) async fn change(gateway: &Gateway, setup: &Setup, count: u32) {
    gateway.write(&setup.text());
    reads(gateway, "applied", count).await;
}

/// A call that is not answered yet.
struct InFlight(JoinSet<Value>);

impl InFlight {
    fn begin(client: Mcp, tool: &'static str) -> Self {
        let mut calls = JoinSet::new();
        calls.spawn(async move { client.call(tool, r#"{"n":1}"#).await.result() });
        Self(calls)
    }

    /// Its result, which has to come.
    async fn end(mut self) {
        let result = self.0.join_next().await.unwrap().unwrap();
        assert!(result.get("content").is_some(), "{result}");
    }
}

#[tokio::test]
async fn a_changed_upstream_leaves_the_others_alone_and_calls_in_flight_finish_where_they_began() {
    for serves in [Serves::Legacy, Serves::Modern] {
        let (kept, old, new) = (scripted(serves).await, scripted(serves).await, scripted(serves).await);
        let gateway = Gateway::start(Setup::new().upstream("kept", kept.url()).upstream("moves", old.url())).await;
        let session = gateway.legacy().await;
        let calls = [InFlight::begin(gateway.modern(), "kept.waits"), InFlight::begin(gateway.modern(), "moves.waits")];
        kept.wait_for_calls(1).await;
        old.wait_for_calls(1).await;
        let sessions = kept.sessions_opened();

        change(&gateway, &Setup::new().upstream("kept", kept.url()).upstream("moves", new.url()), 1).await;
        gateway.target_is("moves", "ready").await;
        let moved = gateway.modern().call("moves.echo", "{}").await.result();
        let stayed = session.call("kept.echo", "{}").await.result();
        kept.release(1);
        old.release(1);
        for call in calls {
            call.end().await;
        }

        assert!(moved.get("content").is_some() && stayed.get("content").is_some());
        assert_eq!((new.calls().len(), old.calls().len(), kept.calls().len()), (1, 1, 2));
        assert_eq!(kept.sessions_opened(), sessions, "the unchanged upstream was connected to anew");
        assert!(old.calls().iter().chain(&kept.calls()).all(|seen| !seen.abandoned));
    }
}

#[tokio::test]
async fn upstreams_come_and_go_by_file_and_by_signal() {
    let (first, second) = (scripted(Serves::Both).await, scripted(Serves::Both).await);
    let gateway = Gateway::start(Setup::new().upstream("first", first.url())).await;
    let client = gateway.client(Era::Legacy).await;

    gateway.write(&Setup::new().upstream("second", second.url()).upstream("first", first.url()).text());
    gateway.program.signal("HUP");
    reads(&gateway, "applied", 1).await;
    gateway.target_is("second", "ready").await;
    let both = client.tool_names().await;
    change(&gateway, &Setup::new().upstream("second", second.url()), 2).await;
    until("the tools of the first to go", || async { (client.tool_names().await.len() == 2).then_some(()) }).await;
    let gone = client.call("first.echo", "{}").await.error();

    assert_eq!(both, ["first.echo", "first.waits", "second.echo", "second.waits"]);
    assert_eq!(gone["message"], "there is no tool `first.echo`");
    assert_eq!(gateway.get("/mcp/first").await.status, 405);
    assert!(client.call("second.echo", "{}").await.result().get("content").is_some());
    assert_eq!(status(&gateway).await["trigger"], "file");
}

#[tokio::test]
async fn a_file_that_cannot_be_used_changes_nothing_and_says_why() {
    let upstream = scripted(Serves::Both).await;
    let good = Setup::new().upstream("up", upstream.url());
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;
    let broken = [
        format!("{}\n[[upstream]\n", good.text()),
        format!("{}\n[[upstream]]\nname = \"up\"\nurl = \"http://127.0.0.1:1\"\n", good.text()),
        format!("{}\n[http2]\n", good.text()),
        good.text().replace("http://", "http//"),
    ];

    for (count, text) in (1..).zip(&broken) {
        gateway.write(text);
        reads(&gateway, "refused", count).await;

        let status = status(&gateway).await;
        assert_eq!((&status["outcome"], &status["applied_at"]), (&json!("refused"), &Value::Null), "{status}");
        assert!(status["error"].as_str().unwrap().contains("twinway.toml:"), "{status}");
        assert!(gateway.modern().call("up.echo", "{}").await.result().get("content").is_some(), "{text}");
    }
    gateway.program.logs("the new configuration is not taken over; the one in force stays").await;
    std::fs::remove_file(gateway.folder.path().join("twinway.toml")).unwrap();
    reads(&gateway, "refused", 5).await;
    change(&gateway, &good.tables("[[tool]]\nmatch = \"up.echo\"\npriority = 9"), 1).await;
    assert_eq!(upstream.sessions_opened(), 0, "all by the modern revision");
}

#[tokio::test]
async fn clients_and_their_tokens_change_at_every_way_in() {
    let upstream = scripted(Serves::Both).await;
    let clients = |names: &[&str]| {
        let setup = Setup::new().upstream("up", upstream.url()).tables("[grpc]\nlisten = \"127.0.0.1:0\"");
        names.iter().fold(setup, |setup, name| setup.client(name, &format!("{name}-has-a-long-token")))
    };
    let setup = clients(&["alice"]).variable("TOKEN_OF_BOB", "bob-has-a-long-token");
    let gateway = Gateway::start(setup).await;
    let may = |name: &'static str| {
        let token = format!("{name}-has-a-long-token");
        let (endpoint, address) = (format!("http://{}", gateway.grpc()), gateway.address);
        async move {
            let request = Request::get("/admin/api/tools").header("authorization", format!("Bearer {token}"));
            let admin = send(address, request.body(String::new()).unwrap()).await.status == 200;
            let mcp = Mcp::modern(address).bearer(&token).call("up.echo", "{}").await.status == 200;
            let grpc = twinway(&["peers", "list", "--endpoint", &endpoint, "--token", &token]).await.code == Some(0);
            [mcp, admin, grpc]
        }
    };
    assert_eq!((may("alice").await, may("bob").await), ([true; 3], [false; 3]));

    change(&gateway, &clients(&["bob"]), 1).await;

    assert_eq!((may("alice").await, may("bob").await), ([false; 3], [true; 3]));
}

#[tokio::test]
async fn rules_bounds_and_names_change_for_calls_to_come() {
    let upstream = scripted(Serves::Both).await;
    let setup = |tables: &str| Setup::new().upstream("up", upstream.url()).tables(tables);
    let gateway = Gateway::start(setup("[admission]\nin_flight_max = 1\nqueue_max = 0")).await;
    let first = InFlight::begin(gateway.modern(), "up.waits");
    upstream.wait_for_calls(1).await;
    let full = gateway.modern().call("up.waits", "{}").await.error();
    assert_eq!(full["data"]["code"], "overloaded");

    let rule = "[[tool]]\nmatch = \"up.echo\"\ncategory = \"new\"\ntimeout = \"7s\"";
    change(&gateway, &setup(&format!("[admission]\nin_flight_max = 2\nqueue_max = 0\n{rule}")), 1).await;
    let second = InFlight::begin(gateway.modern(), "up.waits");
    upstream.wait_for_calls(2).await;
    upstream.release(2);
    first.end().await;
    second.end().await;
    let tools = until("the rule", || async {
        let tools = gateway.get("/admin/api/tools?category=new").await.json();
        (tools["tools"].as_array()?.len() == 1).then_some(tools)
    });
    assert_eq!(tools.await["tools"][0]["metadata"]["timeout"]["said_by"], "rule");

    change(&gateway, &setup("[admission]\nin_flight_max = 2").http("separator = \"_\""), 2).await;
    until("the other separator", || async { gateway.modern().tool_names().await.contains(&"up_echo".to_owned()).then_some(()) })
        .await;
    assert_eq!(gateway.get("/admin/api/tools?category=new").await.json()["tools"], json!([]));
}

#[tokio::test]
async fn what_needs_a_restart_keeps_its_value_and_is_named() {
    let upstream = scripted(Serves::Both).await;
    let setup = || Setup::new().upstream("up", upstream.url());
    let gateway = Gateway::start(setup()).await;

    gateway.write(&setup().http("workers = 1").text());
    reads(&gateway, "unchanged", 1).await;
    let alone = status(&gateway).await;
    change(&gateway, &setup().http("workers = 1").tables("[[tool]]\nmatch = \"up.echo\"\npriority = 9"), 1).await;
    let beside = status(&gateway).await;

    assert_eq!(alone["needs_restart"], json!(["http.workers"]), "{alone}");
    assert_eq!((&beside["outcome"], &beside["needs_restart"]), (&json!("applied"), &json!(["http.workers"])), "{beside}");
    gateway.program.logs("needs a restart: http.workers").await;
}

#[tokio::test]
async fn peers_come_and_go_and_the_others_keep_their_streams() {
    let upstream = scripted(Serves::Both).await;
    let far = Gateway::start(Setup::new().upstream("up", upstream.url()).tables(OPEN)).await;
    let other = Gateway::start(Setup::new().upstream("up", upstream.url()).tables(OPEN)).await;
    far.target_is("up", "ready").await;
    other.target_is("up", "ready").await;
    let setup = |peers: &[(&str, &Gateway)]| {
        let peer = |(name, gateway): &(&str, &Gateway)| format!("[[peer]]\nname = \"{name}\"\naddress = \"{}\"\n", gateway.p2p());
        Setup::new().tables(&format!("[p2p]\n{}", peers.iter().map(peer).collect::<String>()))
    };
    let near = Gateway::start(setup(&[("far", &far)])).await;
    near.target_is("far", "ready").await;
    let call = InFlight::begin(near.modern(), "far.up.waits");
    upstream.wait_for_calls(1).await;

    change(&near, &setup(&[("far", &far), ("other", &other)]), 1).await;
    near.target_is("other", "ready").await;
    assert!(near.modern().call("other.up.echo", "{}").await.result().get("content").is_some());
    change(&near, &setup(&[("far", &far)]), 2).await;
    until("the tools of the other to go", || async { (near.modern().tool_names().await.len() == 2).then_some(()) }).await;
    upstream.release(1);

    call.end().await;
    assert_eq!(near.modern().call("other.up.echo", "{}").await.error()["message"], "there is no tool `other.up.echo`");
    near.metric_reaches("twinway_peers_connected", &[], 1.0).await;
}

#[tokio::test]
async fn who_may_call_over_libp2p_changes_too() {
    let upstream = scripted(Serves::Both).await;
    let far_setup = |authority: &str| {
        let p2p = format!("[p2p]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nauthority = \"{authority}\"\n");
        Setup::new().upstream("up", upstream.url()).tables(&p2p)
    };
    let far = Gateway::start(far_setup("open-loopback")).await;
    far.target_is("up", "ready").await;
    let peer = format!("[p2p]\n[[peer]]\nname = \"far\"\naddress = \"{}\"\n", far.p2p());
    let near = Gateway::start(Setup::new().tables(&peer)).await;
    near.target_is("far", "ready").await;
    near.modern().call("far.up.echo", "{}").await.result();

    change(&far, &far_setup("deny"), 1).await;

    let refused = near.modern().call("far.up.echo", "{}").await.error();
    assert_eq!(refused["message"], "there is no tool `up.echo`", "{refused}");
    assert_eq!(upstream.calls().len(), 1);
}
