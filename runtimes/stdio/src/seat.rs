//! One process and the conversation with it: started, watched, and started again when it ends.
//!
//! ```text
//!              start, then discover or initialize
//!   Starting ──────────────────────────────────────► Up
//!      ▲  │ failed                                    │ it ended
//!      │  ▼                                           ▼
//!      └─ Down (a wait that grows) ◄──────────────────┘      any ── stop ──► Over
//! ```
//!
//! A call waits while the process starts, and fails at once while it is down.

use std::{
    io,
    process::ExitStatus,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use runtime_api::{BoxError, Call, CallError, Declared, Delivery, Era, ErrorCode};
use runtime_mcp::{
    Incoming,
    backoff::Backoff,
    client::capabilities,
    handshake::{self, ServerFacts},
    input::{self, wants_input},
    stream::{Connection, Conversation, Garbage, Met, Settings, opening},
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::{
    codec::{FramedRead, FramedWrite},
    sync::CancellationToken,
    task::TaskTracker,
};
use tracing::{debug, info, warn};
use twinway_proto::revision;

use crate::{
    lines::Lines,
    process::{Pipes, Process},
    settings::Server,
    stderr::{self, LastWords},
};

/// How long an answer to the first question is waited for, at most. A server that does not know `server/discover` may say nothing;
/// most that say nothing for so long are fetched by their package manager meanwhile.
const PROBE_TIMEOUT_MAX: Duration = Duration::from_secs(10);

/// A process that ran so long was steady: if it ends, it is started again at once.
const STEADY_AFTER: Duration = Duration::from_secs(60);

/// Calls wait for a start that is so near, and a caller does not bring a start forward more often.
const SOON: Duration = Duration::from_secs(1);

/// What a process may still print once it has ended.
const LAST_READ: Duration = Duration::from_secs(1);

/// A process that is there, or will be.
#[derive(Debug)]
pub(crate) struct Seat {
    server: Arc<Server>,
    state: watch::Sender<State>,
    /// A caller would like it to be started before the wait is over.
    nudge: Notify,
    stop: CancellationToken,
    in_flight: AtomicUsize,
    epoch: Instant,
    used_ms: AtomicU64,
}

#[derive(Debug, Clone)]
pub(crate) enum State {
    Starting,
    /// It answers.
    Up(Arc<Met>),
    Down(Arc<str>),
    Over,
}

/// Why a process is not there any more.
enum Ended {
    /// It was told to end.
    Stopped,
    /// It did not like to be asked which era it speaks: it is asked otherwise next time.
    Probed,
    /// It failed.
    Failed(Arc<str>),
}

impl Seat {
    pub(crate) fn new(server: Arc<Server>, stop: CancellationToken) -> Self {
        let (state, epoch) = (watch::Sender::new(State::Starting), Instant::now());
        let (in_flight, used_ms) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { server, state, nudge: Notify::new(), stop, in_flight, epoch, used_ms }
    }

    /// Where it is, now and whenever that changes.
    pub(crate) fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Ends it.
    pub(crate) fn end(&self) {
        self.stop.cancel();
    }

    /// Waits until it is told to end. Cancel-safe.
    pub(crate) async fn ending(&self) {
        self.stop.cancelled().await;
    }

    /// It was never run, and will not be.
    pub(crate) fn give_up(&self) {
        self.state.send_replace(State::Over);
    }

    /// Since when nobody has called it; none while somebody does.
    pub(crate) fn idle(&self) -> Option<Duration> {
        let used = Duration::from_millis(self.used_ms.load(Ordering::Relaxed));
        (self.in_flight.load(Ordering::Relaxed) == 0).then(|| self.epoch.elapsed().saturating_sub(used))
    }

    async fn call(&self, call: &Call) -> Result<Incoming, CallError> {
        let answer = match self.attempt(call).await {
            // The process ended between being chosen and being written to; the call has not left.
            Err(error) if error.code() == ErrorCode::Disconnected && error.delivery() == Delivery::NotSent => {
                self.attempt(call).await?
            }
            answer => answer?,
        };
        if !wants_input(&answer, &call.client) {
            return Ok(answer);
        }
        Box::pin(input::rounds(call, answer, |round| async move { self.attempt(&round).await })).await
    }

    async fn attempt(&self, call: &Call) -> Result<Incoming, CallError> {
        let up = self.up(call.deadline).await?;
        if call.trace.sampled {
            // The span of the hop.
            tracing::Span::current().record("network.transport", up.connection.transport());
        }
        up.call(call, self.server.trusted).await
    }

    /// The process, once it answers.
    async fn up(&self, deadline: Instant) -> Result<Arc<Met>, CallError> {
        let mut state = self.state.subscribe();
        let waiting = async {
            loop {
                match &*state.borrow_and_update() {
                    State::Up(up) if !up.connection.is_ended() => return Ok(Arc::clone(up)),
                    State::Down(reason) => {
                        self.nudge.notify_one();
                        return Err(self.unavailable(&**reason));
                    }
                    State::Over => return Err(self.unavailable("it is not used any more")),
                    State::Up(_) | State::Starting => {}
                }
                state.changed().await.expect("the sender lives as long as the seat");
            }
        };
        timeout_at(deadline, waiting).await.unwrap_or_else(|_| Err(self.unavailable("it is still starting")))
    }

    fn unavailable(&self, reason: impl Into<BoxError>) -> CallError {
        let text = format!("the server `{}` does not run", self.server.target);
        CallError::runtime(ErrorCode::Unavailable, Delivery::NotSent, text).with_source(reason)
    }

    /// Keeps a process running until it is told to end.
    pub(crate) async fn run(&self) {
        let mut backoff = Backoff::default();
        let (mut era, mut told): (_, Arc<str>) = (None, "".into());
        loop {
            self.state.send_replace(State::Starting);
            let begun = Instant::now();
            let reason = match self.live(&mut era).await {
                Ended::Stopped => break,
                Ended::Probed => continue,
                Ended::Failed(reason) => reason,
            };
            if begun.elapsed() >= STEADY_AFTER {
                backoff.reset();
            }
            let wait = backoff.wait();
            // One that cannot start says the same every time.
            if reason == told {
                debug!(target_name = %self.server.target, %reason, again_in = ?wait, "the server has ended again");
            } else {
                warn!(target_name = %self.server.target, %reason, again_in = ?wait, "the server has ended");
                told = Arc::clone(&reason);
            }
            // Calls wait for one that was there and will be soon.
            let was_up = matches!(*self.state.borrow(), State::Up(_));
            if wait > SOON || !was_up {
                self.state.send_replace(State::Down(reason));
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = sleep(wait) => {}
                () = async { sleep(SOON).await; self.nudge.notified().await } => {}
            }
        }
        self.state.send_replace(State::Over);
    }

    /// One life of the process.
    async fn live(&self, era: &mut Option<Era>) -> Ended {
        let (mut process, pipes) = match Process::start(&self.server) {
            Ok(started) => started,
            Err(error) => return Ended::Failed(self.not_started(&error)),
        };
        let (tasks, last) = (TaskTracker::new(), LastWords::default());
        let connection = self.converse(pipes, &tasks, &last);
        let lived = tokio::select! {
            biased;
            () = self.stop.cancelled() => Ok(()),
            lived = self.meet_and_serve(&connection, era) => lived,
            status = process.ended() => {
                // What it printed last may be the answer that somebody waits for.
                drop(timeout(LAST_READ, connection.ended()).await);
                Err(Ended::Failed(died(status, &last)))
            }
        };
        let hung_up = connection.is_ended();
        connection.close();
        let status = process.stop().await;
        tasks.close();
        tasks.wait().await;
        match lived {
            Ok(()) => Ended::Stopped,
            // How it ended says more than that it did.
            Err(Ended::Failed(_)) if hung_up => Ended::Failed(died(status, &last)),
            Err(ended) => ended,
        }
    }

    fn not_started(&self, error: &io::Error) -> Arc<str> {
        format!("`{}` cannot be started: {error}", self.server.command.display()).into()
    }

    fn converse(&self, pipes: Pipes, tasks: &TaskTracker, last: &LastWords) -> Connection {
        let Pipes { stdin, stdout, stderr } = pipes;
        tasks.spawn(stderr::log(stderr, self.server.target.clone(), last.clone()));
        let bytes_max = self.server.line_bytes_max;
        let source = FramedRead::new(stdout, Lines::new(bytes_max)).boxed();
        let sink = FramedWrite::new(stdin, Lines::new(bytes_max));
        // The places of the target bound the calls; what the gateway asks for itself comes on top.
        let in_flight_max = self.server.concurrency.saturating_add(8).try_into().expect("not zero");
        let target = self.server.target.clone();
        let settings = Settings {
            garbage: Garbage::Ignore,
            transport: "pipe",
            on_fault: Arc::new(move |fault| debug!(target_name = %target, ?fault, "a line of the server was thrown away")),
            ..Settings::new(in_flight_max, bytes_max)
        };
        Conversation::new(source, sink, settings).spawn(tasks)
    }

    /// Finds out how to speak with it, and lets it be called until it ends. Never succeeds.
    async fn meet_and_serve(&self, connection: &Connection, era: &mut Option<Era>) -> Result<(), Ended> {
        let met = timeout(self.server.start_timeout, self.meet(connection, era)).await;
        let (spoken, facts) = met.unwrap_or_else(|_| {
            let limit = self.server.start_timeout.as_secs();
            Err(Ended::Failed(format!("it did not answer within {limit} s of its start").into()))
        })?;
        info!(target_name = %self.server.target, era = spoken.as_str(), "the server answers");
        self.state.send_replace(State::Up(Arc::new(Met::new(connection.clone(), spoken, facts))));
        connection.ended().await;
        Err(Ended::Failed("it closed its output".into()))
    }

    async fn meet(&self, connection: &Connection, era: &mut Option<Era>) -> Result<(Era, ServerFacts), Ended> {
        let failed = |error: CallError| Ended::Failed(chain(&error).into());
        if *era != Some(Era::Legacy) {
            let found = opening::discover(connection, self.probed_by()).await.map_err(failed)?;
            if let Some(facts) = found {
                *era = Some(Era::Modern);
                return Ok((Era::Modern, facts));
            }
            if connection.is_ended() && era.is_none() {
                // Some servers end when the first thing they hear is not `initialize`.
                *era = Some(Era::Legacy);
                return Err(Ended::Probed);
            }
        }
        let deadline = Instant::now() + self.server.start_timeout;
        // What is listed is for all clients, and some servers list only what their client can do.
        let params = handshake::initialize_params(revision::LATEST_LEGACY, &capabilities(Declared::ALL), handshake::CLIENT_INFO);
        match opening::initialize(connection, params, deadline, handshake::read_initialized).await {
            Ok(facts) => {
                *era = Some(Era::Legacy);
                Ok((Era::Legacy, facts))
            }
            // It was slow to start and is awake now, or is another program than it was: of another era than was thought.
            Err(refused) if refused.answer().is_some() => {
                let found = opening::discover(connection, self.probed_by()).await.map_err(failed)?;
                let facts = found.ok_or_else(|| failed(refused))?;
                *era = Some(Era::Modern);
                Ok((Era::Modern, facts))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Until when a question about the era is waited for: there has to be time for two of them and a session.
    fn probed_by(&self) -> Instant {
        Instant::now() + PROBE_TIMEOUT_MAX.min(self.server.start_timeout / 3)
    }
}

/// A seat that somebody is calling: it is not idle.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Seat>);

impl Busy {
    pub(crate) fn new(seat: &Arc<Seat>) -> Self {
        seat.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(seat))
    }

    /// Makes a call.
    pub(crate) async fn call(&self, call: &Call) -> Result<Incoming, CallError> {
        self.0.call(call).await
    }

    /// As [`Seat::state`].
    #[cfg(test)]
    pub(crate) fn state(&self) -> watch::Receiver<State> {
        self.0.state()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let now_ms = u64::try_from(self.0.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.used_ms.store(now_ms, Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

fn died(status: Option<ExitStatus>, last: &LastWords) -> Arc<str> {
    let how = status.map_or_else(|| "it has ended".to_owned(), |status| format!("it has ended: {status}"));
    last.text().map_or_else(|| how.clone(), |words| format!("{how}; its last words: {words}")).into()
}

/// An error with its causes.
fn chain(error: &CallError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
