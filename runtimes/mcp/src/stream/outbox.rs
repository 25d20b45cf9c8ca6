//! What is to be sent, and the sink it goes into.
//!
//! Whoever puts a message in also writes it when nobody else is writing: a small request then reaches the transport
//! without waking another task. What the transport does not take at once is left to the writer task, whose waker every
//! write uses, so the transport always wakes a task that stays.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use futures_util::Sink;
use parking_lot::Mutex;
use runtime_api::BoxError;
use twinway_proto::rope::Rope;

use super::pending::Pending;

/// Answers to the other side's requests that wait to be sent. A peer that asks more without reading is cut off.
const REPLIES_WAITING_MAX: usize = 64;

pub(super) type BoxSink = Pin<Box<dyn Sink<Rope, Error = BoxError> + Send>>;

/// A message on its way out.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// A request of ours; skipped when it was given up before its turn.
    Request {
        /// Its id.
        id: u64,
        /// The whole message.
        message: Rope,
    },
    /// A notification of ours.
    Notification(Rope),
    /// An answer of ours.
    Reply(Rope),
}

/// The queue and the sink. Lock order: sink, then queue.
pub(super) struct Outbox {
    /// Bounded: requests and cancellations by the requests in flight, replies by [`REPLIES_WAITING_MAX`].
    queue: Mutex<Queue>,
    writer: Mutex<Writer>,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Outgoing>,
    replies: usize,
    closed: bool,
}

struct Writer {
    sink: BoxSink,
    /// Of the writer task, once it has been polled.
    waker: Option<Waker>,
    unflushed: bool,
    failed: bool,
}

/// The other side does not take its answers.
#[derive(Debug)]
pub(super) struct Flooded;

impl Outbox {
    pub(super) fn new(sink: BoxSink) -> Self {
        let writer = Writer { sink, waker: None, unflushed: false, failed: false };
        Self { queue: Mutex::default(), writer: Mutex::new(writer) }
    }

    /// Puts a message in. It is written by [`Self::kick`].
    ///
    /// # Errors
    /// [`Flooded`] for a reply above the bound.
    pub(super) fn push(&self, message: Outgoing) -> Result<(), Flooded> {
        let mut queue = self.queue.lock();
        if let Outgoing::Reply(_) = message {
            if queue.replies >= REPLIES_WAITING_MAX {
                return Err(Flooded);
            }
            queue.replies += 1;
        }
        queue.messages.push_back(message);
        Ok(())
    }

    /// Takes a request out that was given up before its turn, so that the queue stays as short as its bound says.
    pub(super) fn withdraw(&self, given_up: u64) {
        let is_other = |message: &Outgoing| !matches!(message, Outgoing::Request { id, .. } if *id == given_up);
        self.queue.lock().messages.retain(is_other);
    }

    /// Writes what there is if nobody else is writing; never waits.
    ///
    /// # Errors
    /// The sink failed.
    pub(super) fn kick(&self, pending: &Pending) -> Result<(), BoxError> {
        // Whoever holds the lock looks at the queue once more after letting it go, so nothing is left lying.
        while let Some(mut writer) = self.writer.try_lock() {
            let Some(waker) = writer.waker.clone() else { return Ok(()) };
            if self.drive(&mut writer, pending, &mut Context::from_waker(&waker))?.is_pending() {
                return Ok(());
            }
            drop(writer);
            if self.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.queue.lock().messages.is_empty()
    }

    /// The writer task: goes on where the transport made somebody wait, until [`Self::close`] and an empty queue.
    ///
    /// # Errors
    /// The sink failed.
    pub(super) fn poll(&self, pending: &Pending, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        loop {
            // Waits for whoever writes now rather than passing by: its write may just have missed our wake-up.
            let mut writer = self.writer.lock();
            if !writer.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                writer.waker = Some(cx.waker().clone());
            }
            match self.drive(&mut writer, pending, cx) {
                Err(error) => return Poll::Ready(Err(error)),
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(())) if self.queue.lock().closed => return writer.sink.as_mut().poll_close(cx),
                Ok(Poll::Ready(())) => {}
            }
            drop(writer);
            // Looks once more, as `kick` relies on: who pushed while the lock was held has gone and wakes nobody.
            if self.is_empty() {
                return Poll::Pending;
            }
        }
    }

    /// After what is in the queue the sink is closed.
    pub(super) fn close(&self) {
        self.queue.lock().closed = true;
        if let Some(waker) = &self.writer.lock().waker {
            waker.wake_by_ref();
        }
    }

    fn drive(&self, writer: &mut Writer, pending: &Pending, cx: &mut Context<'_>) -> Result<Poll<()>, BoxError> {
        if writer.failed {
            return Err("the stream broke before".into());
        }
        let outcome = self.write_all(writer, pending, cx);
        writer.failed = outcome.is_err();
        outcome
    }

    fn write_all(&self, writer: &mut Writer, pending: &Pending, cx: &mut Context<'_>) -> Result<Poll<()>, BoxError> {
        // Asked first, because a sink may keep a place for a message from `poll_ready` on.
        while !self.is_empty() {
            if writer.sink.as_mut().poll_ready(cx)?.is_pending() {
                return Ok(Poll::Pending);
            }
            let Some(message) = self.next(pending) else { break };
            writer.unflushed = true;
            writer.sink.as_mut().start_send(message)?;
        }
        if writer.unflushed {
            if writer.sink.as_mut().poll_flush(cx)?.is_pending() {
                return Ok(Poll::Pending);
            }
            writer.unflushed = false;
        }
        Ok(Poll::Ready(()))
    }

    /// The next message that is still wanted; a request counts as sent from here on.
    fn next(&self, pending: &Pending) -> Option<Rope> {
        loop {
            let message = {
                let mut queue = self.queue.lock();
                let message = queue.messages.pop_front()?;
                queue.replies -= usize::from(matches!(message, Outgoing::Reply(_)));
                message
            };
            match message {
                Outgoing::Request { id, message } if pending.sent(id) => return Some(message),
                Outgoing::Request { .. } => {}
                Outgoing::Notification(message) | Outgoing::Reply(message) => return Some(message),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Weak};

    use super::*;

    /// Keeps what is written; in its first flush somebody else puts a message in and kicks, while the writer has the lock.
    struct Interrupted {
        outbox: Weak<Outbox>,
        pending: Arc<Pending>,
        second: Option<Rope>,
        written: Arc<Mutex<Vec<Rope>>>,
    }

    impl Sink<Rope> for Interrupted {
        type Error = BoxError;

        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn start_send(self: Pin<&mut Self>, message: Rope) -> Result<(), BoxError> {
            self.written.lock().push(message);
            Ok(())
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            if let Some(second) = self.second.take() {
                let outbox = self.outbox.upgrade().unwrap();
                outbox.push(Outgoing::Notification(second)).unwrap();
                outbox.kick(&self.pending).unwrap();
            }
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_message_put_in_while_the_writer_task_flushes_is_not_left_lying() {
        let message = |text: &str| Rope::from(text.as_bytes().to_vec());
        let (pending, written) = (Arc::new(Pending::default()), Arc::new(Mutex::new(Vec::new())));
        let outbox = Arc::new_cyclic(|outbox| {
            let (outbox, second) = (Weak::clone(outbox), Some(message("second")));
            let sink = Interrupted { outbox, pending: Arc::clone(&pending), second, written: Arc::clone(&written) };
            Outbox::new(Box::pin(sink))
        });
        outbox.push(Outgoing::Notification(message("first"))).unwrap();

        let polled = outbox.poll(&pending, &mut Context::from_waker(Waker::noop()));

        assert!(polled.is_pending());
        let written: Vec<_> = std::mem::take(&mut *written.lock()).into_iter().map(Rope::into_bytes).collect();
        assert_eq!(written, ["first", "second"]);
    }
}
