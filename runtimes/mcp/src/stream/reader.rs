//! Reads a conversation and gives every message to whom it belongs. Waits for nothing but the source, and a moment for a client that is
//! as far behind its server as it may be.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use runtime_api::{BoxError, Caller, Declared};
use twinway_proto::{
    envelope::{self, EnvelopeError, Message, Notification, ParamsIndex, Request},
    json::{self, Fault as JsonFault, text},
    meta::key,
    rope::Rope,
};

use super::{
    Asked, Ended, Fault, Garbage,
    connection::{Shared, broken},
    listening::ACKNOWLEDGED,
    outbox::Outgoing,
    pending::Taken,
};
use crate::{
    Incoming,
    client::{self, TASK_NEWS, TASK_STATUS},
    handshake::part,
    incoming::failed,
};

/// Requests of the other side that are being answered; as many again may wait to be sent. More are refused.
const ANSWERING_MAX: usize = 16;

/// Answers to requests of the other side that are being made.
type Answering = FuturesUnordered<BoxFuture<'static, Rope>>;

/// Reads until the conversation ends.
pub(super) async fn read<In, E>(mut source: In, shared: Arc<Shared>)
where
    In: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Into<BoxError>,
{
    let mut answering = Answering::new();
    let told_to_end = shared.ended();
    tokio::pin!(told_to_end);
    let ended = loop {
        tokio::select! {
            biased;
            () = &mut told_to_end => return,
            Some(reply) = answering.next() => shared.send(Outgoing::Reply(reply)),
            message = source.next() => match message {
                None => break Ended::ByPeer,
                Some(Err(error)) => break broken(error.into()),
                Some(Ok(message)) => {
                    if let Err(ended) = shared.receive(&message, &mut answering).await {
                        break ended;
                    }
                }
            },
        }
    };
    shared.end(&ended);
}

impl Shared {
    /// Gives a message to whom it belongs; fails when the conversation cannot go on.
    async fn receive(&self, message: &Bytes, answering: &mut Answering) -> Result<(), Ended> {
        match envelope::parse(message) {
            Ok(Message::Response(response)) => {
                let result = response.result;
                self.answer(response.id.parse().ok(), || Ok(Incoming { message: message.clone(), result }));
            }
            Ok(Message::Failure(failure)) => {
                let id = failure.id.and_then(|id| id.parse().ok());
                self.answer(id, || Err(failed(message, &failure)));
            }
            Ok(Message::Notification(notification)) => self.notified(message, &notification).await,
            Ok(Message::Request(request)) => self.asked(message, &request, answering),
            Err(error) => return self.garbage(error),
        }
        Ok(())
    }

    fn answer(&self, id: Option<u64>, answer: impl FnOnce() -> super::pending::Answer) {
        match id.map_or(Taken::Unknown, |id| self.pending.take(id)) {
            // Whoever has stopped waiting a moment ago needs no answer.
            Taken::Wanted(place) => drop(place.send(answer())),
            Taken::Late => self.fault(Fault::LateAnswer),
            Taken::Unknown => self.fault(Fault::UnknownId),
        }
    }

    /// Passes a notification on to the only client that it can be meant for. One that does not read has it later, as far as there is
    /// room; waiting for it would hold the answers of all others on this stream.
    async fn notified(&self, message: &Bytes, notification: &Notification<'_>) {
        let (method, params) = (&*notification.method, notification.params.as_ref());
        let raw = params.map(|params| message.slice(params.range.clone())).unwrap_or_default();
        let (caller, fault) = match method {
            "notifications/progress" => (self.in_progress(&raw, params), Fault::ProgressDropped),
            "notifications/message" => (self.who_logs(&raw), Fault::NotificationIgnored),
            client::ELICITATION_COMPLETE => (self.who_was_sent_elsewhere(&raw), Fault::NotificationIgnored),
            ACKNOWLEDGED => (self.who_listens(&raw), Fault::NotificationIgnored),
            TASK_STATUS | TASK_NEWS => match self.who_waits(&raw) {
                Some(caller) => (Some(caller), Fault::NotificationIgnored),
                None => return self.told(&raw),
            },
            _ => return self.changed(&raw, notification),
        };
        let told = match caller {
            Some(caller) => caller.notify_on(&self.room, method, raw).await.is_ok(),
            None => false,
        };
        if !told {
            self.fault(fault);
        }
    }

    /// The client of the call that progress is about.
    fn in_progress(&self, raw: &[u8], params: Option<&ParamsIndex>) -> Option<Caller> {
        let token = params?.progress_token.clone()?;
        self.pending.caller(text(&raw[token]).parse().ok()?)
    }

    /// Whoever waits to know what of its `subscriptions/listen` is honoured (2026-07-28, subscriptions).
    fn who_listens(&self, raw: &Bytes) -> Option<Caller> {
        let subscription = part(raw, "_meta").and_then(|meta| part(&meta, key::SUBSCRIPTION_ID))?;
        self.pending.caller(text(&subscription).parse().ok()?)
    }

    /// The only client that a log line can be meant for.
    fn who_logs(&self, raw: &Bytes) -> Option<Caller> {
        let (level, task) = (client::log_level(raw), client::related_task(text(raw)));
        self.pending.only_caller(|caller| caller.wants().logging.wants(level) && caller.is_about(task.as_deref()))
    }

    /// The only client that can have been sent to a URL.
    fn who_was_sent_elsewhere(&self, raw: &[u8]) -> Option<Caller> {
        let task = client::related_task(text(raw));
        let takes = |caller: &Caller| caller.wants().requests.has(Declared::ELICITATION_URL);
        self.pending.only_caller(|caller| takes(caller) && caller.is_about(task.as_deref()))
    }

    /// The client that waits for the result of the task that this is about.
    fn who_waits(&self, raw: &[u8]) -> Option<Caller> {
        let task = client::task_of(text(raw))?;
        self.pending.only_caller(|caller| caller.is_about(Some(&task)))
    }

    /// Takes note of how a task stands for whose result nobody waits.
    fn told(&self, raw: &[u8]) {
        let is_noted = client::task_of(text(raw)).is_some_and(|id| self.changes.note_task(id.into_owned(), raw));
        if !is_noted {
            self.fault(Fault::NotificationIgnored);
        }
    }

    /// Takes note of what is not as it was.
    fn changed(&self, raw: &[u8], notification: &Notification<'_>) {
        if &*notification.method == "notifications/resources/updated" {
            let uri = notification.params.as_ref().and_then(|params| params.uri.clone());
            let uri = uri.and_then(|uri| json::string(text(&raw[uri])).map(Into::into));
            uri.into_iter().for_each(|uri| self.changes.note_update(uri));
        } else if !self.changes.note(&notification.method) {
            self.fault(Fault::NotificationIgnored);
        }
    }

    fn asked(&self, message: &Bytes, request: &Request<'_>, answering: &mut Answering) {
        if &*request.method == "ping" {
            let pong = envelope::response(request.id, Bytes::from_static(b"{}").into());
            return self.send(Outgoing::Reply(pong));
        }
        let refuse = |code, text| {
            let error = envelope::error_object(code, text, None);
            self.send(Outgoing::Reply(envelope::failure(Some(request.id), error)));
        };
        if answering.len() >= ANSWERING_MAX {
            return refuse(-32603, "too many requests at once");
        }
        let params = request.params.as_ref().map(|params| message.slice(params.range.clone()));
        let asked = Asked { method: (&*request.method).into(), params };
        let made = match &self.settings.on_request {
            Some(on_request) => on_request(asked),
            None => match self.asks_a_client(asked) {
                Some(made) => made,
                None => {
                    let code = client::refusal(&request.method, self.declared());
                    return refuse(code, "no call is in flight whose client takes this request, or more than one is");
                }
            },
        };
        let id: Box<str> = request.id.into();
        answering.push(Box::pin(async move {
            match made.await {
                Ok(result) => envelope::response(&id, result),
                Err(error) => envelope::failure(Some(&id), error),
            }
        }));
    }

    /// What the only client takes that has a call in flight; nothing when there are several.
    fn declared(&self) -> Declared {
        self.pending.only_caller(|_| true).map_or(Declared::NONE, |caller| caller.wants().requests)
    }

    /// A question for the only client that can be meant.
    fn asks_a_client(&self, asked: Asked) -> Option<BoxFuture<'static, Result<Rope, Bytes>>> {
        let Asked { method, params } = asked;
        let params = params.unwrap_or(Bytes::from_static(b"{}"));
        let needed = client::needs(&method, text(&params))?;
        let task = client::related_task(text(&params)).map(Cow::into_owned);
        let takes = |caller: &Caller| caller.wants().requests.has(needed) && caller.is_about(task.as_deref());
        let caller = self.pending.only_caller(takes)?;
        Some(Box::pin(async move {
            match caller.request(&method, params).await {
                Ok(answer) => answer.map(Rope::from),
                Err(gone) => Err(envelope::error_object(-32603, &gone.to_string(), None)),
            }
        }))
    }

    fn garbage(&self, error: EnvelopeError) -> Result<(), Ended> {
        self.fault(match &error {
            EnvelopeError::Json(json::JsonError { fault: JsonFault::Utf8, .. }) => Fault::InvalidUtf8,
            EnvelopeError::Json(_) => Fault::InvalidJson,
            _ => Fault::NotAMessage,
        });
        match self.settings.garbage {
            Garbage::Close => Err(Ended::Garbage(Arc::new(error))),
            Garbage::Ignore => Ok(()),
        }
    }
}
