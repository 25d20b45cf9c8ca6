//! Upstreams that are dead, slow, broken or too busy, and what everybody else notices of it.

use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::support::{Act, Answer, Era, Garbage, Gateway, Script, Scripted, Serves, Setup, closed_port, python_server, skip};

const GARBAGE: [Garbage; 5] = [Garbage::Silent, Garbage::NotHttp, Garbage::NotJson, Garbage::EndlessStream, Garbage::HangsUp];

fn echo() -> Script {
    Script::new(Serves::Both).tool("echo", Act::Echo)
}

fn data(answer: &Answer) -> Value {
    answer.error()["data"].clone()
}

#[tokio::test]
async fn broken_upstreams_neither_delay_nor_break_the_lists_and_calls_of_others() {
    let good = Scripted::start(echo()).await;
    let mut setup = Setup::new().upstream("dead", closed_port().await);
    let mut broken = Vec::new();
    for (number, garbage) in GARBAGE.into_iter().enumerate() {
        let server = garbage.start().await;
        setup = setup.upstream_with(&format!("bad{number}"), server.url(), "list_timeout = \"30s\"");
        broken.push(server);
    }
    let gateway = Gateway::start(setup.upstream("good", good.url())).await;
    gateway.target_is("good", "ready").await;
    for era in [Era::Modern, Era::Legacy] {
        let began = Instant::now();
        let client = gateway.client(era).await;

        assert_eq!(client.tool_names().await, ["good.echo"], "{era:?}");
        assert_eq!(client.call("good.echo", r#"{"n":1}"#).await.result()["structuredContent"], json!({"n": 1}));

        assert!(began.elapsed() < Duration::from_secs(5), "{era:?}: {:?}", began.elapsed());
    }
    let states = [gateway.target("dead").await, gateway.target("bad1").await, gateway.target("bad2").await];
    for target in states {
        assert_eq!(target["state"], "failed", "{target}");
        assert!(target["reason"].is_string(), "{target}");
    }
}

#[tokio::test]
async fn with_5_dead_among_20_upstreams_the_gateway_is_ready_in_less_than_a_second() {
    let (mut setup, mut good, mut silent) = (Setup::new(), Vec::new(), Vec::new());
    for number in 0..15 {
        let server = Scripted::start(echo()).await;
        setup = setup.upstream(&format!("good{number}"), server.url());
        good.push(server);
    }
    for number in 0..2 {
        let server = Garbage::Silent.start().await;
        setup = setup.upstream(&format!("silent{number}"), server.url());
        silent.push(server);
    }
    for number in 0..3 {
        setup = setup.upstream(&format!("dead{number}"), closed_port().await);
    }
    let began = Instant::now();

    let gateway = Gateway::start(setup).await;

    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(gateway.modern().tool_names().await.len(), 15);
}

#[tokio::test]
async fn an_upstream_killed_in_mid_call_leaves_the_outcome_unknown_and_its_tool_ran_once() {
    for era in [Era::Modern, Era::Legacy] {
        let folder = tempfile::tempdir().unwrap();
        let counter = folder.path().join("counter");
        let (mut server, url) = match python_server(&["--counter", counter.to_str().unwrap()]).await {
            Ok(server) => server,
            Err(reason) => {
                return skip("faults::an_upstream_killed_in_mid_call_leaves_the_outcome_unknown_and_its_tool_ran_once", &reason);
            }
        };
        let tables = "[[tool]]\nmatch = \"py.count\"\ntimeout = \"10s\"";
        let gateway = Gateway::start(Setup::new().upstream("py", &url).tables(tables)).await;
        gateway.target_is("py", "ready").await;
        let client = gateway.client(era).await;

        let kill = async {
            server.event_with("event").await;
            server.kill();
        };
        let (answer, ()) = tokio::join!(client.call("py.count", r#"{"seconds":60}"#), kill);

        assert_eq!(data(&answer)["delivery"], "unknown", "{era:?}: {}", answer.text());
        assert_eq!(data(&answer)["origin"], "runtime", "{era:?}");
        assert!(answer.error()["message"].as_str().unwrap().contains("may have run"), "{era:?}: {}", answer.text());
        assert_eq!(std::fs::read_to_string(&counter).unwrap(), "1", "{era:?}");
        assert_eq!(gateway.metric("twinway_call_failures_total", &["delivery=\"unknown\""]).await, 1.0, "{era:?}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_leaves_the_outcome_unknown() {
    for serves in [Serves::Modern, Serves::Legacy] {
        let upstream = Scripted::start(Script::new(serves).tool("dies", Act::Die)).await;
        let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;

        let answer = gateway.modern().call("up.dies", "{}").await;

        assert_eq!((data(&answer)["code"].clone(), data(&answer)["delivery"].clone()), ("disconnected".into(), "unknown".into()));
        assert_eq!(upstream.calls().len(), 1, "{serves:?}: it is not tried again");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_answer_breaks_only_its_own_call() {
    let bodies = ["", "{", "[]", r#"{"jsonrpc":"2.0","id":999999,"result":{}}"#, r#"{"jsonrpc":"2.0","id":null,"result":7}"#];
    for body in bodies {
        let script = echo().tool("odd", Act::Body(body.to_owned())).tool("gone", Act::Status(500));
        let upstream = Scripted::start(script).await;
        let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;
        for era in [Era::Modern, Era::Legacy] {
            let client = gateway.client(era).await;

            for tool in ["up.odd", "up.gone"] {
                let answer = client.call(tool, "{}").await;
                assert_eq!(answer.error()["code"], -32603, "{era:?} {tool} `{body}`");
                assert_ne!(data(&answer)["delivery"], "not_sent", "{era:?} {tool} `{body}`");
            }

            assert_eq!(client.call("up.echo", r#"{"n":1}"#).await.result()["structuredContent"]["n"], 1);
        }
    }
}

#[tokio::test]
async fn a_refused_connection_says_that_nothing_was_sent() {
    for era in [Era::Modern, Era::Legacy] {
        let upstream = Scripted::start(echo()).await;
        let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;
        let client = gateway.client(era).await;
        client.call("up.echo", "{}").await.result();

        upstream.stop().await;
        let answer = client.call("up.echo", "{}").await;

        assert_eq!(
            (data(&answer)["code"].clone(), data(&answer)["delivery"].clone()),
            ("unavailable".into(), "not_sent".into()),
            "{era:?}"
        );
        assert_eq!(gateway.metric("twinway_call_failures_total", &["delivery=\"not_sent\""]).await, 1.0, "{era:?}");
    }
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_is_withdrawn_upstream() {
    for serves in [Serves::Modern, Serves::Legacy] {
        let upstream = Scripted::start(Script::new(serves).tool("waits", Act::Hold)).await;
        let tables = "[[tool]]\nmatch = \"up.waits\"\ntimeout = \"100ms\"";
        let gateway = Gateway::start(Setup::new().upstream("up", upstream.url()).tables(tables)).await;

        let answer = gateway.modern().call("up.waits", "{}").await;

        assert_eq!(data(&answer), json!({"code": "deadline_exceeded", "origin": "runtime", "delivery": "unknown"}), "{serves:?}");
        upstream.wait_for("an abandoned call", |seen| seen.method == "tools/call" && seen.abandoned).await;
        assert_eq!(gateway.metric("twinway_call_duration_seconds_count", &["outcome=\"deadline_exceeded\""]).await, 1.0);
    }
}

#[tokio::test]
async fn a_client_may_shorten_the_time_of_its_call() {
    let upstream = Scripted::start(Script::new(Serves::Both).tool("waits", Act::Hold)).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;

    let answer = gateway.modern().tool("up.waits", "{}").meta(r#""twinway/deadline-ms":50"#).send().await;

    assert_eq!(data(&answer)["code"], "deadline_exceeded");
    let message = answer.error()["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("no answer came within the 50ms that this call was given"), "{message}");
}

/// A gateway that runs one call at a time, before a server whose tools all wait to be released.
async fn narrow(queue_max: usize) -> (Gateway, Scripted) {
    let script =
        ["normal", "urgent", "low"].into_iter().fold(Script::new(Serves::Both), |script, name| script.tool(name, Act::Hold));
    let upstream = Scripted::start(script).await;
    let tables = format!(
        "[admission]\nin_flight_max = 1\nqueue_max = {queue_max}\n\
         [[tool]]\nmatch = \"up.urgent\"\npriority = 10\n[[tool]]\nmatch = \"up.low\"\npriority = 1"
    );
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url()).tables(&tables)).await;
    (gateway, upstream)
}

#[tokio::test]
async fn a_full_gateway_sheds_with_a_hint_when_to_come_back() {
    let (gateway, upstream) = narrow(1).await;
    let client = gateway.modern();
    let in_flight = |count| gateway.metric_reaches("twinway_calls_in_flight", &[], count);
    let script = async {
        in_flight(2.0).await;
        let shed = client.call("up.normal", "{}").await;
        upstream.release(2);
        shed
    };

    let (first, second, shed) = tokio::join!(client.call("up.normal", "{}"), client.call("up.normal", "{}"), script);

    assert!(first.result().is_object() && second.result().is_object());
    assert_eq!((data(&shed)["code"].clone(), data(&shed)["delivery"].clone()), ("overloaded".into(), "not_sent".into()));
    assert!(data(&shed)["retryAfterMs"].as_u64().unwrap() > 0, "{}", shed.text());
    assert_eq!(shed.header("retry-after"), "1");
    assert_eq!(gateway.metric("twinway_calls_shed_total", &["reason=\"queue_full\""]).await, 1.0);
    assert_eq!(upstream.calls().len(), 2);
}

#[tokio::test]
async fn an_urgent_tool_goes_before_one_that_waited_longer() {
    let (gateway, upstream) = narrow(4).await;
    let client = gateway.modern();
    let low_then_urgent = async {
        upstream.wait_for_calls(1).await;
        let low = client.call("up.low", "{}");
        let urgent = async {
            gateway.metric_reaches("twinway_calls_in_flight", &[], 2.0).await;
            client.call("up.urgent", "{}").await
        };
        let release = async {
            gateway.metric_reaches("twinway_calls_in_flight", &[], 3.0).await;
            upstream.release(3);
        };
        tokio::join!(low, urgent, release)
    };

    tokio::join!(client.call("up.normal", "{}"), low_then_urgent);

    let order: Vec<_> = upstream.calls().into_iter().map(|call| call.tool).collect();
    assert_eq!(order, ["normal", "urgent", "low"]);
}

#[tokio::test]
async fn every_call_is_counted_and_timed_however_it_ends() {
    let script = echo().tool("fails", Act::Error(r#"{"code":-1,"message":"no"}"#.to_owned()));
    let upstream = Scripted::start(script).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;
    for era in [Era::Modern, Era::Legacy] {
        let client = gateway.client(era).await;
        client.call("up.echo", "{}").await.result();
        client.call("up.fails", "{}").await.error();
    }

    let count = |outcome| {
        let labels = [r#"runtime="http""#.to_owned(), r#"target="up""#.to_owned(), format!("outcome=\"{outcome}\"")];
        let gateway = &gateway;
        async move {
            let labels = labels.each_ref().map(String::as_str);
            gateway.metric("twinway_call_duration_seconds_count", &labels).await
        }
    };
    assert_eq!((count("ok").await, count("upstream_error").await), (2.0, 2.0));
    assert_eq!(gateway.metric("twinway_calls_in_flight", &[]).await, 0.0);
    assert_eq!(gateway.metric("twinway_route_decisions_total", &["reason=\"only_candidate\""]).await, 4.0);
}
