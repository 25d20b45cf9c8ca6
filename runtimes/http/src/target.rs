//! One upstream of any kind: the only place where the kinds are told apart.

use std::{convert::Infallible, sync::Arc};

use runtime_api::{About, CacheHints, Call, CallError, Eras, Interest, Item, Items, Member, Reply, TargetId};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    mcp::{self, McpServer},
    openapi::{self, OpenApiServer},
    settings::{Kind, Upstream},
    site::{Site, asks_for_a_look},
    tool_server::{self, ToolServer},
};

#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) site: Arc<Site>,
    /// The configuration does not name it any more, or with other settings: it finishes what it began and publishes nothing.
    pub(crate) retired: CancellationToken,
    server: Server,
}

/// What stands at the other end.
#[derive(Debug)]
enum Server {
    Mcp(McpServer),
    ToolServer(ToolServer),
    // Boxed: a document and its index are larger than what the other kinds keep.
    OpenApi(Box<OpenApiServer>),
}

/// What a look at an upstream found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) items: Items,
    pub(crate) eras: Eras,
    pub(crate) about: About,
    pub(crate) hints: CacheHints,
}

impl Found {
    /// Of a server that has nothing but tools and does not speak MCP.
    pub(crate) fn of_tools(tools: Vec<Item>, eras: Eras) -> Self {
        Self { items: Items::of_tools(tools), eras, about: About::default(), hints: CacheHints::of_tools() }
    }
}

impl Member for Target {
    fn target(&self) -> &TargetId {
        &self.site.settings.target
    }

    fn retire(&self) {
        self.retired.cancel();
    }
}

impl Target {
    pub(crate) fn new(settings: Upstream, background: TaskTracker) -> Result<Self, Box<str>> {
        let kind = settings.kind.clone();
        let accept = match kind {
            Kind::Mcp { .. } => mcp::ACCEPT,
            Kind::ToolServer => {
                ToolServer::check(&settings)?;
                tool_server::ACCEPT
            }
            Kind::OpenApi(_) => openapi::ACCEPT,
        };
        let site = Arc::new(Site::new(settings, accept, background)?);
        let server = match kind {
            Kind::Mcp { era, transport } => Server::Mcp(McpServer::new(Arc::clone(&site), era, transport)),
            Kind::ToolServer => Server::ToolServer(ToolServer::new(Arc::clone(&site))),
            Kind::OpenApi(settings) => Server::OpenApi(Box::new(OpenApiServer::new(Arc::clone(&site), *settings)?)),
        };
        Ok(Self { site, retired: CancellationToken::new(), server })
    }

    /// Makes a call. Dropping the future cancels it upstream.
    pub(crate) async fn call(self: Arc<Self>, call: Call) -> Result<Reply, CallError> {
        let _permit = self.site.slots.enter(call.deadline).await?;
        let answered = match &self.server {
            Server::Mcp(server) => server.call(&call).await,
            Server::ToolServer(server) => server.call(&call).await,
            Server::OpenApi(server) => Box::pin(server.call(&call)).await,
        };
        if answered.as_ref().is_err_and(asks_for_a_look) {
            self.site.wake.notify_one();
        }
        answered
    }

    /// Asks the upstream for everything it offers. The caller sets the time.
    pub(crate) async fn look(&self) -> Result<Found, CallError> {
        match &self.server {
            Server::Mcp(server) => server.look().await,
            Server::ToolServer(server) => server.look().await,
            Server::OpenApi(server) => server.look().await,
        }
    }

    /// Hears from the upstream when it changes, and asks for a look then. Kinds that cannot tell are looked at now and then.
    pub(crate) async fn listen(&self, interest: &Interest) -> Infallible {
        match &self.server {
            Server::Mcp(server) => tokio::select! {
                never = server.listen(interest) => never,
                never = server.hear_of_tasks(interest) => never,
            },
            Server::ToolServer(_) | Server::OpenApi(_) => std::future::pending().await,
        }
    }

    /// Gives up what nobody used lately.
    pub(crate) async fn sweep(&self) {
        self.site.endpoint.pool.sweep();
        match &self.server {
            Server::Mcp(server) => server.end_sessions(false).await,
            // They keep nothing for us.
            Server::ToolServer(_) | Server::OpenApi(_) => {}
        }
    }

    /// Ends everything that the upstream keeps for us.
    pub(crate) async fn close(&self) {
        match &self.server {
            Server::Mcp(server) => server.end_sessions(true).await,
            // They keep nothing for us.
            Server::ToolServer(_) | Server::OpenApi(_) => {}
        }
    }
}
