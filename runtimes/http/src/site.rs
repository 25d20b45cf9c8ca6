//! What targets of every kind share: where they are, and when to look at them anew.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use runtime_api::{CallError, Era, ErrorCode, Interest, Principal, Slots, TraceContext};
use runtime_mcp::{client, stream::Changed};
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;
use twinway_proto::{
    envelope::{Notification, ParamsIndex},
    json,
};
use url::Url;

use crate::{
    connect::Origin,
    exchange::{Endpoint, TELLING_MAX, value},
    h1::RequestHead,
    pool::Pool,
    settings::Upstream,
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
    /// Which of its resources somebody wants to hear of; known once somebody looks after it.
    pub(crate) interest: OnceLock<Interest>,
}

impl Site {
    /// `accept` is what its answers may be.
    pub(crate) fn new(settings: Upstream, accept: &'static str, background: TaskTracker) -> Result<Self, Box<str>> {
        let origin = Origin::new(&settings.url, settings.connect_timeout)?;
        let endpoint = Endpoint {
            pool: Pool::new(origin),
            background,
            telling: Arc::new(Semaphore::new(TELLING_MAX)),
            path_and_query: path_and_query(&settings.url),
            headers: fixed_headers(&settings, accept)?,
            answer_bytes_max: settings.answer_bytes_max,
        };
        let slots = Slots::new(settings.concurrency);
        Ok(Self { endpoint: Arc::new(endpoint), slots, wake: Notify::new(), interest: OnceLock::new(), settings })
    }
}

impl Site {
    /// Takes note of what an MCP server says of changes, on whatever stream: servers tell the session in which something changed.
    pub(crate) fn heard(&self, message: &Bytes, notification: &Notification<'_>) {
        match &*notification.method {
            "notifications/tools/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/resources/list_changed" => self.wake.notify_one(),
            "notifications/resources/updated" => {
                let uri = updated_uri(message, notification.params.as_ref());
                uri.into_iter().for_each(|uri| self.updated(&uri));
            }
            _ => {}
        }
    }

    /// Takes note of how a task stands. `to`: whose session was told, if it was one's own.
    pub(crate) fn told(&self, era: Era, to: Option<&Principal>, task: &[u8]) {
        let own = client::task_of(std::str::from_utf8(task).unwrap_or_default());
        if let (Some(interest), Some(own)) = (self.interest.get(), own) {
            interest.tasks(era).told(|party| to.is_none_or(|principal| *principal == party.principal), &own, task);
        }
    }

    /// Takes note of changes that the conversation of a principal has collected.
    pub(crate) fn changed(&self, changed: &Changed, principal: &Principal) {
        changed.tasks.values().for_each(|task| self.told(Era::Legacy, Some(principal), task));
        if changed.lists() {
            self.wake.notify_one();
        }
        changed.updated.iter().for_each(|uri| self.updated(uri));
    }

    fn updated(&self, uri: &str) {
        self.interest.get().into_iter().for_each(|interest| interest.updated(uri));
    }
}

/// The URI that a notification of an update names.
fn updated_uri<'m>(message: &'m [u8], params: Option<&ParamsIndex>) -> Option<Cow<'m, str>> {
    let params = params?;
    let raw = &message[params.range.clone()][params.uri.clone()?];
    json::string(std::str::from_utf8(raw).ok()?)
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
pub(crate) fn path_and_query(url: &Url) -> Box<str> {
    url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path())).into()
}
