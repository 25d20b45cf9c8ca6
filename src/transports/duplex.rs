//! A client on a stream that is its session: standard input and output, and HTTP+SSE of revision 2024-11-05.
//!
//! ```text
//! message ──► server side of MCP ──► a task for each call ──► frames, in whatever order they are done
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use runtime_api::Principal;
use tokio::{
    sync::mpsc,
    time::{timeout, timeout_at},
};
use twinway_proto::rope::Rope;

use super::auth::Known;
use crate::mcp::{Answer, Inbound, Running, Scope, Server, Session, Sight, Step, Way};

/// Frames that wait for a slow client before its calls are held back.
pub(super) const FRAMES_WAITING_MAX: usize = 16;

/// How long a client may take to read an answer that needs no call. Longer, and it is gone or stuck.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// One client. Dropping it ends its session: its calls are cancelled.
#[derive(Debug)]
pub(crate) struct Duplex {
    server: Server,
    session: Arc<Session>,
    client: Known,
    view: Box<str>,
    /// What carries it, as spans name it.
    transport: &'static str,
    frames: mpsc::Sender<Rope>,
    /// It is told of changes already.
    told: AtomicBool,
}

/// The client does not read any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

impl Duplex {
    /// A client that has said nothing yet, and what is to be written to it.
    pub(crate) fn new(server: Server, client: Known, view: &str, transport: &'static str) -> (Self, mpsc::Receiver<Rope>) {
        let (frames, written) = mpsc::channel(FRAMES_WAITING_MAX);
        let session = Session::of_stream(client.principal.clone());
        let told = AtomicBool::new(false);
        (Self { server, session, client, view: view.into(), transport, frames, told }, written)
    }

    /// Who it is.
    pub(crate) const fn principal(&self) -> &Principal {
        &self.client.principal
    }

    /// Handles one message. Calls go on after this returns.
    ///
    /// # Errors
    /// [`Gone`] when nothing more can be written.
    pub(crate) async fn take(&self, message: Bytes) -> Result<(), Gone> {
        // What comes after `initialize` says that its answer was read: from then on a client may be told of changes.
        if self.session.client().is_some() && !self.told.swap(true, Ordering::Relaxed) {
            // Without a place for it the client lists anew when it likes.
            let changes = self.server.listen_in(&self.session, Sight { view: &self.view, shown: &self.client.shown });
            changes.into_iter().for_each(|changes| self.drive(changes));
        }
        let answer = self.server.handle(&Inbound {
            message,
            view: &self.view,
            principal: &self.client.principal,
            way: Way::Stream { session: &self.session, binding: None, transport: self.transport },
            scope: Scope::Everything,
            shown: &self.client.shown,
            answer_bytes_max: usize::MAX,
            time_max: Duration::MAX,
        });
        match answer {
            Answer::Accepted => Ok(()),
            Answer::Message(outgoing) | Answer::Denied(outgoing) | Answer::Unreadable(_, outgoing) => {
                let sent = timeout(READ_TIMEOUT, self.frames.send(outgoing.message)).await;
                if matches!(sent, Ok(Ok(()))) { Ok(()) } else { Err(Gone) }
            }
            Answer::Running(running) => {
                self.drive(*running);
                Ok(())
            }
        }
    }

    fn drive(&self, running: Running) {
        self.server.spawn(drive(running, self.frames.clone()));
    }
}

impl Drop for Duplex {
    fn drop(&mut self) {
        self.session.end();
    }
}

/// Sends a call's notifications and its answer. A client that is gone drops the call.
pub(super) async fn drive(mut running: Running, frames: mpsc::Sender<Rope>) {
    loop {
        let step = tokio::select! {
            biased;
            () = frames.closed() => return,
            step = running.next() => step,
        };
        let (message, done) = match step {
            Step::Event(message) => (message, false),
            // Its stream is no other call's to close.
            Step::Away(_) => continue,
            Step::Done(outgoing) => (outgoing.message, true),
            Step::Withdrawn => return,
        };
        // A client that does not read does not hold its call beyond the deadline.
        let sent = timeout_at(running.given_up_at(), frames.send(message)).await;
        if done || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}
