//! All parties of a run: the server, what stands before it, and the load generator that measures them.

use std::net::SocketAddr;
use std::path::Path as FilePath;

use anyhow::{Context as _, bail};
use tokio::time::Duration;

use crate::client::Wire;
use crate::gateway::{self, Gateway, Upstream};
use crate::load::{Order, Outcome, Report};
use crate::process::{Launch, Party, Usage};
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
    /// The peer and its multiaddress.
    peer: (Party, String),
    gateways: Option<Gateways>,
}

/// The gateways of a cluster.
struct Gateways {
    /// One for each ratio, in the order of [`Sampling::EACH`].
    alone: Vec<(Sampling, Gateway)>,
    /// Offers the server's tool to `near`.
    far: Gateway,
    near: Gateway,
}

impl Gateways {
    async fn start(server: SocketAddr, setup: &Setup<'_>) -> anyhow::Result<Self> {
        let of = |name, upstream, sampling| gateway::Setup {
            name,
            upstream,
            collector: setup.collector,
            sampling,
            core: setup.core,
            directory: setup.directory,
        };
        let mut alone = Vec::new();
        for sampling in Sampling::EACH {
            let setup = of(sampling.gateway_name(), Upstream::Server(server), sampling);
            alone.push((sampling, Gateway::start(&setup).await?));
        }
        let far = Gateway::start(&of("gateway-far", Upstream::ServerForPeers(server), Sampling::OnePercent)).await?;
        let address = far.p2p.as_deref().context("the far gateway does not say where peers dial it")?;
        let near = Gateway::start(&of("gateway-near", Upstream::Peer(address), Sampling::OnePercent)).await?;
        Ok(Self { alone, far, near })
    }

    fn alone(&self, sampling: Sampling) -> anyhow::Result<&Gateway> {
        let found = self.alone.iter().find(|(of, _)| *of == sampling);
        found.map(|(_, gateway)| gateway).context("no gateway samples like this")
    }
}

impl Cluster {
    pub(crate) async fn start(setup: &Setup<'_>) -> anyhow::Result<Self> {
        let server = start_listener("server", &[], setup).await?;
        let floor = start_listener("floor", &["--upstream".to_owned(), server.1.to_string()], setup).await?;
        let peer = start_peer(setup).await?;
        let load = start_role("load", &[], setup)?;
        let gateways = if setup.with_gateways { Some(Gateways::start(server.1, setup).await?) } else { None };
        Ok(Self { load, server, floor, peer, gateways })
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
        let over_http = |address, tool| (Wire::Http(scenario.path.era()), format!("{address}/mcp"), tool);
        let (wire, endpoint, tool) = match scenario.path {
            Path::Direct(_) => over_http(self.server.1, "echo"),
            Path::Floor(_) => over_http(self.floor.1, "echo"),
            Path::HttpRuntime(_) => over_http(self.gateways()?.alone(scenario.sampling)?.http, "bench.echo"),
            Path::PeerGateway(_) => over_http(self.gateways()?.near.http, "far.bench.echo"),
            Path::RawStream => (Wire::RawStream, self.peer.1.clone(), "echo"),
            Path::McppRuntime => (Wire::Seam, self.peer.1.clone(), "echo"),
        };
        Ok(Order {
            wire,
            endpoint,
            tool: tool.to_owned(),
            payload_bytes: scenario.payload_bytes,
            in_flight: scenario.in_flight,
            seconds: timing.seconds,
            warm_up_seconds: timing.warm_up_seconds,
        })
    }

    /// CPU time and memory of the parties that stand between the client and the server. At the seam the client is part of
    /// the load generator, and so is the raw stream that it is compared with.
    fn usage(&self, scenario: &Scenario) -> anyhow::Result<Usage> {
        match scenario.path {
            Path::Direct(_) => self.server.0.usage(),
            Path::Floor(_) => self.floor.0.usage(),
            Path::HttpRuntime(_) => self.gateways()?.alone(scenario.sampling)?.party.usage(),
            Path::PeerGateway(_) => Ok(self.gateways()?.near.party.usage()? + self.gateways()?.far.party.usage()?),
            Path::RawStream | Path::McppRuntime => self.load.usage(),
        }
    }

    fn gateways(&self) -> anyhow::Result<&Gateways> {
        self.gateways.as_ref().context("this run was started without gateways")
    }
}

async fn start_listener(name: &'static str, arguments: &[String], setup: &Setup<'_>) -> anyhow::Result<(Party, SocketAddr)> {
    let mut party = start_role(name, arguments, setup)?;
    let ready = party.ready().await?;
    let address = ready["http"].as_str().context("a listener says where it listens")?.parse()?;
    Ok((party, address))
}

async fn start_peer(setup: &Setup<'_>) -> anyhow::Result<(Party, String)> {
    let mut party = start_role("peer", &[], setup)?;
    let ready = party.ready().await?;
    let address = ready["p2p"].as_str().context("the peer says where it listens")?.to_owned();
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
