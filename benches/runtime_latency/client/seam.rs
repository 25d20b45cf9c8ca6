//! A runtime at the seam: what a gateway calls, called by the load generator itself.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use runtime_api::{Call, CallService, Caller, Client, Method, Principal, Priority, Runtime, TargetId, TargetState, TraceContext};
use runtime_http::{HttpRuntime, Upstream};
use runtime_mcpp::{Config, Identity, McppRuntime, Node, PeerConfig};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::load::Order;
use crate::request::call_params;

/// What a gateway gives a call by default.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// As long as the runtimes themselves wait for a target.
const READY_WITHIN: Duration = Duration::from_secs(10);

const TARGET: &str = "target";

/// A runtime that knows its target and has not dialled it yet.
pub(crate) struct Target(Box<dyn Runtime>);

/// A running runtime that all callers share.
pub(crate) struct Seam {
    service: CallService,
    target: TargetId,
    tool: Arc<str>,
    principal: Principal,
    stop: CancellationToken,
    running: JoinSet<()>,
}

impl Target {
    /// The MCP++ runtime with one peer.
    pub(super) async fn peer(order: &Order) -> anyhow::Result<Self> {
        let config = Config::default();
        // Nothing listens, so no stream will come.
        let (node, _) = Node::bind(&config, Identity::ephemeral()).await?;
        let runtime = McppRuntime::new(node, &config, &[PeerConfig::new(TARGET, vec![order.endpoint.parse()?])])?;
        Ok(Self(Box::new(runtime)))
    }

    /// The HTTP runtime with one server.
    pub(super) fn server(order: &Order) -> anyhow::Result<Self> {
        let url = format!("http://{}", order.endpoint).parse()?;
        Ok(Self(Box::new(HttpRuntime::new(vec![Upstream::new(TARGET.into(), url)])?)))
    }

    /// Dials the target and waits until it has said what it offers.
    pub(super) async fn open(self, order: &Order) -> anyhow::Result<Seam> {
        let runtime = self.0;
        let (service, mut offers) = (runtime.service(), runtime.offers());
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        let run = runtime.run(stop.clone());
        // A runtime that fails fails every call, which is where it is counted.
        running.spawn(async move { run.await.unwrap_or_default() });
        let answers = offers.wait_for(|offers| offers.targets[0].state != TargetState::Connecting);
        let state = timeout(READY_WITHIN, answers).await.context("the target does not answer")??.targets[0].state.clone();
        if let Some(reason) = state.reason() {
            bail!("the target cannot be called: {reason}");
        }
        let (target, tool) = (TargetId::from(TARGET), order.tool.as_str().into());
        Ok(Seam { service, target, tool, principal: Principal::anonymous(), stop, running })
    }
}

impl Seam {
    pub(super) async fn call(&self, text: &str) -> anyhow::Result<Bytes> {
        let call = Call {
            method: Method::ToolsCall,
            target: self.target.clone(),
            name: self.tool.clone(),
            params: call_params(&self.tool, text),
            principal: self.principal.clone(),
            client: Client::Modern,
            session: None,
            deadline: Instant::now() + CALL_TIMEOUT,
            priority: Priority::default(),
            trace: TraceContext::default(),
            caller: Caller::none(),
        };
        Ok(self.service.clone().oneshot(call).await?.result)
    }

    /// Stops the runtime and waits until its connections are closed.
    pub(super) async fn close(mut self) {
        self.stop.cancel();
        while self.running.join_next().await.is_some() {}
    }
}
