//! `twinway bench`: a user's own tools, measured through their gateway.

use serde_json::Value;

use crate::support::{Act, Gateway, Script, Scripted, Serves, Setup, twinway};

const READS: &str = r#"{"name":"read","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}}"#;

/// Short, because nobody looks at the times.
const SHORT: [&str; 8] = ["--rounds", "2", "--seconds", "0.02", "--warm-up", "0", "--in-flight", "1,4"];

async fn upstream() -> Scripted {
    let script = Script::new(Serves::Modern).defined("read", READS, Act::Echo).tool("pay", Act::Echo);
    Scripted::start(script).await
}

#[tokio::test]
async fn two_tools_are_measured_side_by_side_and_every_call_is_counted() {
    let (near, far) = (upstream().await, upstream().await);
    let gateway = Gateway::start(Setup::new().upstream("near", near.url()).upstream("far", far.url())).await;
    let endpoint = format!("http://{}", gateway.address);
    let arguments = ["bench", "near.read", "--against", "far.read", "--arguments", r#"{"n":1}"#, "--endpoint", &endpoint];

    let ran = twinway(&[&arguments[..], &SHORT, &["--json"]].concat()).await;

    assert_eq!(ran.code, Some(0), "{ran:?}");
    let cases = ran.json()["cases"].as_array().unwrap().clone();
    let paths: Vec<_> = cases.iter().map(|case| (case["path"].as_str().unwrap(), case["in_flight"].as_u64().unwrap())).collect();
    let (near_path, far_path) = ("near.read (http, near)", "far.read (http, far)");
    assert_eq!(paths, [(near_path, 1), (far_path, 1), (near_path, 4), (far_path, 4)]);
    for (server, path) in [(&near, near_path), (&far, far_path)] {
        let of_path = cases.iter().filter(|case| case["path"] == path);
        let calls: u64 = of_path.map(|case| case["calls"].as_u64().unwrap()).sum();
        // Beside what is timed: one call to begin with, and one of warm-up for each caller and round.
        assert_eq!(server.calls().len() as u64, calls + 1 + 2 * (1 + 4), "{path}");
        assert!(server.calls().iter().all(|call| call.arguments() == r#"{"n":1}"#), "{path}");
    }
    assert_eq!(cases[0]["against"]["baseline"], far_path);
    assert_eq!(cases[0]["against"]["p50"]["rounds"].as_array().unwrap().len(), 2);
    assert_eq!(cases[1]["against"], Value::Null);
    assert!(ran.stderr.contains("round 2 of 2"), "{ran:?}");
}

#[tokio::test]
async fn the_table_for_people_has_a_line_for_each_tool() {
    let upstream = upstream().await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;
    let endpoint = format!("http://{}", gateway.address);

    let ran = twinway(&[&["bench", "up.read", "--endpoint", &endpoint][..], &SHORT].concat()).await;

    assert_eq!(ran.code, Some(0), "{ran:?}");
    for expected in ["### 1 in flight", "### 4 in flight", "p99.9", "calls/s", "| up.read (http, up) |"] {
        assert!(ran.stdout.contains(expected), "{expected}: {}", ran.stdout);
    }
}

#[tokio::test]
async fn a_tool_that_may_change_something_is_measured_only_when_its_owner_says_so() {
    let upstream = upstream().await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;
    let endpoint = format!("http://{}", gateway.address);
    let arguments = [&["bench", "up.pay", "--endpoint", &endpoint][..], &SHORT].concat();

    let refused = twinway(&arguments).await;

    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("up.pay") && refused.stderr.contains("--yes-it-may-run-often"), "{refused:?}");
    assert_eq!(upstream.calls().len(), 0);

    let allowed = twinway(&[&arguments[..], &["--yes-it-may-run-often"]].concat()).await;

    assert_eq!(allowed.code, Some(0), "{allowed:?}");
    assert!(upstream.calls().len() > 10);
}

#[tokio::test]
async fn calls_that_are_refused_are_counted_and_make_the_command_fail() {
    let upstream = upstream().await;
    let one_at_a_time = "[admission]\nin_flight_max = 1\nqueue_max = 0";
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url()).tables(one_at_a_time)).await;
    let endpoint = format!("http://{}", gateway.address);

    let ran = twinway(&[&["bench", "up.read", "--endpoint", &endpoint, "--json"][..], &SHORT].concat()).await;

    assert_eq!(ran.code, Some(1), "{ran:?}");
    let cases = &ran.json()["cases"];
    let failures =
        |case: &Value| case["failures"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum::<u64>();
    assert_eq!(failures(&cases[0]), 0, "one at a time is what the gateway takes");
    assert!(failures(&cases[1]) > 0, "{ran:?}");
    let timed: u64 = cases.as_array().unwrap().iter().map(|case| case["calls"].as_u64().unwrap()).sum();
    assert!(timed < upstream.calls().len() as u64, "what was refused never ran and was never timed");
}

#[tokio::test]
async fn a_tool_that_is_not_there_or_fails_is_named_before_anything_is_measured() {
    let text = r#"{"content":[{"type":"text","text":"no rain"}],"isError":true}"#.to_owned();
    let fails = READS.replace("read\"", "fails\"");
    let upstream = Scripted::start(Script::new(Serves::Modern).defined("fails", &fails, Act::Result(text))).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;
    let endpoint = format!("http://{}", gateway.address);

    let absent = twinway(&["bench", "up.absent", "--endpoint", &endpoint]).await;
    let failing = twinway(&["bench", "up.fails", "--endpoint", &endpoint]).await;

    assert_eq!(absent.code, Some(2), "{absent:?}");
    assert!(absent.stderr.contains("has no tool `up.absent`"), "{absent:?}");
    assert_eq!(failing.code, Some(1), "{failing:?}");
    assert!(failing.stderr.contains("`up.fails` answered with an error: no rain"), "{failing:?}");
    assert_eq!(upstream.calls().len(), 1);
}
