//! Servers of revision 2024-11-05, over HTTP+SSE, behind the gateway.

use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{
    Gateway, Mcp, OldServer, Program, Script, Scripted, Serves, Setup, asked_client, everything_sse, old_asking_server, open,
    skip, until,
};

const ENDPOINT: &str = "/messages?ID";

async fn before(url: &str) -> Gateway {
    let gateway = Gateway::start(Setup::new().upstream("up", url)).await;
    gateway.target_is("up", "ready").await;
    gateway
}

#[tokio::test]
async fn servers_at_the_url_of_their_stream_give_clients_of_either_era_everything() {
    let test = async {
        let ((_python, python), (_node, node)) = tokio::try_join!(old_asking_server(0), everything_sse())?;
        let gateway = Gateway::start(Setup::new().upstream("py", &python).upstream("everything", &node)).await;
        for target in ["py", "everything"] {
            gateway.target_is(target, "ready").await;
            assert_eq!(gateway.target(target).await["eras"], json!({"modern": "no", "legacy": "yes"}));
        }
        let url = format!("http://{}/mcp", gateway.address);
        for era in ["legacy", "modern"] {
            let commands = ["--url", &url, "--era", era, "--log-level", "info"];
            let more = [
                "tool|py.all",
                "tool|py.note",
                "tool|everything.get-roots-list",
                "prompt|py.greet|Bo",
                "read|asking://one",
                "read|asking://numbered/7",
                "complete|py.greet|x",
            ];
            let events = asked_client(&[&commands[..], &more].concat())?.events().await;

            let results: Vec<_> = events.iter().filter_map(|event| event.get("result")).collect();
            assert_eq!(results.len(), 7, "{era}: {events:?}");
            let told: Value = serde_json::from_str(results[0]["content"][0]["text"].as_str().unwrap()).unwrap();
            assert_eq!(told["who"], json!({"action": "accept", "content": {"name": "Grace", "age": 85}}), "{era}");
            assert_eq!(told["answer"]["content"]["text"], "forty-two", "{era}");
            assert_eq!(told["where"]["roots"][0]["uri"], "file:///srv/attic", "{era}");
            let levels: Vec<_> = events.iter().filter_map(|event| event["logged"]["level"].as_str()).collect();
            assert!(levels.contains(&"error") && !levels.contains(&"debug"), "{era}: {levels:?}");
            assert!(results[2].to_string().contains("file:///srv/attic"), "{era}");
            assert_eq!(results[3]["messages"][0]["content"]["text"], "Say hello to Bo", "{era}");
            assert_eq!(results[4]["contents"][0]["text"], "text of asking://one", "{era}");
            assert_eq!(results[5]["contents"][0]["text"], "text of asking://numbered/7", "{era}");
            assert_eq!(results[6]["completion"]["values"], json!(["greet: x!"]), "{era}");
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("old_servers::servers_at_the_url_of_their_stream_give_clients_of_either_era_everything", &reason);
    }
}

#[tokio::test]
async fn progress_and_updates_of_resources_come_on_the_stream() {
    let test = async {
        let ((_python, python), (_node, node)) = tokio::try_join!(old_asking_server(0), everything_sse())?;
        let gateway = Gateway::start(Setup::new().upstream("py", &python).upstream("everything", &node)).await;
        for target in ["py", "everything"] {
            gateway.target_is(target, "ready").await;
        }
        let (modern, legacy) = (gateway.modern(), gateway.legacy().await);
        let listen = modern.ask("subscriptions/listen").id("7");
        let mut told = listen.params(r#""notifications":{"resourceSubscriptions":["asking://one"]}"#).open().await;
        assert_eq!(told.event().await.unwrap()["params"]["notifications"]["resourceSubscriptions"], json!(["asking://one"]));

        legacy.call("py.touch", "{}").await.result();
        let updated = told.event().await.unwrap();
        let call = legacy.tool("everything.trigger-long-running-operation", r#"{"duration":0.1,"steps":2}"#);
        let messages = call.meta(r#""progressToken":"p""#).send().await.messages();

        assert_eq!(
            (&updated["method"], &updated["params"]["uri"]),
            (&json!("notifications/resources/updated"), &json!("asking://one"))
        );
        let steps: Vec<_> = messages.iter().filter(|message| message["params"]["progressToken"] == "p").collect();
        assert_eq!(steps.len(), 2, "{messages:?}");
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("old_servers::progress_and_updates_of_resources_come_on_the_stream", &reason);
    }
}

#[tokio::test]
async fn a_call_that_its_client_gives_up_is_cancelled_at_the_server() {
    let test = async {
        let (server, url) = old_asking_server(0).await?;
        let gateway = before(&url).await;
        let client = gateway.modern();

        tokio::select! {
            _ = client.call("up.linger", "{}") => panic!("it lingers"),
            () = server.logs("lingering") => {}
        }

        server.logs("cancelled").await;
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("old_servers::a_call_that_its_client_gives_up_is_cancelled_at_the_server", &reason);
    }
}

#[tokio::test]
async fn a_server_that_restarts_between_two_calls_is_not_noticed_and_one_that_dies_in_a_call_is() {
    let test = async {
        let (mut server, url) = old_asking_server(0).await?;
        let port = url.rsplit(':').next().unwrap().trim_end_matches("/sse").parse().unwrap();
        let gateway = before(&url).await;
        let pid = async |client: &Mcp| {
            let told: Value = serde_json::from_str(&client.call("up.about", "{}").await.content()).unwrap();
            told["pid"].as_u64().unwrap()
        };
        let (modern, legacy) = (gateway.modern(), gateway.legacy().await);
        let first = [pid(&modern).await, pid(&legacy).await];
        restart(&mut server, port).await?;

        let second = [pid(&modern).await, pid(&legacy).await];
        let died = legacy.call("up.die", "{}").await.error();
        restart(&mut server, port).await?;

        assert_eq!((&died["data"]["code"], &died["data"]["delivery"]), (&json!("disconnected"), &json!("unknown")));
        assert!(first[0] != second[0] && first[1] != second[1], "{first:?} {second:?}");
        for client in [modern, legacy] {
            assert!(!second.contains(&pid(&client).await), "{:?}", client.era);
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("old_servers::a_server_that_restarts_between_two_calls_is_not_noticed_and_one_that_dies_in_a_call_is", &reason);
    }
}

/// Another process in the place of one.
async fn restart(server: &mut Program, port: u16) -> Result<(), String> {
    server.kill();
    (*server, _) = old_asking_server(port).await?;
    Ok(())
}

#[tokio::test]
async fn messages_are_never_sent_to_another_origin() {
    let foreign = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", foreign.local_addr().unwrap());
    let server = OldServer::start(&format!("{origin}/messages?ID")).await;
    let gateway = Gateway::start(Setup::new().upstream("up", server.url())).await;

    gateway.target_is("up", "failed").await;

    let reason = gateway.target("up").await["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains(&format!("the server's `endpoint` is at {origin}, and only ")), "{reason}");
    assert!(foreign.accept().now_or_never().is_none(), "nobody has connected there");
}

#[tokio::test]
async fn a_stream_that_says_nothing_is_not_waited_for_longer_than_a_list_may_take() {
    let server = OldServer::start("").await;
    let lines = "transport = \"sse\"\nlist_timeout = \"300ms\"";
    let gateway = Gateway::start(Setup::new().upstream_with("up", server.url(), lines)).await;

    gateway.target_is("up", "failed").await;

    let reason = gateway.target("up").await["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("no event `endpoint` within 150 ms"), "{reason}");
}

#[tokio::test]
async fn what_follows_a_notification_waits_until_it_is_taken() {
    let server = OldServer::start(ENDPOINT).await;
    let gateway = before(&server.url()).await;

    gateway.modern().call("up.echo", "{}").await.result();

    let asked = server.asked();
    assert!(!asked.contains(&"too early".to_owned()), "{asked:?}");
}

#[tokio::test]
async fn what_carries_the_messages_can_be_said_and_then_nothing_else_is_tried() {
    let server = OldServer::start(ENDPOINT).await;
    let setup = Setup::new().upstream_with("http", server.url(), "transport = \"http\"");
    let gateway = Gateway::start(setup.upstream_with("sse", server.url(), "transport = \"sse\"")).await;

    gateway.target_is("sse", "ready").await;
    gateway.target_is("http", "failed").await;

    assert!(gateway.target("http").await["reason"].as_str().unwrap().contains("405"));
    assert_eq!(server.opened(), 1, "only one of them asks for a stream");
    assert_eq!(gateway.modern().call("sse.echo", r#"{"n":1}"#).await.content(), r#"{"n":1}"#);
    let setup = Setup::new().upstream_with("sse", server.url(), "transport = \"sse\"");
    let asked = server.asked().len();
    let gateway = Gateway::start(setup).await;
    gateway.target_is("sse", "ready").await;
    assert!(server.asked()[asked..].iter().all(|asked| !asked.starts_with("POST /sse")), "{:?}", server.asked());
}

#[tokio::test]
async fn a_server_that_comes_to_speak_streamable_http_is_met_anew() {
    let server = OldServer::start(ENDPOINT).await;
    let gateway = before(&server.url()).await;
    let address = server.url().trim_start_matches("http://").trim_end_matches("/sse").parse().unwrap();
    drop(server);

    // The scripted server does not mind at which path it is asked.
    let scripted = Scripted::start_at(Script::new(Serves::Legacy).tool("new", crate::support::Act::Echo), address).await;
    until("its tools", || async { (gateway.modern().tool_names().await == ["up.new"]).then_some(()) }).await;

    assert_eq!(gateway.modern().call("up.new", r#"{"n":1}"#).await.result()["structuredContent"]["n"], 1);
    assert_eq!(scripted.calls().len(), 1);
}

#[tokio::test]
async fn a_session_that_the_server_has_forgotten_or_ended_is_opened_anew_without_the_client_noticing() {
    let server = OldServer::start(ENDPOINT).await;
    let gateway = before(&server.url()).await;
    let client = gateway.legacy().await;
    let call = || async { client.call("up.echo", r#"{"n":1}"#).await.content() };
    assert_eq!(call().await, r#"{"n":1}"#);

    server.forgets();
    assert_eq!(call().await, r#"{"n":1}"#);
    let opened = server.opened();
    server.hangs_up();
    // A call that goes out while the stream ends may have run; the gateway's own stream is there again once it has noticed.
    until("the gateway to notice", || async { (server.opened() > opened).then_some(()) }).await;
    assert_eq!(call().await, r#"{"n":1}"#);
}

#[tokio::test]
async fn a_stream_that_breaks_leaves_the_calls_on_it_with_an_unknown_outcome() {
    let server = OldServer::start(ENDPOINT).await;
    let gateway = before(&server.url()).await;
    let client = gateway.modern();
    let calling = client.call("up.wait", "{}");
    tokio::pin!(calling);
    tokio::select! {
        _ = &mut calling => panic!("it is not answered"),
        () = until("the call", || async { server.asked().iter().any(|asked| asked.ends_with("tools/call")).then_some(()) }) => {}
    }

    server.hangs_up();

    let error = calling.await.error();
    assert_eq!((&error["data"]["code"], &error["data"]["delivery"]), (&json!("disconnected"), &json!("unknown")));
}

#[tokio::test]
async fn a_message_that_is_refused_fails_its_own_call_at_once_and_no_other() {
    let server = OldServer::start(ENDPOINT).await;
    let gateway = before(&server.url()).await;
    let client = gateway.legacy().await;
    let waiting = client.call("up.wait", "{}");
    tokio::pin!(waiting);
    let refused = tokio::select! {
        _ = &mut waiting => panic!("it is not answered"),
        refused = async {
            until("the call", || async { server.asked().iter().any(|asked| asked.ends_with("tools/call")).then_some(()) }).await;
            client.tool("up.huge", "{}").id("2").send().await.error()
        } => refused,
    };

    assert!(refused["message"].as_str().unwrap().contains("413"), "{refused}");
    assert_eq!(refused["data"]["delivery"], "answered");
    assert_eq!(server.opened(), 2, "the gateway's stream, and the client's");
    assert!(waiting.now_or_never().is_none(), "the other call still waits");
}

#[tokio::test]
async fn a_server_that_answers_a_post_only_when_it_is_done_can_ask_meanwhile() {
    let server = OldServer::start(ENDPOINT).await;
    let gateway = before(&server.url()).await;
    let client = gateway.modern();
    let ask = |members: &str| {
        client
            .tool("up.ask", "{}")
            .params(&format!(r#""name":"up.ask","arguments":{{}}{members}"#))
            .declares(r#"{"elicitation":{}}"#)
    };

    let asked = ask("").send().await.result();
    let state = &asked["requestState"];
    let answer = r#"{"elicitation":{"action":"accept","content":{"name":"Grace"}}}"#;
    let done = ask(&format!(r#","requestState":{state},"inputResponses":{answer}"#)).send().await;

    assert_eq!(asked["inputRequests"]["elicitation"]["params"]["message"], "Who?");
    assert_eq!(done.content(), r#"{"action":"accept","content":{"name":"Grace"}}"#);
}

#[tokio::test]
async fn two_principals_have_a_stream_each() {
    let (ann, bob) = ("token-of-ann-0123456789", "token-of-bob-0123456789");
    let server = OldServer::start(ENDPOINT).await;
    let setup = Setup::new().client("ann", ann).client("bob", bob).upstream("up", server.url());
    let gateway = Gateway::start(setup).await;
    gateway.target_is("up", "ready").await;
    for (token, streams) in [(ann, 2), (bob, 3), (ann, 3)] {
        Mcp::modern(gateway.address).bearer(token).call("up.echo", "{}").await.result();

        assert_eq!(server.opened(), streams);
    }
}

#[tokio::test]
async fn a_change_that_the_server_tells_of_reaches_the_clients_at_once() {
    let server = OldServer::start(ENDPOINT).await;
    let gateway = before(&server.url()).await;
    let client = gateway.legacy().await;
    let mut get = client.head(http::Method::GET, String::new());
    get.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
    let mut told = open(gateway.address, get).await;
    gateway.metric_reaches("twinway_listening", &[], 1.0).await;

    server.offers("another").await;

    assert_eq!(told.event().await.unwrap()["method"], "notifications/tools/list_changed");
    assert!(client.tool_names().await.contains(&"up.another".to_owned()));
}
