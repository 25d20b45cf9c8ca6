//! A child process and everything that it starts: one process group, of which nothing is left behind.

use std::{io, process::ExitStatus, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::settings::Server;

/// How long a server may take to end once its input is closed, and again after SIGTERM (2025-11-25, lifecycle, shutdown).
const GRACE: Duration = Duration::from_secs(2);

/// A process that runs. Dropping it kills its group at once.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    group: Option<Pid>,
}

/// What leads to a process and from it.
pub(crate) struct Pipes {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

impl Process {
    /// Starts it, in a group of its own and with an environment of its own.
    ///
    /// # Errors
    /// As the system refuses it: no such program, no right to run it.
    pub(crate) fn start(server: &Server) -> io::Result<(Self, Pipes)> {
        use std::process::Stdio;
        let mut command = Command::new(&server.command);
        command.args(&server.args).env_clear().process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(server.inherit.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(&server.env);
        if let Some(cwd) = &server.cwd {
            command.current_dir(cwd);
        }
        let mut child = command.spawn()?;
        let pipe = || io::Error::other("a pipe is missing");
        let pipes = Pipes {
            stdin: child.stdin.take().ok_or_else(pipe)?,
            stdout: child.stdout.take().ok_or_else(pipe)?,
            stderr: child.stderr.take().ok_or_else(pipe)?,
        };
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok((Self { child, group }, pipes))
    }

    /// Waits until it ends by itself. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> Option<ExitStatus> {
        self.child.wait().await.ok()
    }

    /// Ends it, gently at first. Its input is closed already.
    pub(crate) async fn stop(mut self) -> Option<ExitStatus> {
        for signal in [Signal::TERM, Signal::KILL] {
            if let Ok(ended) = timeout(GRACE, self.child.wait()).await {
                return ended.ok();
            }
            self.signal(signal);
        }
        self.child.wait().await.ok()
    }

    fn signal(&self, signal: Signal) {
        // It fails when nobody is left, which is what is wanted.
        if let Some(group) = self.group {
            kill_process_group(group, signal).ok();
        }
    }
}

impl Drop for Process {
    /// Whatever it has started goes with it.
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
