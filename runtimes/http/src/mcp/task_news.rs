//! Hears how tasks of the extension stand that some client watches: a stream of `subscriptions/listen` of its own (2026-07-28, the
//! extension of tasks), so that a server which refuses it still tells of changes of its lists.

use std::{convert::Infallible, time::Duration};

use runtime_api::{Era, Interest};
use runtime_mcp::handshake;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tracing::debug;
use twinway_proto::envelope;

use super::{
    McpServer,
    listen::{LISTEN, Over, PAUSE_MAX, PAUSE_MIN, Stream, Uris, changes, for_a_life, quoted},
};

/// How long to wait for more tasks before another stream is asked for: clients that begin together have one.
const SETTLE: Duration = Duration::from_millis(100);

impl McpServer {
    /// Listens whenever a task is watched. Cancel-safe: dropping it closes the stream.
    pub(crate) async fn hear_of_tasks(&self, interest: &Interest) -> Infallible {
        let mut watched = interest.tasks(Era::Modern).wanted();
        let mut pause = PAUSE_MIN;
        loop {
            if watched.borrow_and_update().is_empty() {
                // Whoever comes next need not wait for what went wrong before.
                pause = PAUSE_MIN;
                changes(&mut watched).await;
                continue;
            }
            let began = Instant::now();
            let target = &self.site.settings.target;
            match for_a_life(self.hear_of(&mut watched)).await {
                Ok(()) | Err(Over::Ended) => debug!(target_name = %target, "the stream of tasks has ended"),
                Err(Over::Refused(status)) => {
                    debug!(target_name = %target, %status, "the upstream does not tell how tasks stand");
                    changes(&mut watched).await;
                }
                Err(Over::Lost(error)) => debug!(target_name = %target, %error, "the stream of tasks is lost"),
            }
            if began.elapsed() > PAUSE_MAX {
                pause = PAUSE_MIN;
            }
            if watched.borrow().is_empty() {
                continue;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Until nobody watches any task, or the stream ends. It names the tasks of one moment: for others another takes its place.
    async fn hear_of(&self, watched: &mut watch::Receiver<Uris>) -> Result<(), Over> {
        let Some(mut stream) = self.open_for_tasks(watched).await? else { return Ok(()) };
        loop {
            let another = async {
                changes(watched).await;
                sleep(SETTLE).await;
                match self.open_for_tasks(watched).await? {
                    Some(next) => self.begun(next).await.map(Some),
                    None => Ok(None),
                }
            };
            // The old one is heard until the server tells on the new one, so that nothing goes by between them.
            let next = tokio::select! {
                biased;
                over = self.follow(&mut stream, None) => return over,
                next = another => next?,
            };
            let Some(next) = next else { return Ok(()) };
            stream = next;
        }
    }

    /// `None` when nobody watches any.
    async fn open_for_tasks(&self, watched: &mut watch::Receiver<Uris>) -> Result<Option<Stream>, Over> {
        let ids: Vec<_> = watched.borrow_and_update().iter().map(|own| quoted(own)).collect();
        if ids.is_empty() {
            return Ok(None);
        }
        let (id, params) = (self.next_id(), handshake::listen_to_tasks(&format!("[{}]", ids.join(","))));
        let exchange = self.site.endpoint.post(self.modern_head(LISTEN), envelope::request(id, LISTEN, Some(params))).await?;
        self.stream_of(exchange, id, None).await.map(Some)
    }
}
