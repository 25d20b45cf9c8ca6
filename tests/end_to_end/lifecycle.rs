//! Sessions, discovery, refusals of the protocol, and the pages for operators.

use crate::support::{Act, Era, Gateway, Mcp, Script, Scripted, Serves, Setup};

/// A gateway before one server of both eras whose tool `echo` gives back its arguments.
async fn gateway() -> (Gateway, Scripted) {
    let upstream = Scripted::start(Script::new(Serves::Both).tool("echo", Act::Echo)).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;
    (gateway, upstream)
}

#[tokio::test]
async fn a_session_lives_from_initialize_to_delete_in_every_legacy_revision() {
    let (gateway, _upstream) = gateway().await;
    for revision in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        let client = Mcp::legacy(gateway.address).open(revision).await;
        assert_eq!(client.revision, revision);

        let pong = client.ask("ping").id("\"ping\"").send().await;
        assert_eq!(pong.text(), r#"{"jsonrpc":"2.0","id":"ping","result":{}}"#, "{revision}");
        assert_eq!(client.call("up.echo", "{}").await.status, 200, "{revision}");
        assert_eq!(client.end().await.status, 204, "{revision}");

        assert_eq!(client.call("up.echo", "{}").await.status, 404, "{revision}: the session has ended");
        assert_eq!(client.end().await.status, 404, "{revision}: it ends only once");
    }
}

#[tokio::test]
async fn a_revision_that_nobody_knows_is_answered_with_the_newest_that_has_sessions() {
    let (gateway, _upstream) = gateway().await;

    let answer = Mcp::legacy(gateway.address).initialize("2031-01-01").await;

    assert_eq!(answer.result()["protocolVersion"], "2025-11-25");
    assert!(!answer.header("mcp-session-id").is_empty());
}

#[tokio::test]
async fn a_session_that_nobody_knows_is_answered_with_404_so_that_the_client_initializes_again() {
    let (gateway, _upstream) = gateway().await;
    let client = Mcp { session: Some("made-up".to_owned()), ..Mcp::legacy(gateway.address) };

    let answer = client.ask("ping").send().await;

    assert_eq!(answer.status, 404);
    assert_eq!(gateway.metric("twinway_requests_refused_total", &[r#"reason="session_unknown""#]).await, 1.0);
}

#[tokio::test]
async fn a_session_is_of_no_use_to_another_client_or_at_another_endpoint() {
    let upstream = Scripted::start(Script::new(Serves::Both).tool("echo", Act::Echo)).await;
    let setup = Setup::new()
        .upstream("up", upstream.url())
        .client("ann", "token-of-ann-0123456789")
        .client("bob", "token-of-bob-0123456789");
    let gateway = Gateway::start(setup).await;
    let ann = Mcp::legacy(gateway.address).bearer("token-of-ann-0123456789").open("2025-11-25").await;

    let by_bob = ann.clone().bearer("token-of-bob-0123456789");
    let elsewhere = ann.clone().at("up");

    assert_eq!(by_bob.ask("ping").send().await.status, 404);
    assert_eq!(by_bob.end().await.status, 404);
    assert_eq!(elsewhere.ask("ping").send().await.status, 404);
    assert_eq!(ann.ask("ping").send().await.status, 200, "it is still Ann's");
    assert_eq!(gateway.metric("twinway_sessions_refused_total", &[r#"reason="foreign""#]).await, 3.0);
}

#[tokio::test]
async fn a_handle_of_another_is_counted_as_one_after_a_restart_and_refused_like_one_that_nobody_knows() {
    const FOREIGN: &[&str] = &[r#"reason="foreign""#];
    const UNKNOWN: &[&str] = &[r#"reason="unknown""#];
    let upstream = Scripted::start(Script::new(Serves::Both).tool("echo", Act::Echo)).await;
    let setup = || {
        Setup::new()
            .http("seal_key = \"env:SEAL\"")
            .variable("SEAL", "0123456789abcdef0123456789abcdef")
            .upstream("up", upstream.url())
            .client("ann", "token-of-ann-0123456789")
            .client("bob", "token-of-bob-0123456789")
    };
    let before = Gateway::start(setup()).await;
    let ann = Mcp::legacy(before.address).bearer("token-of-ann-0123456789").open("2025-11-25").await;
    drop(before);

    let gateway = Gateway::start(setup()).await;
    let ann = Mcp { address: gateway.address, ..ann };
    let by_bob = ann.clone().bearer("token-of-bob-0123456789");
    let garbage = Mcp { session: Some("made-up".to_owned()), ..by_bob.clone() };

    let unknown = garbage.ask("ping").send().await;
    for (stranger, count) in [(by_bob.clone(), 1.0), (ann.clone().at("up"), 2.0)] {
        let refused = stranger.ask("ping").send().await;

        assert_eq!((refused.status.as_u16(), refused.text()), (404, unknown.text()));
        assert_eq!(gateway.metric("twinway_sessions_refused_total", FOREIGN).await, count);
    }
    let (ended, unknown_ended) = (by_bob.end().await, garbage.end().await);
    assert_eq!((ended.status.as_u16(), ended.text()), (404, unknown_ended.text()));
    assert_eq!(ann.ask("ping").send().await.status, 200, "it is still Ann's");
    assert_eq!(by_bob.ask("ping").send().await.text(), unknown.text());
    assert_eq!(gateway.metric("twinway_sessions_refused_total", FOREIGN).await, 4.0);
    assert_eq!(gateway.metric("twinway_sessions_refused_total", UNKNOWN).await, 2.0);
}

#[tokio::test]
async fn when_every_session_is_busy_who_comes_is_sent_away_with_503_and_a_hint_when_to_come_back() {
    let upstream = Scripted::start(Script::new(Serves::Both).tool("waits", Act::Hold)).await;
    let setup = Setup::new().http("sessions_max = 1\nsession_idle = \"1s\"").upstream("up", upstream.url());
    let gateway = Gateway::start(setup).await;
    gateway.target_is("up", "ready").await;
    let idle = gateway.legacy().await;
    let busy = gateway.legacy().await;
    let call = busy.tool("up.waits", "{}").send();
    tokio::pin!(call);
    tokio::select! {
        _ = &mut call => panic!("the call is not answered yet"),
        () = upstream.wait_for_calls(1) => {}
    }

    let newcomer = Mcp::legacy(gateway.address).initialize("2025-11-25").await;
    let known = idle.ask("ping").send().await;
    let deleted = idle.end().await;

    for (what, refused) in [("initialize", newcomer), ("a session that had given way", known), ("DELETE", deleted)] {
        assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "30"), "{what}: {}", refused.text());
    }
    upstream.release(1);
    assert_eq!(call.await.status, 200);
    assert_eq!(idle.ask("ping").send().await.status, 200, "its handle is as good as before");
}

#[tokio::test]
async fn discovery_tells_a_modern_client_what_it_needs() {
    let (gateway, _upstream) = gateway().await;

    let answer = gateway.modern().ask("server/discover").send().await;

    assert_eq!(answer.status, 200);
    assert!(answer.header("mcp-session-id").is_empty(), "there are no sessions in this revision");
    let result = answer.result();
    assert_eq!(result["resultType"], "complete");
    assert_eq!(result["supportedVersions"], serde_json::json!(["2026-07-28"]));
    assert!(result["capabilities"]["tools"].is_object());
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "twinway");
}

#[tokio::test]
async fn a_modern_request_that_breaks_the_rules_is_told_which() {
    let (gateway, _upstream) = gateway().await;
    let modern = gateway.modern();
    let legacy_body = Mcp { era: Era::Legacy, ..modern.clone() };
    let future = Mcp { revision: "2099-01-01".to_owned(), ..modern.clone() };
    let call = || modern.tool("up.echo", "{}");
    let cases = [
        ("no _meta", legacy_body.ask("tools/list").header("mcp-method", "tools/list"), 400, -32602, "incomplete_meta"),
        ("another revision", future.ask("tools/list"), 400, -32022, "unsupported_version"),
        (
            "another method in the header",
            modern.ask("tools/list").header("mcp-method", "tools/call"),
            400,
            -32020,
            "header_mismatch",
        ),
        ("no method in the header", modern.ask("tools/list").without("mcp-method"), 400, -32020, "header_mismatch"),
        ("another name in the header", call().header("mcp-name", "up.other"), 400, -32020, "header_mismatch"),
        ("no name in the header", call().without("mcp-name"), 400, -32020, "header_mismatch"),
        ("another revision in the header", call().header("mcp-protocol-version", "2099-01-01"), 400, -32020, "header_mismatch"),
        ("no revision in the header", call().without("mcp-protocol-version"), 400, -32020, "header_mismatch"),
        (
            "another revision in the body, which nobody knows",
            future.ask("tools/list").header("mcp-protocol-version", "2026-07-28"),
            400,
            -32020,
            "header_mismatch",
        ),
    ];
    for (what, ask, status, code, reason) in cases {
        let labels = [format!("reason=\"{reason}\"")];
        let before = gateway.metric("twinway_requests_refused_total", &[&labels[0]]).await;

        let answer = ask.id("\"mine\"").send().await;

        assert_eq!((answer.status.as_u16(), answer.error()["code"].clone()), (status, code.into()), "{what}: {}", answer.text());
        assert_eq!(answer.json()["id"], "mine", "{what}");
        assert_eq!(gateway.metric("twinway_requests_refused_total", &[&labels[0]]).await, before + 1.0, "{what}");
    }
    let supported = future.ask("tools/list").send().await.error()["data"].clone();
    assert_eq!(supported, serde_json::json!({"supported": ["2026-07-28"], "requested": "2099-01-01"}));
}

#[tokio::test]
async fn a_method_that_is_not_offered_is_refused_as_its_era_does_it() {
    let (gateway, _upstream) = gateway().await;
    let (modern, legacy) = (gateway.modern(), gateway.legacy().await);

    let cases = [
        ("ping has gone from the modern revision", modern.ask("ping").send().await, 404),
        ("an unknown method", modern.ask("no/such").send().await, 404),
        ("a legacy client would read 404 as the end of its session", legacy.ask("no/such").send().await, 200),
    ];

    for (what, answer, status) in cases {
        assert_eq!((answer.status.as_u16(), answer.error()["code"].clone()), (status, (-32601).into()), "{what}");
    }
    assert_eq!(legacy.ask("ping").send().await.status, 200);
}

#[tokio::test]
async fn a_request_without_session_and_without_meta_is_told_both_ways_in() {
    let (gateway, _upstream) = gateway().await;

    let answer = Mcp::legacy(gateway.address).ask("tools/list").send().await;

    assert_eq!(answer.status, 400);
    let message = answer.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("initialize") && message.contains("2026-07-28"), "{message}");
}

#[tokio::test]
async fn only_post_and_delete_are_taken_at_the_endpoint() {
    let (gateway, _upstream) = gateway().await;

    let answer = gateway.get("/mcp").await;

    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("allow"), "POST, DELETE");
    assert_eq!(gateway.get("/nowhere").await.status, 404);
}

#[tokio::test]
async fn operators_find_health_readiness_runtimes_and_metrics() {
    let (gateway, _upstream) = gateway().await;

    assert_eq!(gateway.get("/health").await.json()["status"], "ok");
    let ready = gateway.get("/health/ready").await;
    assert_eq!((ready.status.as_u16(), ready.json()["status"].clone()), (200, "ready".into()));
    let target = gateway.target("up").await;
    assert_eq!((target["state"].clone(), target["tools"].clone()), ("ready".into(), 1.into()));
    let metrics = gateway.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    assert!(metrics.text().ends_with("# EOF\n"));
    assert_eq!(gateway.metric("twinway_catalogue_tools", &[]).await, 1.0);
}

#[tokio::test]
async fn http_2_with_prior_knowledge_works_as_well_as_http_1_1() {
    let (gateway, _upstream) = gateway().await;
    for era in [Era::Modern, Era::Legacy] {
        let client = gateway.client(era).await;

        let first = client.tool("up.echo", r#"{"n":1}"#).send().await;
        let second = client.tool("up.echo", r#"{"n":1}"#).send_h2().await;

        assert_eq!(first.text(), second.text(), "{era:?}");
        assert_eq!(second.result()["structuredContent"]["n"], 1, "{era:?}");
    }
}

#[tokio::test]
async fn a_gateway_that_is_told_twice_to_end_cuts_its_calls_off_and_says_so() {
    let upstream = Scripted::start(Script::new(Serves::Modern).tool("hold", Act::Hold)).await;
    let mut gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;
    gateway.target_is("up", "ready").await;
    let client = gateway.modern();
    let call = client.tool("up.hold", "{}");
    let (mut calling, mut ending) = (Box::pin(call.send()), Box::pin(upstream.wait_for_calls(1)));
    tokio::select! {
        _ = &mut calling => panic!("nobody has let it go on"),
        () = &mut ending => {}
    }

    gateway.program.terminate();
    gateway.program.logs("stopping").await;
    gateway.program.terminate();

    while gateway.program.line().await.is_some() {}
    assert!(gateway.program.log().contains("told twice to end: calls in flight are cut off"), "{}", gateway.program.log());
}
