//! What the tests share: a gateway, its clients, and what stands behind it.

mod canned;
mod client;
mod command;
mod config;
mod cut;
mod faulty;
mod foreign;
mod gateway;
mod http;
mod old_server;
mod program;
mod rmcp_server;
mod scripted;
mod turning_server;

pub(crate) use canned::Canned;
pub(crate) use client::{Ask, Era, LATEST_LEGACY, Mcp};
pub(crate) use command::twinway;
pub(crate) use config::Setup;
pub(crate) use cut::Cut;
pub(crate) use faulty::{Faulty, Plan};
pub(crate) use foreign::{
    asked_client, asking_program, asking_server, conformance_checks, conformance_program, conformance_server, conformance_suite,
    curl, everything, everything_program, everything_sse, fastapi_app, fastmcp_client, fastmcp_server, inspector, node_client,
    old_asking_server, promising_program, promising_server, python_client, python_program, python_server, remembering_program,
    serve, skip, task_program, task_server, time_program,
};
pub(crate) use gateway::Gateway;
pub(crate) use http::{Answer, Open, open, send};
pub(crate) use old_server::OldServer;
pub(crate) use program::Program;
pub(crate) use rmcp_server::RmcpServer;
pub(crate) use scripted::{Act, CUT, FLOOD, Garbage, Script, Scripted, Seen, Serves, closed_port};
pub(crate) use turning_server::TurningServer;

use std::time::Duration;

/// A client of either era before a server of either era.
pub(crate) const CELLS: [(Era, Serves); 4] =
    [(Era::Modern, Serves::Modern), (Era::Modern, Serves::Legacy), (Era::Legacy, Serves::Modern), (Era::Legacy, Serves::Legacy)];

/// How long a test waits for something that has to come. Generous, because the machine may be busy; nothing waits it out
/// unless it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How often a condition is looked at that nobody announces.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Waits for something that announces itself.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Waits for a condition that can only be looked at.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    within(what, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    })
    .await
}
