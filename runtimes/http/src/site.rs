//! What targets of every kind share: where they are, and when to look at them anew.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use runtime_api::{CallError, ErrorCode, TraceContext};
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;

use crate::{
    connect::Origin,
    exchange::{Endpoint, TELLING_MAX, value},
    h1::RequestHead,
    pool::Pool,
    settings::Upstream,
    slots::Slots,
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// One upstream, whatever it speaks.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) settings: Upstream,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) slots: Slots,
    /// Something happened that makes it worth while to look at the upstream now.
    pub(crate) wake: Notify,
}

impl Site {
    /// `accept` is what its answers may be.
    pub(crate) fn new(settings: Upstream, accept: &'static str, background: TaskTracker) -> Result<Self, Box<str>> {
        let origin = Origin::new(&settings.url, settings.connect_timeout)?;
        let endpoint = Endpoint {
            pool: Pool::new(origin),
            background,
            telling: Arc::new(Semaphore::new(TELLING_MAX)),
            path_and_query: path_and_query(&settings),
            headers: fixed_headers(&settings, accept)?,
            answer_bytes_max: settings.answer_bytes_max,
        };
        let slots = Slots::new(settings.concurrency);
        Ok(Self { endpoint: Arc::new(endpoint), slots, wake: Notify::new(), settings })
    }
}

/// Tells the upstream which trace a call belongs to.
pub(crate) fn add_trace(trace: &TraceContext, head: &mut RequestHead) {
    if !trace.exists() {
        return;
    }
    if let Ok(traceparent) = HeaderValue::from_bytes(&trace.traceparent()) {
        head.add(&TRACEPARENT, &traceparent);
    }
    if let Some(Ok(state)) = trace.state.clone().map(HeaderValue::from_maybe_shared) {
        head.add(&TRACESTATE, &state);
    }
}

/// Whether an error may mean that the upstream is gone, or another one than it was.
pub(crate) fn asks_for_a_look(error: &CallError) -> bool {
    matches!(error.code(), ErrorCode::Unavailable | ErrorCode::Disconnected | ErrorCode::Protocol)
}

fn fixed_headers(settings: &Upstream, accept: &'static str) -> Result<HeaderMap, Box<str>> {
    let mut headers = HeaderMap::new();
    let authority = Origin::authority(&settings.url);
    headers.insert(header::HOST, value(&authority).map_err(|error| error.to_string())?);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
    headers.extend(settings.headers.iter().cloned());
    Ok(headers)
}

/// A parsed URL has nothing in its path that would have to be encoded.
fn path_and_query(settings: &Upstream) -> Box<str> {
    let url = &settings.url;
    url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path())).into()
}
