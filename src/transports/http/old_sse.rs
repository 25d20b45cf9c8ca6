//! HTTP+SSE, for clients of revision 2024-11-05: `GET /sse` opens a stream whose first event names where to POST messages; answers
//! come on the stream. `/sse/{upstream}` shows one upstream alone.

use std::sync::Arc;

use bytes::Bytes;
use dashmap::DashMap;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use runtime_api::{ErrorCode, Principal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    Front,
    body::Answer as Body,
    mcp::{NOT_KNOWN, bad_query, challenge, is_json, method_not_allowed, refusal, stream, unreadable, with_hint},
    read::read,
};
use crate::{
    mcp::Server,
    transports::{
        auth::Known,
        duplex::{Duplex, Gone},
        frames::Unwritten,
    },
};

const STREAM: &str = "/sse";
const MESSAGES: &str = "/messages/";

/// The streams that are open.
#[derive(Debug)]
pub(super) struct Streams {
    open: DashMap<Box<str>, Arc<Duplex>>,
    places: Arc<Semaphore>,
}

/// A stream that is open; dropping it ends the client's session.
#[derive(Debug)]
pub(super) struct Open {
    streams: Arc<Streams>,
    id: Box<str>,
    _place: OwnedSemaphorePermit,
}

impl Streams {
    /// At most so many at one time.
    pub(super) fn new(streams_max: usize) -> Self {
        Self { open: DashMap::new(), places: Arc::new(Semaphore::new(streams_max.min(Semaphore::MAX_PERMITS))) }
    }

    fn open(self: &Arc<Self>, server: &Server, client: Known, view: &str) -> Option<(Open, Unwritten)> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        // Whoever guesses it could speak for this client.
        let id: Box<str> = format!("{:032x}", rand::random::<u128>()).into();
        let (duplex, frames) = Duplex::new(server.clone(), client, view, "tcp");
        self.open.insert(id.clone(), Arc::new(duplex));
        Some((Open { streams: Arc::clone(self), id, _place: place }, frames))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.streams.open.remove(&self.id);
    }
}

/// Whether this path is answered here.
pub(super) fn is_ours(path: &str) -> bool {
    path == STREAM || path.starts_with("/sse/") || path.starts_with(MESSAGES)
}

/// Answers a request to a path that [`is_ours`].
pub(super) async fn answer(front: &Arc<Front>, request: Request<Incoming>) -> Response<Body> {
    let Some(client) = front.auth.known(request.headers()) else {
        return challenge(front, refusal(StatusCode::UNAUTHORIZED, ErrorCode::Unauthenticated, NOT_KNOWN));
    };
    let client = match client.asking(request.uri().query()) {
        Ok(client) => client,
        Err(unknown) => return bad_query(front, &unknown),
    };
    let path = request.uri().path().to_owned();
    match (path.strip_prefix(MESSAGES), request.method()) {
        (Some(id), &Method::POST) => post(front, &client.principal, id, request).await,
        (Some(_), _) => method_not_allowed("POST"),
        (None, &Method::GET) => open(front, client, path[STREAM.len()..].trim_start_matches('/')),
        // A client that tries Streamable HTTP first learns that this is the older transport (2025-11-25, transports).
        (None, _) => method_not_allowed("GET"),
    }
}

fn open(front: &Arc<Front>, client: Known, view: &str) -> Response<Body> {
    if front.server.catalog().load().view(view).is_none() {
        let message = format!("there is no upstream `{view}`");
        return refusal(StatusCode::NOT_FOUND, ErrorCode::UnknownName, &message);
    }
    let Some((open, frames)) = front.old_sse.open(&front.server, client, view) else {
        let message = "too many clients have a stream open";
        let full = refusal(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Overloaded, message);
        return with_hint(full, ErrorCode::Overloaded);
    };
    let first = Bytes::from(format!("event: endpoint\ndata: {MESSAGES}{}\n\n", open.id));
    stream(Body::frames(first, frames, open))
}

async fn post(front: &Arc<Front>, principal: &Principal, id: &str, request: Request<Incoming>) -> Response<Body> {
    let unknown = || refusal(StatusCode::NOT_FOUND, ErrorCode::UnknownName, "this stream is not open");
    let Some(duplex) = front.old_sse.open.get(id).map(|duplex| Arc::clone(&duplex)) else { return unknown() };
    if duplex.principal() != principal {
        front.server.metrics().session_refused("foreign");
        return unknown();
    }
    if !is_json(request.headers()) {
        front.server.metrics().request_refused("content_type");
        let message = "the body of a message is application/json";
        return refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::InvalidRequest, message);
    }
    let mut share = front.budget.share();
    let bytes_max = front.limits.load().body_bytes_max;
    let message = match read(request.into_body(), bytes_max, &mut share).await {
        Ok(message) => message,
        Err(fault) => return unreadable(front, &fault),
    };
    match duplex.take(message).await {
        Ok(()) => {
            let mut accepted = Response::new(Body::whole(Bytes::from_static(b"Accepted")));
            *accepted.status_mut() = StatusCode::ACCEPTED;
            accepted
        }
        Err(Gone) => unknown(),
    }
}
