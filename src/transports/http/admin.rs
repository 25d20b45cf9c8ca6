//! `/admin/api/…` over HTTP.

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use runtime_api::{ErrorCode, Principal};

use super::{
    Front,
    body::Answer as Body,
    mcp::{JSON, get, is_json, method_not_allowed, refusal, unreadable, whole},
    read::read,
};
use crate::admin::{self, ACCEPT, AdminError, PREFIX};

/// 64 KiB: a name, a view and a digest are less than a tenth of it.
const ACCEPT_BYTES_MAX: usize = 64 * 1024;

/// Answers a client that may ask.
pub(super) async fn answer(front: &Front, principal: &Principal, request: Request<Incoming>) -> Response<Body> {
    let path = &request.uri().path()[PREFIX.len()..];
    if path == ACCEPT {
        return accept(front, principal, request).await;
    }
    let query = request.uri().query().unwrap_or_default();
    get(&request, || answered(admin::answer(front.server.catalog(), path, query)))
}

fn answered(document: Result<Vec<u8>, AdminError>) -> Response<Body> {
    match document {
        Ok(document) => whole(StatusCode::OK, JSON, document),
        Err(error) => {
            let (status, code) = error.status();
            refusal(status, code, &error.to_string())
        }
    }
}

/// The one request that changes something.
async fn accept(front: &Front, principal: &Principal, request: Request<Incoming>) -> Response<Body> {
    if *request.method() != Method::POST {
        return method_not_allowed("POST");
    }
    // Browsers send other types to strangers without asking (CORS, simple requests).
    if !is_json(request.headers()) {
        front.server.metrics().request_refused("content_type");
        let message = "the body says what to accept, as application/json";
        return refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::InvalidRequest, message);
    }
    let mut share = front.budget.share();
    match read(request.into_body(), ACCEPT_BYTES_MAX, &mut share).await {
        Ok(body) => answered(admin::accept(front.server.catalog(), principal, &body).await),
        Err(fault) => unreadable(front, &fault),
    }
}
