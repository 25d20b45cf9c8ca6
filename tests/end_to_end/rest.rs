//! The REST shape of Python tool servers: `kind = "tool-server"`.

use http::Request;
use serde_json::{Value, json};

use crate::support::{Gateway, Mcp, Program, Setup, closed_port, python_program, send, serve, skip, until};

const TOKEN: &str = "a-token-of-the-tool-server";

/// The FastAPI tool server with those arguments, and its URL.
async fn tool_server(arguments: &[&str]) -> Result<(Program, String), String> {
    let mut command = python_program("tool_server.py")?;
    command.arg("--until-stdin-closes").args(arguments);
    Ok(serve(command).await)
}

async fn post(url: &str, path: &str, body: &Value) {
    let address = url.strip_prefix("http://").unwrap().parse().unwrap();
    let request = Request::post(path).header("content-type", "application/json").body(body.to_string()).unwrap();
    let answer = send(address, request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// A gateway before a tool server that is looked at often.
async fn gateway_before(url: &str, lines: &str) -> Gateway {
    let lines = format!("kind = \"tool-server\"\nrefresh = \"50ms\"\n{lines}");
    Gateway::start(Setup::new().upstream_with("farm", url, &lines)).await
}

/// Runs a test that needs foreign programs.
async fn with_foreign(test: &str, run: impl Future<Output = Result<(), String>>) {
    if let Err(reason) = run.await {
        skip(test, &reason);
    }
}

#[tokio::test]
async fn what_a_tool_server_answers_becomes_content_in_both_eras() {
    with_foreign("what_a_tool_server_answers_becomes_content_in_both_eras", async {
        let (_server, url) = tool_server(&[]).await?;
        let gateway = gateway_before(&url, "").await;
        gateway.target_is("farm", "ready").await;
        let cases = [
            ("echo", r#"{"text":"a","n":1.50}"#, "structuredContent", json!({ "text": "a", "n": 1.5 })),
            ("text", "{}", "content", json!([{ "type": "text", "text": "plain text" }])),
            ("numbers", "{}", "content", json!([{ "type": "text", "text": "[1,2.5]" }])),
            ("nothing", "{}", "content", json!([{ "type": "text", "text": "null" }])),
            ("a/b c?", "{}", "structuredContent", json!({ "tool": "a/b c?" })),
        ];
        let legacy = Mcp::legacy(gateway.address).at("farm").open("2025-11-25").await;
        for client in [gateway.modern().at("farm"), legacy] {
            for (tool, arguments, member, expected) in &cases {
                let result = client.call(tool, arguments).await.result();

                assert_eq!(&result[member], expected, "{tool}: {result}");
                assert!(result.get("isError").is_none(), "{tool}: {result}");
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn what_a_tool_refuses_is_its_answer_and_what_the_server_breaks_is_a_fault() {
    with_foreign("what_a_tool_refuses_is_its_answer_and_what_the_server_breaks_is_a_fault", async {
        let (_server, url) = tool_server(&[]).await?;
        let gateway = gateway_before(&url, "").await;
        gateway.target_is("farm", "ready").await;
        let client = gateway.modern();

        let failed = client.call("farm.fail", "{}").await.result();
        let crashed = client.call("farm.crash", "{}").await.error();

        assert_eq!(failed["isError"], true);
        assert_eq!(failed["content"][0]["text"], "HTTP 500 Internal Server Error: Tool execution failed: no luck");
        assert_eq!(crashed["data"]["code"], "disconnected");
        assert_eq!(crashed["data"]["delivery"], "unknown");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn each_shape_of_list_is_understood_and_the_token_is_sent() {
    with_foreign("each_shape_of_list_is_understood_and_the_token_is_sent", async {
        for shape in ["names", "bare", "objects"] {
            let (_server, url) = tool_server(&["--shape", shape, "--bearer", TOKEN]).await?;
            let setup = Setup::new().variable("FARM_TOKEN", TOKEN);
            let setup = setup.upstream_with("farm", &url, "kind = \"tool-server\"\nbearer = \"env:FARM_TOKEN\"");
            let setup = setup.upstream_with("stranger", &url, "kind = \"tool-server\"");
            let gateway = Gateway::start(setup).await;
            gateway.target_is("farm", "ready").await;
            gateway.target_is("stranger", "failed").await;

            let tools = gateway.modern().pages().await[0]["tools"].clone();
            let echo = tools.as_array().unwrap().iter().find(|tool| tool["name"] == "farm.echo").unwrap();
            let result = gateway.modern().call("farm.echo", r#"{"text":"x"}"#).await.result();

            let described = shape == "objects";
            assert_eq!(echo["inputSchema"]["type"], "object", "{shape}");
            assert_eq!(echo["inputSchema"].get("properties").is_some(), described, "{shape}: {echo}");
            assert_eq!(echo.get("description").is_some(), described, "{shape}: {echo}");
            assert_eq!(result["structuredContent"]["text"], "x", "{shape}");
            assert!(gateway.target("stranger").await["reason"].as_str().unwrap().contains("401"));
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_tool_server_is_followed_through_its_life() {
    with_foreign("a_tool_server_is_followed_through_its_life", async {
        let (mut server, url) = tool_server(&[]).await?;
        let gateway = gateway_before(&url, "").await;
        gateway.target_is("farm", "ready").await;

        post(&url, "/test/tools", &json!({ "add": "later" })).await;
        until("the new tool", || async {
            let names = gateway.modern().tool_names().await;
            names.contains(&"farm.later".to_owned()).then_some(())
        })
        .await;
        post(&url, "/test/ready", &json!({ "ready": false })).await;
        gateway.target_is("farm", "stale").await;
        let reason = gateway.target("farm").await["reason"].as_str().unwrap().to_owned();
        post(&url, "/test/ready", &json!({ "ready": true })).await;
        gateway.target_is("farm", "ready").await;
        server.kill();
        let dead = gateway.modern().call("farm.echo", "{}").await.error();

        assert!(reason.contains("GET /health/ready answers with HTTP status 503"), "{reason}");
        assert_eq!(dead["data"]["delivery"], "not_sent", "{dead}");
        gateway.target_is("farm", "stale").await;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_call_at_the_tool_server() {
    with_foreign("a_client_that_leaves_cancels_the_call_at_the_tool_server", async {
        let (mut server, url) = tool_server(&[]).await?;
        let gateway = gateway_before(&url, "").await;
        gateway.target_is("farm", "ready").await;
        let client = gateway.modern();
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

        let call = client.tool("farm.sleep", "{}").header("traceparent", traceparent);
        let begun = tokio::select! {
            opened = call.open() => panic!("answered {}", opened.status),
            begun = server.event_with("traceparent") => begun,
        };

        assert!(begun.as_str().unwrap().starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{begun}");
        assert_eq!(server.event_with("left").await, "sleep");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_dead_tool_server_has_failed_and_delays_nobody() {
    let port = closed_port().await;
    let gateway = gateway_before(&format!("http://{port}"), "").await;

    gateway.target_is("farm", "failed").await;
}
