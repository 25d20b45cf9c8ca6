//! One POST to an upstream: request out, answer in, whether it comes as JSON or as an event stream.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body::Body as _;
use hyper::body::Incoming as Body;
use runtime_api::{CallError, Delivery, ErrorCode};
use std::{future::poll_fn, pin::Pin, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::task::TaskTracker;
use tracing::debug;
use twinway_proto::rope::Rope;

use crate::{
    body::RopeBody,
    pool::{Exchange, Pool, broken},
};

/// Content types of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Json,
    Events,
    Other,
}

/// Where and how requests of one upstream go.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) pool: Pool,
    pub(crate) uri: Uri,
    /// What every request carries: Host, Content-Type, Accept and what the configuration adds. A request's head begins as
    /// a clone of these, or of a session's, so that a call builds one map and no more.
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
    /// Sends one message and waits for the head of the answer. `headers` are all of the request's.
    pub(crate) async fn post(&self, headers: HeaderMap, message: Rope) -> Result<Exchange, CallError> {
        self.send(Method::POST, headers, message).await
    }

    /// Sends a request with that method.
    pub(crate) async fn send(&self, method: Method, headers: HeaderMap, message: Rope) -> Result<Exchange, CallError> {
        let mut request = Request::new(RopeBody::new(message));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        self.pool.send(request).await
    }

    /// Sends a message whose answer does not matter, in the background and as far as there is room.
    pub(crate) fn tell(self: &Arc<Self>, headers: HeaderMap, message: Rope) {
        let Ok(place) = Arc::clone(&self.telling).try_acquire_owned() else { return };
        let endpoint = Arc::clone(self);
        self.background.spawn(async move {
            let _place = place;
            let telling = async { endpoint.body(endpoint.post(headers, message).await?).await };
            if !matches!(timeout(TELLING_TIMEOUT, telling).await, Ok(Ok(_))) {
                debug!("a message to an upstream was not taken");
            }
        });
    }

    /// Reads the whole body and gives the connection back.
    pub(crate) async fn body(&self, exchange: Exchange) -> Result<Bytes, CallError> {
        let Exchange { response, sender } = exchange;
        let mut body = response.into_body();
        let whole = collect(&mut body, self.answer_bytes_max).await?;
        self.pool.give_back(sender);
        Ok(whole)
    }
}

/// What kind of answer the head announces.
pub(crate) fn kind(headers: &HeaderMap) -> Kind {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Kind::Other };
    let value = value.as_bytes();
    let essence = value.split(|byte| *byte == b';').next().unwrap_or(value).trim_ascii();
    if essence.eq_ignore_ascii_case(b"application/json") {
        Kind::Json
    } else if essence.eq_ignore_ascii_case(b"text/event-stream") {
        Kind::Events
    } else {
        Kind::Other
    }
}

/// The next piece of a body; `None` at its end.
pub(crate) async fn next_data(body: &mut Body) -> Result<Option<Bytes>, CallError> {
    loop {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            None => return Ok(None),
            Some(Err(error)) => return Err(broken(error)),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Joins a body; a single piece is not copied.
async fn collect(body: &mut Body, bytes_max: usize) -> Result<Bytes, CallError> {
    let Some(first) = next_data(body).await? else { return Ok(Bytes::new()) };
    check_length(first.len(), bytes_max)?;
    if body.is_end_stream() {
        return Ok(first);
    }
    let Some(second) = next_data(body).await? else { return Ok(first) };
    // What the head announces is only a hint for the first reservation; a server may announce anything.
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX).min(bytes_max);
    let mut whole = BytesMut::with_capacity((first.len() + second.len() + announced).min(bytes_max));
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&second);
    while let Some(next) = next_data(body).await? {
        check_length(whole.len() + next.len(), bytes_max)?;
        whole.extend_from_slice(&next);
    }
    Ok(whole.freeze())
}

fn check_length(length: usize, bytes_max: usize) -> Result<(), CallError> {
    if length <= bytes_max {
        return Ok(());
    }
    let message = format!("the upstream's answer is larger than the limit of {bytes_max} bytes");
    Err(CallError::runtime(ErrorCode::TooLarge, Delivery::Answered, message))
}

/// The fault of an answer that brings no JSON-RPC message.
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
