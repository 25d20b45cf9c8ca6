//! Arguments and results are bytes: what went in comes out, whatever the eras on both sides.

use serde_json::json;

use crate::support::{Act, CELLS, Era, Gateway, Mcp, Script, Scripted, Serves, Setup};

/// Everything that a typed model of a message would lose.
fn odd_object() -> String {
    let deep = format!("{}{}", "[".repeat(64), "]".repeat(64));
    let members = [
        r#""z":1"#,
        r#""big":12345678901234567890123"#,
        r#""huge":1e400"#,
        r#""exact":1.10"#,
        r#""twice":"a","twice":"b""#,
        r#""lone":"\ud800""#,
        r#""escaped":"\u0041\/""#,
        r#""spaced" :  [ 1 ,2 ]"#,
        r#""name":"not the tool""#,
        r#""_meta":{"twinway/inside":"arguments are not ours"}"#,
        r#""a":null"#,
    ];
    format!(r#"{{{},"deep":{deep}}}"#, members.join(","))
}

#[tokio::test]
async fn arguments_and_results_survive_byte_for_byte_between_any_two_eras() {
    let odd = odd_object();
    for (era, serves) in CELLS {
        let result = format!(r#"{{"content":[],"structuredContent":{odd},"unknown":{odd}}}"#);
        let script = Script::new(serves).tool("odd", Act::Result(result));
        let upstream = Scripted::start(script).await;
        let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;

        let answer = gateway.client(era).await.call("up.odd", &odd).await;

        assert_eq!(upstream.calls()[0].arguments(), odd, "{era:?} -> {serves:?}");
        let rest = format!(r#""content":[],"structuredContent":{odd},"unknown":{odd}}}"#);
        assert!(answer.text().contains(&rest), "{era:?} -> {serves:?}: {}", answer.text());
        let modern = answer.text().contains(r#""resultType":"complete""#);
        assert_eq!(modern, era == Era::Modern, "{era:?} -> {serves:?}");
    }
}

#[tokio::test]
async fn in_one_era_a_result_is_not_touched_at_all() {
    let upstream = Scripted::start(Script::new(Serves::Legacy).tool("odd", Act::Result(odd_object()))).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;

    let answer = gateway.legacy().await.tool("up.odd", "{}").id("7").send().await;

    assert_eq!(answer.text(), format!(r#"{{"jsonrpc":"2.0","id":7,"result":{}}}"#, odd_object()));
}

#[tokio::test]
async fn what_is_structured_as_no_session_knows_is_whole_for_a_modern_client_and_in_words_for_the_others() {
    let definition = r#"{"name":"list","inputSchema":{"type":"object"},"outputSchema":{"type":"array"}}"#;
    let result = r#"{"resultType":"complete","content":[],"structuredContent":[1.0,2]}"#;
    let script = Script::new(Serves::Modern).defined("list", definition, Act::Result(result.to_owned()));
    let upstream = Scripted::start(script.tool("echo", Act::Echo)).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;
    gateway.target_is("up", "ready").await;
    let (modern, legacy) = (gateway.modern(), gateway.legacy().await);
    let schema = async |client: &Mcp| client.pages().await[0]["tools"][1].get("outputSchema").cloned();

    assert_eq!((schema(&modern).await, schema(&legacy).await), (Some(json!({"type": "array"})), None));
    assert!(modern.call("up.list", "{}").await.text().contains(r#""structuredContent":[1.0,2]"#));
    let told = legacy.call("up.list", "{}").await.result();
    assert_eq!(told, json!({"content": [{"type": "text", "text": "[1.0,2]"}]}));
}

#[tokio::test]
async fn an_id_comes_back_as_it_was_sent() {
    let upstream = Scripted::start(Script::new(Serves::Both).tool("echo", Act::Echo)).await;
    let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;
    for era in [Era::Modern, Era::Legacy] {
        let client = gateway.client(era).await;
        for id in ["0", "-7", "9007199254740993", r#""""#, r#""a \u00e9 \"b\"""#] {
            let answer = client.tool("up.echo", "{}").id(id).send().await.text();

            assert!(answer.starts_with(&format!(r#"{{"jsonrpc":"2.0","id":{id},"#)), "{era:?} {id}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_tool_that_says_is_error_has_replied() {
    let failed = r#"{"content":[{"type":"text","text":"no such file"}],"isError":true}"#;
    for (era, serves) in CELLS {
        let upstream = Scripted::start(Script::new(serves).tool("fails", Act::Result(failed.to_owned()))).await;
        let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;

        let answer = gateway.client(era).await.call("up.fails", "{}").await;

        assert_eq!(answer.status, 200, "{era:?} -> {serves:?}");
        assert_eq!(answer.result()["isError"], true, "{era:?} -> {serves:?}");
        assert_eq!(gateway.metric("twinway_call_duration_seconds_count", &["outcome=\"tool_error\""]).await, 1.0);
        assert_eq!(gateway.metric("twinway_call_failures_total", &[]).await, 0.0, "{era:?} -> {serves:?}");
    }
}

#[tokio::test]
async fn an_error_of_the_upstream_is_passed_on_unchanged() {
    let error = r#"{"code":-31234,"message":"out of \u0063heese","data":{"big":12345678901234567890123,"b":1,"a":2}}"#;
    for (era, serves) in CELLS {
        let upstream = Scripted::start(Script::new(serves).tool("fails", Act::Error(error.to_owned()))).await;
        let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;

        let answer = gateway.client(era).await.call("up.fails", "{}").await;

        assert_eq!(answer.status, 200, "{era:?} -> {serves:?}");
        assert!(answer.text().contains(error), "{era:?} -> {serves:?}: {}", answer.text());
        assert_eq!(gateway.metric("twinway_call_failures_total", &["delivery=\"answered\""]).await, 1.0);
    }
}

#[tokio::test]
async fn what_the_client_says_about_the_gateway_never_reaches_the_upstream_and_the_rest_of_meta_does() {
    for (era, serves) in CELLS {
        let upstream = Scripted::start(Script::new(serves).tool("echo", Act::Echo)).await;
        let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;
        let meta = r#""twinway/path":["me"],"twinway/made-up":1,"twinway/explain":true,"example.org/mine":{"b":1e400}"#;

        gateway.client(era).await.tool("up.echo", "{}").meta(meta).send().await.result();

        let body = &upstream.calls()[0].body;
        assert!(!body.contains("twinway/"), "{era:?} -> {serves:?}: {body}");
        assert!(body.contains(r#""example.org/mine":{"b":1e400}"#), "{era:?} -> {serves:?}: {body}");
    }
}

#[tokio::test]
async fn an_explanation_says_which_way_the_call_took() {
    for (era, serves) in CELLS {
        let upstream = Scripted::start(Script::new(serves).tool("echo", Act::Echo)).await;
        let gateway = Gateway::start(Setup::new().upstream("up", upstream.url())).await;
        let client = gateway.client(era).await;

        let plain = client.call("up.echo", "{}").await.result();
        let explained = client.tool("up.echo", r#"{"n":1}"#).meta(r#""twinway/explain":true"#).send().await.result();

        assert_eq!(plain["_meta"]["twinway/explain"], json!(null), "{era:?} -> {serves:?}");
        let why = &explained["_meta"]["twinway/explain"];
        assert_eq!(
            (&why["runtime"], &why["target"], &why["reason"]),
            (&json!("http"), &json!("up"), &json!("only_candidate")),
            "{era:?} -> {serves:?}"
        );
        assert!(why["total_us"].as_u64().unwrap() >= why["runtime_us"].as_u64().unwrap());
        assert_eq!(explained["structuredContent"], json!({"n": 1}));
        assert_eq!(explained.get("resultType").is_some(), era == Era::Modern, "{era:?} -> {serves:?}");
    }
}
