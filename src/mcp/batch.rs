//! Several messages in one array, which one revision has (2025-03-26, JSON-RPC batching): each is handled as if it had come alone,
//! and all answers go back in one array.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::time::Instant;
use twinway_proto::{
    envelope::EnvelopeError,
    json::elements,
    rope::{Builder, Rope},
};

use super::{Answer, Inbound, Outgoing, Running, Server, Session, Step, Way, answer, era};

/// The only revision that has batches.
const REVISION: &str = "2025-03-26";

/// Messages in one batch. Whoever has more to ask may send another.
const MESSAGES_MAX: usize = 100;

/// The requests of a batch that are under way, and the answers that are there.
#[derive(Debug, Default)]
pub(super) struct Batch {
    running: Vec<Running>,
    answers: Vec<Rope>,
}

impl Server {
    /// Handles the messages of an array, if this client's revision has batches.
    pub(super) fn batch(&self, inbound: &Inbound<'_>) -> Answer {
        if !self.has_batches(inbound) {
            return answer::unreadable(EnvelopeError::Batch);
        }
        let text = std::str::from_utf8(&inbound.message).unwrap_or_default();
        let messages: Vec<_> = elements(text).flatten().map(|range| inbound.message.slice(range)).collect();
        if messages.is_empty() || messages.len() > MESSAGES_MAX {
            let message = format!("a batch has between one and {MESSAGES_MAX} messages");
            return answer::error(400, None, -32600, &message, None);
        }
        let mut batch = Batch::default();
        for message in messages {
            batch.add(self.handle_one(&Inbound { message, ..inbound.clone() }));
        }
        match (batch.running.is_empty(), batch.answers.is_empty()) {
            (true, true) => Answer::Accepted,
            (true, false) => Answer::Message(batch.finish()),
            (false, _) => Answer::Running(Box::new(Running::batch(batch, self.shared.left_behind.clone()))),
        }
    }

    fn has_batches(&self, inbound: &Inbound<'_>) -> bool {
        let session = match &inbound.way {
            Way::Stream { session, .. } => session.client(),
            Way::Http { .. } => era::session_of(inbound, &self.shared.sessions).ok().and_then(|session| session.client()),
        };
        session.is_some_and(|client| client.revision == REVISION)
    }
}

impl Batch {
    fn add(&mut self, answer: Answer) {
        match answer {
            Answer::Accepted => {}
            Answer::Message(outgoing) | Answer::Denied(outgoing) | Answer::Unreadable(_, outgoing) => {
                self.answers.push(outgoing.message);
            }
            Answer::Running(running) => self.running.push(*running),
        }
    }

    /// The next step of any of its calls; the last one brings all answers.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        let mut place = 0;
        while place < self.running.len() {
            match self.running[place].poll_next(cx) {
                Poll::Ready(event @ Step::Event(_)) => return Poll::Ready(event),
                // The others go on; and it is polled again, or nobody would wake it.
                Poll::Ready(Step::Away(_)) => {}
                Poll::Ready(Step::Done(outgoing)) => {
                    self.answers.push(outgoing.message);
                    drop(self.running.swap_remove(place));
                }
                Poll::Ready(Step::Withdrawn) => drop(self.running.swap_remove(place)),
                Poll::Pending => place += 1,
            }
        }
        match (self.running.is_empty(), self.answers.is_empty()) {
            (false, _) => Poll::Pending,
            (true, true) => Poll::Ready(Step::Withdrawn),
            (true, false) => Poll::Ready(Step::Done(std::mem::take(self).finish())),
        }
    }

    /// The session of its calls, and their ids.
    pub(super) fn left_to(&self) -> Option<(&Arc<Session>, Vec<Box<str>>)> {
        let mut left = self.running.iter().filter_map(Running::left_to);
        let (session, first) = left.next()?;
        Some((session, left.fold(first, |ids, (_, more)| [ids, more].concat())))
    }

    /// When the last of its calls is given up.
    pub(super) fn given_up_at(&self) -> Instant {
        self.running.iter().map(Running::given_up_at).max().unwrap_or_else(Instant::now)
    }

    /// As [`Running::ask_nobody`].
    pub(super) fn ask_nobody(&mut self) {
        self.running.iter_mut().for_each(Running::ask_nobody);
    }

    pub(super) fn may_notify(&self) -> bool {
        self.running.iter().any(Running::may_notify)
    }

    fn finish(self) -> Outgoing {
        let mut out = Builder::with_capacity(1024);
        for (place, answer) in self.answers.into_iter().enumerate() {
            out.push_slice(if place > 0 { b"," } else { b"[" }).push_rope(answer);
        }
        out.push_bytes(Bytes::from_static(b"]"));
        Outgoing::new(200, out.finish())
    }
}
