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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    auth::Known,
    frames::{Frames, Unwritten, frames},
};
use crate::mcp::{Answer, Inbound, Running, Scope, Server, Session, Sight, Way};

/// Calls of one client at a time, answered or not: as many as a server takes by default. A client that has as many is refused another
/// until one of them is answered and read; whatever else it says is heard.
const CALLS_MAX: usize = 256;

/// One client. Dropping it ends its session: its calls are cancelled.
#[derive(Debug)]
pub(crate) struct Duplex {
    server: Server,
    session: Arc<Session>,
    client: Known,
    view: Box<str>,
    /// What carries it, as spans name it.
    transport: &'static str,
    frames: Frames,
    /// Places for its calls.
    calls: Arc<Semaphore>,
    /// It is told of changes already.
    told: AtomicBool,
}

/// The client does not read any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

impl Duplex {
    /// A client that has said nothing yet, and what is to be written to it.
    pub(crate) fn new(server: Server, client: Known, view: &str, transport: &'static str) -> (Self, Unwritten) {
        let (frames, unwritten) = frames();
        let session = Session::of_stream(client.principal.clone());
        let (calls, told) = (Arc::new(Semaphore::new(CALLS_MAX)), AtomicBool::new(false));
        (Self { server, session, client, view: view.into(), transport, frames, calls, told }, unwritten)
    }

    /// Who it is.
    pub(crate) const fn principal(&self) -> &Principal {
        &self.client.principal
    }

    /// Handles one message. Calls go on after this returns. Waits for a client that does not read what is answered at once; dropped
    /// meanwhile, it ends the client's stream, which would lack that answer.
    ///
    /// # Errors
    /// [`Gone`] when nothing more can be written.
    pub(crate) async fn take(&self, message: Bytes) -> Result<(), Gone> {
        // What comes after `initialize` says that its answer was read: from then on a client may be told of changes.
        if self.session.client().is_some() && !self.told.swap(true, Ordering::Relaxed) {
            // Without a place for it the client lists anew when it likes.
            let changes = self.server.listen_in(&self.session, Sight { view: &self.view, shown: &self.client.shown });
            changes.into_iter().for_each(|changes| self.drive(changes, None));
        }
        let place = Arc::clone(&self.calls).try_acquire_owned().ok();
        let is_full = place.is_none();
        let answer = self.server.handle(&Inbound {
            message,
            view: &self.view,
            principal: &self.client.principal,
            way: Way::Stream { session: &self.session, binding: None, transport: self.transport, is_full },
            scope: Scope::Everything,
            shown: &self.client.shown,
            answer_bytes_max: usize::MAX,
            time_max: Duration::MAX,
        });
        match answer {
            Answer::Accepted => Ok(()),
            Answer::Message(outgoing) | Answer::Denied(outgoing) | Answer::Unreadable(_, outgoing) => {
                drop(place);
                if self.frames.answer(outgoing).await { Ok(()) } else { Err(Gone) }
            }
            Answer::Running(running) => {
                // Who listens may do so for a day, and has a bound of its own.
                let place = place.filter(|_| !running.listens());
                self.drive(*running, place);
                Ok(())
            }
        }
    }

    fn drive(&self, running: Running, place: Option<OwnedSemaphorePermit>) {
        let frames = self.frames.clone();
        self.server.spawn(async move {
            let _place = place;
            frames.drive(running).await;
        });
    }
}

impl Drop for Duplex {
    fn drop(&mut self) {
        self.session.end();
    }
}
