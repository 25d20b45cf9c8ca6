//! One HTTP request: who sends it, where it goes, and what comes back.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use hyper::body::Incoming;
use runtime_api::{ErrorCode, Principal};
use serde_json::json;
use tokio::time::timeout;
use twinway_proto::{
    envelope::{error_object, failure},
    headers::{LAST_EVENT_ID, MCP_SESSION_ID},
};

use super::{
    Front, admin,
    body::Answer as Body,
    health, old_sse,
    read::{BodyFault, read},
    rest,
};
use crate::admin::PREFIX;
use crate::mcp::{Answer, Inbound, NoStream, Outgoing, Running, Scope, SessionError, Sight, Step, UnknownExposure, Way};
use crate::transports::auth::Known;

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// How long an answer may take before an event stream is begun for it, where its client could come back. Most answers are there sooner and
/// stay JSON; of those that are not, nobody minds the price of a stream.
const STREAM_AFTER: Duration = Duration::from_millis(250);

/// What somebody unknown is told.
pub(super) const NOT_KNOWN: &str = "this gateway wants a bearer token that it knows";

/// Answers any request of the HTTP way in.
pub(super) async fn handle(front: Arc<Front>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let checked = front.limits.load().guard.check(&request);
    if let Err(stranger) = checked {
        front.server.metrics().request_refused(stranger.reason);
        return Ok(refusal(StatusCode::FORBIDDEN, ErrorCode::Forbidden, &stranger.message));
    }
    let path = request.uri().path();
    let response = match path {
        "/mcp" => mcp(&front, "", request).await,
        "/health" => get(&request, || whole(StatusCode::OK, JSON, json!({ "status": "ok" }).to_string())),
        "/health/ready" => get(&request, || readiness(&front)),
        "/health/runtime" => get(&request, || whole(StatusCode::OK, JSON, health::runtimes(&front.server).to_string())),
        "/metrics" => get(&request, || {
            let text = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
            whole(StatusCode::OK, text, front.server.metrics().render())
        }),
        path if path.starts_with(PREFIX) => match front.auth.principal(request.headers()) {
            Some(principal) => admin::answer(&front, &principal, request).await,
            None => unauthenticated(&front),
        },
        path if rest::is_ours(path) => rest::answer(&front, request).await,
        path if old_sse::is_ours(path) => old_sse::answer(&front, request).await,
        _ => match path.strip_prefix("/mcp/").filter(|view| !view.is_empty() && !view.contains('/')) {
            Some(view) => {
                let view = view.to_owned();
                mcp(&front, &view, request).await
            }
            None => refusal(
                StatusCode::NOT_FOUND,
                ErrorCode::UnknownName,
                "there is nothing here; MCP is at /mcp, REST at /tools/list",
            ),
        },
    };
    Ok(response)
}

async fn mcp(front: &Arc<Front>, view: &str, request: Request<Incoming>) -> Response<Body> {
    let Some(known) = front.auth.known(request.headers()) else { return unauthenticated(front) };
    let known = match known.asking(request.uri().query()) {
        Ok(known) => known,
        Err(unknown) => return bad_query(front, &unknown),
    };
    match *request.method() {
        Method::POST => post(front, view, &known, request).await,
        Method::DELETE => end_session(front, view, &known.principal, request.headers()),
        Method::GET if request.headers().contains_key(MCP_SESSION_ID) => listen(front, view, &known, request.headers()),
        // Without a session there is no stream of notifications: revision 2026-07-28 has none of this kind, and before there
        // is nothing to tell (405 is allowed, 2025-11-25, transports).
        _ => method_not_allowed("POST, DELETE"),
    }
}

/// Answers somebody whose address asks for something that there is not.
pub(super) fn bad_query(front: &Front, unknown: &UnknownExposure) -> Response<Body> {
    front.server.metrics().request_refused("bad_query");
    refusal(StatusCode::BAD_REQUEST, ErrorCode::InvalidRequest, &unknown.to_string())
}

/// Answers somebody who has to say who they are and does not.
fn unauthenticated(front: &Front) -> Response<Body> {
    challenge(front, refusal(StatusCode::UNAUTHORIZED, ErrorCode::Unauthenticated, NOT_KNOWN))
}

/// Counts the refusal of somebody unknown, and says in it what would be believed (RFC 6750, section 3).
pub(super) fn challenge(front: &Front, mut refusal: Response<Body>) -> Response<Body> {
    front.server.metrics().request_refused("unauthenticated");
    refusal.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    refusal
}

async fn post(front: &Arc<Front>, view: &str, known: &Known, request: Request<Incoming>) -> Response<Body> {
    if !is_json(request.headers()) {
        front.server.metrics().request_refused("content_type");
        let message = "the body of a request to MCP is application/json";
        return refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::InvalidRequest, message);
    }
    let (head, body) = request.into_parts();
    let mut share = front.budget.share();
    let bytes_max = front.limits.load().body_bytes_max;
    let message = match read(body, bytes_max, &mut share).await {
        Ok(message) => message,
        Err(fault) => return unreadable(front, &fault),
    };
    let way = Way::Http { headers: &head.headers };
    let inbound = Inbound {
        message,
        view,
        principal: &known.principal,
        way,
        scope: Scope::Everything,
        shown: &known.shown,
        answer_bytes_max: usize::MAX,
        time_max: Duration::MAX,
    };
    let answer = front.server.handle(&inbound);
    drop(inbound);
    match answer {
        Answer::Accepted => empty(StatusCode::ACCEPTED),
        Answer::Message(outgoing) | Answer::Denied(outgoing) => message_response(outgoing),
        Answer::Unreadable(_, outgoing) => {
            front.server.metrics().request_refused("unreadable");
            message_response(outgoing)
        }
        Answer::Running(running) => drive(*running, &head.headers).await,
    }
}

/// JSON when the answer comes first, an event stream when a notification does, or when the answer takes long and its client could come
/// back for it: a connection on which nothing is said is what proxies and networks give up.
async fn drive(mut running: Running, headers: &HeaderMap) -> Response<Body> {
    let can_come_back = running.can_be_left() && accepts_events(headers);
    loop {
        let first = if can_come_back { timeout(STREAM_AFTER, running.next()).await.ok() } else { Some(running.next().await) };
        match first {
            Some(Step::Done(outgoing)) => break message_response(outgoing),
            Some(Step::Withdrawn) => break stream(Body::silence()),
            Some(Step::Away(_)) if !can_come_back => {}
            first => break stream(Body::stream(running.into_stream(first))),
        }
    }
}

fn accepts_events(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().any(|value| {
        let mut listed = value.as_bytes().split(|byte| *byte == b',');
        listed.any(|one| {
            one.trim_ascii().to_ascii_lowercase().starts_with(EVENTS.as_bytes()) || one.trim_ascii().starts_with(b"*/*")
        })
    })
}

/// The stream of notifications of a session, or one that its client has lost (2025-11-25, transports, listening for messages and
/// resumability).
fn listen(front: &Front, view: &str, known: &Known, headers: &HeaderMap) -> Response<Body> {
    if !accepts_events(headers) {
        let message = "GET with a session opens a stream of events; `Accept` does not name text/event-stream";
        return refusal(StatusCode::NOT_ACCEPTABLE, ErrorCode::InvalidRequest, message);
    }
    let handle = headers.get(MCP_SESSION_ID).and_then(|handle| handle.to_str().ok()).unwrap_or_default();
    let session = match front.server.sessions().find(handle, &known.principal, view) {
        Ok(session) => session,
        Err(error) => return no_session(&error),
    };
    // What cannot be read as text is no id of ours either.
    let last = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or_default());
    match front.server.open_stream(&session, Sight { view, shown: &known.shown }, last) {
        Ok(events) => stream(Body::stream(events)),
        Err(none) => no_stream(front, &none),
    }
}

fn no_stream(front: &Front, none: &NoStream) -> Response<Body> {
    let refused = |reason, status, message| {
        front.server.metrics().request_refused(reason);
        refusal(status, ErrorCode::InvalidRequest, message)
    };
    match none {
        NoStream::NotAnEventId => refused("event_id", StatusCode::BAD_REQUEST, "`Last-Event-ID` names no event of this gateway"),
        // Not 404: that would tell the client that its session is gone.
        NoStream::Gone => refused(
            "stream_gone",
            StatusCode::GONE,
            "this session has no such stream, or nothing of it is kept any more; the call may have run",
        ),
        // Readers of event streams do not come back after this (WHATWG HTML, section 9.2.3).
        NoStream::Over => empty(StatusCode::NO_CONTENT),
        NoStream::Full(full) => with_hint(refusal(StatusCode::SERVICE_UNAVAILABLE, full.code(), &full.to_string()), full.code()),
    }
}

/// Answers a request whose session is not there.
fn no_session(error: &SessionError) -> Response<Body> {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::NOT_FOUND);
    let code = if error.retry_after_s().is_some() { ErrorCode::Overloaded } else { ErrorCode::UnknownName };
    let mut response = refusal(status, code, &error.to_string());
    if let Some(seconds) = error.retry_after_s() {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn end_session(front: &Front, view: &str, principal: &Principal, headers: &HeaderMap) -> Response<Body> {
    let handle = headers.get(MCP_SESSION_ID).and_then(|handle| handle.to_str().ok());
    let Some(handle) = handle else {
        return refusal(StatusCode::BAD_REQUEST, ErrorCode::InvalidRequest, "DELETE ends a session; its header is missing");
    };
    match front.server.sessions().end(handle, principal, view) {
        Ok(()) => empty(StatusCode::NO_CONTENT),
        Err(error) => no_session(&error),
    }
}

/// Answers a request whose body cannot be taken.
pub(super) fn unreadable(front: &Front, fault: &BodyFault) -> Response<Body> {
    let told = fault.told();
    front.server.metrics().request_refused(told.reason);
    with_hint(refusal(told.status, told.code, &told.message), told.code)
}

/// What is full now may have room soon.
pub(super) fn with_hint(mut response: Response<Body>, code: ErrorCode) -> Response<Body> {
    if code == ErrorCode::Overloaded {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return false };
    let value = value.as_bytes();
    let essence = value.split(|byte| *byte == b';').next().unwrap_or(value).trim_ascii();
    essence.eq_ignore_ascii_case(b"application/json")
}

/// Answers what is only read. HEAD gets the head of what GET would get (RFC 9110, section 9.3.2).
pub(super) fn get<B>(request: &Request<B>, answer: impl FnOnce() -> Response<Body>) -> Response<Body> {
    match *request.method() {
        Method::GET => answer(),
        Method::HEAD => {
            let (mut head, body) = answer().into_parts();
            if let Some(length) = body.size_hint().exact() {
                head.headers.insert(header::CONTENT_LENGTH, length.into());
            }
            Response::from_parts(head, Body::Whole(None))
        }
        _ => method_not_allowed("GET, HEAD"),
    }
}

fn readiness(front: &Front) -> Response<Body> {
    let status = front.readiness.status();
    let code = if status == "ready" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    whole(code, JSON, json!({ "status": status }).to_string())
}

pub(super) fn message_response(outgoing: Outgoing) -> Response<Body> {
    let mut response = Response::new(Body::whole(outgoing.message));
    *response.status_mut() = StatusCode::from_u16(outgoing.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    if let Some(Ok(handle)) = outgoing.session.map(HeaderValue::try_from) {
        response.headers_mut().insert(MCP_SESSION_ID, handle);
    }
    if let Some(seconds) = outgoing.retry_after_s {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

pub(super) fn stream(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, EVENTS);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx holds back event streams unless told not to (2026-07-28, Streamable HTTP).
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

pub(super) fn whole(status: StatusCode, kind: HeaderValue, text: impl Into<Vec<u8>>) -> Response<Body> {
    let mut response = Response::new(Body::whole(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Whole(None));
    *response.status_mut() = status;
    response
}

/// A refusal of HTTP, with a JSON-RPC error in it for clients that look there only.
pub(super) fn refusal(status: StatusCode, code: ErrorCode, message: &str) -> Response<Body> {
    let row = code.row();
    let data = format!(r#"{{"code":"{}","origin":"caller","delivery":"not_sent"}}"#, row.name);
    let error = error_object(row.json_rpc, message, Some(data.as_bytes()));
    let mut response = Response::new(Body::whole(failure(None, error)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

pub(super) fn method_not_allowed(allow: &'static str) -> Response<Body> {
    let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}
