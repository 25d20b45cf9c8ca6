//! REST for clients that know no MCP: `GET /tools/list`, `POST /tools/execute/{tool}`, and `/openapi.json` about both.
//!
//! It is the shape that upstreams of `kind = "tool-server"` have, so that one gateway can stand behind another.

mod document;
mod schema;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use runtime_api::{CallError, ErrorCode, Principal};

use super::{
    Front,
    body::Answer as Body,
    mcp::{JSON, NOT_KNOWN, challenge, get, is_json, message_response, method_not_allowed, whole, with_hint},
    read::read,
};
use crate::{
    catalog::View,
    mcp::{Answer, Inbound, Scope, Shown, Step, Way, rest_refusal},
};

const LIST: &str = "/tools/list";
const EXECUTE: &str = "/tools/execute/";
const DOCUMENT: &str = "/openapi.json";

/// Whether this path is answered here.
pub(super) fn is_ours(path: &str) -> bool {
    path == LIST || path == DOCUMENT || path.starts_with(EXECUTE)
}

/// Answers a request to a path that [`is_ours`].
pub(super) async fn answer(front: &Arc<Front>, request: Request<Incoming>) -> Response<Body> {
    let Some(principal) = front.auth.principal(request.headers()) else {
        return challenge(front, refusal(StatusCode::UNAUTHORIZED, ErrorCode::Unauthenticated, NOT_KNOWN));
    };
    match request.uri().path() {
        LIST => get(&request, || whole(StatusCode::OK, JSON, merged(front, list))),
        DOCUMENT => {
            get(&request, || whole(StatusCode::OK, JSON, merged(front, |view| document::document(view, !front.auth.is_open()))))
        }
        _ if *request.method() != Method::POST => method_not_allowed("POST"),
        path => {
            let tool = percent_decode_str(&path[EXECUTE.len()..]).decode_utf8_lossy().into_owned();
            execute(front, &tool, &principal, request).await
        }
    }
}

async fn execute(front: &Arc<Front>, tool: &str, principal: &Principal, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let mut share = front.budget.share();
    let arguments = match read(body, front.limits.load().body_bytes_max, &mut share).await {
        Ok(arguments) => arguments,
        Err(fault) => {
            let told = fault.told();
            front.server.metrics().request_refused(told.reason);
            return with_hint(refusal(told.status, told.code, &told.message), told.code);
        }
    };
    // Browsers send other types to strangers without asking (CORS, simple requests).
    if !arguments.is_empty() && !is_json(&head.headers) {
        front.server.metrics().request_refused("content_type");
        let message = "the body is the tool's arguments, as application/json";
        return refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::InvalidRequest, message);
    }
    match begun(front, tool, principal, arguments, &head.headers) {
        Answer::Accepted => whole(StatusCode::ACCEPTED, JSON, "null"),
        Answer::Message(outgoing) | Answer::Denied(outgoing) | Answer::Unreadable(_, outgoing) => message_response(outgoing),
        // Nothing of this shape could carry what comes before the end. Dropped with its connection, the call is cancelled.
        Answer::Running(mut running) => loop {
            match running.next().await {
                Step::Event(_) | Step::Away(_) => {}
                Step::Done(outgoing) => break message_response(outgoing),
                Step::Withdrawn => break refusal(StatusCode::CONFLICT, ErrorCode::Cancelled, "this call was cancelled"),
            }
        },
    }
}

fn begun(front: &Front, tool: &str, principal: &Principal, arguments: Bytes, headers: &HeaderMap) -> Answer {
    let inbound = Inbound {
        message: arguments,
        view: "",
        principal,
        way: Way::Http { headers },
        scope: Scope::Everything,
        shown: Shown::full(),
        answer_bytes_max: usize::MAX,
        time_max: Duration::MAX,
    };
    front.server.execute(&inbound, tool)
}

/// A document about the merged view of this moment.
fn merged(front: &Front, write: impl FnOnce(&View) -> Vec<u8>) -> Vec<u8> {
    match front.server.catalog().load().view("") {
        Some(view) => write(view),
        None => write(&View::default()),
    }
}

/// All tools, each as its target defines it but for its public name.
fn list(view: &View) -> Vec<u8> {
    let page = view.tools.page_of(None, usize::MAX, |_| true);
    let mut list = br#"{"tools":"#.to_vec();
    list.extend_from_slice(&page.items);
    list.extend_from_slice(format!(r#","count":{}}}"#, view.tools.len()).as_bytes());
    list
}

/// A refusal in the shape of REST.
fn refusal(status: StatusCode, code: ErrorCode, message: &str) -> Response<Body> {
    let mut response = message_response(rest_refusal(&CallError::caller(code, message.to_owned())));
    *response.status_mut() = status;
    response
}
