//! A gateway in a process of its own.

use std::{net::SocketAddr, path::Path, process::Command, sync::OnceLock};

use serde_json::Value;
use tempfile::TempDir;

use super::{Answer, Era, LOOK_AGAIN, Mcp, PATIENCE, Program, Setup, client::LATEST_LEGACY, http, until};

/// What a gateway holds for its clients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// In flight.
    pub(crate) calls: f64,
    pub(crate) parked: f64,
    pub(crate) sessions: f64,
    pub(crate) listening: f64,
    /// On all its threads; one of them answers who asks.
    pub(crate) tasks: f64,
}

/// `twinway serve`, ready to be called. Dropping it kills it.
pub(crate) struct Gateway {
    /// Where it serves HTTP.
    pub(crate) address: SocketAddr,
    /// What it printed when it was ready.
    pub(crate) ready: Value,
    pub(crate) program: Program,
    /// Holds the configuration; relative paths in it lead here.
    pub(crate) folder: TempDir,
}

impl Gateway {
    /// Starts it and waits until it says that it is ready.
    pub(crate) async fn start(setup: Setup) -> Self {
        let folder = TempDir::new().unwrap();
        Self::start_in(setup, folder).await
    }

    /// The same in a folder that holds something already, such as a key.
    pub(crate) async fn start_in(setup: Setup, folder: TempDir) -> Self {
        let file = folder.path().join("twinway.toml");
        std::fs::write(&file, setup.text()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_twinway"));
        command.arg("serve").arg("--config").arg(&file).arg("--json").current_dir(folder.path());
        command.env("RUST_LOG", "twinway=debug,runtime_http=debug,runtime_mcpp=debug,info");
        command.envs(setup.environment);
        let mut program = Program::start(command);
        let ready = program.event_with("ready").await;
        let address = ready["http"].as_str().unwrap().parse().unwrap();
        Self { address, ready, program, folder }
    }

    /// Ends as an operator ends it. Dropped, it is killed: then nobody ends a program of its own that does not mind its input being closed.
    pub(crate) async fn ends(&mut self) {
        self.program.terminate();
        self.program.events().await;
    }

    /// Writes another configuration in the place of the one it reads. The environment stays.
    pub(crate) fn write(&self, text: &str) {
        let file = self.folder.path().join("twinway.toml");
        std::fs::write(file, text).unwrap();
    }

    /// Its libp2p address, which ends in its key.
    pub(crate) fn p2p(&self) -> &str {
        self.ready["p2p"][0].as_str().unwrap()
    }

    /// Its gRPC address, HOST:PORT.
    pub(crate) fn grpc(&self) -> &str {
        self.ready["grpc"].as_str().unwrap()
    }

    /// Its key.
    pub(crate) fn peer_id(&self) -> &str {
        self.ready["peer_id"].as_str().unwrap()
    }

    /// A client of revision 2026-07-28.
    pub(crate) fn modern(&self) -> Mcp {
        Mcp::modern(self.address)
    }

    /// A client in a session of the newest revision that has sessions.
    pub(crate) async fn legacy(&self) -> Mcp {
        Mcp::legacy(self.address).open(LATEST_LEGACY).await
    }

    /// The same at the view of one upstream.
    pub(crate) async fn legacy_at(&self, upstream: &str) -> Mcp {
        Mcp::legacy(self.address).at(upstream).open(LATEST_LEGACY).await
    }

    /// A client of that era.
    pub(crate) async fn client(&self, era: Era) -> Mcp {
        match era {
            Era::Modern => self.modern(),
            Era::Legacy => self.legacy().await,
        }
    }

    /// `GET path`.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        let request = ::http::Request::get(path).body(String::new()).unwrap();
        http::send(self.address, request).await
    }

    /// The state of one target as `/health/runtime` tells it.
    pub(crate) async fn target(&self, name: &str) -> Value {
        let health = self.get("/health/runtime").await.json();
        let runtimes = health["runtimes"].as_object().unwrap();
        let mut targets = runtimes.values().flat_map(|targets| targets.as_array().unwrap());
        targets.find(|target| target["target"] == name).cloned().unwrap_or(Value::Null)
    }

    /// Waits until a target is in that state.
    pub(crate) async fn target_is(&self, name: &str, state: &str) {
        until(&format!("`{name}` to be {state}"), || async { (self.target(name).await["state"] == state).then_some(()) }).await;
    }

    /// The sum of the samples of a metric whose labels hold all of `labels`, such as `reason="bad_host"`.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        sum(&self.get("/metrics").await.text(), name, labels)
    }

    /// What it holds at this moment.
    pub(crate) async fn held(&self) -> Held {
        let text = self.get("/metrics").await.text();
        let gauge = |name: &str| sum(&text, name, &[]);
        Held {
            calls: gauge("twinway_calls_in_flight"),
            parked: gauge("twinway_parked_calls"),
            sessions: gauge("twinway_sessions"),
            listening: gauge("twinway_listening"),
            tasks: gauge("twinway_tasks"),
        }
    }

    /// Waits until it holds no more than it did then.
    pub(crate) async fn holds_no_more_than(&self, before: Held) {
        let mut last = before;
        let look = async {
            loop {
                last = self.held().await;
                if last.is_at_most(&before) {
                    return;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let ended = tokio::time::timeout(PATIENCE, look).await;
        assert!(ended.is_ok(), "it held {before:?}, and holds {last:?}");
    }

    /// Waits until a metric has at least that value.
    pub(crate) async fn metric_reaches(&self, name: &str, labels: &[&str], value: f64) {
        until(&format!("{name} {labels:?} to reach {value}"), || async {
            (self.metric(name, labels).await >= value).then_some(())
        })
        .await;
    }
}

impl Held {
    /// Whether there is nothing of which there is more.
    fn is_at_most(&self, other: &Self) -> bool {
        let each = |held: &Self| [held.calls, held.parked, held.sessions, held.listening, held.tasks];
        each(self).iter().zip(each(other)).all(|(one, other)| *one <= other)
    }
}

/// The sum of the samples of a metric whose labels hold all of `labels`.
fn sum(text: &str, name: &str, labels: &[&str]) -> f64 {
    assert!(is_metric(name), "there is no metric {name}");
    let samples = text.lines().filter(|line| {
        let rest = line.strip_prefix(name).unwrap_or("#");
        (rest.starts_with('{') || rest.starts_with(' ')) && labels.iter().all(|label| rest.contains(label))
    });
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Whether the gateway has such a metric. What it has not would be zero, whatever it counts; and what has not been counted yet does not
/// stand in its answer.
fn is_metric(name: &str) -> bool {
    static SOURCES: OnceLock<String> = OnceLock::new();
    let sources = SOURCES.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/telemetry/metrics");
        let parts = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        parts.chain([folder.with_extension("rs")]).map(|path| std::fs::read_to_string(path).unwrap()).collect()
    });
    let Some(own) = name.strip_prefix("twinway_") else { return false };
    let family = ["_total", "_count", "_sum"].iter().find_map(|part| own.strip_suffix(part)).unwrap_or(own);
    [own, family].iter().any(|registered| sources.contains(&format!("\"{registered}\"")))
}
