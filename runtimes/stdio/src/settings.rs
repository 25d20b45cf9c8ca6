//! What the runtime is told about a server.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use runtime_api::TargetId;

/// An MCP server to be started as a child process.
///
/// Equal settings are one target: whatever differs makes a new one when a configuration is loaded anew.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name in the gateway.
    pub target: TargetId,
    /// The program: a path, or a name that is looked for in `PATH`. No shell reads it.
    pub command: PathBuf,
    /// Its arguments, as they are.
    pub args: Vec<String>,
    /// Its environment beside what it inherits. Values may be secrets, and are never shown.
    pub env: BTreeMap<String, String>,
    /// Variables of the gateway's environment that it gets too. All others stay with the gateway.
    pub inherit: Vec<String>,
    /// Where it runs. None: where the gateway does.
    pub cwd: Option<PathBuf>,
    /// Who shares a process.
    pub share: Share,
    /// Processes at one time beside the one that everybody shares, or that is asked for the lists.
    pub processes_max: usize,
    /// A process that nobody has called for so long is ended, if it is somebody's own.
    pub process_idle: Duration,
    /// `baggage` may be passed on.
    pub trusted: bool,
    /// Time from its start to its first list. Servers that `npx` or `uvx` have to fetch first need long.
    pub start_timeout: Duration,
    /// Time to answer a list.
    pub list_timeout: Duration,
    /// How often its lists are asked for anew.
    pub refresh: Duration,
    /// Calls in flight to it; as many more wait within their deadline.
    pub concurrency: usize,
    /// Longest line of its answers, in bytes.
    pub line_bytes_max: usize,
}

/// Who shares a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Share {
    /// Everybody.
    #[default]
    All,
    /// Each principal has a process to itself, for servers that keep something of their client.
    Principal,
    /// Each legacy session has a process to itself, for servers that keep something of a conversation. Clients without a session share
    /// one with all others of their principal that have none.
    Session,
}

impl Server {
    /// A server with the defaults.
    #[must_use]
    pub fn new(target: TargetId, command: impl Into<PathBuf>) -> Self {
        Self {
            target,
            command: command.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            // What a program needs to be found and to find its files; everything else may be somebody's secret.
            inherit: vec!["PATH".to_owned(), "HOME".to_owned()],
            cwd: None,
            share: Share::default(),
            // Each is an interpreter with its libraries: some 50 MB.
            processes_max: 32,
            // A person who thinks for longer has often left for good, and most clients never say so.
            process_idle: Duration::from_secs(10 * 60),
            trusted: true,
            // npx fetches some hundred packages in that time.
            start_timeout: Duration::from_secs(60),
            list_timeout: Duration::from_secs(10),
            refresh: Duration::from_secs(60),
            // One process reads one line after the other.
            concurrency: 64,
            // As large as what the entrance takes.
            line_bytes_max: 16 * 1024 * 1024,
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("target", &self.target)
            .field("command", &self.command)
            .field("args", &self.args)
            .field("env", &self.env.keys())
            .field("share", &self.share)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_environment_are_not_shown() {
        let mut server = Server::new("s".into(), "server");
        server.env.insert("TOKEN".to_owned(), "very secret".to_owned());

        let shown = format!("{server:?}");

        assert!(shown.contains("TOKEN") && !shown.contains("very secret"), "{shown}");
    }
}
