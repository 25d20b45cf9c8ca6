//! Keeps one peer connected and its tools known.

use std::{error::Error as _, sync::Arc, time::Duration};

use runtime_api::{Board, CallError, Eras, ErrorCode, Heard, Support};
use runtime_mcp::{
    backoff::Backoff,
    stream::{
        Connection,
        opening::{Listed, list},
    },
};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Executor, Peer, State, handshake::Terms};
use crate::Carrier;

/// Dialling, handshake and listing together: a peer that needs longer counts as down, and is tried again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Shortest pause between two listings: each may make the whole catalogue anew.
const LIST_PAUSE_MIN: Duration = Duration::from_secs(2);

/// The same where the peer has only said how long its list is good: one that says "for no time at all" means clients, not us. As long as a
/// gateway promises of what nobody has said anything of.
const LIST_PERIOD_MIN: Duration = Duration::from_secs(5);

/// One listing. The peer's other calls go on meanwhile.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// A caller's nudge ends the wait for the next dial, but not more often than this: a dead peer is not hammered.
const DIAL_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Streams that end sooner than this count as a failure, so that a peer which accepts and hangs up is not dialled in a circle.
const STEADY_AFTER: Duration = Duration::from_secs(1);

/// Drives one peer.
#[derive(Debug)]
pub(crate) struct Actor {
    peer: Arc<Peer>,
    board: Board,
    backoff: Backoff,
}

impl Actor {
    pub(crate) fn new(peer: Arc<Peer>, board: Board) -> Self {
        Self { peer, board, backoff: Backoff::default() }
    }

    /// Runs until `stop`, or until the peer is retired and its last call has ended; then ends the peer's streams and waits for
    /// their tasks. `stop` is this actor's own.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let executor = Executor { runtime: Handle::current(), tasks: TaskTracker::new(), stop: stop.clone() };
        let tasks = executor.tasks.clone();
        let retired = self.peer.retired.clone();
        self.peer.executor.set(executor).expect("one actor for each peer");
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = retired.cancelled() => {}
            () = self.drive() => {}
        }
        self.peer.state.send_replace(State::Draining);
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.peer.drain() => tracing::debug!(peer = self.peer.config.name, "the peer is not used any more"),
        }
        stop.cancel();
        self.peer.small.close();
        self.peer.bulk.close();
        tasks.close();
        tasks.wait().await;
    }

    async fn drive(&mut self) {
        loop {
            self.peer.state.send_replace(State::Dialling);
            let begun = Instant::now();
            match timeout_at(begun + CONNECT_TIMEOUT, self.connect()).await {
                Ok(Ok(period)) => {
                    self.peer.state.send_replace(State::Connected);
                    tracing::debug!(peer = self.peer.config.name, "connected");
                    self.keep(period).await;
                    self.lost(begun).await;
                }
                Ok(Err(error)) => self.down(&reason(&error)).await,
                Err(_) => self.down("it did not answer within 10 s").await,
            }
        }
    }

    /// Connects and lists the tools; returns when to list them anew.
    async fn connect(&self) -> Result<Duration, CallError> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let (connection, terms) = self.peer.meet(deadline).await?;
        let listed = list(&connection, terms.era, &terms.facts, deadline).await?;
        let period = self.period(&listed);
        self.publish(connection.transport(), &terms, listed);
        self.peer.terms.store(Some(Arc::new(terms)));
        self.peer.small.add(connection);
        Ok(period)
    }

    /// Until every stream has ended: opens more when they are crowded, lists the tools anew when told or in time.
    async fn keep(&self, mut period: Duration) {
        let mut listed_at = Instant::now();
        let mut list_at = listed_at + period;
        while let Some(connection) = self.peer.small.prune() {
            let changes = connection.changes();
            tokio::select! {
                () = connection.ended() => {}
                () = sleep_until(list_at) => {
                    let connection = self.move_to_better(connection).await;
                    self.peer.small.thin_out();
                    self.peer.bulk.close();
                    period = self.refresh(&connection).await.unwrap_or(period);
                    listed_at = Instant::now();
                    list_at = listed_at + period;
                }
                // Each listing may make the whole catalogue anew, so a peer that changes at every one has to wait.
                changed = changes.next() => if changed.is_some() {
                    list_at = list_at.min(listed_at + LIST_PAUSE_MIN);
                },
                () = self.peer.nudge.notified() => self.grow().await,
            }
        }
    }

    /// The stream to go on with. A second connection may have opened after the calls had begun on the first one, when QUIC was
    /// slow to answer or when the peer dialled too; new streams take the better of the two, and calls follow them.
    async fn move_to_better(&self, connection: Connection) -> Connection {
        let links = self.peer.node.sighting(&self.peer.id).links;
        let has_other = links.iter().any(|link| Carrier::name_of(&link.address) != connection.transport());
        if !has_other {
            return connection;
        }
        match self.peer.open(Instant::now() + LIST_TIMEOUT).await {
            Ok(better) if better.transport() != connection.transport() => {
                tracing::debug!(peer = self.peer.config.name, transport = better.transport(), "moves to a better connection");
                self.peer.small.prefer(better)
            }
            // Dropping the stream ends it.
            Ok(_) | Err(_) => connection,
        }
    }

    async fn refresh(&self, connection: &Connection) -> Option<Duration> {
        let terms = self.peer.terms.load_full()?;
        match list(connection, terms.era, &terms.facts, Instant::now() + LIST_TIMEOUT).await {
            Ok(listed) => {
                let period = self.period(&listed);
                self.publish(connection.transport(), &terms, listed);
                Some(period)
            }
            // The streams say whether the peer is there; a list that fails leaves the last one standing.
            Err(error) => {
                tracing::warn!(peer = self.peer.config.name, error = reason(&error), "its tools could not be listed");
                None
            }
        }
    }

    /// Publishes what the peer offers, and says so when it was not ready before.
    fn publish(&self, transport: &'static str, terms: &Terms, listed: Listed) {
        let Listed { about, items, hints, .. } = listed;
        let (peer, tools_count) = (&self.peer.config.name, items.tools.len());
        let heard = Heard { transport, eras: terms.eras(), about, items, hints };
        let Some(state) = self.board.answers(&self.peer.target, &self.peer.retired, heard) else { return };
        tracing::info!(peer, state, transport, tools = tools_count, "peer changed its state");
        if tools_count == 0 {
            let own = self.peer.node.peer_id();
            tracing::warn!(peer, peer_id = %own, "peer offers no tools: it may not allow this node's PeerId");
        }
    }

    /// As often as configured, or as often as the peer's own word on its list asks, but not in a hurry.
    fn period(&self, listed: &Listed) -> Duration {
        let configured = self.peer.config.refresh;
        listed.ttl.map_or(configured, |ttl| ttl.clamp(LIST_PERIOD_MIN.min(configured), configured))
    }

    async fn grow(&self) {
        if !self.peer.small.is_crowded() {
            return;
        }
        match self.peer.open(Instant::now() + LIST_TIMEOUT).await {
            Ok(connection) => self.peer.small.add(connection),
            Err(error) => tracing::debug!(peer = self.peer.config.name, error = reason(&error), "no further stream"),
        }
    }

    /// Every stream has ended. A peer that was steady is dialled at once, as is nearly at once one that was not; calls wait
    /// meanwhile. Only one that goes on hanging up is down.
    async fn lost(&mut self, begun: Instant) {
        if begun.elapsed() >= STEADY_AFTER {
            return self.backoff.reset();
        }
        match self.backoff.wait() {
            wait if wait < DIAL_INTERVAL_MIN => {
                self.peer.state.send_replace(State::Dialling);
                sleep(wait).await;
            }
            wait => self.down_for("it closes every stream at once", wait).await,
        }
    }

    async fn down(&mut self, reason: &str) {
        let wait = self.backoff.wait();
        self.down_for(reason, wait).await;
    }

    /// Says why the peer is down and waits for the next try.
    async fn down_for(&self, reason: &str, wait: Duration) {
        let (peer, wait_ms) = (&self.peer.config.name, wait.as_millis());
        let reason: Arc<str> = reason.into();
        self.peer.small.close();
        match self.board.fails(&self.peer.target, &self.peer.retired, &reason) {
            Some(state) => tracing::warn!(peer, state, %reason, wait_ms, "peer cannot be used"),
            None => tracing::debug!(peer, %reason, wait_ms, "peer still cannot be used"),
        }
        self.peer.state.send_replace(State::Down(reason));
        let earliest = Instant::now() + DIAL_INTERVAL_MIN;
        let nudged = async {
            self.peer.nudge.notified().await;
            sleep_until(earliest).await;
        };
        tokio::select! {
            () = sleep(wait) => {}
            () = nudged => {}
        }
    }
}

/// Why a peer is down. That it cannot be reached is said by whoever tells of it.
fn reason(error: &CallError) -> String {
    match error.source() {
        Some(cause) if error.code() == ErrorCode::Unavailable => cause.to_string(),
        _ => error.to_string(),
    }
}

impl Terms {
    fn eras(&self) -> Eras {
        match self.era {
            runtime_api::Era::Modern => Eras { modern: Support::Yes, legacy: Support::Unknown },
            runtime_api::Era::Legacy => Eras { modern: Support::No, legacy: Support::Yes },
        }
    }
}
