//! The program, run to its end.

use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::process::Command;

use super::within;

/// What a run of the program left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Its output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs the program to its end.
pub(crate) async fn twinway(arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinway"));
    command.args(arguments).env("TWINWAY_TEST_SECRET", "correct-horse-battery-staple").stdin(Stdio::null()).kill_on_drop(true);
    let Output { status, stdout, stderr } = within("the end of the program", command.output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}
