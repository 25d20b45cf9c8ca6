//! Memory of a gateway over three cycles of sessions that are left, and over three of calls and of clients that vanish.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use hyper::Request;
use hyper::header::HOST;
use serde::Serialize;
use tokio::time::{Duration, Instant, sleep};
use twinway::measure::{HttpConnection, Machine};

use crate::client::Wire;
use crate::cluster::{Setup, start_listener};
use crate::gateway::{self, Gateway, Kind, Upstream};
use crate::generator::Generator;
use crate::load::Order;
use crate::request::Era;
use crate::scenario::Sampling;
use crate::vanish;

const CYCLES: usize = 3;

/// Memory after the last cycle may be so many times that after the first.
const GROWTH_MAX: f64 = 1.1;

/// What an idle session may take.
const SESSION_BYTES_MAX: u64 = 8_000;

/// What the gateway is given; short, so that the run need not wait half an hour. All sessions fit, so that none gives way
/// before its time.
const HTTP: &str = "session_idle = \"5s\"\nsessions_max = 50000\n";

/// The same where all sessions have to be open at one time: so long that the first has not expired when the last is opened.
const HTTP_OF_SESSIONS: &str = "session_idle = \"20s\"\nsessions_max = 50000\n";

/// Twice the idle time of a session, and a busy machine.
const QUIET_WITHIN: Duration = Duration::from_secs(60);

/// Calls are made in pieces of this time, in one era after the other.
const PIECE_SECONDS: f64 = 1.0;
const IN_FLIGHT: usize = 16;

/// How much is done in each cycle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    pub(crate) calls: u64,
    pub(crate) clients: usize,
}

/// The file `target/bench/memory.json`.
#[derive(Debug, Serialize)]
pub(crate) struct MemoryReport {
    machine: Machine,
    idle_rss_bytes: u64,
    sessions: Vec<Sessions>,
    cycles: Vec<Cycle>,
    growth_max: f64,
}

/// Legacy sessions whose clients opened them, made one call, and vanished.
#[derive(Debug, Serialize)]
struct Sessions {
    opened: usize,
    /// What the gauge said when all were open, and when they had expired.
    sessions_open: u64,
    sessions_after: u64,
    rss_before_bytes: u64,
    rss_open_bytes: u64,
    rss_after_bytes: u64,
    /// By how much memory grew, for each session. In the first cycle with all that a gateway allocates only once.
    bytes_per_session: u64,
}

#[derive(Debug, Serialize)]
struct Cycle {
    calls: u64,
    failed_calls: u64,
    clients_that_vanished: usize,
    /// What the gauge said when the clients had gone, and when their sessions had expired.
    sessions_left: u64,
    sessions_after: u64,
    rss_bytes: u64,
}

/// A gateway and what it is told to bear.
struct Trial {
    gateway: Gateway,
    load: Generator,
    amount: Amount,
}

/// Runs all cycles.
pub(crate) async fn run(setup: &Setup<'_>, machine: Machine, amount: Amount) -> anyhow::Result<MemoryReport> {
    let (_server, address) = start_listener("server", &[], setup).await?;
    // Sessions are weighed in a gateway that has done nothing yet: no memory that was free before hides theirs.
    let trial = Trial::start(setup, address, amount, HTTP_OF_SESSIONS).await?;
    let idle_rss_bytes = trial.gateway.idle_rss_bytes;
    let mut sessions = Vec::new();
    for number in 1..=CYCLES {
        let cycle = trial.leave_sessions().await.with_context(|| format!("cycle {number} of sessions"))?;
        crate::note(format_args!("cycle {number} of {CYCLES}: {cycle:?}"));
        sessions.push(cycle);
    }
    let mut trial = Trial::start(setup, address, amount, HTTP).await?;
    let mut cycles = Vec::new();
    for number in 1..=CYCLES {
        let cycle = trial.cycle().await.with_context(|| format!("cycle {number}"))?;
        crate::note(format_args!("cycle {number} of {CYCLES}: {cycle:?}"));
        cycles.push(cycle);
    }
    Ok(MemoryReport { machine, idle_rss_bytes, sessions, cycles, growth_max: GROWTH_MAX })
}

impl Trial {
    async fn start(setup: &Setup<'_>, server: SocketAddr, amount: Amount, http: &str) -> anyhow::Result<Self> {
        let gateway = Gateway::start(&gateway::Setup {
            kind: Kind::Alone(Sampling::OnePercent),
            program: Path::new(env!("CARGO_BIN_EXE_twinway")),
            upstream: Upstream::Server(server),
            collector: setup.collector,
            core: None,
            directory: setup.directory,
            place: "memory-",
            http,
        })
        .await?;
        Ok(Self { gateway, load: Generator::start(setup)?, amount })
    }

    async fn leave_sessions(&self) -> anyhow::Result<Sessions> {
        let rss_before_bytes = self.gateway.party.usage()?.rss_bytes;
        vanish::leave_sessions(self.gateway.http, self.amount.clients).await?;
        let sessions_open = metric(self.gateway.http, "twinway_sessions").await?;
        let rss_open_bytes = self.gateway.party.usage()?.rss_bytes;
        ensure!(sessions_open == self.amount.clients as u64, "of {} sessions {sessions_open} are open", self.amount.clients);
        let sessions_after = self.wait_until_quiet().await?;
        let rss_after_bytes = self.gateway.party.usage()?.rss_bytes;
        let bytes_per_session = rss_open_bytes.saturating_sub(rss_before_bytes) / sessions_open;
        let opened = self.amount.clients;
        Ok(Sessions {
            opened,
            sessions_open,
            sessions_after,
            rss_before_bytes,
            rss_open_bytes,
            rss_after_bytes,
            bytes_per_session,
        })
    }

    async fn cycle(&mut self) -> anyhow::Result<Cycle> {
        let (mut calls, mut failed_calls) = (0, 0);
        for era in [Era::Modern, Era::Legacy].into_iter().cycle() {
            if calls >= self.amount.calls {
                break;
            }
            let order = order(self.gateway.http, era);
            self.load.warm_up(&order).await?.map_err(anyhow::Error::msg)?;
            let outcome = self.load.measure(&order).await?.map_err(anyhow::Error::msg)?;
            calls += outcome.latencies.count();
            failed_calls += outcome.failures.values().sum::<u64>();
            ensure!(failed_calls == 0, "calls failed: {:?}", outcome.failures);
        }
        vanish::come_and_go(self.gateway.http, self.amount.clients).await?;
        let sessions_left = metric(self.gateway.http, "twinway_sessions").await?;
        let sessions_after = self.wait_until_quiet().await?;
        let clients_that_vanished = self.amount.clients;
        let rss_bytes = self.gateway.party.usage()?.rss_bytes;
        Ok(Cycle { calls, failed_calls, clients_that_vanished, sessions_left, sessions_after, rss_bytes })
    }

    /// Waits until no session is open and no call is in flight; returns the sessions.
    async fn wait_until_quiet(&self) -> anyhow::Result<u64> {
        let until = Instant::now() + QUIET_WITHIN;
        loop {
            let sessions = metric(self.gateway.http, "twinway_sessions").await?;
            let calls = metric(self.gateway.http, "twinway_calls_in_flight").await?;
            if (sessions, calls) == (0, 0) {
                return Ok(sessions);
            }
            if Instant::now() >= until {
                bail!("after {QUIET_WITHIN:?} there are still {sessions} sessions and {calls} calls in flight");
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

impl MemoryReport {
    /// Fails when memory grew, a session weighs too much, or one stayed.
    pub(crate) fn judge(&self) -> anyhow::Result<()> {
        for growth in [self.growth_of_sessions(), self.growth_of_cycles()] {
            ensure!(growth <= GROWTH_MAX, "memory after the last cycle is {growth:.2} x that after the first");
        }
        let bytes = self.session_bytes();
        ensure!(bytes <= SESSION_BYTES_MAX, "an idle session takes {bytes} bytes");
        Ok(())
    }

    /// Memory after the last cycle of sessions / after the first.
    fn growth_of_sessions(&self) -> f64 {
        self.sessions[CYCLES - 1].rss_after_bytes as f64 / self.sessions[0].rss_after_bytes as f64
    }

    /// The same of cycles of calls.
    fn growth_of_cycles(&self) -> f64 {
        self.cycles[CYCLES - 1].rss_bytes as f64 / self.cycles[0].rss_bytes as f64
    }

    /// What an idle session took at most.
    fn session_bytes(&self) -> u64 {
        self.sessions.iter().map(|cycle| cycle.bytes_per_session).max().unwrap_or(0)
    }

    /// The tables for `benches/README.md`.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("{}\n\n`{}`\n\n", self.machine.sentence(), self.machine.command);
        self.write_sessions(&mut text);
        self.write_cycles(&mut text);
        text
    }

    fn write_sessions(&self, text: &mut String) {
        *text += "| cycle | sessions opened and left | open | after their time | RSS MB before | with all open | after their time | bytes for each |\n\
                  |---|---:|---:|---:|---:|---:|---:|---:|\n";
        for (number, cycle) in (1..).zip(&self.sessions) {
            let Sessions { opened, sessions_open, sessions_after, bytes_per_session, .. } = cycle;
            let [before, open, after] = [cycle.rss_before_bytes, cycle.rss_open_bytes, cycle.rss_after_bytes].map(megabytes);
            *text += &format!(
                "| {number} | {opened} | {sessions_open} | {sessions_after} | {before:.1} | {open:.1} | {after:.1} | {bytes_per_session} |\n"
            );
        }
        let (growth, bytes) = (self.growth_of_sessions(), self.session_bytes());
        *text += &format!(
            "\nRSS after the last cycle is {growth:.2} x that after the first; the target is at most {GROWTH_MAX} x: {}. An idle session took at most \
             {bytes} bytes; the target is below {SESSION_BYTES_MAX}: {}. Before the first it was {:.1} MB (target: below 30 MB).\n\n",
            verdict(growth <= GROWTH_MAX),
            verdict(bytes < SESSION_BYTES_MAX),
            megabytes(self.idle_rss_bytes),
        );
    }

    fn write_cycles(&self, text: &mut String) {
        *text += "| cycle | calls | clients that vanished | sessions they left | sessions after | RSS MB |\n\
                  |---|---:|---:|---:|---:|---:|\n";
        for (number, cycle) in (1..).zip(&self.cycles) {
            let Cycle { calls, clients_that_vanished, sessions_left, sessions_after, rss_bytes, .. } = cycle;
            let rss = megabytes(*rss_bytes);
            *text +=
                &format!("| {number} | {calls} | {clients_that_vanished} | {sessions_left} | {sessions_after} | {rss:.1} |\n");
        }
        let growth = self.growth_of_cycles();
        *text += &format!(
            "\nRSS after the last cycle is {growth:.2} x that after the first; the target is at most {GROWTH_MAX} x: {}.\n\n",
            verdict(growth <= GROWTH_MAX),
        );
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "**missed**" }
}

fn order(gateway: SocketAddr, era: Era) -> Order {
    Order {
        wire: Wire::Http(era),
        endpoint: format!("{gateway}/mcp"),
        tool: "bench.echo".to_owned(),
        payload_bytes: 256,
        in_flight: IN_FLIGHT,
        is_cold: false,
        seconds: PIECE_SECONDS,
        warm_up_seconds: 0.0,
    }
}

/// The sum of the samples of a gauge.
async fn metric(gateway: SocketAddr, name: &str) -> anyhow::Result<u64> {
    let request = Request::get("/metrics").header(HOST, gateway.to_string()).body(Default::default())?;
    let answer = HttpConnection::new(&gateway.to_string()).send(request).await.map_err(anyhow::Error::from_boxed)?;
    let text = String::from_utf8(answer.body.to_vec())?;
    let samples = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    let values = samples.map(|line| line.rsplit(' ').next().context("a sample has a value")?.parse::<u64>().map_err(Into::into));
    values.sum()
}
