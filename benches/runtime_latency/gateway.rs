//! The gateways under test: the real `twinway serve` with configuration files written for the run.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;

use crate::process::{Launch, Party};
use crate::scenario::Sampling;

/// What a gateway is started with.
pub(crate) struct Setup<'a> {
    pub(crate) name: &'static str,
    pub(crate) upstream: Upstream<'a>,
    pub(crate) collector: SocketAddr,
    pub(crate) sampling: Sampling,
    pub(crate) core: Option<usize>,
    /// Where the configuration, the key and the log are written.
    pub(crate) directory: &'a Path,
}

/// Whose tool a gateway offers.
pub(crate) enum Upstream<'a> {
    /// The server's; as `bench.echo`.
    Server(SocketAddr),
    /// The server's, to peers too.
    ServerForPeers(SocketAddr),
    /// That of the gateway with this multiaddress; as `far.bench.echo`.
    Peer(&'a str),
}

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) party: Party,
    pub(crate) http: SocketAddr,
    /// Where peers dial it, with its key.
    pub(crate) p2p: Option<String>,
}

impl Gateway {
    /// Starts a gateway and waits until it is ready.
    pub(crate) async fn start(setup: &Setup<'_>) -> anyhow::Result<Self> {
        let pinned = if setup.core.is_some() { "-pinned" } else { "" };
        let config = setup.directory.join(format!("{}{pinned}.toml", setup.name));
        std::fs::write(&config, configuration(setup)).with_context(|| format!("cannot write {}", config.display()))?;
        let launch = Launch {
            name: setup.name,
            program: Path::new(env!("CARGO_BIN_EXE_twinway")),
            arguments: vec!["serve".to_owned(), "--config".to_owned(), config.display().to_string(), "--json".to_owned()],
            core: setup.core,
            log: config.with_extension("log"),
        };
        let mut party = launch.start()?;
        let ready = party.ready().await?;
        let http = ready["http"].as_str().context("the gateway does not say where it listens")?.parse()?;
        Ok(Self { party, http, p2p: ready["p2p"][0].as_str().map(str::to_owned) })
    }
}

fn configuration(setup: &Setup<'_>) -> String {
    let Setup { name, upstream, collector, sampling, .. } = setup;
    let upstream = match upstream {
        Upstream::Server(address) => server(*address),
        Upstream::ServerForPeers(address) => server(*address) + &for_peers(name),
        Upstream::Peer(address) => peer(name, address),
    };
    format!(
        r#"[http]
listen = "127.0.0.1:0"

[telemetry]
otlp = "http://{collector}"
sample_ratio = {ratio:?}

{upstream}"#,
        ratio = sampling.ratio()
    )
}

fn server(address: SocketAddr) -> String {
    format!("[[upstream]]\nname = \"bench\"\nkind = \"mcp\"\nurl = \"http://{address}/mcp\"\n")
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
