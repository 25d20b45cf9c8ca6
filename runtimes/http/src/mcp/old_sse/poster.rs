//! POSTs the messages of one conversation, and fails the requests that do not arrive.
//!
//! Messages go out side by side, because a server may answer a POST only when it has done what it says, and meanwhile ask something.
//! A notification is about what went before it: it waits for that to be taken, and what follows waits for it, but not for ever.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{Method, StatusCode};
use runtime_api::{CallError, Delivery, ErrorCode};
use runtime_mcp::stream::Connection;
use tokio::{sync::mpsc, time::timeout};
use tracing::debug;
use twinway_proto::{
    envelope::{self, Message},
    rope::Rope,
};

use crate::{
    exchange::{Endpoint, refused_by},
    h1::RequestHead,
    site::Site,
};

/// How long the answer to a POST is waited for. The request that it carried may be answered on the stream much later.
const TAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a notification waits for what went before it, and what follows for it. Servers that take messages at once need a
/// round trip.
const ORDER_PATIENCE: Duration = Duration::from_secs(1);

/// POSTs beside those of the requests in flight: answers, notifications, requests that were given up.
const POSTS_MORE: usize = 64;

pub(super) struct Poster {
    endpoint: Arc<Endpoint>,
    /// What every POST begins with.
    head: RequestHead,
    connection: Connection,
    /// On their way at once.
    posts_max: usize,
}

/// What matters of a message here.
#[derive(Debug, PartialEq, Eq)]
enum About {
    Request(u64),
    Notification,
    Answer,
}

impl About {
    fn of(message: &[u8]) -> Self {
        match envelope::parse(message) {
            Ok(Message::Request(request)) => request.id.parse().map_or(Self::Answer, Self::Request),
            Ok(Message::Notification(_)) => Self::Notification,
            Ok(Message::Response(_) | Message::Failure(_)) | Err(_) => Self::Answer,
        }
    }
}

/// A message that did not arrive.
struct Lost {
    error: CallError,
    /// And no other will.
    is_over: bool,
}

impl Poster {
    /// `path_and_query` is where messages go.
    pub(super) fn new(site: &Site, path_and_query: &str, connection: Connection, in_flight_max: usize) -> Self {
        let endpoint = Arc::clone(&site.endpoint);
        let head = RequestHead::new(&Method::POST, path_and_query, &endpoint.headers);
        Self { endpoint, head, connection, posts_max: in_flight_max + POSTS_MORE }
    }

    /// Posts until the conversation has ended and everything is out.
    pub(super) async fn run(self, mut messages: mpsc::Receiver<Rope>) {
        let mut posts = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(()) = posts.next() => {}
                message = messages.recv(), if posts.len() < self.posts_max => {
                    let Some(message) = message else { break };
                    let message = message.into_bytes();
                    let about = About::of(&message);
                    let keeps_order = about == About::Notification;
                    if keeps_order {
                        settle(&mut posts).await;
                    }
                    posts.push(self.post(message, about));
                    if keeps_order {
                        settle(&mut posts).await;
                    }
                }
            }
        }
        while posts.next().await.is_some() {}
    }

    async fn post(&self, message: Bytes, about: About) {
        match timeout(TAKE_TIMEOUT, self.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(lost)) => self.fail(lost, &about),
            Err(_) => debug!(?about, "the server does not say that it has taken a message"),
        }
    }

    async fn send(&self, message: Bytes) -> Result<(), Lost> {
        // Where POSTs do not come through the stream is of no use either.
        let broken = |error| Lost { error, is_over: true };
        let exchange = self.endpoint.post(self.head.begin(), message.into()).await.map_err(broken)?;
        let (status, refusal) = (exchange.head.status, refused_by(&exchange.head));
        let body = self.endpoint.body(exchange).await.map_err(broken)?;
        if status.is_success() {
            return Ok(());
        }
        if knows_no_session(status, &body) {
            return Err(broken(CallError::runtime(
                ErrorCode::Disconnected,
                Delivery::NotSent,
                "the server does not know the session any more",
            )));
        }
        Err(Lost { error: refusal, is_over: false })
    }

    fn fail(&self, lost: Lost, about: &About) {
        debug!(error = %lost.error, ?about, "a message did not reach the server");
        if let About::Request(id) = about {
            self.connection.fail(*id, lost.error);
        }
        if lost.is_over {
            self.connection.close();
        }
    }
}

/// Waits until all of them are taken, or take too long.
async fn settle<F: Future<Output = ()>>(posts: &mut FuturesUnordered<F>) {
    drop(timeout(ORDER_PATIENCE, async { while posts.next().await.is_some() {} }).await);
}

/// Whether a server refused a message because its stream is gone: 404 mostly; the C# SDK says it with 400.
fn knows_no_session(status: StatusCode, body: &[u8]) -> bool {
    let names_session = || body.to_ascii_lowercase().windows(7).any(|part| part == b"session");
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => true,
        StatusCode::BAD_REQUEST => names_session(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_told_by_its_form() {
        let cases = [
            (envelope::request(7, "tools/call", None), About::Request(7)),
            (envelope::notification("notifications/initialized", None), About::Notification),
            (envelope::response("\"a\"", Bytes::from_static(b"{}").into()), About::Answer),
            (envelope::failure(Some("1"), Bytes::from_static(b"{}")), About::Answer),
        ];
        for (message, expected) in cases {
            assert_eq!(About::of(&message.into_bytes()), expected);
        }
    }

    #[test]
    fn only_what_says_that_the_stream_is_gone_opens_another() {
        let cases: [(u16, &[u8], bool); 6] = [
            (404, b"Could not find session", true),
            (410, b"", true),
            (400, b"Session ID not found.", true),
            (400, b"Invalid message", false),
            (413, b"session", false),
            (500, b"session", false),
        ];
        for (status, body, expected) in cases {
            assert_eq!(knows_no_session(StatusCode::from_u16(status).expect("a status"), body), expected, "{status}");
        }
    }
}
