//! A neutral server with the tools `echo` and `nap`, over MCP of both eras and in REST shapes, that shares no code with Twinway.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::echo::{self, Offer, Reply};
use crate::request::{Era, PROTOCOL_VERSION_HEADER, SESSION_HEADER};
use crate::rest;

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
    let count = request.uri().path().strip_prefix("/mcp/").and_then(|count| count.parse().ok());
    let offer = count.map_or(Offer::Own, Offer::Many);
    if request.uri().path() != "/mcp" && count.is_none() {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let reply = rest::answer(&head.method, head.uri.path(), &body);
        return Ok(reply.map_or_else(|| empty(StatusCode::NOT_FOUND), answer));
    }
    match *request.method() {
        Method::POST => {}
        Method::DELETE => return Ok(empty(StatusCode::OK)),
        _ => return Ok(empty(StatusCode::METHOD_NOT_ALLOWED)),
    }
    let era = Era::of_version(request.headers().get(PROTOCOL_VERSION_HEADER).map(HeaderValue::as_bytes));
    let body = request.into_body().collect().await?.to_bytes();
    let reply = echo::answer(era, offer, &body);
    if !reply.after.is_zero() {
        tokio::time::sleep(reply.after).await;
    }
    Ok(answer(reply))
}

fn answer(reply: Reply) -> Answer {
    if reply.body.is_empty() {
        return empty(reply.status);
    }
    let response = json(reply.status, reply.body);
    if reply.opens_session { with_session(response) } else { response }
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
