//! All parties of a run: the server, what stands before it, and the load generator that measures them.

use std::net::SocketAddr;
use std::path::Path as FilePath;

use anyhow::{Context as _, bail};
use tokio::time::Duration;

use crate::client::Wire;
use crate::gateway;
use crate::load::{Order, Outcome, Report};
use crate::process::{Launch, Party};
use crate::round::Round;
use crate::scenario::{Path, Sampling, Scenario};

/// Beyond the time of the round itself; the load generator's own limit is shorter.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// How long a round lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) seconds: f64,
    pub(crate) warm_up_seconds: f64,
}

/// What a cluster is started with.
pub(crate) struct Setup<'a> {
    /// The core that every party shares; `None` leaves them to the scheduler.
    pub(crate) core: Option<usize>,
    pub(crate) collector: SocketAddr,
    pub(crate) directory: &'a FilePath,
    /// Without them the gateway's rows cannot run.
    pub(crate) with_gateways: bool,
}

/// Running parties, killed when this is dropped.
pub(crate) struct Cluster {
    load: Party,
    server: (Party, SocketAddr),
    floor: (Party, SocketAddr),
    gateways: Vec<(Sampling, Party, SocketAddr)>,
}

impl Cluster {
    pub(crate) async fn start(setup: &Setup<'_>) -> anyhow::Result<Self> {
        let server = start_listener("server", &[], setup).await?;
        let floor = start_listener("floor", &["--upstream".to_owned(), server.1.to_string()], setup).await?;
        let load = start_role("load", &[], setup)?;
        let mut gateways = Vec::new();
        for sampling in Sampling::EACH.into_iter().filter(|_| setup.with_gateways) {
            let gateway_setup = gateway::Setup {
                upstream: server.1,
                collector: setup.collector,
                sampling,
                core: setup.core,
                directory: setup.directory,
            };
            let (gateway, address) = gateway::start(&gateway_setup).await?;
            gateways.push((sampling, gateway, address));
        }
        Ok(Self { load, server, floor, gateways })
    }

    /// Runs one round of one case.
    pub(crate) async fn measure(&mut self, scenario: &Scenario, timing: Timing) -> anyhow::Result<Round> {
        let order = self.order(scenario, timing)?;
        let limit = ANSWER_WITHIN + Duration::from_secs_f64(timing.seconds + timing.warm_up_seconds);
        self.load.tell(&order).await?;
        match self.load.hear(limit).await? {
            Report::Warm => {}
            Report::Failed(reason) => return Ok(Round::failed(reason)),
            Report::Done(_) => bail!("the load generator ended a round that was not started"),
        }
        let before = self.usage(scenario)?;
        self.load.tell(&"go").await?;
        let outcome: Outcome = match self.load.hear(limit).await? {
            Report::Done(outcome) => outcome,
            Report::Failed(reason) => return Ok(Round::failed(reason)),
            Report::Warm => bail!("the load generator warmed up twice"),
        };
        let after = self.usage(scenario)?;
        Round::new(&outcome, before, after)
    }

    fn order(&self, scenario: &Scenario, timing: Timing) -> anyhow::Result<Order> {
        let (address, tool) = match scenario.path {
            Path::Direct(_) => (self.server.1, "echo"),
            Path::Floor(_) => (self.floor.1, "echo"),
            Path::HttpRuntime(_) => (self.gateway(scenario.sampling)?.1, "bench.echo"),
        };
        Ok(Order {
            wire: Wire::Http(scenario.path.era()),
            endpoint: format!("{address}/mcp"),
            tool: tool.to_owned(),
            payload_bytes: scenario.payload_bytes,
            in_flight: scenario.in_flight,
            seconds: timing.seconds,
            warm_up_seconds: timing.warm_up_seconds,
        })
    }

    /// CPU time and memory of the parties that stand between the client and the server.
    fn usage(&self, scenario: &Scenario) -> anyhow::Result<crate::process::Usage> {
        match scenario.path {
            Path::Direct(_) => self.server.0.usage(),
            Path::Floor(_) => self.floor.0.usage(),
            Path::HttpRuntime(_) => self.gateway(scenario.sampling)?.0.usage(),
        }
    }

    fn gateway(&self, sampling: Sampling) -> anyhow::Result<(&Party, SocketAddr)> {
        let (_, gateway, address) =
            self.gateways.iter().find(|(of, ..)| *of == sampling).context("this run was started without gateways")?;
        Ok((gateway, *address))
    }
}

async fn start_listener(name: &'static str, arguments: &[String], setup: &Setup<'_>) -> anyhow::Result<(Party, SocketAddr)> {
    let mut party = start_role(name, arguments, setup)?;
    let ready = party.ready().await?;
    let address = ready["http"].as_str().context("a listener says where it listens")?.parse()?;
    Ok((party, address))
}

/// Starts this program again, in another role.
fn start_role(name: &'static str, arguments: &[String], setup: &Setup<'_>) -> anyhow::Result<Party> {
    let program = std::env::current_exe()?;
    let arguments = ["--role", name].into_iter().map(str::to_owned).chain(arguments.iter().cloned()).collect();
    let pinned = if setup.core.is_some() { "-pinned" } else { "" };
    let log = setup.directory.join(format!("{name}{pinned}.log"));
    Launch { name, program: &program, arguments, core: setup.core, log }.start()
}
