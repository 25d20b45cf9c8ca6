//! Latency, throughput and cost of a tool call over each runtime, beside a bare reverse proxy in the same run.
//!
//! The program starts itself again as tool server, tool peer, proxy and load generator, and the real `twinway` as
//! gateway, so that every party is a process of its own. `benches/README.md` says how to read the result.

mod client;
mod cluster;
mod collector;
mod delay;
mod echo;
mod floor;
mod gateway;
mod generator;
mod goal;
mod load;
mod memory;
mod peer;
mod plot;
mod process;
mod raw_stream;
mod readme;
mod report;
mod request;
mod rest;
mod scenario;
mod server;
mod table;
mod vanish;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use twinway::measure::{Machine, Round};

use crate::cluster::{Cluster, Setup, Timing};
use crate::collector::Collector;
use crate::memory::Amount;
use crate::report::{Case, RunFacts, RunReport, Skipped};
use crate::scenario::{Carrier, Path, Place, Scenario, Variant};

/// The gateway's allocator, so that no party has a better one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// More rounds say nothing new, and a run must end.
const ROUNDS_MAX: usize = 100;
/// Whether peers speak QUIC beside TCP.
const HAS_QUIC: bool = cfg!(feature = "quic");
/// Longer rounds are worse: a machine's slow drift then falls on one case and not on its neighbour.
const SECONDS_MAX: f64 = 60.0;

/// Measures a tool call over each runtime beside a bare reverse proxy.
#[derive(Clone, Debug, Parser)]
#[command(name = "runtime_latency")]
struct Options {
    /// Interleaved rounds of every case
    #[arg(long, default_value_t = 8)]
    rounds: usize,
    /// Seconds per case and round
    #[arg(long, default_value_t = 0.2)]
    seconds: f64,
    /// Seconds of untimed calls before each of them
    #[arg(long, default_value_t = 0.05)]
    warm_up: f64,
    /// Only cases whose name holds this text; may be given more than once
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Two rounds of 0.05 s: shows that everything works, its numbers mean nothing
    #[arg(long)]
    quick: bool,
    /// Only the cases that need no gateway
    #[arg(long)]
    baselines: bool,
    /// A gateway that was built with `--features system-allocator`, for the rows of that choice
    #[arg(long, value_name = "FILE")]
    system_allocator: Option<PathBuf>,
    /// A Python interpreter that has FastMCP, for the rows of its proxy
    #[arg(long, value_name = "FILE")]
    fastmcp: Option<PathBuf>,
    /// Write tables and pictures into `benches/README.md` and `benches/results`
    #[arg(long)]
    write: bool,
    /// Instead of latency: memory over three cycles of calls and clients that vanish
    #[arg(long)]
    memory: bool,
    /// With --memory: calls in each cycle
    #[arg(long, default_value_t = 1_000_000, value_name = "COUNT")]
    calls: u64,
    /// With --memory: clients that vanish in each cycle
    #[arg(long, default_value_t = 10_000, value_name = "COUNT")]
    clients: usize,
    /// Print the names of the cases
    #[arg(long)]
    list: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    /// Which party this process is
    #[arg(long, hide = true, value_enum)]
    role: Option<Role>,
    /// What the floor forwards to
    #[arg(long, hide = true)]
    upstream: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    Server,
    Floor,
    Peer,
    Load,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    // As the gateway does: more than one provider of cryptography may be linked, and QUIC needs one.
    ensure!(rustls::crypto::ring::default_provider().install_default().is_ok(), "another provider was installed");
    match options.role {
        None => {}
        Some(Role::Load) => return load::serve(),
        Some(Role::Server) => {
            end_with_stdin();
            return server::serve(|address| announce("http", &address));
        }
        Some(Role::Peer) => {
            end_with_stdin();
            return peer::serve(|address| announce("p2p", &address));
        }
        Some(Role::Floor) => {
            end_with_stdin();
            return floor::serve(options.upstream.context("the floor needs --upstream")?, |address| announce("http", &address));
        }
    }
    let (cases, skipped) = options.cases()?;
    if options.list {
        cases.iter().for_each(|case| say(format_args!("{}", case.name)));
        skipped.iter().for_each(|skipped| note(format_args!("skipped: {}: {}", skipped.case, skipped.reason)));
        return Ok(());
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        // Leaving the run drops its parties, which kills them.
        tokio::select! {
            result = measure(&options, cases, skipped) => result,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    })
}

impl Options {
    /// What will be measured, and what cannot be.
    fn cases(&self) -> anyhow::Result<(Vec<Case>, Vec<Skipped>)> {
        ensure!((1..=ROUNDS_MAX).contains(&self.rounds), "--rounds is 1 to {ROUNDS_MAX}");
        ensure!(self.seconds > 0.0 && self.seconds <= SECONDS_MAX, "--seconds is above 0 and at most {SECONDS_MAX}");
        ensure!((0.0..=SECONDS_MAX).contains(&self.warm_up), "--warm-up is 0 to {SECONDS_MAX}");
        let is_wanted = |name: &str| self.only.is_empty() || self.only.iter().any(|text| name.contains(text));
        let (mut cases, mut skipped) = (Vec::new(), Vec::new());
        for scenario in scenario::all().into_iter().filter(|scenario| is_wanted(&scenario.name())) {
            match self.obstacle(&scenario) {
                None => cases.push(Case { name: scenario.name(), scenario, rounds: Vec::new(), idle_rss_bytes: None }),
                Some(reason) => skipped.push(Skipped { case: scenario.name(), reason: reason.to_owned() }),
            }
        }
        ensure!(!cases.is_empty() || !skipped.is_empty(), "no case has such a name; --list prints them");
        Ok((cases, skipped))
    }

    /// Why a case cannot be measured by this build or in this run.
    fn obstacle(&self, scenario: &Scenario) -> Option<&'static str> {
        match scenario.path {
            Path::RawStream(Carrier::Quic) | Path::McppRuntime(Carrier::Quic) if !HAS_QUIC => {
                Some("this build has no QUIC; it comes with the feature `quic`")
            }
            Path::Variant(Variant::SystemAllocator) if self.system_allocator.is_none() => {
                Some("--system-allocator names no gateway that was built with the feature `system-allocator`")
            }
            Path::FastMcp if self.fastmcp.is_none() => Some("--fastmcp names no Python interpreter that has FastMCP"),
            Path::HttpRuntime(_) | Path::Bridge(_) | Path::List(_) | Path::Rest(_) | Path::PeerGateway(_) | Path::Variant(_)
                if self.baselines =>
            {
                Some("--baselines leaves it out")
            }
            _ => None,
        }
    }

    const fn rounds(&self) -> usize {
        if self.quick { 2 } else { self.rounds }
    }

    const fn timing(&self) -> Timing {
        if self.quick {
            Timing { seconds: 0.05, warm_up_seconds: 0.01 }
        } else {
            Timing { seconds: self.seconds, warm_up_seconds: self.warm_up }
        }
    }

    /// What was typed.
    fn command() -> String {
        let arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        let words: Vec<String> = ["cargo bench --bench runtime_latency --".to_owned()].into_iter().chain(arguments).collect();
        words.join(" ").trim_end_matches([' ', '-']).to_owned()
    }
}

async fn measure(options: &Options, cases: Vec<Case>, skipped: Vec<Skipped>) -> anyhow::Result<()> {
    if options.memory { weigh(options).await } else { run(options, cases, skipped).await }
}

async fn weigh(options: &Options) -> anyhow::Result<()> {
    let machine = Machine::this(Options::command());
    let directory = output_directory()?;
    let collector = Collector::start()?;
    let setup = Setup {
        place: Place::Here,
        core: None,
        collector: collector.address,
        directory: &directory,
        system_allocator: None,
        fastmcp: None,
    };
    let report = memory::run(&setup, machine, Amount { calls: options.calls, clients: options.clients }).await?;
    let json = directory.join("memory.json");
    std::fs::write(&json, serde_json::to_vec_pretty(&report)?).with_context(|| format!("cannot write {}", json.display()))?;
    let table = report.markdown();
    say(format_args!("{table}"));
    if options.write {
        readme::write("memory", &table)?;
    }
    report.judge()
}

async fn run(options: &Options, mut cases: Vec<Case>, skipped: Vec<Skipped>) -> anyhow::Result<()> {
    let machine = Machine::this(Options::command());
    let directory = output_directory()?;
    let collector = Collector::start()?;
    let mut places: Vec<Place> = Vec::new();
    for case in &cases {
        if !places.contains(&case.scenario.place) {
            places.push(case.scenario.place);
        }
    }
    // One set of parties at a time, so that idle ones do not wake beside those that are measured.
    for place in places {
        let core = match place {
            Place::OneCore => Some(Machine::last_core().context("the cores cannot be listed")?),
            Place::Here | Place::Away { .. } => None,
        };
        let mut chosen: Vec<&mut Case> = cases.iter_mut().filter(|case| case.scenario.place == place).collect();
        let scenarios: Vec<Scenario> = chosen.iter().map(|case| case.scenario).collect();
        let (system_allocator, fastmcp) = (options.system_allocator.as_deref(), options.fastmcp.as_deref());
        let setup = Setup { place, core, collector: collector.address, directory: &directory, system_allocator, fastmcp };
        let mut cluster = Cluster::start(&setup, &scenarios).await?;
        run_rounds(&mut cluster, &mut chosen, options).await?;
    }
    let timing = options.timing();
    let facts = RunFacts {
        machine,
        rounds: options.rounds(),
        seconds_per_round: timing.seconds,
        warm_up_seconds_per_round: timing.warm_up_seconds,
        spans_received: collector.spans(),
        skipped,
    };
    publish(&RunReport::new(facts, &cases), &directory, options.write)
}

async fn run_rounds(cluster: &mut Cluster, cases: &mut [&mut Case], options: &Options) -> anyhow::Result<()> {
    for number in 0..options.rounds() {
        // Every other round backwards, so that the neighbour before does not always fall on the same case.
        cases.reverse();
        for case in cases.iter_mut() {
            case.idle_rss_bytes = cluster.idle_rss_bytes(&case.scenario);
            let round = cluster.measure(&case.scenario, options.timing()).await.with_context(|| case.name.clone())?;
            progress(number, case, &round);
            case.rounds.push(round);
        }
    }
    Ok(())
}

fn publish(report: &RunReport, directory: &std::path::Path, is_written: bool) -> anyhow::Result<()> {
    let json = directory.join("runtime_latency.json");
    report.write_json(&json)?;
    let tables = table::markdown(report);
    say(format_args!("{tables}"));
    say(format_args!("every round: {}", json.display()));
    if is_written {
        plot::write_all(report, &readme::folder())?;
        readme::write("runtime_latency", &tables)?;
    }
    ensure!(report.failure_count() == 0, "{} calls failed", report.failure_count());
    Ok(())
}

/// `target/bench`, beside the profile's directory that holds this program.
fn output_directory() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(3).context("the program is not in target/PROFILE/deps")?;
    let directory = target.join("bench");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}

/// Ends this process when its parent closes the pipe, however the parent ended.
fn end_with_stdin() {
    std::thread::spawn(|| {
        drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        std::process::exit(0);
    });
}

fn announce(wire: &str, address: &impl serde::Serialize) {
    say(format_args!("{}", serde_json::json!({ "ready": { wire: address } })));
}

fn progress(number: usize, case: &Case, round: &Round) {
    let (p50_us, rate, failures) = (round.p50_us, round.calls_per_second, round.failure_count());
    note(format_args!("round {:>2}  {:<44} p50 {p50_us:>8.1} us  {rate:>7.0}/s  failures {failures}", number + 1, case.name));
}

#[expect(clippy::print_stdout, reason = "a bench talks to its terminal, a party to its parent")]
fn say(arguments: std::fmt::Arguments<'_>) {
    println!("{arguments}");
}

#[expect(clippy::print_stderr, reason = "progress does not belong into the result")]
fn note(arguments: std::fmt::Arguments<'_>) {
    eprintln!("{arguments}");
}
