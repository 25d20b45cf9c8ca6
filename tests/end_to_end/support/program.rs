//! A child process that speaks in lines of JSON.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use serde_json::Value;
use tokio::sync::mpsc;

use super::{until, within};

/// Lines that may wait for the test to read them.
const LINES_MAX: usize = 1024;

/// A running program. Dropping it kills it; if the test failed, what it wrote to stderr is printed.
pub(crate) struct Program {
    name: String,
    child: Child,
    lines: mpsc::Receiver<String>,
    log: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Program {
    /// Starts it. Its stdin stays open as long as it is held.
    pub(crate) fn start(mut command: Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("`{name}` does not start: {error}"));
        let (send, lines) = mpsc::channel(LINES_MAX);
        let stdout = child.stdout.take().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        let readers = vec![
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    // Nobody reads on when the test has seen what it wants.
                    send.try_send(line).ok();
                }
            }),
            std::thread::spawn(move || {
                let mut piece = [0; 4096];
                while let Ok(length @ 1..) = stderr.read(&mut piece) {
                    kept.lock().unwrap().extend_from_slice(&piece[..length]);
                }
            }),
        ];
        Self { name, child, lines, log, readers }
    }

    /// The next line of stdout; `None` when it closed stdout.
    pub(crate) async fn line(&mut self) -> Option<String> {
        within(&format!("a line of {}", self.name), self.lines.recv()).await
    }

    /// The next line as JSON.
    pub(crate) async fn event(&mut self) -> Value {
        let line = self.line().await.unwrap_or_else(|| panic!("{} ended early: {}", self.name, self.log()));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{} wrote `{line}`: {error}", self.name))
    }

    /// Skips lines until one has that member, and returns its value.
    pub(crate) async fn event_with(&mut self, member: &str) -> Value {
        loop {
            let mut event = self.event().await;
            if let Some(value) = event.get_mut(member) {
                return value.take();
            }
            assert!(event.get("error").is_none(), "{} failed: {event}", self.name);
        }
    }

    /// All lines until it ends.
    pub(crate) async fn events(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        while let Some(line) = self.line().await {
            events.push(serde_json::from_str(&line).unwrap_or(Value::String(line)));
        }
        events
    }

    /// What it wrote to stderr so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().unwrap()).into_owned()
    }

    /// Waits until it wrote that to stderr.
    pub(crate) async fn logs(&self, what: &str) {
        until(&format!("`{what}` in the log"), || async { self.log().contains(what).then_some(()) }).await;
    }

    /// Its resident memory.
    pub(crate) fn rss_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Asks it to end, as an operator does.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends it a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success(), "{} cannot be sent SIG{name}", self.name);
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Program {
    #[expect(clippy::print_stderr, reason = "the runner shows it with the test that failed")]
    fn drop(&mut self) {
        self.kill();
        for reader in self.readers.drain(..) {
            reader.join().ok();
        }
        if std::thread::panicking() {
            eprintln!("--- {} wrote to stderr:\n{}---", self.name, self.log());
        }
    }
}
