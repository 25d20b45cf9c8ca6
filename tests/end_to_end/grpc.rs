//! The gRPC way in, as grpcio sees it, which knows of it only what reflection tells; and the commands that speak it.

use serde_json::{Value, json};

use crate::support::{Act, Gateway, Program, Script, Scripted, Serves, Setup, python_program, skip, twinway, until};

const SERVICE: &str = "twinway.peer.v1.PeerService";
const TOKEN: &str = "correct-horse-battery-staple";
const LISTEN: &str = "[grpc]\nlisten = \"127.0.0.1:0\"\n";
const OPEN: &str = "[p2p]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nauthority = \"open-loopback\"\n";

/// What grpcio makes of one request: the first line it prints.
async fn grpcio(gateway: &Gateway, arguments: &[&str]) -> Result<Value, String> {
    Ok(start_grpcio(gateway, arguments)?.event().await)
}

fn start_grpcio(gateway: &Gateway, arguments: &[&str]) -> Result<Program, String> {
    let mut command = python_program("grpc_client.py")?;
    command.arg(gateway.grpc()).args(arguments);
    Ok(Program::start(command))
}

/// A gateway with a peer gateway that has a tool, and with a peer that is not there.
struct Pair {
    near: Gateway,
    far: Gateway,
    _upstream: Scripted,
}

impl Pair {
    async fn start() -> Self {
        let upstream = Scripted::start(Script::new(Serves::Both).tool("echo", Act::Echo).tool("read", Act::Echo)).await;
        let far = Gateway::start(Setup::new().upstream("up", upstream.url()).tables(OPEN)).await;
        far.target_is("up", "ready").await;
        let peer = |name: &str, address: &str| format!("[[peer]]\nname = \"{name}\"\naddress = \"{address}\"\n");
        let nobody = format!("/ip4/127.0.0.1/tcp/9/p2p/{}", runtime_mcpp::Identity::ephemeral().peer_id());
        let tables = format!("{LISTEN}[p2p]\n{}{}", peer("far", far.p2p()), peer("nobody", &nobody));
        let near = Gateway::start(Setup::new().tables(&tables)).await;
        near.target_is("far", "ready").await;
        near.target_is("nobody", "failed").await;
        Self { near, far, _upstream: upstream }
    }

    /// The far peer's address without its key, as records have it.
    fn far_address(&self) -> &str {
        self.far.p2p().split("/p2p/").next().unwrap()
    }
}

/// The names of the peers in an answer of `List`.
fn names(answer: &Value) -> Vec<&str> {
    let peers = answer["answer"]["peers"].as_array().into_iter().flatten();
    peers.map(|peer| peer["names"][0].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_foreign_client_finds_the_services_by_reflection_and_the_peers_in_them() {
    let test = async {
        let mut pair = Pair::start().await;
        let services = grpcio(&pair.near, &["services"]).await?;
        let services = services["services"].as_array().unwrap();
        for service in [SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"] {
            assert!(services.contains(&json!(service)), "{services:?}");
        }
        assert!(!services.contains(&json!("twinway.workflow.v1.RunService")), "what is not served is not advertised");
        let call = async |method: &str, message: &str| grpcio(&pair.near, &["call", SERVICE, method, message]).await;

        let all = call("List", "{}").await?;
        let offering = call("List", r#"{"capabilities":["up.read","up.echo"]}"#).await?;
        let none = call("List", r#"{"capabilities":["up.echo","up.nothing"]}"#).await?;
        let first = call("List", r#"{"page_size":1}"#).await?;
        let token = first["answer"]["next_page_token"].as_str().unwrap();
        let second = call("List", &json!({"page_size": 1, "page_token": token}).to_string()).await?;

        let mut listed = names(&all);
        listed.sort_unstable();
        assert_eq!(listed, ["far", "nobody"], "{all}");
        assert_eq!(names(&offering), ["far"], "{offering}");
        assert!(names(&none).is_empty(), "{none}");
        assert_eq!([names(&first), names(&second)].concat(), names(&all), "{first} {second}");
        assert!(second["answer"].get("next_page_token").is_none(), "{second}");
        let nobody = call("Get", r#"{"peer_id":"nobody"}"#).await?["answer"].take();
        assert_eq!(nobody["state"], "PEER_STATE_FAILED", "{nobody}");
        assert!(nobody["state_reason"].as_str().unwrap().contains("refused"), "{nobody}");
        assert!(nobody.get("connections").is_none() && nobody.get("first_seen").is_none(), "{nobody}");

        // The first ping is measured soon after the connection is open.
        let far = until("a measured round trip", async || {
            let far = call("Get", &json!({"peer_id": pair.far.peer_id()}).to_string()).await.unwrap()["answer"].take();
            far["connections"][0].get("round_trip").is_some().then_some(far)
        })
        .await;
        assert_eq!(far["peer_id"], pair.far.peer_id(), "{far}");
        assert_eq!(far["names"], json!(["far"]), "{far}");
        assert_eq!(far["addrs"], json!([pair.far_address()]), "{far}");
        assert_eq!(far["capabilities"], json!(["up.echo", "up.read"]), "{far}");
        assert_eq!((&far["state"], &far["sources"]), (&json!("PEER_STATE_READY"), &json!(["PEER_SOURCE_STATIC"])), "{far}");
        let connection = &far["connections"][0];
        assert_eq!((&connection["outgoing"], connection.get("relayed")), (&json!(true), None), "{far}");
        assert!(connection["address"].as_str().unwrap().starts_with(pair.far_address()), "{far}");
        assert!(far["first_seen"].as_str() <= far["last_seen"].as_str(), "{far}");

        pair.far.program.kill();
        pair.near.target_is("far", "stale").await;
        let gone = grpcio(&pair.near, &["call", SERVICE, "Get", r#"{"peer_id":"far"}"#]).await?["answer"].take();
        assert_eq!(gone["state"], "PEER_STATE_STALE", "{gone}");
        assert!(gone.get("connections").is_none(), "{gone}");
        assert_eq!((&gone["first_seen"], &gone["capabilities"]), (&far["first_seen"], &far["capabilities"]), "{gone}");
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("grpc::a_foreign_client_finds_the_services_by_reflection_and_the_peers_in_them", &reason);
    }
}

#[tokio::test]
async fn each_error_says_what_is_wrong_in_details_that_programs_can_read() {
    let test = async {
        let limit = "message_bytes_max = 4096\n";
        let gateway = Gateway::start(Setup::new().tables(&format!("{LISTEN}{limit}"))).await;
        let cases: [(&[&str], &str, &str, &str); 7] = [
            (&["call", SERVICE, "Get", r#"{"peer_id":"far"}"#], "NOT_FOUND", "UNKNOWN_NAME", "there is no peer `far`"),
            (&["call", SERVICE, "Get", "{}"], "INVALID_ARGUMENT", "INVALID_PARAMS", "no peer is named"),
            (&["call", SERVICE, "List", r#"{"page_size":-1}"#], "INVALID_ARGUMENT", "INVALID_PARAMS", "-1 records"),
            (&["call", SERVICE, "List", r#"{"page_token":"2"}"#], "INVALID_ARGUMENT", "INVALID_PARAMS", "`2` is not the token"),
            (&["call", SERVICE, "List", "{}", "--padding", "4096"], "RESOURCE_EXHAUSTED", "TOO_LARGE", "message_bytes_max"),
            (&["call", SERVICE, "Forget", "{}"], "UNIMPLEMENTED", "UNKNOWN_METHOD", "has no method `Forget`"),
            (
                &["call", "twinway.workflow.v1.RunService", "Forget", "{}"],
                "UNIMPLEMENTED",
                "UNKNOWN_METHOD",
                "does not serve `twinway.workflow.v1.RunService`",
            ),
        ];
        for (arguments, code, reason, text) in cases {
            let failed = grpcio(&gateway, arguments).await?["failed"].take();

            assert_eq!(failed["code"], code, "{arguments:?}: {failed}");
            assert_eq!(failed["details"]["ErrorInfo"]["reason"], reason, "{arguments:?}: {failed}");
            assert_eq!(failed["details"]["ErrorInfo"]["domain"], "twinway", "{arguments:?}: {failed}");
            assert!(failed["message"].as_str().unwrap().contains(text), "{arguments:?}: {failed}");
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("grpc::each_error_says_what_is_wrong_in_details_that_programs_can_read", &reason);
    }
}

#[tokio::test]
async fn only_clients_with_a_token_get_in_and_probes_need_none() {
    let test = async {
        let gateway = Gateway::start(Setup::new().client("desk", TOKEN).tables(LISTEN)).await;
        let list = ["call", SERVICE, "List", "{}"];

        let with_token = grpcio(&gateway, &[&list[..], &["--token", TOKEN]].concat()).await?;
        assert!(with_token.get("answer").is_some(), "{with_token}");
        for token in [vec![], vec!["--token", "correct-horse-battery-stable"], vec!["--metadata", "authorization", TOKEN]] {
            for arguments in [&list[..], &["services"]] {
                let failed = grpcio(&gateway, &[arguments, &token].concat()).await?["failed"].take();
                assert_eq!(failed["code"], "UNAUTHENTICATED", "{token:?}: {failed}");
                assert_eq!(failed["details"]["ErrorInfo"]["reason"], "UNAUTHENTICATED", "{token:?}: {failed}");
            }
        }
        for service in ["", SERVICE] {
            assert_eq!(grpcio(&gateway, &["health", service]).await?["health"], "SERVING", "{service}");
        }
        let unknown = grpcio(&gateway, &["health", "twinway.nothing"]).await?;
        assert_eq!(unknown["failed"]["code"], "NOT_FOUND", "{unknown}");
        assert!(gateway.metric("twinway_requests_refused_total", &["unauthenticated"]).await >= 6.0);
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("grpc::only_clients_with_a_token_get_in_and_probes_need_none", &reason);
    }
}

#[tokio::test]
async fn who_watches_the_health_sees_the_gateway_stop_serving_while_a_call_still_runs() {
    let test = async {
        let upstream = Scripted::start(Script::new(Serves::Modern).tool("hold", Act::Hold)).await;
        let setup = Setup::new().http("drain_timeout = \"15s\"").upstream("up", upstream.url()).tables(LISTEN);
        let mut gateway = Gateway::start(setup).await;
        gateway.target_is("up", "ready").await;
        let mut watching = start_grpcio(&gateway, &["watch"])?;
        assert_eq!(watching.event_with("health").await, "SERVING");
        let client = gateway.modern();

        let stopping = async {
            upstream.wait_for_calls(1).await;
            gateway.program.terminate();
            assert_eq!(watching.event_with("health").await, "NOT_SERVING");
            assert_eq!(watching.event_with("end").await, true, "the stream ends in order, so that it holds up no drain");
            assert!(!upstream.calls()[0].abandoned, "the call goes on meanwhile");
        };
        tokio::select! {
            _ = client.tool("up.hold", "{}").send() => panic!("it is held"),
            () = stopping => {}
        }
        // The client of the call is gone now, so nothing is left to wait for.
        gateway.program.events().await;
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("grpc::who_watches_the_health_sees_the_gateway_stop_serving_while_a_call_still_runs", &reason);
    }
}

#[tokio::test]
async fn the_commands_for_peers_tell_what_the_gateway_knows() {
    let pair = Pair::start().await;
    let endpoint = format!("http://{}", pair.near.grpc());
    let run = async |arguments: &[&str]| twinway(&[arguments, &["--endpoint", &endpoint]].concat()).await;

    let listed = run(&["peers", "list"]).await;
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let line = listed.stdout.lines().find(|line| line.starts_with("far ")).unwrap();
    assert!(line.contains(&format!("ready  {}  2 tools", pair.far.peer_id())), "{line}");

    let offering = run(&["peers", "list", "--capability", "up.echo", "--capability", "up.read", "--json"]).await;
    assert_eq!(offering.json()["names"], json!(["far"]), "one document, on one line: {offering:?}");
    assert_eq!(offering.json()["addrs"], json!([pair.far_address()]), "{offering:?}");

    let by_id = run(&["peers", "get", pair.far.peer_id(), "--json"]).await;
    let by_name = run(&["peers", "get", "far", "--json"]).await;
    assert_eq!(by_id.json()["connections"][0]["outgoing"], true, "{by_id:?}");
    assert_eq!(by_id.json()["first_seen"], by_name.json()["first_seen"]);

    let unknown = run(&["peers", "get", "near", "--json"]).await;
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    let error: Value = serde_json::from_str(&unknown.stderr).unwrap();
    assert_eq!(error["error"]["data"]["reason"], "UNKNOWN_NAME", "{unknown:?}");

    // Whoever takes the wrong port is told so, in both directions.
    let mcp = format!("http://{}", pair.near.address);
    let wrong = twinway(&["peers", "list", "--endpoint", &mcp]).await;
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(wrong.stderr.contains("is this the gRPC address of a gateway?"), "{wrong:?}");
    let wrong = run(&["tools"]).await;
    assert!(wrong.stderr.contains("This port speaks gRPC"), "{wrong:?}");
}

#[tokio::test]
async fn the_commands_for_peers_show_a_token_and_say_when_nobody_is_there() {
    let gateway = Gateway::start(Setup::new().client("desk", TOKEN).tables(LISTEN)).await;
    let endpoint = format!("http://{}", gateway.grpc());

    let without = twinway(&["peers", "list", "--endpoint", &endpoint]).await;
    let with = twinway(&["peers", "list", "--endpoint", &endpoint, "--token", TOKEN]).await;
    drop(gateway);
    let nobody = twinway(&["peers", "list", "--endpoint", &endpoint]).await;

    assert_eq!(without.code, Some(1), "{without:?}");
    assert!(without.stderr.contains("give a token with --token"), "{without:?}");
    assert_eq!((with.code, &*with.stdout), (Some(0), ""), "no peers: {with:?}");
    assert_eq!(nobody.code, Some(4), "{nobody:?}");
    assert!(nobody.stderr.contains(&endpoint), "{nobody:?}");
}
