//! The command line.

mod bench;
mod client;
mod config;
mod demo;
mod endpoint;
mod grpc;
mod health;
mod output;
mod peers;
mod route;
mod serve;
mod signal;
mod tools;

use std::{error::Error, io, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, CommandFactory, Parser, Subcommand};
use runtime_api::BoxError;
use runtime_http::tls::Trust;
use runtime_mcpp::Identity;
use serde_json::json;

use crate::{
    chain::chain,
    config::{Config, ConfigError},
};
use client::{Client, ClientError};
use endpoint::Endpoint;
use grpc::GrpcError;
use output::Output;

const EXIT_CODES: &str = "Exit codes:
  0  it worked
  1  it failed
  2  the configuration or the command line is wrong
  3  the tool answered with an error
  4  there is no connection to the gateway, and nothing was sent
  5  `config diff --exit-code`: something differs, and a running gateway takes all of it over
  6  `config diff --exit-code`: something differs that needs a restart";

/// One MCP endpoint for every tool its user owns.
#[derive(Debug, Parser)]
#[command(name = "twinway", version, after_help = EXIT_CODES)]
struct Cli {
    /// Print JSON, one document a line.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a gateway until Ctrl-C or SIGTERM.
    Serve(serve::Serve),
    /// See it work: two gateways and two tool servers in one process, and a call over each runtime.
    Demo(demo::Demo),
    /// Call a tool of a running gateway.
    Call(tools::Call),
    /// List the tools of a running gateway, or those that it keeps back, and accept them.
    Tools(tools::Tools),
    /// Say whether a running gateway wants requests; exit code 1: it is starting or draining.
    Health(health::Health),
    /// Say why a running gateway sends the calls of a tool where it does.
    #[command(subcommand)]
    Route(route::Command),
    /// Measure tools of running gateways: latency, throughput, failures, side by side.
    Bench(bench::Bench),
    /// Look at the peers that a running gateway knows, over its gRPC address.
    #[command(subcommand)]
    Peers(peers::Command),
    /// Print this node's PeerId; makes the key when it is missing.
    Id(ConfigFile),
    /// Look at a configuration without serving it.
    #[command(subcommand)]
    Config(config::Command),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Where the configuration is.
#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file. Absent: every default.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// Reads it, or takes the defaults and the environment as they are.
    fn load(&self) -> Result<Config, ConfigError> {
        match &self.config {
            Some(path) => Config::load(path),
            None => Config::parse("", "twinway.toml".as_ref()),
        }
    }
}

/// Which gateway a client command speaks to.
#[derive(Debug, Args)]
struct Gateway {
    /// The gateway: http://HOST:PORT or https://HOST:PORT, the same with /mcp, or with /mcp/UPSTREAM for one upstream alone, without prefixes.
    #[arg(long, env = "TWINWAY_ENDPOINT", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    endpoint: Endpoint,
    /// The bearer token to show it.
    #[arg(long, env = "TWINWAY_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Certificate authorities to trust for https, a PEM file, instead of those of this machine.
    #[arg(long, env = "TWINWAY_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// How long to wait for its answer. The gateway has its own limit for a call: `admission.default_timeout`, or the
    /// `timeout` of a `[[tool]]` rule.
    // 60 s: twice the time that a tool has by default, so that the gateway's own answer comes first.
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    timeout: Duration,
}

impl Gateway {
    fn client(&self) -> Result<Client, ClientError> {
        // Shells pass on variables that are set to nothing.
        let ca_file = self.ca_file.as_deref().filter(|file| !file.as_os_str().is_empty());
        let trust = ca_file.map_or(Trust::Machine, Trust::File);
        Client::new(&self.endpoint, self.token.as_deref(), self.timeout, trust)
    }
}

/// Why a command ends with another exit code than 0.
#[derive(Debug)]
enum Failure {
    /// Exit code 1.
    Failed(BoxError),
    /// Exit code 2.
    Usage(BoxError),
    /// Exit code 3: what the tool said is printed already.
    ToolError,
    /// Exit code 4.
    Unreachable(BoxError),
    /// Exit code 5, or 6 when a restart is needed: what differs is printed already.
    Differs { restart: bool },
}

impl Failure {
    fn failed(error: impl Into<BoxError>) -> Self {
        Self::Failed(error.into())
    }

    fn usage(error: impl Into<BoxError>) -> Self {
        Self::Usage(error.into())
    }

    /// The exit code, and what there is to say.
    fn parts(&self) -> (u8, Option<&(dyn Error + 'static)>) {
        match self {
            Self::Failed(error) => (1, Some(&**error)),
            Self::Usage(error) => (2, Some(&**error)),
            Self::ToolError => (3, None),
            Self::Differs { restart } => (if *restart { 6 } else { 5 }, None),
            Self::Unreachable(error) => (4, Some(&**error)),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::failed(error)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Unreachable { .. } => Self::Unreachable(error.into()),
            ClientError::Token | ClientError::Trust(_) | ClientError::CaWithoutTls(_) | ClientError::Request(_) => {
                Self::usage(error)
            }
            // Whoever tries again after one of these may run the tool twice.
            ClientError::TimedOut { .. } | ClientError::Broken { .. } => Self::failed(error),
            ClientError::Refused { .. } | ClientError::Answered(_) | ClientError::Upstream(_) | ClientError::NotMcp(_) => {
                Self::failed(error)
            }
        }
    }
}

/// Does what the command line of this process says.
#[must_use]
pub fn run() -> ExitCode {
    // clap ends the process itself, with 2, for what it cannot read.
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    match dispatch(cli.command, output) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has enough of it: `twinway tools | head`.
        Err(Failure::Failed(error)) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(failure) => {
            let (code, error) = failure.parts();
            if let Some(error) = error {
                let text = chain(error);
                let document = error.downcast_ref::<ClientError>().map(|error| error.document(&text));
                let document = document.or_else(|| error.downcast_ref::<GrpcError>().map(|error| error.document(&text)));
                output.complain(&text, &document.unwrap_or_else(|| json!({ "message": text })));
            }
            ExitCode::from(code)
        }
    }
}

fn dispatch(command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Config(command) => command.run(output),
        Command::Id(file) => id(&file, output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "twinway", &mut script);
            Ok(output.raw(&script)?)
        }
        Command::Serve(serve) => serve.run(output),
        Command::Demo(demo) => demo.run(output),
        Command::Call(call) => block_on(call.run(output)),
        Command::Tools(tools) => block_on(tools.run(output)),
        Command::Health(health) => block_on(health.run(output)),
        Command::Route(command) => block_on(command.run(output)),
        Command::Bench(bench) => block_on(bench.run(output)),
        Command::Peers(command) => block_on(command.run(output)),
    }
}

/// Client commands wait for one answer: one thread is enough.
fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn id(file: &ConfigFile, output: Output) -> Result<(), Failure> {
    let p2p = file.load()?.p2p.unwrap_or_default();
    let is_new = !p2p.key_file.exists();
    let identity = Identity::load_or_create(&p2p.key_file).map_err(Failure::usage)?;
    if is_new {
        let path = std::path::absolute(&p2p.key_file)?;
        output.note(&format!("made the key {}; keep it, for it is who this node is", path.display()));
    }
    let peer_id = identity.peer_id().to_string();
    Ok(output.either(&json!({ "peer_id": peer_id }), &peer_id)?)
}

/// Reads where to listen.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write it as ADDRESS:PORT such as 127.0.0.1:8080; host names are not taken".to_owned())
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_lists_the_exit_codes() {
        let help = Cli::command().render_long_help().to_string();

        assert!(help.contains("4  there is no connection to the gateway"), "{help}");
    }

    #[test]
    fn causes_are_said_once() {
        let cause = io::Error::other("the disk is full");
        let error = ConfigError::Read { path: "twinway.toml".into(), source: cause };

        assert_eq!(chain(&error), "the configuration `twinway.toml` cannot be read: the disk is full");
    }
}
