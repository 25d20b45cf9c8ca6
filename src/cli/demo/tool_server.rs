//! A small MCP server over Streamable HTTP: three tools, no sessions, both eras.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    time::SystemTime,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use twinway_proto::{meta::key, revision};

/// 1 MiB: far above what anybody says to `echo` by hand.
const BODY_BYTES_MAX: usize = 1 << 20;

/// A server with its socket bound.
#[derive(Debug)]
pub(super) struct ToolServer {
    name: &'static str,
    listener: TcpListener,
}

/// A request of JSON-RPC, or a notification when it has no id.
#[derive(Deserialize)]
struct Message {
    id: Option<Value>,
    method: String,
    #[serde(default)]
    params: Map<String, Value>,
}

/// An error of JSON-RPC.
struct Fault {
    code: i32,
    message: String,
}

impl ToolServer {
    pub(super) async fn bind(name: &'static str) -> io::Result<Self> {
        Ok(Self { name, listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await? })
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`; connections that are open then are closed.
    pub(super) async fn serve(self, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            let stream = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => return warn!(%error, "the tool server cannot accept connections"),
                },
            };
            let name = self.name;
            let answer = service_fn(move |request| answer(name, request));
            connections.spawn(async move {
                if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await {
                    debug!(%error, "a connection to the tool server ended");
                }
            });
        }
    }
}

async fn answer(name: &'static str, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::POST || request.uri().path() != "/mcp" {
        return Ok(respond(StatusCode::METHOD_NOT_ALLOWED, Bytes::new()));
    }
    let modern = request.headers().get("mcp-protocol-version").is_some_and(|version| version == revision::MODERN);
    let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
        return Ok(respond(StatusCode::PAYLOAD_TOO_LARGE, Bytes::new()));
    };
    let Ok(message) = serde_json::from_slice::<Message>(&body.to_bytes()) else {
        return Ok(respond(StatusCode::BAD_REQUEST, Bytes::new()));
    };
    let Some(id) = message.id else { return Ok(respond(StatusCode::ACCEPTED, Bytes::new())) };
    let document = match result(name, &message.method, &message.params, modern) {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(Fault { code, message }) => json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } }),
    };
    Ok(respond(StatusCode::OK, document.to_string().into()))
}

fn respond(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn result(name: &str, method: &str, params: &Map<String, Value>, modern: bool) -> Result<Value, Fault> {
    let info = json!({ "name": format!("twinway-demo-{name}"), "version": env!("CARGO_PKG_VERSION") });
    let mut result = match method {
        "initialize" if !modern => {
            let asked = params.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
            let revision = revision::legacy(asked).unwrap_or(revision::LATEST_LEGACY);
            json!({ "protocolVersion": revision, "capabilities": { "tools": {} }, "serverInfo": info })
        }
        "server/discover" if modern => json!({
            "supportedVersions": [revision::MODERN],
            "capabilities": { "tools": {} },
            "ttlMs": 60_000,
            "cacheScope": "public",
            "_meta": { key::SERVER_INFO: info },
        }),
        "ping" => json!({}),
        "tools/list" if modern => json!({ "tools": tools(name), "ttlMs": 60_000, "cacheScope": "public" }),
        "tools/list" => json!({ "tools": tools(name) }),
        "tools/call" => call(name, params)?,
        _ => return Err(Fault { code: -32601, message: format!("there is no method `{method}`") }),
    };
    if modern {
        result["resultType"] = "complete".into();
    }
    Ok(result)
}

fn tools(name: &str) -> Value {
    let tool = |tool: &str, description: String, properties: Value, required: &[&str]| {
        json!({
            "name": tool,
            "description": description,
            "inputSchema": { "type": "object", "properties": properties, "required": required },
            "annotations": { "readOnlyHint": true },
        })
    };
    json!([
        tool("echo", format!("Says the text back, from the {name} machine"), json!({ "text": { "type": "string" } }), &["text"]),
        tool("add", "Adds two numbers".to_owned(), json!({ "a": { "type": "number" }, "b": { "type": "number" } }), &["a", "b"]),
        tool("now", format!("The time on the {name} machine"), json!({}), &[]),
    ])
}

fn call(name: &str, params: &Map<String, Value>) -> Result<Value, Fault> {
    let argument = |key: &str| params.get("arguments").and_then(|arguments| arguments.get(key));
    let number = |key: &str| argument(key).and_then(Value::as_f64);
    let tool = params.get("name").and_then(Value::as_str).unwrap_or_default();
    let said = match tool {
        "echo" => argument("text").and_then(Value::as_str).map(|text| format!("{name} says: {text}")),
        "add" => number("a").zip(number("b")).map(|(a, b)| (a + b).to_string()),
        "now" => Some(humantime::format_rfc3339_millis(SystemTime::now()).to_string()),
        _ => return Err(Fault { code: -32602, message: format!("there is no tool `{tool}`") }),
    };
    Ok(match said {
        Some(text) => json!({ "content": [{ "type": "text", "text": text }], "isError": false }),
        None => json!({ "content": [{ "type": "text", "text": "the arguments do not fit the schema" }], "isError": true }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(params: &Value) -> (String, bool) {
        let answered = call("near", params.as_object().unwrap()).ok().unwrap();
        (answered["content"][0]["text"].as_str().unwrap().to_owned(), answered["isError"] == true)
    }

    #[test]
    fn tools_do_what_they_say_and_refuse_what_they_cannot() {
        assert_eq!(text(&json!({ "name": "add", "arguments": { "a": 2, "b": 40 } })), ("42".to_owned(), false));
        assert_eq!(text(&json!({ "name": "echo", "arguments": { "text": "ü" } })), ("near says: ü".to_owned(), false));
        assert!(text(&json!({ "name": "add", "arguments": { "a": 2 } })).1);
        assert!(call("near", &Map::new()).is_err());
    }
}
