//! `tools/call` between clients and servers of both eras.

use serde_json::{Value, json};

use crate::support::{Act, CELLS, Era, Gateway, Mcp, Script, Scripted, Seen, Serves, Setup, closed_port, python_server, skip};

async fn behind(script: Script) -> (Gateway, Scripted) {
    let upstream = Scripted::start(script).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;
    (gateway, upstream)
}

fn is_modern(call: &Seen) -> bool {
    call.header("mcp-protocol-version") == "2026-07-28"
}

#[tokio::test]
async fn a_client_of_either_era_calls_a_server_of_either_era() {
    for (era, serves) in CELLS {
        let (gateway, upstream) = behind(Script::new(serves).tool("echo", Act::Echo)).await;

        let answer = gateway.client(era).await.call("up.echo", r#"{"n":1}"#).await;

        assert_eq!(answer.result()["structuredContent"], json!({"n": 1}), "{era:?} -> {serves:?}");
        let call = &upstream.calls()[0];
        assert_eq!(is_modern(call), serves == Serves::Modern, "{era:?} -> {serves:?}");
        if serves == Serves::Modern {
            assert_eq!((call.header("mcp-method"), call.header("mcp-name")), ("tools/call", "echo"));
            assert_eq!(call.json()["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
            assert!(call.header("mcp-session-id").is_empty());
        } else {
            assert!(!call.header("mcp-session-id").is_empty());
            assert!(!call.body.contains("io.modelcontextprotocol/"), "{}", call.body);
        }
    }
}

#[tokio::test]
async fn a_server_of_both_eras_is_called_in_the_clients_own() {
    let (gateway, upstream) = behind(Script::new(Serves::Both).tool("echo", Act::Echo)).await;
    for era in [Era::Modern, Era::Legacy] {
        gateway.client(era).await.call("up.echo", "{}").await.result();

        assert_eq!(is_modern(upstream.calls().last().unwrap()), era == Era::Modern, "{era:?}");
    }
    let eras = gateway.target("up").await["eras"].clone();
    assert_eq!(eras["modern"], "yes");
}

#[tokio::test]
async fn the_python_server_answers_clients_of_both_eras_in_each_era_that_it_serves() {
    let (_server, url) = match python_server(&[]).await {
        Ok(server) => server,
        Err(reason) => return skip("calls::the_python_server_answers_clients_of_both_eras_in_each_era_that_it_serves", &reason),
    };
    let setup = Setup::new().upstream("both", &url).upstream_with("old", &url, "era = \"legacy\"");
    let gateway = Gateway::start(setup.upstream_with("new", &url, "era = \"modern\"")).await;
    for target in ["both", "old", "new"] {
        gateway.target_is(target, "ready").await;
    }
    for era in [Era::Modern, Era::Legacy] {
        let client = gateway.client(era).await;
        for (target, spoken) in [("both", era), ("old", Era::Legacy), ("new", Era::Modern)] {
            let sum = client.call(&format!("{target}.add"), r#"{"a":2,"b":40}"#).await.result();
            let seen = client.call(&format!("{target}.headers"), "{}").await.result()["structuredContent"].clone();

            assert_eq!(sum["structuredContent"], json!({"sum": 42}), "{era:?} -> {target}");
            let modern = seen["protocolVersion"] == "2026-07-28";
            assert_eq!(modern, spoken == Era::Modern, "{era:?} -> {target}: {seen}");
        }
    }
}

#[tokio::test]
async fn progress_arrives_before_the_result_and_with_the_clients_own_token() {
    for (era, serves) in CELLS {
        let (gateway, _upstream) = behind(Script::new(serves).tool("steps", Act::Progress(3))).await;
        let client = gateway.client(era).await;
        for token in [r#""mine""#, "77"] {
            let answer = client.tool("up.steps", "{}").meta(&format!(r#""progressToken":{token}"#)).send().await;

            let messages = answer.messages();
            assert_eq!(answer.header("content-type"), "text/event-stream", "{era:?} -> {serves:?}");
            assert_eq!(messages.len(), 4, "{era:?} -> {serves:?}: {messages:?}");
            let expected: Value = serde_json::from_str(token).unwrap();
            for (step, message) in messages[..3].iter().enumerate() {
                assert_eq!(message["method"], "notifications/progress", "{era:?} -> {serves:?}");
                assert_eq!(message["params"]["progressToken"], expected, "{era:?} -> {serves:?}");
                assert_eq!(message["params"]["progress"], step + 1, "{era:?} -> {serves:?}");
            }
            assert!(messages[3]["result"].is_object(), "{era:?} -> {serves:?}");
        }
    }
}

#[tokio::test]
async fn progress_comes_while_the_call_still_runs() {
    for (era, serves) in CELLS {
        let (gateway, upstream) = behind(Script::new(serves).tool("steps", Act::ProgressThenHold)).await;
        let client = gateway.client(era).await;

        let mut answer = client.tool("up.steps", "{}").meta(r#""progressToken":1"#).open().await;
        let first = answer.event().await.unwrap();
        upstream.release(1);
        let second = answer.event().await.unwrap();

        assert_eq!(first["params"]["message"], "step 1", "{era:?} -> {serves:?}");
        assert!(second["result"].is_object(), "{era:?} -> {serves:?}");
        assert!(answer.event().await.is_none(), "{era:?} -> {serves:?}");
    }
}

#[tokio::test]
async fn without_a_token_there_is_no_progress_and_the_answer_is_json() {
    for (era, serves) in CELLS {
        let (gateway, upstream) = behind(Script::new(serves).tool("steps", Act::Progress(3))).await;

        let answer = gateway.client(era).await.call("up.steps", "{}").await;

        assert_eq!(answer.header("content-type"), "application/json", "{era:?} -> {serves:?}");
        assert!(!upstream.calls()[0].body.contains("progressToken"), "{era:?} -> {serves:?}");
    }
}

#[tokio::test]
async fn the_trace_context_of_a_client_is_passed_on_although_no_telemetry_is_configured() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (era, serves) in CELLS {
        let (gateway, upstream) = behind(Script::new(serves).tool("echo", Act::Echo)).await;
        let client = gateway.client(era).await;

        let by_header = client.tool("up.echo", "{}").header("traceparent", parent).header("tracestate", "a=b");
        by_header.send().await.result();
        let by_meta = format!(r#""traceparent":"{parent}","tracestate":"c=d""#);
        client.tool("up.echo", "{}").meta(&by_meta).header("traceparent", "00-1-2-00").send().await.result();

        for (call, state) in upstream.calls().iter().zip(["a=b", "c=d"]) {
            assert_eq!(call.header("traceparent"), parent, "{era:?} -> {serves:?}");
            assert_eq!(call.header("tracestate"), state, "{era:?} -> {serves:?}");
            assert_eq!(call.json()["params"]["_meta"]["traceparent"], parent, "{era:?} -> {serves:?}");
        }
    }
}

#[tokio::test]
async fn an_expired_session_is_opened_again_and_the_call_runs_exactly_once() {
    for era in [Era::Modern, Era::Legacy] {
        let (gateway, upstream) = behind(Script::new(Serves::Legacy).tool("echo", Act::Echo)).await;
        let client = gateway.client(era).await;
        client.call("up.echo", r#"{"n":1}"#).await.result();
        let opened = upstream.sessions_opened();

        upstream.expire_sessions();
        let answer = client.call("up.echo", r#"{"n":2}"#).await;

        assert_eq!(answer.result()["structuredContent"], json!({"n": 2}), "{era:?}");
        let tries: Vec<_> = upstream.calls().into_iter().filter(|call| call.arguments() == r#"{"n":2}"#).collect();
        assert_eq!(tries.len(), 2, "{era:?}: one was refused unseen, one ran");
        assert_ne!(tries[0].header("mcp-session-id"), tries[1].header("mcp-session-id"), "{era:?}");
        assert!(upstream.sessions_opened() > opened, "{era:?}");
    }
}

#[tokio::test]
async fn a_warm_call_costs_exactly_one_request_upstream_whatever_the_eras() {
    for (era, serves) in CELLS.into_iter().chain([Era::Modern, Era::Legacy].map(|era| (era, Serves::Both))) {
        let upstream = Scripted::start(Script::new(serves).tool("echo", Act::Echo)).await;
        let gateway = Gateway::start(Setup::new().upstream_with("up", upstream.url(), "refresh = \"1h\"")).await;
        gateway.target_is("up", "ready").await;
        let client = gateway.client(era).await;
        client.call("up.echo", "{}").await.result();
        let before = upstream.seen().len();

        for _ in 0..20 {
            client.call("up.echo", "{}").await.result();
        }

        let asked: Vec<_> = upstream.seen()[before..].iter().map(|seen| seen.method.clone()).collect();
        assert_eq!(asked, ["tools/call"; 20], "{era:?} -> {serves:?}");
    }
}

#[tokio::test]
async fn a_session_of_the_upstream_is_shared_by_calls_of_one_principal_with_one_set_of_capabilities_only() {
    let upstream = Scripted::start(Script::new(Serves::Legacy).tool("echo", Act::Echo)).await;
    let tokens = ["token-of-ann-0123456789", "token-of-bob-0123456789"];
    let setup = Setup::new().upstream("up", upstream.url()).client("ann", tokens[0]).client("bob", tokens[1]);
    let gateway = Gateway::start(setup).await;
    gateway.target_is("up", "ready").await;
    let mut owners = Vec::new();
    for _ in 0..2 {
        for token in tokens {
            for capabilities in ["{}", r#"{"elicitation":{}}"#, r#"{"roots":{}}"#] {
                let modern = gateway.modern().bearer(token).declares(capabilities);
                let legacy = Mcp::legacy(gateway.address).bearer(token).declares(capabilities).open("2025-11-25").await;
                for client in [modern, legacy] {
                    client.call("up.echo", "{}").await.result();
                    owners.push((token, capabilities));
                }
            }
        }
    }

    let sessions: Vec<_> = upstream.calls().iter().map(|call| call.header("mcp-session-id").to_owned()).collect();
    let listed = upstream.seen().into_iter().find(|seen| seen.method == "tools/list").unwrap();

    assert_eq!(sessions.len(), owners.len());
    for (owner, session) in owners.iter().zip(&sessions) {
        for (other, another) in owners.iter().zip(&sessions) {
            assert_eq!(owner == other, session == another, "{owner:?} in {session}, {other:?} in {another}");
        }
        assert_ne!(session, listed.header("mcp-session-id"), "{owner:?} is in the gateway's own session");
    }
}

#[tokio::test]
async fn the_credentials_of_the_client_stay_here_and_those_of_the_configuration_go_upstream() {
    let script = Script::new(Serves::Both).tool("echo", Act::Echo).demands("authorization", "Bearer for-the-upstream");
    let upstream = Scripted::start(script.demands("x-team", "blue")).await;
    let lines = "bearer = \"env:UPSTREAM_TOKEN\"\nheaders = { x-team = \"blue\" }";
    let setup = Setup::new().upstream_with("up", upstream.url(), lines).client("ann", "token-of-ann-0123456789");
    let gateway = Gateway::start(setup.variable("UPSTREAM_TOKEN", "for-the-upstream")).await;

    let answer = gateway.modern().bearer("token-of-ann-0123456789").call("up.echo", "{}").await;

    assert_eq!(answer.status, 200);
    assert_eq!(upstream.calls()[0].header("authorization"), "Bearer for-the-upstream");
}

const MIRRORING: &str = r#"{"name":"query","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"},"n":{"type":"integer"}}}}"#;

#[tokio::test]
async fn an_argument_that_the_schema_mirrors_is_sent_in_a_header_too() {
    for era in [Era::Modern, Era::Legacy] {
        let (gateway, upstream) = behind(Script::new(Serves::Modern).defined("query", MIRRORING, Act::Echo)).await;

        let ask = gateway.client(era).await;
        let ask = ask.tool("up.query", r#"{"region":"eu-west","n":1}"#).header("mcp-param-region", "eu-west");
        ask.send().await.result();

        assert_eq!(upstream.calls()[0].header("mcp-param-region"), "eu-west", "{era:?}");
    }
}

#[tokio::test]
async fn a_call_whose_headers_are_not_what_the_tool_wants_now_is_made_once_more_with_those_that_it_wants() {
    let plain = MIRRORING.replace(r#","x-mcp-header":"Region""#, "");
    let other = MIRRORING.replace("\"Region\"", "\"Place\"");
    let wanting =
        |definition: &str| Script::new(Serves::Modern).defined("query", definition, Act::Echo).mirrors("mcp-param-place");
    for (known, becomes, calls) in [(&plain, &other, 2), (&MIRRORING.to_owned(), &other, 2), (&plain, &plain, 1)] {
        let (gateway, upstream) = behind(Script::new(Serves::Modern).defined("query", known, Act::Echo)).await;
        let client = gateway.legacy().await;
        client.call("up.query", "{}").await.result();
        upstream.becomes(wanting(becomes));

        let answer = client.call("up.query", r#"{"region":"eu-west"}"#).await;

        let headers: Vec<_> = upstream.calls()[1..].iter().map(|call| call.header("mcp-param-place").to_owned()).collect();
        assert_eq!(headers.len(), calls, "{known} -> {becomes}");
        assert_eq!(answer.messages()[0].get("result").is_some(), calls == 2, "{}", answer.text());
        assert_eq!(headers.last().map(String::as_str), Some(if calls == 2 { "eu-west" } else { "" }));
    }
}

#[tokio::test]
async fn a_mirrored_argument_that_says_something_else_is_refused_before_anything_is_called() {
    let (gateway, upstream) = behind(Script::new(Serves::Modern).defined("query", MIRRORING, Act::Echo)).await;
    let client = gateway.modern();
    let call = || client.tool("up.query", r#"{"region":"eu-west"}"#);

    for (what, ask) in [("another value", call().header("mcp-param-region", "us-east")), ("none", call())] {
        let answer = ask.send().await;

        assert_eq!((answer.status.as_u16(), answer.error()["code"].clone()), (400, (-32020).into()), "{what}");
    }
    assert_eq!(upstream.calls().len(), 0);
    assert_eq!(gateway.metric("twinway_requests_refused_total", &["reason=\"header_mismatch\""]).await, 2.0);
}

#[tokio::test]
async fn a_tool_that_nobody_offers_and_parameters_that_are_none_are_refused() {
    let (gateway, upstream) = behind(Script::new(Serves::Both).tool("echo", Act::Echo)).await;
    for era in [Era::Modern, Era::Legacy] {
        let client = gateway.client(era).await;
        let cases = [
            client.call("up.nothing", "{}").await,
            client.call("up.echo", "[1]").await,
            client.ask("tools/call").params(r#""name":7"#).send().await,
            client.ask("tools/call").send().await,
        ];
        for answer in cases {
            assert_eq!(answer.error()["code"], -32602, "{era:?}: {}", answer.text());
        }
    }
    assert_eq!(upstream.calls().len(), 0);
}

#[tokio::test]
async fn an_upstream_that_remembers_what_it_was_told_has_a_session_for_each_call() {
    let upstream = Scripted::start(Script::new(Serves::Legacy).tool("echo", Act::Echo)).await;
    let gateway = Gateway::start(Setup::new().upstream_with("up", upstream.url(), "sessions = \"call\"")).await;
    gateway.target_is("up", "ready").await;

    for client in [gateway.legacy().await, gateway.modern(), gateway.modern()] {
        assert_eq!(client.call("up.echo", r#"{"n":1}"#).await.result()["structuredContent"]["n"], 1);
    }

    let sessions: Vec<_> = upstream.calls().iter().map(|call| call.header("mcp-session-id").to_owned()).collect();
    let different: std::collections::HashSet<_> = sessions.iter().collect();
    assert_eq!(different.len(), 3, "{sessions:?}");
    for session in &sessions {
        // Without a body: nobody listens in these sessions, so it is the end of one.
        upstream
            .wait_for("a session to be ended", |seen| seen.method.is_empty() && seen.header("mcp-session-id") == session)
            .await;
    }
}

#[tokio::test]
async fn who_misspells_a_tool_or_leaves_its_server_out_is_told_what_may_be_meant() {
    let script = Script::new(Serves::Both).tool("get_weather", Act::Echo).tool("echo", Act::Echo);
    let upstream = Scripted::start(script).await;
    let setup = Setup::new().upstream("up", upstream.url()).upstream("other", upstream.url());
    let gateway = Gateway::start(setup).await;
    gateway.target_is("up", "ready").await;
    gateway.target_is("other", "ready").await;
    let client = gateway.modern();

    for (name, told) in [
        ("echo", "there is no tool `echo`; did you mean `other.echo` or `up.echo`?"),
        ("up.get_wether", "there is no tool `up.get_wether`; did you mean `up.get_weather`?"),
        ("up.delete_all", "there is no tool `up.delete_all`"),
        ("cho", "there is no tool `cho`"),
        (&"x".repeat(1_000), &format!("there is no tool `{}`", "x".repeat(1_000))),
    ] {
        assert_eq!(client.call(name, "{}").await.error()["message"], told);
    }
}

#[tokio::test]
async fn a_tool_of_a_server_that_never_came_is_refused_with_that_server_s_name_and_reason() {
    let upstream = Scripted::start(Script::new(Serves::Both).tool("echo", Act::Echo)).await;
    let setup = Setup::new().upstream("up", upstream.url()).upstream("dead", closed_port().await);
    let gateway = Gateway::start(setup).await;
    gateway.target_is("dead", "failed").await;

    for era in [Era::Modern, Era::Legacy] {
        let client = gateway.client(era).await;

        let away = client.call("dead.echo", "{}").await.text();
        assert!(away.contains("its server `dead` is not there: "), "{era:?}: {away}");
        for (name, why) in [("up.nothing", "its server is there"), ("deadly", "a name that only begins so is of no server")] {
            let unknown = client.call(name, "{}").await.text();
            assert!(unknown.contains(&format!("`{name}`")) && !unknown.contains("is not there"), "{era:?}, {why}: {unknown}");
        }
    }
}
