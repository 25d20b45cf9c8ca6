//! Hears from a server when a list of its is another, so that nobody has to wait for the next refresh:
//! `subscriptions/listen` (2026-07-28), or the stream of a session (2025-11-25, transports).

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{Method, StatusCode};
use runtime_api::{CallError, Caller, Era, Kind};
use runtime_mcp::{
    handshake::{self, ServerFacts},
    incoming::is_number,
};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;
use twinway_proto::{
    envelope::{self, Message},
    rope::Rope,
    sse::Decoder,
};

use super::{
    McpServer,
    session::{Owner, Session},
    sse_reply::{SseReply, is_list_changed, unreadable},
};
use crate::{
    exchange::{Content, content, next_data, refused_by},
    h1::Exchange,
};

const LISTEN: &str = "subscriptions/listen";

/// Pauses before a stream that was lost is opened anew. The refresh goes on meanwhile, so there is no hurry.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(5 * 60);

/// Longest life of a stream. One that died without a word is noticed then.
const LIFE_MAX: Duration = Duration::from_secs(60 * 60);

/// Of which changes a server tells, and in which era.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tells {
    era: Era,
    tools: bool,
    prompts: bool,
    resources: bool,
}

impl Tells {
    /// What it declares; nothing when it tells of no list.
    pub(super) fn of(era: Era, facts: &ServerFacts) -> Option<Self> {
        let [tools, prompts, resources] = [Kind::Tool, Kind::Prompt, Kind::Resource].map(|kind| facts.tells_of(kind));
        (tools || prompts || resources).then_some(Self { era, tools, prompts, resources })
    }

    /// What `subscriptions/listen` asks for.
    fn wanted(self) -> String {
        let asked =
            [("toolsListChanged", self.tools), ("promptsListChanged", self.prompts), ("resourcesListChanged", self.resources)];
        let asked: Vec<_> = asked.iter().filter(|(_, tells)| *tells).map(|(name, _)| format!(r#""{name}":true"#)).collect();
        format!(r#""notifications":{{{}}}"#, asked.join(","))
    }
}

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
            let found = tells.wait_for(Option::is_some).await.map(|tells| *tells);
            // It fails only without a sender, and this is one.
            let Ok(Some(told)) = found else { return std::future::pending().await };
            let began = Instant::now();
            let over = match timeout(LIFE_MAX, self.hear(told)).await {
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

    async fn hear(&self, told: Tells) -> Over {
        match self.open_and_hear(told).await {
            Ok(()) => Over::Ended,
            Err(over) => over,
        }
    }

    async fn open_and_hear(&self, told: Tells) -> Result<(), Over> {
        let id = self.next_id();
        let session = match told.era {
            Era::Modern => None,
            Era::Legacy => Some(self.session(&Owner::gateway()).await?),
        };
        let endpoint = &self.site.endpoint;
        let exchange = match &session {
            None => {
                let params = handshake::own_params(&told.wanted());
                endpoint.post(self.modern_head(LISTEN), envelope::request(id, LISTEN, Some(params))).await?
            }
            Some(session) => endpoint.send(&Method::GET, &session.listening_headers(), Rope::default()).await?,
        };
        let status = exchange.head.status;
        if content(&exchange.head) != Content::Events || status != StatusCode::OK {
            let refusal = refused_by(&exchange.head);
            endpoint.body(exchange).await?;
            if let Some(session) = session.filter(|_| status == StatusCode::NOT_FOUND) {
                self.sessions.forget(&Owner::gateway(), &session);
                return Err(Over::Lost(refusal));
            }
            let is_in_trouble = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            return Err(if is_in_trouble { Over::Lost(refusal) } else { Over::Refused(status) });
        }
        // What changed since the last look, and before this stream, nobody tells.
        self.site.wake.notify_one();
        self.follow(exchange, id, session.as_ref()).await
    }

    /// Reads the stream to its end.
    async fn follow(&self, mut exchange: Exchange, id: u64, session: Option<&Arc<Session>>) -> Result<(), Over> {
        let caller = Caller::none();
        let reply = SseReply { endpoint: &self.site.endpoint, session, caller: &caller, id, wake: &self.site.wake };
        let mut decoder = Decoder::new(self.site.settings.answer_bytes_max);
        loop {
            while let Some(event) = decoder.next_event().map_err(unreadable)? {
                match envelope::parse(&event.data) {
                    Ok(Message::Notification(notification)) if is_list_changed(&notification.method) => {
                        self.site.wake.notify_one();
                    }
                    Ok(Message::Request(request)) => reply.refuse(&request),
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
