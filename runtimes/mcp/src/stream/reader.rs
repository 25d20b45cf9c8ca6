//! Reads a conversation and gives every message to whom it belongs. Waits for nothing but the source.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use runtime_api::BoxError;
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
use crate::{Incoming, incoming::failed};

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
        } else if !self.changes.note(&notification.method) {
            self.fault(Fault::NotificationIgnored);
        }
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
        let Some(on_request) = &self.settings.on_request else {
            return refuse(-32601, "this client answers no requests");
        };
        if answering.len() >= ANSWERING_MAX {
            return refuse(-32603, "too many requests at once");
        }
        let params = request.params.as_ref().map(|params| message.slice(params.range.clone()));
        let made = on_request(Asked { method: (&*request.method).into(), params });
        let id: Box<str> = request.id.into();
        answering.push(Box::pin(async move {
            match made.await {
                Ok(result) => envelope::response(&id, result),
                Err(error) => envelope::failure(Some(&id), error),
            }
        }));
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
