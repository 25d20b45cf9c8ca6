//! Reads a conversation and gives every message to whom it belongs. Waits for nothing but the source.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use runtime_api::{BoxError, Caller, Declared};
use twinway_proto::{
    envelope::{self, EnvelopeError, Message, Notification, ParamsIndex, Request},
    json::{self, Fault as JsonFault},
    rope::Rope,
};

use super::{
    Asked, Ended, Fault, Garbage,
    connection::{Shared, broken},
    outbox::Outgoing,
    pending::Taken,
};
use crate::{
    Incoming,
    client::{self, TASK_STATUS},
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
                    if let Err(ended) = shared.receive(&message, &mut answering) {
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
    fn receive(&self, message: &Bytes, answering: &mut Answering) -> Result<(), Ended> {
        match envelope::parse(message) {
            Ok(Message::Response(response)) => {
                let result = response.result;
                self.answer(response.id.parse().ok(), || Ok(Incoming { message: message.clone(), result }));
            }
            Ok(Message::Failure(failure)) => {
                let id = failure.id.and_then(|id| id.parse().ok());
                self.answer(id, || Err(failed(message, &failure)));
            }
            Ok(Message::Notification(notification)) => self.notified(message, &notification),
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

    fn notified(&self, message: &Bytes, notification: &Notification<'_>) {
        if &*notification.method == "notifications/progress" {
            let delivered = notification.params.as_ref().is_some_and(|params| self.progress(message, params));
            if !delivered {
                self.fault(Fault::ProgressDropped);
            }
        } else if &*notification.method == "notifications/message" {
            if !notification.params.as_ref().is_some_and(|params| self.log_line(message, params)) {
                self.fault(Fault::NotificationIgnored);
            }
        } else if &*notification.method == client::ELICITATION_COMPLETE {
            if !notification.params.as_ref().is_some_and(|params| self.done_elsewhere(message, params)) {
                self.fault(Fault::NotificationIgnored);
            }
        } else if &*notification.method == TASK_STATUS {
            if !notification.params.as_ref().is_some_and(|params| self.task_status(message, params)) {
                self.fault(Fault::NotificationIgnored);
            }
        } else if &*notification.method == "notifications/resources/updated" {
            let uri = notification.params.as_ref().and_then(|params| {
                let raw = &message[params.range.clone()][params.uri.clone()?];
                json::string(std::str::from_utf8(raw).ok()?).map(Into::into)
            });
            uri.into_iter().for_each(|uri| self.changes.note_update(uri));
        } else if !self.changes.note(&notification.method) {
            self.fault(Fault::NotificationIgnored);
        }
    }

    /// Passes a log line on to the only client that can be meant.
    fn log_line(&self, message: &Bytes, params: &ParamsIndex) -> bool {
        let raw = message.slice(params.range.clone());
        let level = client::log_level(&raw);
        let task = client::related_task(text(&raw));
        let takes = |caller: &Caller| caller.wants().logging.wants(level) && caller.is_about(task.as_deref());
        let Some(caller) = self.pending.only_caller(takes) else { return false };
        matches!(caller.notify("notifications/message", raw.clone()).now_or_never(), Some(Ok(())))
    }

    /// Passes the state of a task on to whoever waits for its result.
    fn task_status(&self, message: &Bytes, params: &ParamsIndex) -> bool {
        let raw = message.slice(params.range.clone());
        let Some(task) = client::task_of(text(&raw)) else { return false };
        let Some(caller) = self.pending.only_caller(|caller| caller.is_about(Some(&task))) else { return false };
        matches!(caller.notify(TASK_STATUS, raw.clone()).now_or_never(), Some(Ok(())))
    }

    /// Tells the only client that can be meant that what it was sent elsewhere for has been done.
    fn done_elsewhere(&self, message: &Bytes, params: &ParamsIndex) -> bool {
        let raw = message.slice(params.range.clone());
        let task = client::related_task(text(&raw));
        let takes = |caller: &Caller| caller.wants().requests.has(Declared::ELICITATION_URL) && caller.is_about(task.as_deref());
        let Some(caller) = self.pending.only_caller(takes) else { return false };
        let told = caller.notify(client::ELICITATION_COMPLETE, raw.clone()).now_or_never();
        matches!(told, Some(Ok(())))
    }

    /// Passes progress on. A client that does not take it in time loses it: waiting for one client would hold the
    /// answers of all others on this stream.
    fn progress(&self, message: &Bytes, params: &ParamsIndex) -> bool {
        let raw = message.slice(params.range.clone());
        let token = params.progress_token.clone().and_then(|range| std::str::from_utf8(&raw[range]).ok()?.parse().ok());
        let Some(caller) = token.and_then(|token| self.pending.caller(token)) else { return false };
        matches!(caller.notify("notifications/progress", raw).now_or_never(), Some(Ok(())))
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
                None => return refuse(-32601, "no call is in flight whose client takes this request, or more than one is"),
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

/// Messages were checked to be UTF-8 as a whole.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
