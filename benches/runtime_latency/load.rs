//! The process that makes the load: takes orders from stdin, answers on stdout, one JSON line each.

use std::io::{BufRead, Write};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::time::Duration;
use twinway::measure::{Crew, Outcome};

use crate::client::{Client, Wire};

/// How long a caller may run on after its time is up; longer than any call takes on loopback.
const OVERTIME: Duration = Duration::from_secs(20);

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
    /// One call in flight, each over a connection of its own that is opened for it.
    pub(crate) is_cold: bool,
    pub(crate) seconds: f64,
    pub(crate) warm_up_seconds: f64,
}

/// What the load process tells its parent.
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
        let crew = match runtime.block_on(warmed_up(&order)) {
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

async fn warmed_up(order: &Order) -> anyhow::Result<Crew<Client>> {
    let clients = Client::connect_all(order).await?;
    Ok(Crew::warmed_up(clients, Duration::from_secs_f64(order.warm_up_seconds), OVERTIME).await?)
}

fn report(report: &Report) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, report)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}
