//! A neutral MCP server of both eras with one tool, `echo`, that shares no code with Twinway.

use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::request::{Era, PROTOCOL_VERSION_HEADER, SESSION_HEADER};

/// JSON-RPC 2.0, section 5.1.
const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;
const PARSE_ERROR: i32 = -32700;

type Answer = Response<Full<Bytes>>;

/// Serves on a free loopback port with one thread until the process is killed.
pub(crate) fn serve(announce: impl FnOnce(SocketAddr)) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        announce(listener.local_addr()?);
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await?;
            connections.spawn(serve_connection(stream));
            while connections.try_join_next().is_some() {}
        }
    })
}

async fn serve_connection(stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(serve_request)).await?;
    Ok(())
}

async fn serve_request(request: Request<Incoming>) -> Result<Answer, hyper::Error> {
    match *request.method() {
        Method::POST => {}
        Method::DELETE => return Ok(empty(StatusCode::OK)),
        _ => return Ok(empty(StatusCode::METHOD_NOT_ALLOWED)),
    }
    let era = Era::of_version(request.headers().get(PROTOCOL_VERSION_HEADER).map(HeaderValue::as_bytes));
    let body = request.into_body().collect().await?.to_bytes();
    Ok(answer(era, &body))
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

fn answer(era: Era, body: &[u8]) -> Answer {
    let Ok(message) = serde_json::from_slice::<Message<'_>>(body) else {
        return failure(StatusCode::BAD_REQUEST, "null", PARSE_ERROR, "the body is not a JSON-RPC message");
    };
    let (Some(id), Some(method)) = (message.id, message.method) else { return empty(StatusCode::ACCEPTED) };
    match method.as_ref() {
        "initialize" => with_session(success(id.get(), INITIALIZED)),
        "server/discover" => success(id.get(), DISCOVERED),
        "ping" => success(id.get(), "{}"),
        "tools/list" => success(id.get(), &tools(era)),
        "tools/call" => call(era, id, message.params),
        _ => failure(unknown_method_status(era), id.get(), METHOD_NOT_FOUND, "no such method"),
    }
}

fn call(era: Era, id: &RawValue, params: Option<&RawValue>) -> Answer {
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
        #[serde(borrow)]
        arguments: Arguments<'a>,
    }
    #[derive(Deserialize)]
    struct Arguments<'a> {
        #[serde(borrow)]
        text: &'a RawValue,
    }

    let status = match era {
        Era::Modern => StatusCode::BAD_REQUEST,
        Era::Legacy => StatusCode::OK,
    };
    match params.map(|params| serde_json::from_str::<Params<'_>>(params.get())) {
        Some(Ok(Params { name, arguments })) if name == "echo" && arguments.text.get().starts_with('"') => {
            success(id.get(), &echoed(era, arguments.text.get()))
        }
        _ => failure(status, id.get(), INVALID_PARAMS, "the only tool is `echo`, and its `text` is a string"),
    }
}

/// The result of `echo`; `text` is the JSON string as it came.
fn echoed(era: Era, text: &str) -> String {
    let end = match era {
        Era::Modern => concat!(
            r#"}],"isError":false,"resultType":"complete","_meta":"#,
            r#"{"io.modelcontextprotocol/serverInfo":{"name":"echo-server","version":"1.0.0"}}}"#
        ),
        Era::Legacy => r#"}],"isError":false}"#,
    };
    [r#"{"content":[{"type":"text","text":"#, text, end].concat()
}

const DISCOVERED: &str = concat!(
    r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":60000,"#,
    r#""cacheScope":"public","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"echo-server","version":"1.0.0"}}}"#
);

const INITIALIZED: &str = concat!(
    r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"#,
    r#""serverInfo":{"name":"echo-server","version":"1.0.0"}}"#
);

fn tools(era: Era) -> String {
    let schema = r#"{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}"#;
    let modern = match era {
        Era::Modern => r#""resultType":"complete","ttlMs":60000,"cacheScope":"public","#,
        Era::Legacy => "",
    };
    format!(r#"{{{modern}"tools":[{{"name":"echo","description":"Returns its text","inputSchema":{schema}}}]}}"#)
}

fn unknown_method_status(era: Era) -> StatusCode {
    match era {
        Era::Modern => StatusCode::NOT_FOUND,
        Era::Legacy => StatusCode::OK,
    }
}

fn success(id: &str, result: &str) -> Answer {
    json(StatusCode::OK, [r#"{"jsonrpc":"2.0","id":"#, id, r#","result":"#, result, "}"].concat())
}

fn failure(status: StatusCode, id: &str, code: i32, message: &str) -> Answer {
    json(status, format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{message}"}}}}"#))
}

fn json(status: StatusCode, body: String) -> Answer {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn empty(status: StatusCode) -> Answer {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// Names a session; nothing is kept of it, so it never has to end.
fn with_session(mut response: Answer) -> Answer {
    static SESSIONS: AtomicU64 = AtomicU64::new(0);
    let name = format!("echo-session-{}", SESSIONS.fetch_add(1, Ordering::Relaxed));
    response.headers_mut().insert(SESSION_HEADER, HeaderValue::from_str(&name).expect("the name is plain ASCII"));
    response
}
