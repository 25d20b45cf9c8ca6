//! `/admin/api/…` over HTTP.

use http::{Request, Response, StatusCode};
use runtime_api::ErrorCode;

use super::{
    Front,
    body::Answer as Body,
    mcp::{JSON, get, refusal, whole},
};
use crate::admin;

/// Answers a client that may ask. `path` is what stands behind the prefix.
pub(super) fn answer<B>(front: &Front, path: &str, request: &Request<B>) -> Response<Body> {
    get(request, || match admin::answer(front.server.catalog(), path, request.uri().query().unwrap_or_default()) {
        Ok(document) => whole(StatusCode::OK, JSON, document),
        Err(error) if error.is_not_found() => refusal(StatusCode::NOT_FOUND, ErrorCode::UnknownName, &error.to_string()),
        Err(error) => refusal(StatusCode::BAD_REQUEST, ErrorCode::InvalidParams, &error.to_string()),
    })
}
