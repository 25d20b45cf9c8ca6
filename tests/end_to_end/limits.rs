//! Requests that are refused at the entrance: each is told why, and each is counted.

use http::{Method, Request, StatusCode};

use crate::support::{Act, Answer, Gateway, Mcp, Script, Scripted, Serves, Setup, send};

async fn gateway(http: &str) -> (Gateway, Scripted) {
    let upstream = Scripted::start(Script::new(Serves::Both).tool("echo", Act::Echo)).await;
    let gateway = Gateway::start(Setup::new().http(http).upstream("up", upstream.url())).await;
    (gateway, upstream)
}

/// Checks that a request was refused with that status, that it was counted under that reason, that it never went
/// upstream, and that the next good call works.
async fn refused(gateway: &Gateway, upstream: &Scripted, request: Request<String>, status: u16, reason: &str) -> Answer {
    let label = format!("reason=\"{reason}\"");
    let before = (gateway.metric("twinway_requests_refused_total", &[&label]).await, upstream.calls().len());

    let answer = send(gateway.address, request).await;

    assert_eq!(answer.status.as_u16(), status, "{reason}: {}", answer.text());
    assert!(answer.error()["message"].is_string(), "{reason}");
    let after = (gateway.metric("twinway_requests_refused_total", &[&label]).await, upstream.calls().len());
    assert_eq!(after, (before.0 + 1.0, before.1), "{reason}");
    answer
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_with_413_that_names_the_limit() {
    let (gateway, upstream) = gateway("body_bytes_max = 2000").await;
    let client = gateway.modern();
    let of = |length: usize| client.tool("up.echo", &format!(r#"{{"text":"{}"}}"#, "x".repeat(length)));
    let frame = of(0).body().len();

    assert_eq!(of(2000 - frame).send().await.status, 200, "the limit itself is allowed");
    let answer = refused(&gateway, &upstream, of(2001 - frame).request(), 413, "body_too_large").await;

    assert!(answer.error()["message"].as_str().unwrap().contains("2000"), "{}", answer.text());
    assert_eq!(of(1).send().await.status, 200);
}

#[tokio::test]
async fn json_that_is_nested_too_deep_is_refused() {
    let (gateway, upstream) = gateway("json_depth_max = 20").await;
    let client = gateway.modern();
    // The message, its parameters and its arguments are three levels.
    let of = |depth: usize| client.tool("up.echo", &format!(r#"{{"a":{}{}}}"#, "[".repeat(depth - 3), "]".repeat(depth - 3)));

    assert_eq!(of(20).send().await.status, 200, "the limit itself is allowed");
    let answer = refused(&gateway, &upstream, of(21).request(), 400, "unreadable").await;

    assert!(answer.error()["message"].as_str().unwrap().contains("nested too deep"), "{}", answer.text());
}

#[tokio::test]
async fn what_is_not_one_json_rpc_message_is_refused() {
    let (gateway, upstream) = gateway("").await;
    let client = gateway.modern();
    let good = client.tool("up.echo", "{}").body();
    let cases = [
        ("a batch", format!("[{good}]"), -32600),
        ("an empty batch", "[]".to_owned(), -32600),
        ("nothing", String::new(), -32700),
        ("half a message", good[..good.len() - 1].to_owned(), -32700),
        ("two messages", format!("{good}{good}"), -32700),
        ("a string", "\"tools/call\"".to_owned(), -32600),
        ("another JSON-RPC", good.replacen("2.0", "1.0", 1), -32600),
    ];
    for (what, body, code) in cases {
        let answer = refused(&gateway, &upstream, client.head(Method::POST, body), 400, "unreadable").await;

        assert_eq!(answer.error()["code"], code, "{what}: {}", answer.text());
    }
    assert_eq!(client.call("up.echo", "{}").await.status, 200);
}

#[tokio::test]
async fn a_browser_on_another_site_is_refused() {
    let (gateway, upstream) = gateway("allowed_hosts = [\"tools.example\"]\nallowed_origins = [\"https://app.example\"]").await;
    let client = gateway.modern();
    let call = || client.tool("up.echo", "{}");

    refused(&gateway, &upstream, call().header("host", "evil.example").request(), 403, "bad_host").await;
    refused(&gateway, &upstream, call().header("origin", "https://evil.example").request(), 403, "bad_origin").await;
    refused(&gateway, &upstream, call().header("origin", "null").request(), 403, "bad_origin").await;

    for (name, value) in [("host", "tools.example"), ("origin", "https://app.example"), ("origin", "http://localhost:5173")] {
        assert_eq!(call().header(name, value).send().await.status, 200, "{name}: {value}");
    }
}

#[tokio::test]
async fn without_a_token_that_is_known_nobody_gets_in() {
    let upstream = Scripted::start(Script::new(Serves::Both).tool("echo", Act::Echo)).await;
    let setup = Setup::new().upstream("up", upstream.url()).client("ann", "token-of-ann-0123456789");
    let gateway = Gateway::start(setup).await;
    let stranger = gateway.modern();
    let liar = gateway.modern().bearer("token-of-ann-012345678");

    for client in [&stranger, &liar] {
        let request = client.tool("up.echo", "{}").request();
        let answer = refused(&gateway, &upstream, request, 401, "unauthenticated").await;
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }

    assert_eq!(Mcp::legacy(gateway.address).initialize("2025-11-25").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(gateway.modern().bearer("token-of-ann-0123456789").call("up.echo", "{}").await.status, 200);
    assert_eq!(gateway.get("/health").await.status, 200, "health is for everybody");
}

#[tokio::test]
async fn a_body_of_another_type_is_refused() {
    let (gateway, upstream) = gateway("").await;
    let client = gateway.modern();
    for kind in ["text/plain", "application/jsonp", "multipart/form-data"] {
        let request = client.tool("up.echo", "{}").header("content-type", kind).request();
        refused(&gateway, &upstream, request, 415, "content_type").await;
    }
    let request = client.tool("up.echo", "{}").without("content-type").request();
    refused(&gateway, &upstream, request, 415, "content_type").await;

    assert_eq!(client.tool("up.echo", "{}").header("content-type", "Application/JSON; charset=utf-8").send().await.status, 200);
}
