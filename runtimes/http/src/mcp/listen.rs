//! Hears from a server when its list of tools is another, so that nobody has to wait for the next refresh:
//! `subscriptions/listen` (2026-07-28), or the stream of a session (2025-11-25, transports).

use std::{convert::Infallible, time::Duration};

use http::{HeaderValue, Method, StatusCode, header};
use runtime_api::{CallError, Caller, Era};
use runtime_mcp::{handshake, incoming::is_number};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;
use twinway_proto::{
    envelope::{self, Message},
    rope::Rope,
    sse::Decoder,
};

use super::{
    McpServer,
    look::own_principal,
    sse_reply::{SseReply, TOOLS_CHANGED, unreadable},
};
use crate::{
    exchange::{Kind, kind, next_data, refused_by},
    h1::{Exchange, RequestHead},
};

const LISTEN: &str = "subscriptions/listen";

/// Pauses before a stream that was lost is opened anew. The refresh goes on meanwhile, so there is no hurry.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(5 * 60);

/// Longest life of a stream. One that died without a word is noticed then.
const LIFE_MAX: Duration = Duration::from_secs(60 * 60);

/// Why a stream is over.
enum Over {
    /// It may be there again later.
    Lost(CallError),
    /// The server has none, whatever it declares.
    Refused(StatusCode),
    /// The server has ended it, or its time was up.
    Ended,
}

impl From<CallError> for Over {
    fn from(error: CallError) -> Self {
        Self::Lost(error)
    }
}

impl McpServer {
    /// Wakes whoever looks after the server at each change that it tells of. Listens whenever the last look found that it
    /// would tell. Cancel-safe: dropping it closes the stream.
    pub(crate) async fn listen(&self) -> Infallible {
        let mut pause = PAUSE_MIN;
        let mut tells = self.tells.subscribe();
        loop {
            let found = tells.wait_for(Option::is_some).await.map(|era| *era);
            // It fails only without a sender, and this is one.
            let Ok(Some(era)) = found else { return std::future::pending().await };
            let began = Instant::now();
            let over = match timeout(LIFE_MAX, self.hear(era)).await {
                Ok(over) => over,
                Err(_) => Over::Ended,
            };
            let target = &self.site.settings.target;
            match over {
                Over::Refused(status) => {
                    debug!(target_name = %target, %status, "the upstream tells of no changes");
                    if tells.changed().await.is_err() {
                        return std::future::pending().await;
                    }
                    continue;
                }
                Over::Lost(error) => debug!(target_name = %target, %error, "the stream of changes is lost"),
                Over::Ended => debug!(target_name = %target, "the stream of changes has ended"),
            }
            if began.elapsed() > PAUSE_MAX {
                pause = PAUSE_MIN;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn hear(&self, era: Era) -> Over {
        match self.open_and_hear(era).await {
            Ok(()) => Over::Ended,
            Err(over) => over,
        }
    }

    async fn open_and_hear(&self, era: Era) -> Result<(), Over> {
        let id = self.next_id();
        let session = match era {
            Era::Modern => None,
            Era::Legacy => Some(self.session(&own_principal()).await?),
        };
        let endpoint = &self.site.endpoint;
        let exchange = match &session {
            None => {
                let params = handshake::own_params(r#""notifications":{"toolsListChanged":true}"#);
                endpoint.post(self.modern_head(LISTEN), envelope::request(id, LISTEN, Some(params))).await?
            }
            Some(session) => {
                let mut headers = session.headers.clone();
                headers.remove(header::CONTENT_TYPE);
                headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
                endpoint.send(&Method::GET, &headers, Rope::default()).await?
            }
        };
        let status = exchange.head.status;
        if kind(&exchange.head) != Kind::Events || status != StatusCode::OK {
            let refusal = refused_by(&exchange.head);
            endpoint.body(exchange).await?;
            if let Some(session) = session.filter(|_| status == StatusCode::NOT_FOUND) {
                self.sessions.forget(&own_principal(), &session);
                return Err(Over::Lost(refusal));
            }
            let is_in_trouble = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            return Err(if is_in_trouble { Over::Lost(refusal) } else { Over::Refused(status) });
        }
        // What changed since the last look, and before this stream, nobody tells.
        self.site.wake.notify_one();
        self.follow(exchange, id, session.as_ref().map(|session| &session.head)).await
    }

    /// Reads the stream to its end.
    async fn follow(&self, mut exchange: Exchange, id: u64, session_head: Option<&RequestHead>) -> Result<(), Over> {
        let caller = Caller::none();
        let reply = SseReply { endpoint: &self.site.endpoint, session_head, caller: &caller, id, wake: &self.site.wake };
        let mut decoder = Decoder::new(self.site.settings.answer_bytes_max);
        loop {
            while let Some(event) = decoder.next_event().map_err(unreadable)? {
                match envelope::parse(&event.data) {
                    Ok(Message::Notification(notification)) if notification.method == TOOLS_CHANGED => {
                        self.site.wake.notify_one();
                    }
                    Ok(Message::Request(request)) => reply.answer(&request),
                    Ok(Message::Response(response)) if is_number(response.id, id) => return Ok(()),
                    // Other notifications are of what is not offered here; an event without data keeps the stream alive.
                    _ => {}
                }
            }
            let Some(data) = next_data(&mut exchange).await? else { return Ok(()) };
            decoder.push(data);
        }
    }
}
