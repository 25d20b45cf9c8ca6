//! Clients that are not ours, before servers that are not ours.

use rmcp::{
    ClientLifecycleMode, ClientServiceExt,
    model::{CallToolRequestParams, ClientConfig, ProtocolVersion},
    transport::StreamableHttpClientTransport,
};
use serde_json::{Value, json};

use crate::support::{
    Gateway, Program, RmcpServer, Setup, curl, everything, fastmcp_client, fastmcp_server, inspector, node_client, python_client,
    python_server, skip,
};

/// A gateway before the Python SDK's server, a FastMCP server and one of rmcp (both eras), and server-everything (legacy only).
struct Farm {
    gateway: Gateway,
    _servers: [Program; 3],
    _rmcp: RmcpServer,
}

impl Farm {
    async fn start() -> Result<Self, String> {
        let ((python, python_url), (everything, everything_url), (fastmcp, fastmcp_url)) =
            tokio::try_join!(python_server(&[]), everything(), fastmcp_server())?;
        let rmcp = RmcpServer::start().await;
        let urls = [("py", &python_url), ("everything", &everything_url), ("fast", &fastmcp_url), ("rs", &rmcp.url)];
        let setup = urls.into_iter().fold(Setup::new(), |setup, (name, url)| setup.upstream(name, url));
        let gateway = Gateway::start(setup).await;
        for (server, _) in urls {
            gateway.target_is(server, "ready").await;
        }
        Ok(Self { gateway, _servers: [python, everything, fastmcp], _rmcp: rmcp })
    }

    fn url(&self) -> String {
        format!("http://{}/mcp", self.gateway.address)
    }
}

/// What each server's tool is called with, and the text that it answers.
const CALLS: [(&str, &str, &str); 4] = [
    ("py.echo", r#"{"text":"hello"}"#, "hello"),
    ("everything.echo", r#"{"message":"hello"}"#, "Echo: hello"),
    ("fast.greet", r#"{"person":{"name":"Ada","age":36},"greeting":"Hi"}"#, "Hi, Ada"),
    ("rs.add", r#"{"a":40,"b":2}"#, "42"),
];

fn names(tools: &Value) -> Vec<&str> {
    tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

/// Lists and calls with a program that is started for each of it.
async fn list_and_call(client: impl Fn(&[&str]) -> Result<Program, String>, revision: &str) -> Result<(), String> {
    let mut listing = client(&["list"])?;
    assert_eq!(listing.event_with("connected").await["protocolVersion"], revision);
    let tools = listing.event_with("tools").await;
    for (name, arguments, text) in CALLS {
        assert!(names(&tools).contains(&name), "{tools}");

        let result = client(&["call", name, arguments])?.event_with("result").await;

        assert_eq!(result["content"][0]["text"], text, "{name}");
    }
    let mut progress = client(&["call", "py.progress", r#"{"steps":2}"#, "--progress"])?;
    for step in 1..=2 {
        assert_eq!(progress.event_with("progress").await["progress"].as_f64(), Some(f64::from(step)));
    }
    assert_eq!(progress.event_with("result").await["content"][0]["text"], "2 steps");
    assert_eq!(client(&["call", "py.fail", "{}"])?.event_with("result").await["isError"], true);
    Ok(())
}

async fn python(era: &str, revision: &str) -> Result<(), String> {
    let farm = Farm::start().await?;
    let url = farm.url();
    list_and_call(|arguments| python_client(&[&[&url, "--era", era], arguments].concat()), revision).await
}

#[tokio::test]
async fn the_python_client_of_the_legacy_era_lists_and_calls() {
    if let Err(reason) = python("legacy", "2025-11-25").await {
        skip("foreign::the_python_client_of_the_legacy_era_lists_and_calls", &reason);
    }
}

#[tokio::test]
async fn the_python_client_of_the_modern_era_lists_and_calls() {
    if let Err(reason) = python("modern", "2026-07-28").await {
        skip("foreign::the_python_client_of_the_modern_era_lists_and_calls", &reason);
    }
}

#[tokio::test]
async fn the_python_client_that_starts_with_the_call_lists_and_calls() {
    if let Err(reason) = python("pinned", "2026-07-28").await {
        skip("foreign::the_python_client_that_starts_with_the_call_lists_and_calls", &reason);
    }
}

#[tokio::test]
async fn the_typescript_client_lists_and_calls() {
    let test = async {
        let farm = Farm::start().await?;
        let url = farm.url();
        list_and_call(|arguments| node_client(&[&[url.as_str()], arguments].concat()), "2025-11-25").await
    };
    if let Err(reason) = test.await {
        skip("foreign::the_typescript_client_lists_and_calls", &reason);
    }
}

async fn typescript_2(era: &str, revision: &str) -> Result<(), String> {
    let farm = Farm::start().await?;
    let url = farm.url();
    list_and_call(|arguments| node_client(&[&[&url, "--era", era], arguments].concat()), revision).await
}

#[tokio::test]
async fn the_second_typescript_client_lists_and_calls_in_the_legacy_era() {
    if let Err(reason) = typescript_2("legacy", "2025-11-25").await {
        skip("foreign::the_second_typescript_client_lists_and_calls_in_the_legacy_era", &reason);
    }
}

#[tokio::test]
async fn the_second_typescript_client_finds_the_modern_era_and_lists_and_calls() {
    if let Err(reason) = typescript_2("modern", "2026-07-28").await {
        skip("foreign::the_second_typescript_client_finds_the_modern_era_and_lists_and_calls", &reason);
    }
}

#[tokio::test]
async fn the_second_typescript_client_that_takes_one_revision_lists_and_calls() {
    if let Err(reason) = typescript_2("pinned", "2026-07-28").await {
        skip("foreign::the_second_typescript_client_that_takes_one_revision_lists_and_calls", &reason);
    }
}

/// The FastMCP client before every server, and what it makes of a FastMCP server's models on the other side of the gateway.
async fn fastmcp(era: &str, revision: &str) -> Result<(), String> {
    let farm = Farm::start().await?;
    let url = farm.url();
    let client = |arguments: &[&str]| fastmcp_client(&[&[&url, "--era", era], arguments].concat());
    let mut listing = client(&["list"])?;
    assert_eq!(listing.event_with("connected").await["protocolVersion"], revision);
    let tools = listing.event_with("tools").await;
    assert!(CALLS.iter().all(|(name, ..)| names(&tools).contains(name)), "{tools}");
    let calls = CALLS.iter().flat_map(|(name, arguments, _)| [*name, *arguments]);
    let person = r#"{"person":{"name":"Ada","age":36,"friends":[{"name":"Bo","age":1}]},"years":2}"#;
    let nobody = r#"{"person":{"name":"Ada","age":-1},"years":2}"#;
    let more =
        ["fast.older", person, "fast.older", nobody, "fast.picture", "{}", "fast.fail", "{}", "fast.progress", r#"{"steps":2}"#];

    let mut calling = client(&[&["call"], &*calls.chain(more).collect::<Vec<_>>()].concat())?;

    for (name, _, text) in CALLS {
        assert_eq!(calling.event_with("result").await["content"][0]["text"], text, "{name}");
    }
    let older = calling.event_with("data").await;
    assert_eq!(older, json!({"name": "Ada", "age": 38, "friends": [{"name": "Bo", "age": 1, "friends": []}]}));
    assert_eq!(calling.event_with("result").await["isError"], true, "a person of -1 years");
    assert_eq!(calling.event_with("result").await["content"][0]["mimeType"], "image/png");
    assert_eq!(calling.event_with("result").await["content"][0]["text"], "this tool always fails");
    for step in 1..=2 {
        assert_eq!(calling.event_with("progress").await["message"], format!("step {step}"));
    }
    assert_eq!(calling.event_with("data").await, "2 steps", "FastMCP wraps what is no object, and takes it out again");
    Ok(())
}

#[tokio::test]
async fn the_fastmcp_client_of_the_legacy_era_lists_and_calls() {
    if let Err(reason) = fastmcp("legacy", "2025-11-25").await {
        skip("foreign::the_fastmcp_client_of_the_legacy_era_lists_and_calls", &reason);
    }
}

#[tokio::test]
async fn the_fastmcp_client_of_the_modern_era_lists_and_calls() {
    if let Err(reason) = fastmcp("modern", "2026-07-28").await {
        skip("foreign::the_fastmcp_client_of_the_modern_era_lists_and_calls", &reason);
    }
}

#[tokio::test]
async fn rmcp_lists_and_calls_in_both_eras() {
    let farm = match Farm::start().await {
        Ok(farm) => farm,
        Err(reason) => return skip("foreign::rmcp_lists_and_calls_in_both_eras", &reason),
    };
    let modern = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    for lifecycle in [ClientLifecycleMode::Initialize, modern] {
        let transport = StreamableHttpClientTransport::from_uri(farm.url());
        let client = ClientConfig::default().serve_with_lifecycle(transport, lifecycle.clone()).await.unwrap();

        let tools = client.list_all_tools().await.unwrap();

        for (name, arguments, text) in CALLS {
            assert!(tools.iter().any(|tool| tool.name == name), "{lifecycle:?}: {name}");
            let arguments = serde_json::from_str(arguments).unwrap();
            let result = client.call_tool(CallToolRequestParams::new(name).with_arguments(arguments)).await.unwrap();
            let result = serde_json::to_value(&result).unwrap();
            assert_eq!(result["content"][0]["text"], text, "{lifecycle:?}: {name}");
        }
        client.cancel().await.unwrap();
    }
}

/// The Inspector in one way of reaching the gateway: everything that it lists, and one call.
async fn inspect(way: &[&str]) -> Result<(), String> {
    let listed = inspector(&[&["--method", "tools/list"], way].concat()).await?;
    for (name, _, _) in CALLS {
        assert!(names(&listed["tools"]).contains(&name), "{way:?}: {listed}");
    }
    let prompts = inspector(&[&["--method", "prompts/list"], way].concat()).await?;
    assert!(names(&prompts["prompts"]).contains(&"everything.simple-prompt"), "{way:?}: {prompts}");
    let call = ["--method", "tools/call", "--tool-arg", "message=hello", "--tool-name", "everything.echo"];
    let called = inspector(&[&call, way].concat()).await?;
    assert_eq!(called["content"], json!([{"type": "text", "text": "Echo: hello"}]), "{way:?}");
    Ok(())
}

#[tokio::test]
async fn the_inspector_lists_and_calls_over_http_sse_and_stdio() {
    let test = async {
        let farm = Farm::start().await?;
        let file = farm.gateway.folder.path().join("twinway.toml").display().to_string();
        let sse = format!("http://{}/sse", farm.gateway.address);

        inspect(&[&farm.url(), "--transport", "http"]).await?;
        inspect(&[&sse, "--transport", "sse"]).await?;
        inspect(&["--", env!("CARGO_BIN_EXE_twinway"), "serve", "--stdio", "--config", &file]).await
    };
    if let Err(reason) = test.await {
        skip("foreign::the_inspector_lists_and_calls_over_http_sse_and_stdio", &reason);
    }
}

#[tokio::test]
async fn curl_lists_and_calls() {
    let test = async {
        let farm = Farm::start().await?;
        let url = farm.url();
        let meta =
            r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
        let post = |method: &str, name: &str, members: &str| {
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{members}{meta}}}}}"#);
            let (method, name) = (format!("Mcp-Method: {method}"), format!("Mcp-Name: {name}"));
            let version = "MCP-Protocol-Version: 2026-07-28";
            curl(&[&url, "-H", "Content-Type: application/json", "-H", version, "-H", &method, "-H", &name, "-d", &body])
        };
        let tools = post("tools/list", "", "")?.event_with("result").await["tools"].take();
        for (name, arguments, text) in CALLS {
            assert!(names(&tools).contains(&name), "{tools}");

            let result = post("tools/call", name, &format!(r#""name":"{name}","arguments":{arguments},"#))?;

            assert_eq!({ result }.event_with("result").await["content"][0], json!({"type": "text", "text": text}), "{name}");
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("foreign::curl_lists_and_calls", &reason);
    }
}
