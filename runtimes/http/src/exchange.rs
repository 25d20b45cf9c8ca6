//! One POST to an upstream: request out, answer in, whether it comes as JSON or as an event stream.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use runtime_api::{CallError, Delivery, ErrorCode};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::task::TaskTracker;
use tracing::debug;
use twinway_proto::rope::Rope;

use crate::{
    h1::{Exchange, Head, RequestHead},
    pool::{Pool, broken},
};

/// Content types of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Json,
    Events,
    Other,
}

/// Where and how requests of one upstream go.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) pool: Pool,
    pub(crate) path_and_query: Box<str>,
    /// What every request carries: Host, Content-Type, Accept and what the configuration adds.
    pub(crate) headers: HeaderMap,
    pub(crate) answer_bytes_max: usize,
    pub(crate) background: TaskTracker,
    /// Places for messages that nobody waits for.
    pub(crate) telling: Arc<Semaphore>,
}

/// Messages that nobody waits for and that are on their way at once: cancellations, answers to pings. An upstream that does
/// not take more has lost interest in them.
pub(crate) const TELLING_MAX: usize = 64;

/// Time for such a message.
const TELLING_TIMEOUT: Duration = Duration::from_secs(5);

impl Endpoint {
    /// The head of a POST with these fields, to begin requests with.
    pub(crate) fn post_head(&self, headers: &HeaderMap) -> RequestHead {
        RequestHead::new(&Method::POST, &self.path_and_query, headers)
    }

    /// Sends one message and waits for the head of the answer.
    pub(crate) async fn post(&self, head: RequestHead, message: Rope) -> Result<Exchange, CallError> {
        self.pool.send(head.with(message)).await
    }

    /// Sends a request of any method. `headers` are all of the request's.
    pub(crate) async fn send(&self, method: &Method, headers: &HeaderMap, message: Rope) -> Result<Exchange, CallError> {
        self.pool.send(RequestHead::new(method, &self.path_and_query, headers).with(message)).await
    }

    /// Sends a message whose answer does not matter, in the background and as far as there is room.
    pub(crate) fn tell(self: &Arc<Self>, head: RequestHead, message: Rope) {
        let Ok(place) = Arc::clone(&self.telling).try_acquire_owned() else { return };
        let endpoint = Arc::clone(self);
        self.background.spawn(async move {
            let _place = place;
            let telling = async { endpoint.body(endpoint.post(head, message).await?).await };
            if !matches!(timeout(TELLING_TIMEOUT, telling).await, Ok(Ok(_))) {
                debug!("a message to an upstream was not taken");
            }
        });
    }

    /// Reads the whole body and gives the connection back.
    pub(crate) async fn body(&self, mut exchange: Exchange) -> Result<Bytes, CallError> {
        let bytes_max = self.answer_bytes_max;
        let Some(whole) = exchange.whole(bytes_max).await.map_err(broken)? else {
            let message = format!("the upstream's answer is larger than the limit of {bytes_max} bytes");
            return Err(CallError::runtime(ErrorCode::TooLarge, Delivery::Answered, message));
        };
        self.pool.give_back(exchange);
        Ok(whole)
    }
}

/// The headers of a GET that asks for a stream of events, in place of those of a POST.
pub(crate) fn events_headers(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    headers.remove(header::CONTENT_TYPE);
    headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
    headers
}

/// What kind of answer the head announces.
pub(crate) fn content(head: &Head) -> Content {
    let Some(value) = head.get("content-type") else { return Content::Other };
    let essence = value.split(|byte| *byte == b';').next().unwrap_or(value).trim_ascii();
    if essence.eq_ignore_ascii_case(b"application/json") {
        Content::Json
    } else if essence.eq_ignore_ascii_case(b"text/event-stream") {
        Content::Events
    } else {
        Content::Other
    }
}

/// The next piece of a body; `None` at its end.
pub(crate) async fn next_data(exchange: &mut Exchange) -> Result<Option<Bytes>, CallError> {
    exchange.next_data().await.map_err(broken)
}

/// The fault of an answer that brings no message: what its status says, and when to try again, if it names a time.
pub(crate) fn refused_by(head: &Head) -> CallError {
    let error = refused(head.status);
    match head.retry_after() {
        Some(after) => error.with_retry_after(after),
        None => error,
    }
}

/// The fault of an answer with that status.
pub(crate) fn refused(status: StatusCode) -> CallError {
    let message = format!("the upstream answered with HTTP status {status}");
    match status.as_u16() {
        401 | 403 => CallError::runtime(ErrorCode::Forbidden, Delivery::Answered, message),
        429 => CallError::runtime(ErrorCode::Overloaded, Delivery::Answered, message),
        // A server or a proxy before it failed: nobody knows how far the call had come.
        500..=599 => CallError::runtime(ErrorCode::Disconnected, Delivery::Unknown, message),
        400..=499 => CallError::runtime(ErrorCode::Protocol, Delivery::Answered, message),
        _ => CallError::runtime(ErrorCode::Protocol, Delivery::Unknown, message),
    }
}

/// A header value out of text that was checked before.
pub(crate) fn value(text: &str) -> Result<HeaderValue, CallError> {
    HeaderValue::from_str(text)
        .map_err(|error| CallError::caller(ErrorCode::InvalidParams, "text that no header can carry").with_source(error))
}
