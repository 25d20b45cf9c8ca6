//! Programs that are not ours (tests/interop).

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use super::{Program, within};

/// Says that a test was not run. `tests/run` fails unless tests/skips.txt allows it.
#[expect(clippy::print_stdout, reason = "tests/run reads it in the output of the test")]
pub(crate) fn skip(test: &str, reason: &str) {
    println!("SKIP {test}: {reason}");
}

/// A Python program of tests/interop/python, or the reason why it cannot run.
pub(crate) fn python_program(name: &str) -> Result<Command, String> {
    let python = toolchain("TWINWAY_TEST_PYTHON", ".cache/venv/bin/python")?;
    let mut command = Command::new(python);
    command.arg(root().join("tests/interop/python").join(name));
    Ok(command)
}

/// The Python SDK's server with those arguments, and its URL.
pub(crate) async fn python_server(arguments: &[&str]) -> Result<(Program, String), String> {
    let mut command = python_program("mcp_server.py")?;
    command.arg("--until-stdin-closes").args(arguments);
    Ok(serve(command).await)
}

/// The FastMCP server and its URL.
pub(crate) async fn fastmcp_server() -> Result<(Program, String), String> {
    let mut command = python_program("fastmcp_server.py")?;
    command.arg("--until-stdin-closes");
    Ok(serve(command).await)
}

/// The FastMCP client with those arguments.
pub(crate) fn fastmcp_client(arguments: &[&str]) -> Result<Program, String> {
    let mut command = python_program("fastmcp_client.py")?;
    command.args(arguments);
    Ok(Program::start(command))
}

/// The FastAPI application with those arguments, and its URL.
pub(crate) async fn fastapi_app(arguments: &[&str]) -> Result<(Program, String), String> {
    let mut command = python_program("fastapi_app.py")?;
    command.arg("--until-stdin-closes").args(arguments);
    Ok(serve(command).await)
}

/// The Python SDK's client with those arguments.
pub(crate) fn python_client(arguments: &[&str]) -> Result<Program, String> {
    let mut command = python_program("mcp_client.py")?;
    command.args(arguments);
    Ok(Program::start(command))
}

/// A server of one era, `legacy` or `modern`, that asks its client, and its URL.
pub(crate) async fn asking_server(era: &str) -> Result<(Program, String), String> {
    let mut command = python_program("asking_server.py")?;
    command.args(["--until-stdin-closes", "--only", era]);
    Ok(serve(command).await)
}

/// The same with these hints for clients that keep results: by method, milliseconds and a scope.
pub(crate) async fn promising_server(era: &str, hints: &str) -> Result<(Program, String), String> {
    let mut command = python_program("asking_server.py")?;
    command.args(["--until-stdin-closes", "--only", era, "--cache-hints", hints]);
    Ok(serve(command).await)
}

/// The server that passes the conformance suite, with one era or (`both`) with two, and its URL.
pub(crate) async fn conformance_server(serves: &str, more: &[&str]) -> Result<(Program, String), String> {
    let mut command = conformance_command(serves)?;
    command.arg("--until-stdin-closes").args(more);
    Ok(serve(command).await)
}

/// The same server over stdio: the program and its arguments.
pub(crate) fn conformance_program(serves: &str) -> Result<Vec<String>, String> {
    let mut command = conformance_command(serves)?;
    command.arg("--stdio");
    Ok(words(&command))
}

fn conformance_command(serves: &str) -> Result<Command, String> {
    let mut command = python_program("conformance_server.py")?;
    if serves != "both" {
        command.args(["--only", serves]);
    }
    Ok(command)
}

/// The Python SDK's client that makes the exchanges of the conformance suite.
pub(crate) fn conformance_checks(arguments: &[String]) -> Result<Program, String> {
    let mut command = python_program("conformance_checks.py")?;
    command.args(arguments);
    Ok(Program::start(command))
}

/// What the conformance suite's command line prints.
pub(crate) fn conformance_suite(arguments: &[&str]) -> Result<String, String> {
    let node = toolchain("TWINWAY_TEST_NODE", "tests/interop/node/node_modules/.bin/node")?;
    let modules = toolchain("TWINWAY_TEST_NODE_MODULES", "tests/interop/node/node_modules")?;
    let mut command = Command::new(node);
    command.arg(modules.join("@modelcontextprotocol/conformance/dist/index.js")).args(arguments);
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    Ok(String::from_utf8(stdout).unwrap())
}

/// The server that asks its client, as revision 2024-11-05 has it: over HTTP+SSE, and its URL; port 0 takes a free one.
pub(crate) async fn old_asking_server(port: u16) -> Result<(Program, String), String> {
    let mut command = python_program("asking_server.py")?;
    command.args(["--until-stdin-closes", "--only", "legacy", "--sse", "--port", &port.to_string()]);
    Ok(serve(command).await)
}

/// The same server over stdio: the program and its arguments.
pub(crate) fn asking_program(era: &str) -> Result<Vec<String>, String> {
    let mut command = python_program("asking_server.py")?;
    command.args(["--stdio", "--only", era]);
    Ok(words(&command))
}

/// The same with hints, as [`promising_server`] has them.
pub(crate) fn promising_program(era: &str, hints: &str) -> Result<Vec<String>, String> {
    Ok([asking_program(era)?, ["--cache-hints", hints].map(String::from).to_vec()].concat())
}

/// The FastMCP server that remembers what it was told, over stdio: the program and its arguments.
pub(crate) fn remembering_program() -> Result<Vec<String>, String> {
    Ok(words(&python_program("remembering_server.py")?))
}

/// `@modelcontextprotocol/server-everything` over stdio: the program and its arguments.
pub(crate) fn everything_program() -> Result<Vec<String>, String> {
    let node = toolchain("TWINWAY_TEST_NODE", "tests/interop/node/node_modules/.bin/node")?;
    let modules = toolchain("TWINWAY_TEST_NODE_MODULES", "tests/interop/node/node_modules")?;
    let mut command = Command::new(node);
    command.arg(modules.join("@modelcontextprotocol/server-everything/dist/index.js")).arg("stdio");
    Ok(words(&command))
}

fn words(command: &Command) -> Vec<String> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect()
}

/// The Python SDK's server that makes tasks by the extension of the modern revision, and its URL.
pub(crate) async fn task_server() -> Result<(Program, String), String> {
    let mut command = python_program("task_server.py")?;
    command.arg("--until-stdin-closes");
    Ok(serve(command).await)
}

/// The same server over stdio: the program and its arguments.
pub(crate) fn task_program() -> Result<Vec<String>, String> {
    let mut command = python_program("task_server.py")?;
    command.arg("--stdio");
    Ok(words(&command))
}

/// The Python SDK's client that answers questions.
pub(crate) fn asked_client(arguments: &[&str]) -> Result<Program, String> {
    let mut command = python_program("asked_client.py")?;
    command.args(arguments);
    Ok(Program::start(command))
}

/// `@modelcontextprotocol/server-everything` and its URL.
pub(crate) async fn everything() -> Result<(Program, String), String> {
    let mut command = node("everything.mjs")?;
    command.arg("--until-stdin-closes");
    Ok(serve(command).await)
}

/// The same over HTTP+SSE.
pub(crate) async fn everything_sse() -> Result<(Program, String), String> {
    let mut command = node("everything.mjs")?;
    command.args(["--until-stdin-closes", "--transport", "sse"]);
    Ok(serve(command).await)
}

/// The TypeScript SDK's client with those arguments: 2.x with `--era`, else 1.x.
pub(crate) fn node_client(arguments: &[&str]) -> Result<Program, String> {
    let mut command = node("mcp_client.mjs")?;
    command.args(arguments);
    Ok(Program::start(command))
}

/// What the MCP Inspector's command line prints: the result as JSON.
pub(crate) async fn inspector(arguments: &[&str]) -> Result<Value, String> {
    let node = toolchain("TWINWAY_TEST_NODE", "tests/interop/node/node_modules/.bin/node")?;
    let modules = toolchain("TWINWAY_TEST_NODE_MODULES", "tests/interop/node/node_modules")?;
    let mut command = tokio::process::Command::new(node);
    command.arg(modules.join("@modelcontextprotocol/inspector/clients/launcher/build/index.js")).arg("--cli").args(arguments);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let Output { stdout, stderr, .. } = within("the end of the Inspector", command.output()).await.unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok(serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{error}: {}{}", text(&stdout), text(&stderr))))
}

/// `mcp-server-time` over stdio: the program and its arguments.
pub(crate) fn time_program() -> Result<Vec<String>, String> {
    let python = toolchain("TWINWAY_TEST_PYTHON", ".cache/venv/bin/python")?;
    let mut command = Command::new(python);
    command.args(["-m", "mcp_server_time", "--local-timezone", "UTC"]);
    Ok(words(&command))
}

/// curl with those arguments.
pub(crate) fn curl(arguments: &[&str]) -> Result<Program, String> {
    Command::new("curl").arg("--version").output().map_err(|error| format!("curl does not start: {error}"))?;
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error"]).args(arguments);
    Ok(Program::start(command))
}

fn node(name: &str) -> Result<Command, String> {
    let node = toolchain("TWINWAY_TEST_NODE", "tests/interop/node/node_modules/.bin/node")?;
    let mut command = Command::new(node);
    command.arg(root().join("tests/interop/node").join(name));
    Ok(command)
}

/// Starts a server and waits until it says where it listens.
pub(crate) async fn serve(command: Command) -> (Program, String) {
    let mut program = Program::start(command);
    let ready = program.event_with("ready").await;
    (program, ready["url"].as_str().unwrap().to_owned())
}

fn toolchain(variable: &str, otherwise: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os(variable).map_or_else(|| root().join(otherwise), PathBuf::from);
    if path.exists() { Ok(path) } else { Err(format!("{} is not installed; tests/run installs it", path.display())) }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
