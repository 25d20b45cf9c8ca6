//! The gateways under test: the real `twinway serve` with configuration files written for the run.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;

use crate::process::{Launch, Party};
use crate::request::{Era, TOKEN};
use crate::scenario::{LISTED_SERVERS, LISTED_TOOLS, Sampling, Shape, Variant};

/// Beside the configurations: secrets do not stand in them.
const TOKEN_FILE: &str = "load.token";

/// Which gateway of a cluster; each is started when a case needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Offers the server's tool as `bench.echo`.
    Alone(Sampling),
    /// As `Alone`, for clients of this era: the server speaks the other one only.
    Bridge(Era),
    /// Offers many tools of many servers.
    List,
    /// Offers the same tool of the same server, which does not speak MCP.
    Rest(Shape),
    /// As `Alone`, set up in another way.
    Variant(Variant),
    /// Offers the server's tool to `Near`.
    Far,
    /// Offers the tool of `Far` as `far.bench.echo`.
    Near,
}

impl Kind {
    /// Part of the names of its files.
    fn name(self) -> String {
        match self {
            Self::Alone(Sampling::OnePercent) => "gateway-sampling-1".to_owned(),
            Self::Alone(Sampling::All) => "gateway-sampling-100".to_owned(),
            Self::Bridge(client) => format!("gateway-{}-to-{}", client.name(), client.other().name()),
            Self::List => "gateway-list".to_owned(),
            Self::Variant(Variant::Ours) => "gateway-as-it-is".to_owned(),
            Self::Variant(Variant::SystemAllocator) => "gateway-system-allocator".to_owned(),
            Self::Variant(Variant::AllLayers) => "gateway-all-layers".to_owned(),
            Self::Variant(Variant::Workers(count)) => format!("gateway-workers-{count}"),
            Self::Rest(shape) => format!("gateway-{}", shape.kind()),
            Self::Far => "gateway-far".to_owned(),
            Self::Near => "gateway-near".to_owned(),
        }
    }

    const fn sampling(self) -> Sampling {
        match self {
            Self::Alone(sampling) => sampling,
            Self::Bridge(_) | Self::List | Self::Rest(_) | Self::Variant(_) | Self::Far | Self::Near => Sampling::OnePercent,
        }
    }
}

/// What a gateway is started with.
pub(crate) struct Setup<'a> {
    pub(crate) kind: Kind,
    pub(crate) program: &'a Path,
    pub(crate) upstream: Upstream<'a>,
    pub(crate) collector: SocketAddr,
    pub(crate) core: Option<usize>,
    /// Where the configuration, the key and the log are written.
    pub(crate) directory: &'a Path,
    /// Tells files of one cluster from those of another.
    pub(crate) place: &'a str,
    /// Further lines of the table `[http]`.
    pub(crate) http: &'a str,
}

/// Whose tool a gateway offers.
pub(crate) enum Upstream<'a> {
    Server(SocketAddr),
    /// The server's, in this era only.
    ServerOf(SocketAddr, Era),
    /// Those of the server, which is one of many.
    Servers(SocketAddr),
    /// The server's, in that shape.
    Rest(SocketAddr, Shape),
    /// The server's, to peers too.
    ServerForPeers(SocketAddr),
    /// That of the gateway with this multiaddress.
    Peer(&'a str),
}

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) party: Party,
    pub(crate) http: SocketAddr,
    /// Where peers dial it, with its key.
    pub(crate) p2p: Option<String>,
    pub(crate) idle_rss_bytes: u64,
}

impl Gateway {
    /// Starts a gateway and waits until it is ready.
    pub(crate) async fn start(setup: &Setup<'_>) -> anyhow::Result<Self> {
        let name = format!("{}{}", setup.place, setup.kind.name());
        let config = setup.directory.join(format!("{name}.toml"));
        let write =
            |file: &Path, text: &str| std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()));
        write(&config, &configuration(setup, &name))?;
        write(&setup.directory.join(TOKEN_FILE), TOKEN)?;
        let launch = Launch {
            name: name.clone(),
            program: setup.program,
            arguments: vec!["serve".to_owned(), "--config".to_owned(), config.display().to_string(), "--json".to_owned()],
            core: setup.core,
            log: config.with_extension("log"),
        };
        let mut party = launch.start()?;
        let ready = party.ready().await?;
        let http = ready["http"].as_str().context("the gateway does not say where it listens")?.parse()?;
        let idle_rss_bytes = party.usage()?.rss_bytes;
        Ok(Self { party, http, p2p: ready["p2p"][0].as_str().map(str::to_owned), idle_rss_bytes })
    }
}

fn configuration(setup: &Setup<'_>, name: &str) -> String {
    let upstream = match setup.upstream {
        Upstream::Server(address) => server(address),
        Upstream::ServerOf(address, era) => format!("{}era = \"{}\"\n", server(address), era.name()),
        Upstream::Servers(address) => servers(address),
        Upstream::Rest(address, shape) => {
            format!("[[upstream]]\nname = \"bench\"\nkind = \"{}\"\nurl = \"http://{address}\"\n", shape.kind())
        }
        Upstream::ServerForPeers(address) => server(address) + &for_peers(name),
        Upstream::Peer(address) => peer(name, address),
    };
    let (workers, rules) = match setup.kind {
        Kind::Variant(Variant::Workers(count)) => (format!("workers = {count}\n"), String::new()),
        Kind::Variant(Variant::AllLayers) => (String::new(), all_layers()),
        _ => (String::new(), String::new()),
    };
    let http = setup.http;
    format!(
        r#"[http]
listen = "127.0.0.1:0"
{workers}{http}
[telemetry]
otlp = "http://{collector}"
sample_ratio = {ratio:?}

{rules}{upstream}"#,
        collector = setup.collector,
        ratio = setup.kind.sampling().ratio()
    )
}

/// What sends each call through every layer. The breaker is on for whoever says nothing.
fn all_layers() -> String {
    format!(
        "[[http.client]]\nname = \"load\"\ntoken = \"file:{TOKEN_FILE}\"\n\n\
         [[tool]]\nmatch = \"*\"\nread_only = true\nretry = \"exponential\"\ncache_ttl = \"1s\"\nio_intensive = true\n\n"
    )
}

fn server(address: SocketAddr) -> String {
    format!("[[upstream]]\nname = \"bench\"\nkind = \"mcp\"\nurl = \"http://{address}/mcp\"\n")
}

/// Each is the same server under another name, with its share of the tools.
fn servers(address: SocketAddr) -> String {
    let tools = LISTED_TOOLS / LISTED_SERVERS;
    let one =
        |number| format!("[[upstream]]\nname = \"bench{number}\"\nkind = \"mcp\"\nurl = \"http://{address}/mcp/{tools}\"\n\n");
    (0..LISTED_SERVERS).map(one).collect()
}

/// The byte quota is raised (1 TiB a second), because it would bound the large payloads and not the path.
fn for_peers(name: &str) -> String {
    format!(
        "\n[p2p]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nkey_file = \"{name}.key\"\nauthority = \"open-loopback\"\n\n\
         [p2p.quotas]\nbytes_per_second = 1099511627776\n"
    )
}

fn peer(name: &str, address: &str) -> String {
    format!("[p2p]\nkey_file = \"{name}.key\"\n\n[[peer]]\nname = \"far\"\naddress = \"{address}\"\n")
}
