//! All parties of a run: the server, what stands before it, and the load generator that measures them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path as FilePath;

use anyhow::{Context as _, ensure};
use tokio::time::Duration;
use twinway::measure::Round;

use crate::client::Wire;
use crate::delay::Delay;
use crate::gateway::{self, Gateway, Kind, Upstream};
use crate::generator::Generator;
use crate::load::Order;
use crate::process::{Launch, Party, Usage};
use crate::scenario::{Carrier, LISTED_TOOLS, Path, Place, Scenario, Variant};

/// How long a round lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) seconds: f64,
    pub(crate) warm_up_seconds: f64,
}

/// What a cluster is started with.
pub(crate) struct Setup<'a> {
    pub(crate) place: Place,
    /// The core that every party shares; `None` leaves them to the scheduler.
    pub(crate) core: Option<usize>,
    pub(crate) collector: SocketAddr,
    pub(crate) directory: &'a FilePath,
    /// A gateway that was built with the system's allocator.
    pub(crate) system_allocator: Option<&'a FilePath>,
    /// A Python interpreter that has FastMCP.
    pub(crate) fastmcp: Option<&'a FilePath>,
}

/// Running parties, killed when this is dropped.
pub(crate) struct Cluster {
    load: Generator,
    server: (Party, SocketAddr),
    floor: (Party, SocketAddr),
    /// The peer and its multiaddresses, that of TCP first.
    peer: (Party, Vec<String>),
    gateways: BTreeMap<Kind, Gateway>,
    fastmcp: Option<(Party, SocketAddr)>,
    /// Where the server is reached from whoever calls it; its own address unless the tool is far away.
    server_address: SocketAddr,
    peer_addresses: Vec<String>,
    _delays: Vec<Delay>,
}

impl Cluster {
    /// Starts what these cases need.
    pub(crate) async fn start(setup: &Setup<'_>, cases: &[Scenario]) -> anyhow::Result<Self> {
        let mut delays = Vec::new();
        let server = start_listener("server", &[], setup).await?;
        let server_address = setup.away(server.1, Carrier::Tcp, &mut delays).await?;
        let floor = start_listener("floor", &["--upstream".to_owned(), server_address.to_string()], setup).await?;
        let peer = start_peer(setup).await?;
        let mut peer_addresses = Vec::new();
        for address in &peer.1 {
            peer_addresses.push(setup.peer_away(address, &mut delays).await?);
        }
        let load = Generator::start(setup)?;
        let mut gateways = BTreeMap::new();
        for kind in cases.iter().flat_map(gateways_of) {
            if !gateways.contains_key(&kind) {
                let gateway = start_gateway(kind, server.1, server_address, &gateways, setup, &mut delays).await?;
                gateways.insert(kind, gateway);
            }
        }
        let fastmcp = match cases.iter().any(|case| case.path == Path::FastMcp) {
            true => Some(start_fastmcp(server_address, setup).await?),
            false => None,
        };
        Ok(Self { load, server, floor, peer, gateways, fastmcp, server_address, peer_addresses, _delays: delays })
    }

    /// Memory of the gateway of a case before its first call.
    pub(crate) fn idle_rss_bytes(&self, scenario: &Scenario) -> Option<u64> {
        let [kind] = gateways_of(scenario)[..] else { return None };
        self.gateways.get(&kind).map(|gateway| gateway.idle_rss_bytes)
    }

    /// Runs one round of one case.
    pub(crate) async fn measure(&mut self, scenario: &Scenario, timing: Timing) -> anyhow::Result<Round> {
        let order = self.order(scenario, timing)?;
        if let Err(reason) = self.load.warm_up(&order).await? {
            return Ok(Round::failed(reason));
        }
        let before = self.usage(scenario)?;
        let outcome = match self.load.measure(&order).await? {
            Ok(outcome) => outcome,
            Err(reason) => return Ok(Round::failed(reason)),
        };
        let after = self.usage(scenario)?;
        Ok(Round::new(outcome).costing(after.cpu_ns.saturating_sub(before.cpu_ns), after.rss_bytes))
    }

    fn order(&self, scenario: &Scenario, timing: Timing) -> anyhow::Result<Order> {
        let over_http = |address, tool| (Wire::Http(scenario.path.era()), format!("{address}/mcp"), tool);
        let (wire, endpoint, tool) = match scenario.path {
            Path::Direct(_) => over_http(self.server_address, "echo"),
            Path::Floor(_) => over_http(self.floor.1, "echo"),
            Path::HttpRuntime(_) => over_http(self.gateway(Kind::Alone(scenario.sampling))?.http, "bench.echo"),
            Path::Bridge(client) => over_http(self.gateway(Kind::Bridge(client))?.http, "bench.echo"),
            Path::DirectList(era) => (Wire::List(era), format!("{}/mcp/{LISTED_TOOLS}", self.server_address), ""),
            Path::List(era) => (Wire::List(era), format!("{}/mcp", self.gateway(Kind::List)?.http), ""),
            Path::Rest(shape) => over_http(self.gateway(Kind::Rest(shape))?.http, "bench.echo"),
            Path::Variant(variant) => over_http(self.gateway(Kind::Variant(variant))?.http, "bench.echo"),
            Path::FastMcp => over_http(self.fastmcp()?.1, "echo"),
            Path::PeerGateway(_) => over_http(self.gateway(Kind::Near)?.http, "far.bench.echo"),
            Path::RawStream(carrier) => (Wire::RawStream, self.peer_address(carrier)?, "echo"),
            Path::McppRuntime(carrier) => (Wire::McppSeam, self.peer_address(carrier)?, "echo"),
            Path::HttpSeam => (Wire::HttpSeam, format!("{}/mcp", self.server_address), "echo"),
        };
        Ok(Order {
            wire,
            endpoint,
            tool: tool.to_owned(),
            payload_bytes: scenario.payload_bytes,
            in_flight: scenario.in_flight,
            is_cold: scenario.is_cold,
            seconds: timing.seconds,
            warm_up_seconds: timing.warm_up_seconds,
        })
    }

    /// CPU time and memory of the parties that stand between the client and the server. At the seam the client is part of
    /// the load generator, and so are the raw stream and the cold dial that it is compared with.
    fn usage(&self, scenario: &Scenario) -> anyhow::Result<Usage> {
        match scenario.path {
            Path::Direct(_) if scenario.is_cold => self.load.usage(),
            Path::Direct(_) | Path::DirectList(_) => self.server.0.usage(),
            Path::Floor(_) => self.floor.0.usage(),
            Path::FastMcp => self.fastmcp()?.0.usage(),
            Path::HttpRuntime(_) | Path::Bridge(_) | Path::List(_) | Path::Rest(_) | Path::Variant(_) | Path::PeerGateway(_) => {
                let gateways = gateways_of(scenario).into_iter().map(|kind| self.gateway(kind)?.party.usage());
                gateways.sum::<anyhow::Result<Usage>>()
            }
            Path::RawStream(_) | Path::McppRuntime(_) | Path::HttpSeam => self.load.usage(),
        }
    }

    fn gateway(&self, kind: Kind) -> anyhow::Result<&Gateway> {
        self.gateways.get(&kind).with_context(|| format!("the gateway {kind:?} was not started"))
    }

    fn fastmcp(&self) -> anyhow::Result<&(Party, SocketAddr)> {
        self.fastmcp.as_ref().context("FastMCP's proxy was not started")
    }

    fn peer_address(&self, carrier: Carrier) -> anyhow::Result<String> {
        ensure!(!self.peer.1.is_empty(), "the peer does not listen");
        let address = self.peer_addresses.iter().find(|address| carrier_of(address) == carrier);
        address.cloned().context("the peer does not listen on this carrier")
    }
}

impl Setup<'_> {
    /// Where `address` is reached when the tool is far away.
    async fn away(&self, address: SocketAddr, carrier: Carrier, delays: &mut Vec<Delay>) -> anyhow::Result<SocketAddr> {
        let Place::Away { rtt_ms } = self.place else { return Ok(address) };
        let round_trip = Duration::from_millis(rtt_ms);
        let delay = match carrier {
            Carrier::Tcp => Delay::tcp(address, round_trip).await?,
            Carrier::Quic => Delay::udp(address, round_trip).await?,
        };
        let address = delay.address;
        delays.push(delay);
        Ok(address)
    }

    /// The same for `/ip4/127.0.0.1/tcp/PORT/…` and `/ip4/127.0.0.1/udp/PORT/…`.
    async fn peer_away(&self, address: &str, delays: &mut Vec<Delay>) -> anyhow::Result<String> {
        let mut parts: Vec<String> = address.split('/').map(str::to_owned).collect();
        let port = parts.get_mut(4).with_context(|| format!("the address {address} has no port"))?;
        let real = SocketAddr::from(([127, 0, 0, 1], port.parse()?));
        *port = self.away(real, carrier_of(address), delays).await?.port().to_string();
        Ok(parts.join("/"))
    }
}

/// The gateways that stand between the client and the server in this case, in the order in which they can be started.
fn gateways_of(scenario: &Scenario) -> Vec<Kind> {
    match scenario.path {
        Path::HttpRuntime(_) => vec![Kind::Alone(scenario.sampling)],
        Path::Bridge(client) => vec![Kind::Bridge(client)],
        Path::List(_) => vec![Kind::List],
        Path::Rest(shape) => vec![Kind::Rest(shape)],
        Path::Variant(variant) => vec![Kind::Variant(variant)],
        Path::PeerGateway(_) => vec![Kind::Far, Kind::Near],
        Path::Direct(_)
        | Path::DirectList(_)
        | Path::Floor(_)
        | Path::RawStream(_)
        | Path::McppRuntime(_)
        | Path::HttpSeam
        | Path::FastMcp => Vec::new(),
    }
}

fn carrier_of(address: &str) -> Carrier {
    if address.contains("/udp/") { Carrier::Quic } else { Carrier::Tcp }
}

async fn start_gateway(
    kind: Kind,
    server: SocketAddr,
    server_away: SocketAddr,
    running: &BTreeMap<Kind, Gateway>,
    setup: &Setup<'_>,
    delays: &mut Vec<Delay>,
) -> anyhow::Result<Gateway> {
    let far;
    let upstream = match kind {
        Kind::Alone(_) | Kind::Variant(_) => Upstream::Server(server_away),
        Kind::Bridge(client) => Upstream::ServerOf(server_away, client.other()),
        Kind::List => Upstream::Servers(server_away),
        Kind::Rest(shape) => Upstream::Rest(server_away, shape),
        // The far gateway stands beside its tool.
        Kind::Far => Upstream::ServerForPeers(server),
        Kind::Near => {
            let gateway = running.get(&Kind::Far).context("the far gateway is started first")?;
            let address = gateway.p2p.as_deref().context("the far gateway does not say where peers dial it")?;
            far = setup.peer_away(address, delays).await?;
            Upstream::Peer(&far)
        }
    };
    let program = match kind {
        Kind::Variant(Variant::SystemAllocator) => setup.system_allocator.context("no gateway has the system's allocator")?,
        _ => FilePath::new(env!("CARGO_BIN_EXE_twinway")),
    };
    let place = setup.place.prefix().replace('/', "-");
    let (collector, core, directory) = (setup.collector, setup.core, setup.directory);
    Gateway::start(&gateway::Setup { kind, program, upstream, collector, core, directory, place: &place, http: "" }).await
}

pub(crate) async fn start_listener(name: &str, arguments: &[String], setup: &Setup<'_>) -> anyhow::Result<(Party, SocketAddr)> {
    let mut party = start_role(name, arguments, setup)?;
    let address = party.http().await?;
    Ok((party, address))
}

async fn start_fastmcp(upstream: SocketAddr, setup: &Setup<'_>) -> anyhow::Result<(Party, SocketAddr)> {
    let program = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("benches/runtime_latency/fastmcp_proxy.py");
    let mut party = Launch {
        name: "fastmcp-proxy".to_owned(),
        program: setup.fastmcp.context("no Python interpreter has FastMCP")?,
        arguments: vec![program.display().to_string(), format!("http://{upstream}/mcp")],
        core: setup.core,
        log: setup.directory.join("fastmcp-proxy.log"),
    }
    .start()?;
    let address = party.http().await?;
    Ok((party, address))
}

async fn start_peer(setup: &Setup<'_>) -> anyhow::Result<(Party, Vec<String>)> {
    let mut party = start_role("peer", &[], setup)?;
    let ready = party.ready().await?;
    let addresses = serde_json::from_value(ready["p2p"].clone()).context("the peer says where it listens")?;
    Ok((party, addresses))
}

/// Starts this program again, in another role.
pub(crate) fn start_role(name: &str, arguments: &[String], setup: &Setup<'_>) -> anyhow::Result<Party> {
    let program = std::env::current_exe()?;
    let arguments = ["--role", name].into_iter().map(str::to_owned).chain(arguments.iter().cloned()).collect();
    let log = setup.directory.join(format!("{}{name}.log", setup.place.prefix().replace('/', "-")));
    Launch { name: name.to_owned(), program: &program, arguments, core: setup.core, log }.start()
}
