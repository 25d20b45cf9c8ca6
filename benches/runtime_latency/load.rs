//! The closed-loop load generator: every call is checked, and a failure is counted, never timed.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, timeout};

use crate::client::{Client, Wire};

/// A worker gives up after so many failures: a dead path must not spin, and one failure already spoils a case.
const FAILURES_MAX: u64 = 100;
/// How long a worker may run on after its time is up; longer than any call takes on loopback.
const OVERTIME: Duration = Duration::from_secs(20);
/// 100 s: no call can take longer, see [`OVERTIME`].
const LATENCY_NS_MAX: u64 = 100_000_000_000;
/// 0.1 % of the value, finer than the spread of any round.
const SIGNIFICANT_DIGITS: u8 = 3;

/// One round of one case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) wire: Wire,
    /// `host:port/path` for HTTP, a multiaddress with its key for libp2p.
    pub(crate) endpoint: String,
    pub(crate) tool: String,
    pub(crate) payload_bytes: usize,
    /// Calls in flight; over HTTP also the connections.
    pub(crate) in_flight: usize,
    pub(crate) seconds: f64,
    pub(crate) warm_up_seconds: f64,
}

/// What a round measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) seconds: f64,
    /// Reason -> count, warm-up included.
    pub(crate) failures: BTreeMap<String, u64>,
    /// (nanoseconds, count) of the successful calls.
    pub(crate) latencies: Vec<(u64, u64)>,
}

/// What the load process tells its parent, one JSON line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// Connections are open and warm; the next line on stdin starts the clock.
    Warm,
    Done(Outcome),
    /// The round could not be measured at all.
    Failed(String),
}

/// Takes orders from stdin until it closes.
pub(crate) fn serve() -> anyhow::Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    while let Some(line) = lines.next() {
        let order: Order = serde_json::from_str(&line?).context("the order cannot be read")?;
        let crew = match runtime.block_on(Crew::warmed_up(&order)) {
            Ok(crew) => crew,
            Err(error) => {
                report(&Report::Failed(format!("{error:#}")))?;
                continue;
            }
        };
        report(&Report::Warm)?;
        lines.next().context("the parent went away")??;
        let outcome = runtime.block_on(crew.measure(Duration::from_secs_f64(order.seconds)))?;
        report(&Report::Done(outcome))?;
    }
    Ok(())
}

fn report(report: &Report) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, report)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// The workers of one round, one call in flight each.
struct Crew {
    workers: Vec<Worker>,
}

impl Crew {
    async fn warmed_up(order: &Order) -> anyhow::Result<Self> {
        let clients = Client::connect_all(order).await?;
        let workers = clients.into_iter().enumerate().map(|(number, client)| Worker::new(client, number, order)).collect();
        let mut crew = Self { workers };
        crew.run(Duration::from_secs_f64(order.warm_up_seconds)).await?;
        for worker in &mut crew.workers {
            worker.latencies.reset();
        }
        Ok(crew)
    }

    async fn measure(mut self, time: Duration) -> anyhow::Result<Outcome> {
        let started = Instant::now();
        self.run(time).await?;
        let seconds = started.elapsed().as_secs_f64();
        let mut latencies = new_histogram();
        let mut failures = BTreeMap::new();
        for worker in self.workers {
            latencies.add(&worker.latencies)?;
            for (reason, count) in worker.failures {
                *failures.entry(reason).or_default() += count;
            }
            worker.client.close().await;
        }
        let latencies = latencies.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
        Ok(Outcome { seconds, failures, latencies })
    }

    async fn run(&mut self, time: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        let mut running: JoinSet<Worker> = self.workers.drain(..).map(|worker| worker.work(until)).collect();
        while let Some(worker) = timeout(time + OVERTIME, running.join_next()).await.context("a call was never answered")? {
            self.workers.push(worker?);
        }
        Ok(())
    }
}

pub(crate) fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_NS_MAX, SIGNIFICANT_DIGITS).expect("the digits are within 0 to 5")
}

struct Worker {
    client: Client,
    next_id: u64,
    text: String,
    latencies: Histogram<u64>,
    failures: BTreeMap<String, u64>,
}

impl Worker {
    fn new(client: Client, number: usize, order: &Order) -> Self {
        // Ids of workers never meet, so that a swapped answer is seen even on a shared stream.
        let next_id = (number as u64 + 1) << 32;
        Self { client, next_id, text: "x".repeat(order.payload_bytes), latencies: new_histogram(), failures: BTreeMap::new() }
    }

    async fn work(mut self, until: Instant) -> Self {
        while self.failures.values().sum::<u64>() < FAILURES_MAX {
            let id = self.next_text();
            let started = Instant::now();
            let answer = self.client.call(id, &self.text).await;
            let ended = Instant::now();
            match answer.and_then(|answer| answer.check(id, &self.text)) {
                Ok(()) => self.latencies.saturating_record((ended - started).as_nanos() as u64),
                Err(error) => *self.failures.entry(format!("{error:#}")).or_default() += 1,
            }
            if ended >= until {
                break;
            }
        }
        self
    }

    /// Takes the next id and writes it over the start of the text, so that each text is another.
    fn next_text(&mut self) -> u64 {
        self.next_id += 1;
        let stamp = format!("{:016x}", self.next_id);
        let length = stamp.len().min(self.text.len());
        self.text.replace_range(..length, &stamp[stamp.len() - length..]);
        self.next_id
    }
}
