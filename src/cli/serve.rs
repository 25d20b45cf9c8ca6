//! `twinway serve`: runs a gateway.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use runtime_api::BoxError;
use sd_notify::NotifyState;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    ConfigFile, Failure, Output, chain, listen_address,
    signal::{Stop, hangup},
};
use crate::{
    app::{Addresses, App, BuildError},
    config::{Config, HttpUrl, Name, Upstream},
    reload, telemetry,
    transports::stdio::Stdio,
};

/// Time to send the last spans; a collector that takes longer loses them.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Run a gateway.
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    file: ConfigFile,
    /// An MCP server to call tools on; may be repeated.
    #[arg(long = "upstream", value_name = "NAME=URL")]
    upstreams: Vec<QuickUpstream>,
    /// Serve the client that started this program, over standard input and output, and end with it. Nothing listens on HTTP then, unless
    /// `--listen` says where.
    #[arg(long)]
    stdio: bool,
    /// Where to listen, instead of what the configuration says.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen_address)]
    listen: Option<SocketAddr>,
}

/// `name=url` on the command line.
#[derive(Debug, Clone)]
struct QuickUpstream(Upstream);

impl FromStr for QuickUpstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, url) = text.split_once('=').ok_or("write it as NAME=URL")?;
        Ok(Self(Upstream::new(Name::try_from(name.to_owned())?, url.parse::<HttpUrl>()?)))
    }
}

impl Serve {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        let blame = Blame { file: self.file.config.clone(), listen: self.listen.is_some() };
        let config = self.amend(self.file.load()?).map_err(Failure::usage)?;
        runtime()?.block_on(serve(config, self, &blame, output))
    }

    /// What the command line adds to the file.
    fn amend(&self, mut config: Config) -> Result<Config, BoxError> {
        config.upstream.extend(self.upstreams.iter().map(|quick| quick.0.clone()));
        config.http.listen = self.listen.unwrap_or(config.http.listen);
        let invalid = config.mistakes().into_iter().next();
        invalid.map_or(Ok(config), |invalid| Err(format!("the command line: {}", invalid.what).into()))
    }

    /// Where the configuration can be read anew. Without a file there is nothing that could change, and SIGHUP ends the
    /// program as it ends any other.
    fn source(self) -> std::io::Result<Option<reload::Source>> {
        let Some(file) = self.file.config.clone() else { return Ok(None) };
        let read = move || {
            let (config, files) = Config::load_watched(&file);
            (config.map_err(BoxError::from).and_then(|config| self.amend(config)), files)
        };
        Ok(Some(reload::Source::new(Arc::new(read), hangup()?)))
    }
}

/// Where the values came from that the machine may refuse.
struct Blame {
    file: Option<PathBuf>,
    /// `--listen` was given.
    listen: bool,
}

impl Blame {
    /// The complaint with its place, as for any other mistake in a configuration.
    fn complain(&self, error: BuildError) -> Failure {
        let path = match &error {
            BuildError::Http(_) if self.listen => return Failure::usage(format!("--listen: {}", chain(&error))),
            BuildError::Http(_) => "http.listen",
            BuildError::Grpc(_) => "grpc.listen",
            BuildError::Node(_) => "p2p.listen",
            BuildError::Identity(_) => "p2p.key_file",
            BuildError::P2p(_) => "p2p",
            BuildError::Certificate(_) => "http.tls",
            BuildError::Seal(_) => "http.seal_key",
            BuildError::Pins(_) => "definitions.pins_file",
            _ => "upstream",
        };
        match self.file.as_deref().and_then(|file| Config::place_of(path, file)) {
            Some(place) => Failure::usage(format!("{place}: {}", chain(&error))),
            None => Failure::usage(error),
        }
    }
}

/// The runtime for everything but HTTP, which has its own threads.
pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("twinway").build()
}

async fn serve(config: Config, given: Serve, blame: &Blame, output: Output) -> Result<(), Failure> {
    let guard = telemetry::init(&config.telemetry.clone().unwrap_or_default()).map_err(Failure::usage)?;
    let ended = run(config, given, blame, output).await;
    guard.shutdown(FLUSH_TIMEOUT).await;
    ended
}

async fn run(config: Config, given: Serve, blame: &Blame, output: Output) -> Result<(), Failure> {
    let mut signals = Stop::listen()?;
    for warning in config.warnings() {
        warn!("{}", warning.what);
    }
    // What the configuration asks and the machine refuses, a port in use for example, is a matter of configuration.
    let http = config.http.clone();
    let (stdio, quiet) = (given.stdio, given.stdio && given.listen.is_none());
    let mut app = App::builder(config);
    // The client decides when it is over.
    let gone = CancellationToken::new();
    if stdio {
        let gone = gone.clone();
        app = app.transport(move |server| Box::new(Stdio::new(server, &http, gone)));
    }
    if quiet {
        app = app.without_http();
    }
    if let Some(source) = given.source()? {
        app = app.reload_from(source);
    }
    let app = app.build().await.map_err(|error| blame.complain(error))?;
    let addresses = app.addresses().clone();
    let stop = CancellationToken::new();
    let mut parts = JoinSet::new();
    let ready = move || {
        // Standard output belongs to the messages.
        if !stdio {
            announce(&addresses, output);
        }
        tell_manager(NotifyState::Ready);
    };
    parts.spawn(app.run(stop.clone(), ready));
    let ended = tokio::select! {
        biased;
        () = signals.next() => {
            tell_manager(NotifyState::Stopping);
            stop.cancel();
            // Whoever asks twice does not want to wait for calls in flight.
            tokio::select! {
                ended = parts.join_next() => ended,
                () = signals.next() => {
                    warn!("told twice to end: calls in flight are cut off");
                    return Ok(());
                }
            }
        }
        () = gone.cancelled() => {
            stop.cancel();
            parts.join_next().await
        }
        ended = parts.join_next() => ended,
    };
    match ended {
        Some(Ok(ended)) => ended.map_err(Failure::failed),
        Some(Err(panicked)) => Err(Failure::failed(panicked)),
        None => Ok(()),
    }
}

/// Says where the gateway listens. A closed standard output is no reason to stop serving.
fn announce(addresses: &Addresses, output: Output) {
    let node = addresses.node.as_ref();
    let p2p: Vec<String> = node.map(node_addresses).unwrap_or_default();
    let scheme = if addresses.https { "https" } else { "http" };
    let ready = json!({ "ready": {
        "http": addresses.http.map(|http| http.to_string()),
        "https": addresses.https,
        "grpc": addresses.grpc.map(|grpc| grpc.to_string()),
        "p2p": p2p,
        "peer_id": node.map(|node| node.peer_id().to_string()),
    }});
    let mut text = "twinway is ready".to_owned();
    addresses.http.iter().for_each(|http| text.push_str(&format!("\n  MCP   {scheme}://{http}/mcp")));
    addresses.grpc.iter().for_each(|grpc| text.push_str(&format!("\n  gRPC  http://{grpc}")));
    p2p.iter().for_each(|address| text.push_str(&format!("\n  peer  {address}")));
    drop(output.either(&ready, &text));
}

/// Tells systemd, if it started this program and wants to know (`Type=notify`).
fn tell_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "the service manager cannot be told");
    }
}

/// Each address a peer can dial, with the key it must find there.
pub(super) fn node_addresses(node: &runtime_mcpp::NodeHandle) -> Vec<String> {
    node.listen_addrs().iter().map(|address| format!("{address}/p2p/{}", node.peer_id())).collect()
}

/// A configuration that stands nowhere but in the program.
pub(super) fn built_in(text: &str) -> Result<Config, Failure> {
    Ok(Config::parse_within(text, Path::new("demo.toml"), &crate::config::Environment::default())?)
}
