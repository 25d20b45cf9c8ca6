//! Reads an answer that comes as an event stream: notifications first, then the reply.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use http::{HeaderName, Method, StatusCode};
use runtime_api::{CallError, Caller, Declared, Delivery, Era, ErrorCode};
use runtime_mcp::{
    Incoming,
    client::{self, TASK_STATUS},
    incoming::{is_number, off_protocol},
};
use twinway_proto::{
    envelope::{self, Message, Notification, Request},
    json::text,
    rope::Rope,
    sse::{Decoder, SseError},
};

use super::{
    questions::{Question, refusal, refuse},
    session::Session,
};
use crate::{
    exchange::{Content, content, next_data, value},
    h1::Exchange,
    pool::broken,
    site::Site,
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Bytes that are read after the reply in the hope that the stream ends and the connection can be used again. A stream
/// that goes on is not worth more than a new connection costs.
const DRAIN_BYTES_MAX: usize = 64 * 1024;

/// How often a stream that ended before the answer is opened again without anything new on it.
const RESUMES_MAX: usize = 8;

/// How long to wait before that, when the server does not say (2025-11-25, polling), and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// One stream that shall bring the answer to the request `id`.
#[derive(Debug)]
pub(crate) struct SseReply<'a> {
    pub(crate) site: &'a Site,
    /// The legacy session, if there is one.
    pub(crate) session: Option<&'a Arc<Session>>,
    pub(crate) caller: &'a Caller,
    pub(crate) id: u64,
}

/// What an event amounts to.
enum Heard<'a> {
    Answer(Incoming),
    /// A question of the server: to be asked of the client, and its answer to be sent back.
    Question(BoxFuture<'a, Result<(), CallError>>),
    Nothing,
}

impl<'a> SseReply<'a> {
    /// Reads until the answer is there. Dropping the future closes the connection.
    pub(crate) async fn read(&self, mut exchange: Exchange) -> Result<Incoming, CallError> {
        let mut decoder = Decoder::new(self.site.endpoint.answer_bytes_max);
        let mut questions = FuturesUnordered::new();
        let mut resumes = 0;
        let mut last_event_id = Box::<str>::default();
        loop {
            while let Some(event) = decoder.next_event().map_err(unreadable)? {
                // A priming event has an id and no data (2025-11-25, polling).
                if event.data.is_empty() {
                    continue;
                }
                resumes = 0;
                match self.event(event.data).await? {
                    Heard::Answer(answer) => {
                        self.finish(exchange);
                        return Ok(answer);
                    }
                    Heard::Question(question) => questions.push(question),
                    Heard::Nothing => {}
                }
            }
            let data = tokio::select! {
                biased;
                Some(answered) = questions.next() => {
                    answered?;
                    continue;
                }
                data = next_data(&mut exchange) => data,
            };
            if let Ok(Some(data)) = data {
                decoder.push(data);
                continue;
            }
            if !decoder.last_event_id().is_empty() {
                last_event_id = decoder.last_event_id().into();
            }
            let wait = decoder.reconnect_ms().map_or(RETRY.0, Duration::from_millis).min(RETRY.1);
            resumes += 1;
            let was_closed = data.is_ok() && decoder.reconnect_ms().is_some();
            let lost = data.err().unwrap_or_else(|| broken("the event stream ended before the answer"));
            exchange = match self.session.filter(|_| !last_event_id.is_empty() && resumes <= RESUMES_MAX) {
                Some(session) => {
                    if was_closed {
                        self.caller.away(wait).await;
                    }
                    tokio::time::sleep(wait).await;
                    self.resume(session, &last_event_id, lost).await?
                }
                None => return Err(lost),
            };
            decoder = Decoder::new(self.site.endpoint.answer_bytes_max);
        }
    }

    /// Opens the stream again behind the last event that came (2025-11-25, resumability).
    async fn resume(&self, session: &Session, last_event_id: &str, lost: CallError) -> Result<Exchange, CallError> {
        let mut headers = session.listening_headers();
        headers.insert(LAST_EVENT_ID, value(last_event_id)?);
        let exchange = self.site.endpoint.send(&Method::GET, &headers, Rope::default()).await;
        match exchange {
            Ok(exchange) if exchange.head.status == StatusCode::OK && content(&exchange.head) == Content::Events => Ok(exchange),
            _ => Err(lost),
        }
    }

    async fn event(&self, data: Bytes) -> Result<Heard<'a>, CallError> {
        match envelope::parse(&data) {
            Ok(Message::Response(response)) if is_number(response.id, self.id) => {
                let result = response.result;
                Ok(Heard::Answer(Incoming { message: data, result }))
            }
            Ok(Message::Failure(failure)) if failure.id.is_none_or(|id| is_number(id, self.id)) => {
                Err(runtime_mcp::incoming::failed(&data, &failure))
            }
            Ok(Message::Notification(notification)) => {
                self.notification(&data, notification).await;
                Ok(Heard::Nothing)
            }
            Ok(Message::Request(request)) => Ok(self.asked(&data, &request)),
            // An answer to somebody else: some servers replay on a new stream.
            Ok(Message::Response(_) | Message::Failure(_)) => Ok(Heard::Nothing),
            Err(error) => Err(off_protocol("an event of the upstream cannot be read").with_source(error)),
        }
    }

    /// Passes progress and log messages on; waits for a slow client, so that nothing piles up here.
    async fn notification(&self, data: &Bytes, notification: Notification<'_>) {
        // Servers tell of changes beside the answer to the call that made them, too.
        self.site.heard(data, &notification);
        let Some(params) = notification.params else { return };
        let raw = data.slice(params.range);
        let wanted = match &*notification.method {
            "notifications/progress" => {
                let token = params.progress_token.and_then(|range| std::str::from_utf8(&raw[range]).ok());
                token.is_some_and(|token| is_number(token, self.id))
            }
            "notifications/message" => self.caller.wants().logging.wants(client::log_level(&raw)),
            client::ELICITATION_COMPLETE => self.caller.wants().requests.has(Declared::ELICITATION_URL),
            // Servers tell of tasks on any stream.
            TASK_STATUS => client::task_of(text(&raw)).is_some_and(|task| self.caller.is_about(Some(&task))),
            _ => false,
        };
        let task = client::related_task(text(&raw));
        if wanted && self.caller.is_about(task.as_deref()) {
            // A client that is gone has dropped this call already, or will.
            self.caller.notify(&notification.method, raw).await.ok();
        } else if let (TASK_STATUS, Some(session)) = (&*notification.method, self.session) {
            self.site.told(Era::Legacy, Some(&session.principal), &raw);
        }
    }

    /// A request of the server: for the client, if it takes it.
    fn asked(&self, data: &Bytes, request: &Request<'_>) -> Heard<'a> {
        let question = Question::new(data, request);
        let (caller, endpoint) = (self.caller, &self.site.endpoint);
        match self.session {
            Some(session) if question.is_for(caller) => {
                Heard::Question(Box::pin(question.ask(caller.clone(), endpoint, session)))
            }
            session => {
                let refusal = refusal(request, caller.wants().requests);
                refuse(endpoint, session.map(|session| &**session), refusal);
                Heard::Nothing
            }
        }
    }

    /// Gives the connection back when the stream ends now or soon.
    fn finish(&self, mut exchange: Exchange) {
        match next_data(&mut exchange).now_or_never() {
            Some(Ok(None)) => self.site.endpoint.pool.give_back(exchange),
            Some(Err(_)) => {}
            Some(Ok(Some(_))) | None => {
                let endpoint = Arc::clone(&self.site.endpoint);
                self.site.endpoint.background.spawn(async move {
                    let drained = tokio::time::timeout(Duration::from_secs(1), drain(&mut exchange)).await;
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

pub(super) fn unreadable(error: SseError) -> CallError {
    if let SseError::EventTooLarge { event_bytes_max } = error {
        let message = format!("an event of the upstream is larger than the limit of {event_bytes_max} bytes");
        return CallError::runtime(ErrorCode::TooLarge, Delivery::Unknown, message);
    }
    CallError::runtime(ErrorCode::Protocol, Delivery::Unknown, "the upstream's event stream cannot be read").with_source(error)
}
