//! The MCP++ runtime at the seam: what a gateway calls, called by the load generator itself.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use runtime_api::{Call, CallService, Caller, Client, Method, Principal, Priority, Runtime, TargetId, TargetState, TraceContext};
use runtime_mcpp::{Config, Identity, McppRuntime, Node, PeerConfig};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::load::Order;
use crate::request::call_params;

/// What a gateway gives a call by default.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// As long as the runtime itself waits for a peer.
const READY_WITHIN: Duration = Duration::from_secs(10);

const PEER: &str = "peer";

/// A running runtime that all callers share.
pub(crate) struct Seam {
    service: CallService,
    target: TargetId,
    tool: Arc<str>,
    principal: Principal,
    stop: CancellationToken,
    running: JoinSet<()>,
}

impl Seam {
    pub(super) async fn connect(order: &Order) -> anyhow::Result<Self> {
        let config = Config::default();
        // Nothing listens, so no stream will come.
        let (node, _) = Node::bind(&config, Identity::ephemeral()).await?;
        let runtime = McppRuntime::new(node, &config, &[PeerConfig::new(PEER, order.endpoint.parse()?)])?;
        let (service, mut offers) = (runtime.service(), runtime.offers());
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        let run = Box::new(runtime).run(stop.clone());
        // A runtime that fails fails every call, which is where it is counted.
        running.spawn(async move { run.await.unwrap_or_default() });
        let answers = offers.wait_for(|offers| offers.targets[0].state != TargetState::Connecting);
        let state = timeout(READY_WITHIN, answers).await.context("the peer does not answer")??.targets[0].state.clone();
        if let Some(reason) = state.reason() {
            bail!("the peer cannot be called: {reason}");
        }
        let (target, tool) = (TargetId::from(PEER), order.tool.as_str().into());
        Ok(Self { service, target, tool, principal: Principal::anonymous(), stop, running })
    }

    pub(super) async fn call(&self, text: &str) -> anyhow::Result<Bytes> {
        let call = Call {
            method: Method::ToolsCall,
            target: self.target.clone(),
            name: self.tool.clone(),
            params: call_params(&self.tool, text),
            principal: self.principal.clone(),
            client: Client::Modern,
            deadline: Instant::now() + CALL_TIMEOUT,
            priority: Priority::default(),
            trace: TraceContext::default(),
            caller: Caller::none(),
        };
        Ok(self.service.clone().oneshot(call).await?.result)
    }

    /// Stops the runtime and waits until its connection is closed.
    pub(super) async fn close(mut self) {
        self.stop.cancel();
        while self.running.join_next().await.is_some() {}
    }
}
