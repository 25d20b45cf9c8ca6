//! Reads an answer that comes as an event stream: notifications first, then the reply.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use runtime_api::{CallError, Caller, Delivery, ErrorCode};
use runtime_mcp::{
    Incoming,
    incoming::{is_number, off_protocol},
};
use tokio::sync::Notify;
use twinway_proto::{
    envelope::{self, Message, Notification, Request},
    rope::Rope,
    sse::Decoder,
};

use crate::{
    exchange::{Endpoint, next_data},
    h1::{Exchange, RequestHead},
    pool::broken,
};

/// Servers say it on a stream of its own, or beside the answer to the call that changed them.
pub(super) const TOOLS_CHANGED: &str = "notifications/tools/list_changed";

/// Bytes that are read after the reply in the hope that the stream ends and the connection can be used again. A stream
/// that goes on is not worth more than a new connection costs.
const DRAIN_BYTES_MAX: usize = 64 * 1024;

/// One stream that shall bring the answer to the request `id`.
#[derive(Debug)]
pub(crate) struct SseReply<'a> {
    pub(crate) endpoint: &'a Arc<Endpoint>,
    /// What a request in the legacy session begins with, if there is a session.
    pub(crate) session_head: Option<&'a RequestHead>,
    pub(crate) caller: &'a Caller,
    pub(crate) id: u64,
    /// Told of changes that the server mentions beside the answer.
    pub(crate) wake: &'a Notify,
}

impl SseReply<'_> {
    /// Reads until the answer is there. Dropping the future closes the connection.
    pub(crate) async fn read(&self, mut exchange: Exchange) -> Result<Incoming, CallError> {
        let mut decoder = Decoder::new(self.endpoint.answer_bytes_max);
        loop {
            while let Some(event) = decoder.next_event().map_err(unreadable)? {
                // A priming event has an id and no data (2025-11-25, polling).
                if event.data.is_empty() {
                    continue;
                }
                if let Some(answer) = self.event(event.data).await? {
                    self.finish(exchange);
                    return Ok(answer);
                }
            }
            let data = next_data(&mut exchange).await?;
            decoder.push(data.ok_or_else(|| broken("the event stream ended before the answer"))?);
        }
    }

    async fn event(&self, data: Bytes) -> Result<Option<Incoming>, CallError> {
        match envelope::parse(&data) {
            Ok(Message::Response(response)) if is_number(response.id, self.id) => {
                let result = response.result;
                Ok(Some(Incoming { message: data, result }))
            }
            Ok(Message::Failure(failure)) if failure.id.is_none_or(|id| is_number(id, self.id)) => {
                Err(runtime_mcp::incoming::failed(&data, &failure))
            }
            Ok(Message::Notification(notification)) => {
                self.notification(&data, notification).await;
                Ok(None)
            }
            Ok(Message::Request(request)) => {
                self.answer(&request);
                Ok(None)
            }
            // An answer to somebody else: some servers replay on a new stream.
            Ok(Message::Response(_) | Message::Failure(_)) => Ok(None),
            Err(error) => Err(off_protocol("an event of the upstream cannot be read").with_source(error)),
        }
    }

    /// Passes progress and log messages on; waits for a slow client, so that nothing piles up here.
    async fn notification(&self, data: &Bytes, notification: Notification<'_>) {
        if notification.method == TOOLS_CHANGED {
            self.wake.notify_one();
        }
        let Some(params) = notification.params else { return };
        let raw = data.slice(params.range);
        let wanted = match &*notification.method {
            "notifications/progress" => {
                let token = params.progress_token.and_then(|range| std::str::from_utf8(&raw[range]).ok());
                token.is_some_and(|token| is_number(token, self.id))
            }
            "notifications/message" => true,
            _ => false,
        };
        if wanted {
            // A client that is gone has dropped this call already, or will.
            self.caller.notify(&notification.method, raw).await.ok();
        }
    }

    /// Answers a request of the server. Nothing was declared that would allow another one than `ping`.
    pub(super) fn answer(&self, request: &Request<'_>) {
        let message = if request.method == "ping" {
            envelope::response(request.id, Rope::from(Bytes::from_static(b"{}")))
        } else {
            let error = envelope::error_object(-32601, "the client does not offer this method", None);
            envelope::failure(Some(request.id), error)
        };
        let head = self.session_head.map_or_else(|| self.endpoint.post_head(&self.endpoint.headers), RequestHead::begin);
        self.endpoint.tell(head, message);
    }

    /// Gives the connection back when the stream ends now or soon.
    fn finish(&self, mut exchange: Exchange) {
        match next_data(&mut exchange).now_or_never() {
            Some(Ok(None)) => self.endpoint.pool.give_back(exchange),
            Some(Err(_)) => {}
            Some(Ok(Some(_))) | None => {
                let endpoint = Arc::clone(self.endpoint);
                self.endpoint.background.spawn(async move {
                    let drained = tokio::time::timeout(std::time::Duration::from_secs(1), drain(&mut exchange)).await;
                    if matches!(drained, Ok(true)) {
                        endpoint.pool.give_back(exchange);
                    }
                });
            }
        }
    }
}

/// Whether the stream ended within the bound.
async fn drain(exchange: &mut Exchange) -> bool {
    let mut read = 0;
    while read < DRAIN_BYTES_MAX {
        match next_data(exchange).await {
            Ok(None) => return true,
            Ok(Some(data)) => read += data.len(),
            Err(_) => return false,
        }
    }
    false
}

pub(super) fn unreadable(error: twinway_proto::sse::SseError) -> CallError {
    CallError::runtime(ErrorCode::Protocol, Delivery::Unknown, "the upstream's event stream cannot be read").with_source(error)
}
