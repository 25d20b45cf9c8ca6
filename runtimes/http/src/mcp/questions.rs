//! What a legacy server asks in the middle of a call, and the way of the answer back to it.
//!
//! A question may come on the stream of the call that it belongs to, or on the stream of the session, where nobody says which call
//! is meant. Then it goes to the only call in flight whose client takes it; where there are several, nobody is asked, because no
//! client must be asked for another's. So it is with log lines.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{Method, StatusCode};
use parking_lot::Mutex;
use runtime_api::{CallError, Caller, Declared, Delivery, StreamRoom};
use runtime_mcp::client::{self, TASK_STATUS};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use twinway_proto::{
    envelope::{self, Message, Notification, Request},
    json::text,
    rope::Rope,
    sse::Decoder,
};

use super::{session::Session, sse_reply::unreadable};
use crate::{
    exchange::{Content, Endpoint, content, next_data, refused_by},
    site::Site,
};

/// The calls of a session that are out, by their ids: only those whose clients take anything beside the reply.
#[derive(Debug, Default)]
pub(super) struct Asking {
    calls: Mutex<HashMap<u64, Caller>>,
    /// For what waits for clients that are slower than the server.
    room: StreamRoom,
}

/// A call that is out.
#[derive(Debug)]
pub(super) struct Out<'a> {
    asking: &'a Asking,
    id: u64,
}

impl Asking {
    /// A call goes out; until this is dropped its client can be reached.
    pub(super) fn enter(&self, id: u64, caller: &Caller) -> Option<Out<'_>> {
        if caller.wants().is_nothing() {
            return None;
        }
        self.calls.lock().insert(id, caller.clone());
        Some(Out { asking: self, id })
    }

    fn only(&self, takes: impl Fn(&Caller) -> bool) -> Option<Caller> {
        let calls = self.calls.lock();
        let mut callers = calls.values().filter(|caller| takes(caller));
        let caller = callers.next()?.clone();
        callers.next().is_none().then_some(caller)
    }

    /// Whom a question is for that does not come on the stream of its call.
    fn asked_by(&self, question: &Question) -> Option<Caller> {
        self.only(|caller| question.is_for(caller))
    }

    /// Whom a notification is for that does not come on the stream of its call.
    fn meant_by(&self, message: &Bytes, notification: &Notification<'_>) -> Option<(Caller, Bytes)> {
        let params = notification.params.as_ref()?;
        let raw = message.slice(params.range.clone());
        let caller = match &*notification.method {
            "notifications/progress" => {
                let token: u64 = std::str::from_utf8(&raw[params.progress_token.clone()?]).ok()?.parse().ok()?;
                self.calls.lock().get(&token).filter(|caller| caller.wants().progress).cloned()
            }
            "notifications/message" => {
                let level = client::log_level(&raw);
                let task = client::related_task(text(&raw));
                self.only(|caller| caller.wants().logging.wants(level) && caller.is_about(task.as_deref()))
            }
            TASK_STATUS => {
                let task = client::task_of(text(&raw))?;
                self.only(|caller| caller.is_about(Some(&task)))
            }
            client::ELICITATION_COMPLETE => {
                let task = client::related_task(text(&raw));
                let takes = |caller: &Caller| caller.wants().requests.has(Declared::ELICITATION_URL);
                self.only(|caller| takes(caller) && caller.is_about(task.as_deref()))
            }
            _ => None,
        }?;
        Some((caller, raw))
    }
}

impl Drop for Out<'_> {
    fn drop(&mut self) {
        self.asking.calls.lock().remove(&self.id);
    }
}

/// A question for one client.
#[derive(Debug)]
pub(super) struct Question {
    id: Box<str>,
    method: Box<str>,
    params: Bytes,
}

impl Question {
    pub(super) fn new(message: &Bytes, request: &Request<'_>) -> Self {
        let params = request.params.as_ref().map_or(Bytes::from_static(b"{}"), |params| message.slice(params.range.clone()));
        Self { id: request.id.into(), method: (&*request.method).into(), params }
    }

    /// What a client must have declared to be asked this; `None` for what no client answers.
    pub(super) fn needs(&self) -> Option<Declared> {
        client::needs(&self.method, text(&self.params))
    }

    /// Whether it may be asked of the client of this call: it takes such questions, and if a task asks, it is the one that waits for it.
    pub(super) fn is_for(&self, caller: &Caller) -> bool {
        let task = client::related_task(text(&self.params));
        self.needs().is_some_and(|needed| caller.wants().requests.has(needed)) && caller.is_about(task.as_deref())
    }

    /// Asks the client and sends its answer to the server.
    ///
    /// # Errors
    /// The server does not take the answer: it would wait for it in vain, and so would the call.
    pub(super) async fn ask(self, caller: Caller, endpoint: &Endpoint, session: &Session) -> Result<(), CallError> {
        let Self { id, method, params } = self;
        let message = match caller.request(&method, params).await {
            Ok(Ok(result)) => envelope::response(&id, result.into()),
            Ok(Err(error)) => envelope::failure(Some(&id), error),
            Err(gone) => envelope::failure(Some(&id), envelope::error_object(-32603, &gone.to_string(), None)),
        };
        let exchange = endpoint.post(session.head.begin(), message).await?;
        let (is_taken, refusal) = (exchange.head.status.is_success(), refused_by(&exchange.head));
        endpoint.body(exchange).await?;
        if is_taken { Ok(()) } else { Err(refusal.with_delivery(Delivery::Unknown)) }
    }
}

/// The answer to a request of the server that no client is asked for; `declared` is what the client takes that would have been asked.
pub(super) fn refusal(request: &Request<'_>, declared: Declared) -> Rope {
    match &*request.method {
        "ping" => envelope::response(request.id, Bytes::from_static(b"{}").into()),
        // The gateway's own session has none, and a server that has asked for them waits for the answer.
        "roots/list" => envelope::response(request.id, Bytes::from_static(br#"{"roots":[]}"#).into()),
        _ => {
            let code = client::refusal(&request.method, declared);
            let error = envelope::error_object(code, "no client can be asked for this here", None);
            envelope::failure(Some(request.id), error)
        }
    }
}

/// Tells the server that nobody is asked.
pub(super) fn refuse(endpoint: &Arc<Endpoint>, session: Option<&Session>, message: Rope) {
    let head = session.map_or_else(|| endpoint.post_head(&endpoint.headers), |session| session.head.begin());
    endpoint.tell(head, message);
}

/// Hears what is asked on the stream of a client's session, until the session is given up or the server has no such stream. `open` is
/// dropped once the stream is there, or is known not to come.
pub(super) async fn hear(site: Arc<Site>, session: Arc<Session>, given_up: CancellationToken, open: oneshot::Sender<()>) {
    let endpoint = &site.endpoint;
    // The session must not be kept by its own listener.
    let (headers, session) = (session.listening_headers(), Arc::downgrade(&session));
    let hearing = async {
        let exchange = endpoint.send(&Method::GET, &headers, Rope::default()).await?;
        if content(&exchange.head) != Content::Events || exchange.head.status != StatusCode::OK {
            return endpoint.body(exchange).await.map(|_| ());
        }
        drop(open);
        let mut exchange = exchange;
        let mut decoder = Decoder::new(endpoint.answer_bytes_max);
        let mut questions = FuturesUnordered::new();
        loop {
            while let Some(event) = decoder.next_event().map_err(unreadable)? {
                let Some(session) = session.upgrade() else { return Ok(()) };
                let request = match envelope::parse(&event.data) {
                    Ok(Message::Request(request)) => request,
                    Ok(Message::Notification(notification)) => {
                        site.heard(&event.data, &notification);
                        match session.asking.meant_by(&event.data, &notification) {
                            // Others come behind it on this stream; what finds no room is counted by the call.
                            Some((caller, params)) => {
                                caller.notify_on(&session.asking.room, &notification.method, params).await.ok();
                            }
                            None => session.told(&site, &event.data, &notification),
                        }
                        continue;
                    }
                    _ => continue,
                };
                let question = Question::new(&event.data, &request);
                match session.asking.asked_by(&question) {
                    Some(caller) => {
                        questions.push(async move { question.ask(caller, endpoint, &session).await });
                    }
                    None => refuse(endpoint, Some(&session), refusal(&request, Declared::NONE)),
                }
            }
            tokio::select! {
                biased;
                Some(answered) = questions.next() => answered?,
                data = next_data(&mut exchange) => match data? {
                    Some(data) => decoder.push(data),
                    None => return Ok(()),
                },
            }
        }
    };
    let heard: Result<(), CallError> = tokio::select! {
        biased;
        () = given_up.cancelled() => Ok(()),
        heard = hearing => heard,
    };
    debug!(lost = heard.is_err(), "nothing more is asked in a session");
}

#[cfg(test)]
mod tests {
    use runtime_api::{ANSWER_TIMEOUT, Wants};

    use super::*;

    fn question(params: &'static str) -> Question {
        Question { id: "1".into(), method: "elicitation/create".into(), params: Bytes::from_static(params.as_bytes()) }
    }

    #[test]
    fn what_a_task_asks_is_asked_of_the_client_that_waits_for_it_and_of_nobody_else() {
        let of_task = r#"{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t-1"}}}"#;
        let wants = Wants { requests: Declared::ELICITATION_FORM, ..Wants::default() };
        let asking = Asking::default();
        let (other, _events) = Caller::channel(wants);
        let _other = asking.enter(1, &other);

        assert!(asking.asked_by(&question(of_task)).is_none(), "the only call in flight is not meant");
        assert!(asking.asked_by(&question("{}")).is_some());
        let (waiting, _events) = Caller::channel_about(wants, Some("t-1".into()), ANSWER_TIMEOUT);
        let _waiting = asking.enter(2, &waiting);
        let asked = asking.asked_by(&question(of_task)).expect("somebody waits for it");
        assert!(asked.is_about(Some("t-1")) && !asked.is_about(Some("t-2")));
        assert!(asking.asked_by(&question("{}")).is_none(), "of two, nobody knows which is meant");
    }
}
