//! Memory of a gateway over three cycles of calls and of clients that vanish.

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

/// Idle sessions whose memory is weighed.
const SESSIONS_WEIGHED: usize = 5_000;

/// What the gateway is given; short, so that the run need not wait half an hour. All sessions fit, so that none gives way
/// before its time.
const HTTP: &str = "session_idle = \"5s\"\nsessions_max = 50000\n";

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
    bytes_per_idle_session: u64,
    cycles: Vec<Cycle>,
    /// Memory after the last cycle / after the first.
    growth: f64,
    growth_max: f64,
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
    let gateway = Gateway::start(&gateway::Setup {
        kind: Kind::Alone(Sampling::OnePercent),
        program: Path::new(env!("CARGO_BIN_EXE_twinway")),
        upstream: Upstream::Server(address),
        collector: setup.collector,
        core: None,
        directory: setup.directory,
        place: "memory-",
        http: HTTP,
    })
    .await?;
    let mut trial = Trial { gateway, load: Generator::start(setup)?, amount };
    let idle_rss_bytes = trial.gateway.idle_rss_bytes;
    let mut cycles = Vec::new();
    for number in 1..=CYCLES {
        let cycle = trial.cycle().await.with_context(|| format!("cycle {number}"))?;
        crate::note(format_args!("cycle {number} of {CYCLES}: {cycle:?}"));
        cycles.push(cycle);
    }
    let bytes_per_idle_session = trial.weigh_sessions().await?;
    let growth = cycles[CYCLES - 1].rss_bytes as f64 / cycles[0].rss_bytes as f64;
    Ok(MemoryReport { machine, idle_rss_bytes, bytes_per_idle_session, cycles, growth, growth_max: GROWTH_MAX })
}

impl Trial {
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

    /// In a gateway whose memory has been used before, so that what is weighed is the sessions and not the first touch.
    async fn weigh_sessions(&self) -> anyhow::Result<u64> {
        let before = self.gateway.party.usage()?.rss_bytes;
        vanish::leave_sessions(self.gateway.http, SESSIONS_WEIGHED).await?;
        let sessions = metric(self.gateway.http, "twinway_sessions").await?;
        let after = self.gateway.party.usage()?.rss_bytes;
        ensure!(sessions > 0, "no session is open");
        Ok(after.saturating_sub(before) / sessions)
    }
}

impl MemoryReport {
    /// Fails when memory grew or a session stayed.
    pub(crate) fn judge(&self) -> anyhow::Result<()> {
        ensure!(self.growth <= GROWTH_MAX, "memory after the last cycle is {:.2} x that after the first", self.growth);
        Ok(())
    }

    /// The table for `benches/README.md`.
    pub(crate) fn markdown(&self) -> String {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let mut text = format!(
            "{}\n\n`{}`\n\n| cycle | calls | clients that vanished | sessions they left | sessions after | RSS MB |\n\
             |---|---:|---:|---:|---:|---:|\n",
            self.machine.sentence(),
            self.machine.command
        );
        for (number, cycle) in (1..).zip(&self.cycles) {
            let Cycle { calls, clients_that_vanished, sessions_left, sessions_after, rss_bytes, .. } = cycle;
            let rss = megabytes(*rss_bytes);
            text +=
                &format!("| {number} | {calls} | {clients_that_vanished} | {sessions_left} | {sessions_after} | {rss:.1} |\n");
        }
        let verdict = if self.growth <= GROWTH_MAX { "met" } else { "**missed**" };
        text + &format!(
            "\nRSS after the last cycle is {:.2} x that after the first; the target is at most {GROWTH_MAX} x: {verdict}. Before the first call \
             it was {:.1} MB (target: below 30 MB). An idle legacy session took {:.1} KB (target: below 8 KB).\n\n",
            self.growth,
            megabytes(self.idle_rss_bytes),
            self.bytes_per_idle_session as f64 / 1e3,
        )
    }
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
