//! Hears from a server when a list of its is another, so that nobody has to wait for the next refresh, and when a resource is that
//! some client wants to hear of: `subscriptions/listen` (2026-07-28), or the stream of a session (2025-11-25, transports).

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use http::{Method, StatusCode};
use runtime_api::{CallError, Caller, Declared, Delivery, Demand, Era, ErrorCode, Interest, Kind, Standing};
use runtime_mcp::{
    client::TASK_NEWS,
    handshake::{self, ServerFacts},
    incoming::is_number,
    stream::listening::{self, ACKNOWLEDGED, Honoured, honoured_uris, subscribe_each},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::debug;
use twinway_proto::{
    envelope::{self, Message},
    json::write_string,
    rope::Rope,
    sse::Decoder,
};

use super::{
    Ask, McpServer,
    fault::AskError,
    questions::{refusal, refuse},
    session::{Owner, Session},
    sse_reply::unreadable,
};
use crate::{
    exchange::{Content, content, next_data, refused_by},
    h1::Exchange,
};

pub(super) const LISTEN: &str = "subscriptions/listen";

/// Pauses before a stream that was lost is opened anew. The refresh goes on meanwhile, so there is no hurry.
pub(super) const PAUSE_MIN: Duration = Duration::from_secs(1);
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(5 * 60);

/// Longest life of a stream. One that died without a word is noticed then.
const LIFE_MAX: Duration = Duration::from_secs(60 * 60);

/// Of which changes a server tells, and in which era.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tells {
    era: Era,
    tools: bool,
    prompts: bool,
    resources: bool,
    /// Of single resources.
    updates: bool,
}

/// URIs that clients want to hear of.
pub(super) type Uris = Arc<BTreeSet<Arc<str>>>;

impl Tells {
    /// What it declares; nothing when it tells of no change.
    pub(super) fn of(era: Era, facts: &ServerFacts) -> Option<Self> {
        let [tools, prompts, resources] = [Kind::Tool, Kind::Prompt, Kind::Resource].map(|kind| facts.tells_of(kind));
        let told = Self { era, tools, prompts, resources, updates: facts.tells_of_updates() };
        (told.lists() || told.updates).then_some(told)
    }

    const fn lists(self) -> bool {
        self.tools || self.prompts || self.resources
    }

    /// What `subscriptions/listen` asks for.
    fn wanted(self, uris: &Uris) -> String {
        let lists =
            [("toolsListChanged", self.tools), ("promptsListChanged", self.prompts), ("resourcesListChanged", self.resources)];
        let mut asked: Vec<_> = lists.iter().filter(|(_, tells)| *tells).map(|(name, _)| format!(r#""{name}":true"#)).collect();
        if self.updates && !uris.is_empty() {
            let uris: Vec<_> = uris.iter().map(|uri| quoted(uri)).collect();
            asked.push(format!(r#""resourceSubscriptions":[{}]"#, uris.join(",")));
        }
        format!(r#""notifications":{{{}}}"#, asked.join(","))
    }
}

pub(super) fn quoted(text: &str) -> String {
    let mut quoted = Vec::new();
    write_string(&mut quoted, text);
    String::from_utf8_lossy(&quoted).into_owned()
}

/// A stream on which a server tells of changes.
pub(super) struct Stream {
    exchange: Exchange,
    decoder: Decoder,
    /// Of the request that is answered by it.
    id: u64,
    /// What it is good for, where that is said by the request that opens it.
    honoured: Honoured,
}

/// What came on a stream.
enum Heard {
    /// The server tells on it from now on, of these resources.
    Acknowledged(BTreeSet<String>),
    Other,
    End,
}

/// Why a stream is over.
pub(super) enum Over {
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
    /// Wakes whoever looks after the server at each change that it tells of, and passes on which resources were updated. Listens
    /// whenever the last look found that it would tell, and there is something to hear. Cancel-safe: dropping it closes the stream.
    pub(crate) async fn listen(&self, interest: &Interest) -> Infallible {
        let mut pause = PAUSE_MIN;
        let (mut tells, mut wanted) = (self.tells.subscribe(), interest.wanted());
        loop {
            let found = *tells.borrow_and_update();
            let told = found.filter(|told| told.lists() || (told.updates && !wanted.borrow_and_update().is_empty()));
            let Some(told) = told else {
                either_changes(&mut tells, &mut wanted).await;
                continue;
            };
            let began = Instant::now();
            let heard = for_a_life(self.hear(told, interest)).await;
            let target = &self.site.settings.target;
            match heard {
                Err(Over::Refused(status)) => {
                    debug!(target_name = %target, %status, "the upstream tells of no changes");
                    either_changes(&mut tells, &mut wanted).await;
                    continue;
                }
                Err(Over::Lost(error)) => debug!(target_name = %target, %error, "the stream of changes is lost"),
                Ok(()) | Err(Over::Ended) => debug!(target_name = %target, "the stream of changes has ended"),
            }
            if began.elapsed() > PAUSE_MAX {
                pause = PAUSE_MIN;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn hear(&self, told: Tells, interest: &Interest) -> Result<(), Over> {
        match told.era {
            Era::Modern => self.hear_modern(told, interest).await,
            Era::Legacy if self.speaks_sse() => self.hear_on_stream(told, interest).await,
            Era::Legacy => self.hear_in_session(told, interest).await,
        }
    }

    /// A stream asks for the URIs of one moment: for others another takes its place.
    async fn hear_modern(&self, told: Tells, interest: &Interest) -> Result<(), Over> {
        let mut demand = interest.demand();
        let mut stream = match self.begin_modern(told, &demand).await {
            Ok(stream) => stream,
            Err(over) => {
                settle_refused(&demand, &over);
                return Err(over);
            }
        };
        loop {
            // The old one is heard until the server tells on the new one, so that nothing goes by between them.
            let honoured = stream.honoured.clone();
            stream = tokio::select! {
                biased;
                over = self.follow(&mut stream, None) => return over,
                next = self.open_next(told, &mut demand, honoured) => next?,
            };
        }
    }

    async fn begin_modern(&self, told: Tells, demand: &Demand) -> Result<Stream, Over> {
        let stream = self.open_modern(told, demand.wanted()).await?;
        if told.lists() {
            // What changed since the last look, and before this stream, nobody tells.
            self.site.wake.notify_one();
        }
        self.begun(stream).await
    }

    /// The stream for other URIs, once others are wanted and the server has begun to tell on it. `now`: what the one before is good for.
    async fn open_next(&self, told: Tells, demand: &mut Demand, now: Honoured) -> Result<Stream, Over> {
        if !told.updates {
            match demand.keep_settling(|_| Some(listening::tells_of_none())).await {}
        }
        let wanted = loop {
            let wanted = demand.wanted();
            if wanted != now.asked {
                break wanted;
            }
            demand.settle(|uri| now.standing(uri));
            demand.changed().await;
        };
        let opening = async { self.begun(self.open_modern(told, Arc::clone(&wanted)).await?).await };
        tokio::select! {
            biased;
            // A server may listen for us once alone: then this begins anew.
            next = opening => next.map_err(|over| if let Over::Refused(_) = over { Over::Ended } else { over }),
            // What the next one does not ask for is about to end.
            never = demand.keep_settling(|uri| now.standing(uri).filter(|_| wanted.contains(uri))) => match never {},
        }
    }

    /// The stream once the server tells on it: it says so first (2026-07-28, subscriptions). One that does not is not waited for longer
    /// than for a list.
    pub(super) async fn begun(&self, mut stream: Stream) -> Result<Stream, Over> {
        let acknowledged = async {
            loop {
                match self.hear_one(&mut stream, None).await? {
                    Heard::Acknowledged(uris) => return Ok(uris),
                    Heard::Other => {}
                    Heard::End => return Err(Over::Ended),
                }
            }
        };
        stream.honoured.acknowledged = match timeout(self.site.settings.list_timeout, acknowledged).await {
            Ok(acknowledged) => Some(acknowledged?),
            Err(_) => None,
        };
        Ok(stream)
    }

    async fn open_modern(&self, told: Tells, asked: Uris) -> Result<Stream, Over> {
        let id = self.next_id();
        let params = handshake::own_params(&told.wanted(&asked));
        let exchange = self.site.endpoint.post(self.modern_head(LISTEN), envelope::request(id, LISTEN, Some(params))).await?;
        let mut stream = self.stream_of(exchange, id, None).await?;
        stream.honoured.asked = asked;
        Ok(stream)
    }

    /// The one stream of the gateway's own session over HTTP+SSE. What comes on it is heard in any case; here it is kept, and the
    /// URIs are subscribed to.
    async fn hear_on_stream(&self, told: Tells, interest: &Interest) -> Result<(), Over> {
        let stream = self.old.stream(&Owner::gateway()).await.map_err(CallError::from)?;
        if told.lists() {
            self.site.wake.notify_one();
        }
        let keeping = listening::keep(stream.connection(), Era::Legacy, stream.facts(), interest.demand(), listening::none());
        tokio::select! {
            biased;
            () = stream.connection().ended() => Ok(()),
            never = keeping => match never {},
        }
    }

    /// The stream of the gateway's own session, in which the URIs are subscribed to one by one.
    async fn hear_in_session(&self, told: Tells, interest: &Interest) -> Result<(), Over> {
        let session = self.session(&Owner::gateway()).await?;
        let mut demand = interest.demand();
        let exchange = self.site.endpoint.send(&Method::GET, &session.listening_headers(), Rope::default()).await?;
        let opened = self.stream_of(exchange, 0, Some(&session)).await;
        let mut stream = opened.inspect_err(|over| settle_refused(&demand, over))?;
        if told.lists() {
            self.site.wake.notify_one();
        }
        let subscribing = async {
            if !told.updates {
                match demand.keep_settling(|_| Some(listening::tells_of_none())).await {}
            }
            subscribe_each(demand, |method, uri| self.tell_in(&session, method, uri)).await
        };
        tokio::select! {
            biased;
            over = self.follow(&mut stream, Some(&session)) => over,
            over = subscribing => over.map(|never| match never {}),
        }
    }

    /// Subscribes to a resource, or no longer.
    async fn tell_in(&self, session: &Arc<Session>, method: &'static str, uri: Arc<str>) -> Result<Standing, Over> {
        let (id, caller) = (self.next_id(), Caller::none());
        let params = Some(listening::params_of(&uri).into());
        let ask = Ask { id, method, params, head: session.head.begin(), caller: &caller, session: Some(session) };
        Ok(match timeout(self.site.settings.list_timeout, self.ask(ask)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(AskError::Expired)) => {
                self.sessions.forget(&Owner::gateway(), session);
                return Err(Over::Ended);
            }
            Ok(Err(AskError::Failed(error))) => {
                debug!(target_name = %self.site.settings.target, method, %uri, %error, "the upstream refuses a subscription");
                Err(Arc::new(error))
            }
            Err(_) => {
                let late = "the target has not answered in time whether it takes the subscription";
                Err(Arc::new(CallError::runtime(ErrorCode::DeadlineExceeded, Delivery::Unknown, late)))
            }
        })
    }

    /// The stream that an answer begins.
    pub(super) async fn stream_of(&self, exchange: Exchange, id: u64, session: Option<&Arc<Session>>) -> Result<Stream, Over> {
        let status = exchange.head.status;
        if content(&exchange.head) == Content::Events && status == StatusCode::OK {
            let decoder = Decoder::new(self.site.settings.answer_bytes_max);
            return Ok(Stream { exchange, decoder, id, honoured: Honoured::default() });
        }
        let refusal = refused_by(&exchange.head);
        self.site.endpoint.body(exchange).await?;
        if let Some(session) = session.filter(|_| status == StatusCode::NOT_FOUND) {
            self.sessions.forget(&Owner::gateway(), session);
            return Err(Over::Lost(refusal));
        }
        let is_in_trouble = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        Err(if is_in_trouble { Over::Lost(refusal) } else { Over::Refused(status) })
    }

    /// Reads the stream to its end.
    pub(super) async fn follow(&self, stream: &mut Stream, session: Option<&Arc<Session>>) -> Result<(), Over> {
        while !matches!(self.hear_one(stream, session).await?, Heard::End) {}
        Ok(())
    }

    /// Takes the next event of the stream. Cancel-safe.
    async fn hear_one(&self, stream: &mut Stream, session: Option<&Arc<Session>>) -> Result<Heard, Over> {
        let event = loop {
            if let Some(event) = stream.decoder.next_event().map_err(unreadable)? {
                break event;
            }
            let Some(data) = next_data(&mut stream.exchange).await? else { return Ok(Heard::End) };
            stream.decoder.push(data);
        };
        match envelope::parse(&event.data) {
            Ok(Message::Notification(notification)) if notification.method == ACKNOWLEDGED => {
                let params = notification.params.map(|params| event.data.slice(params.range)).unwrap_or_default();
                return Ok(Heard::Acknowledged(honoured_uris(&params)));
            }
            Ok(Message::Notification(notification)) => {
                self.site.heard(&event.data, &notification);
                let task = notification.params.filter(|_| session.is_none() && notification.method == TASK_NEWS);
                task.into_iter().for_each(|task| self.site.told(Era::Modern, None, &event.data[task.range]));
            }
            Ok(Message::Request(request)) => {
                let refusal = refusal(&request, Declared::NONE);
                refuse(&self.site.endpoint, session.map(|session| &**session), refusal);
            }
            Ok(Message::Response(response)) if is_number(response.id, stream.id) => return Ok(Heard::End),
            Ok(Message::Failure(failure)) if failure.id.is_some_and(|id| is_number(id, stream.id)) => return Ok(Heard::End),
            // An event without data keeps the stream alive.
            _ => {}
        }
        Ok(Heard::Other)
    }
}

/// Hears a stream, or several that follow each other, for no longer than one may live.
pub(super) async fn for_a_life(hearing: impl Future<Output = Result<(), Over>>) -> Result<(), Over> {
    timeout(LIFE_MAX, hearing).await.unwrap_or(Err(Over::Ended))
}

/// Tells those who wait that the server does not tell. A stream that was lost says nothing of that: it may be there again soon.
fn settle_refused(demand: &Demand, over: &Over) {
    let why = match over {
        Over::Lost(_) => return,
        Over::Refused(status) => format!("the upstream tells of no changes: it has answered with status {status}"),
        Over::Ended => "the upstream tells of no changes: it has ended the stream before it took note of anything".to_owned(),
    };
    let refused = listening::refused(why);
    demand.settle(|_| Some(refused.clone()));
}

/// Waits until one of them changes. They fail only without their senders, and this server holds both.
async fn either_changes(tells: &mut watch::Receiver<Option<Tells>>, wanted: &mut watch::Receiver<Uris>) {
    tokio::select! {
        _ = tells.changed() => {}
        () = changes(wanted) => {}
    }
}

pub(super) async fn changes(wanted: &mut watch::Receiver<Uris>) {
    if wanted.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_died_without_a_word_is_over_when_its_time_is_up() {
        let began = Instant::now();

        let heard = for_a_life(std::future::pending()).await;

        assert!(matches!(heard, Err(Over::Ended)));
        assert_eq!(began.elapsed(), LIFE_MAX);
    }
}
