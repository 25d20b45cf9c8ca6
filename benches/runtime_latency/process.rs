//! The parties of a run, each a process of its own: started, pinned, measured and killed by its id.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::{Duration, timeout};

/// Longer than a start takes on a busy machine; a gateway should be ready within a second.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// How a party is started.
pub(crate) struct Launch<'a> {
    pub(crate) name: String,
    pub(crate) program: &'a Path,
    pub(crate) arguments: Vec<String>,
    /// The one core that it may use; `None` leaves it to the scheduler.
    pub(crate) core: Option<usize>,
    /// Takes what it writes to stderr.
    pub(crate) log: PathBuf,
}

impl Launch<'_> {
    /// Starts the process. It dies with the returned value.
    pub(crate) fn start(self) -> anyhow::Result<Party> {
        let mut command = match self.core {
            None => Command::new(self.program),
            Some(core) => {
                // taskset becomes the program, so the process id stays the party's.
                let mut command = Command::new("taskset");
                command.args(["--cpu-list", &core.to_string()]).arg(self.program);
                command
            }
        };
        let log = std::fs::File::create(&self.log).with_context(|| format!("cannot write {}", self.log.display()))?;
        let mut child = command
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let pid = child.id().context("the process has ended already")?;
        let stdin = child.stdin.take().context("stdin is piped")?;
        let lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        Ok(Party { name: self.name, pid, stdin, lines: Some(lines), log: self.log, _child: child, drain: JoinSet::new() })
    }
}

/// A running party.
pub(crate) struct Party {
    name: String,
    pid: u32,
    stdin: ChildStdin,
    lines: Option<Lines<BufReader<ChildStdout>>>,
    log: PathBuf,
    /// Kills the process when it is dropped.
    _child: Child,
    drain: JoinSet<()>,
}

impl Party {
    /// Writes one JSON line to the party's stdin.
    pub(crate) async fn tell(&mut self, message: &impl Serialize) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.stdin.write_all(&line).await.with_context(|| self.gone())?;
        Ok(self.stdin.flush().await?)
    }

    /// Reads one JSON line from the party's stdout.
    pub(crate) async fn hear<T: DeserializeOwned>(&mut self, within: Duration) -> anyhow::Result<T> {
        let lines = self.lines.as_mut().context("the party's output is no longer read")?;
        let line =
            timeout(within, lines.next_line()).await.with_context(|| format!("{} said nothing for {within:?}", self.name))??;
        let Some(line) = line else { bail!(self.gone()) };
        serde_json::from_str(&line).with_context(|| format!("{} said `{line}`", self.name))
    }

    /// Waits for `{"ready": {…}}`, which says where the party listens, and returns what is under `ready`.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<serde_json::Value> {
        let mut line: serde_json::Value = self.hear(READY_WITHIN).await?;
        ensure!(line.get("ready").is_some(), "{} is not ready but says {line}", self.name);
        let mut lines = self.lines.take().context("the party's output is no longer read")?;
        // Nobody reads on, and a full pipe would stop the party.
        self.drain.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(line["ready"].take())
    }

    /// Waits until the party is ready, and returns where it speaks HTTP.
    pub(crate) async fn http(&mut self) -> anyhow::Result<SocketAddr> {
        let ready = self.ready().await?;
        Ok(ready["http"].as_str().with_context(|| format!("{} does not say where it listens", self.name))?.parse()?)
    }

    /// Reads what the kernel knows about the process now.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        Usage::of(self.pid).with_context(|| self.gone())
    }

    fn gone(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(5).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        format!("{} (process {}) has ended; the end of {}:\n{}", self.name, self.pid, self.log.display(), tail.join("\n"))
    }
}

/// CPU time and memory of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Run time of all its threads, from the scheduler; threads that have ended are not in it.
    pub(crate) cpu_ns: u64,
    pub(crate) rss_bytes: u64,
}

impl std::iter::Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(each: I) -> Self {
        each.fold(Self::default(), |sum, one| Self { cpu_ns: sum.cpu_ns + one.cpu_ns, rss_bytes: sum.rss_bytes + one.rss_bytes })
    }
}

impl Usage {
    fn of(pid: u32) -> anyhow::Result<Self> {
        let mut cpu_ns = 0;
        for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end between the listing and the reading.
            let Ok(schedstat) = std::fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            cpu_ns += schedstat.split(' ').next().context("an empty schedstat")?.parse::<u64>()?;
        }
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let rss_line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS: the process has ended")?;
        let rss_kib: u64 = rss_line.trim().trim_end_matches(" kB").parse()?;
        Ok(Self { cpu_ns, rss_bytes: rss_kib * 1024 })
    }
}
