//! The gateway under test: the real `twinway serve` with a configuration file written for the run.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;

use crate::process::{Launch, Party};
use crate::scenario::Sampling;

/// What a gateway is started with.
pub(crate) struct Setup<'a> {
    pub(crate) upstream: SocketAddr,
    pub(crate) collector: SocketAddr,
    pub(crate) sampling: Sampling,
    pub(crate) core: Option<usize>,
    /// Where the configuration and the log are written.
    pub(crate) directory: &'a Path,
}

/// Starts a gateway and waits until it is ready; returns it with the address of its HTTP entrance.
pub(crate) async fn start(setup: &Setup<'_>) -> anyhow::Result<(Party, SocketAddr)> {
    let name = setup.sampling.gateway_name();
    let pinned = if setup.core.is_some() { "-pinned" } else { "" };
    let config = setup.directory.join(format!("{name}{pinned}.toml"));
    std::fs::write(&config, configuration(setup)).with_context(|| format!("cannot write {}", config.display()))?;
    let launch = Launch {
        name,
        program: Path::new(env!("CARGO_BIN_EXE_twinway")),
        arguments: vec!["serve".to_owned(), "--config".to_owned(), config.display().to_string(), "--json".to_owned()],
        core: setup.core,
        log: config.with_extension("log"),
    };
    let mut gateway = launch.start()?;
    let ready = gateway.ready().await?;
    let address = ready["http"].as_str().context("the gateway does not say where it listens")?.parse()?;
    Ok((gateway, address))
}

fn configuration(setup: &Setup<'_>) -> String {
    let Setup { upstream, collector, sampling, .. } = setup;
    format!(
        r#"[http]
listen = "127.0.0.1:0"

[[upstream]]
name = "bench"
kind = "mcp"
url = "http://{upstream}/mcp"

[telemetry]
otlp = "http://{collector}"
sample_ratio = {ratio:?}
"#,
        ratio = sampling.ratio()
    )
}
