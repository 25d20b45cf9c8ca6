//! A server of rmcp's making, in the process of the test.

use std::sync::Arc;

use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ListToolsResult, PaginatedRequestParams,
        ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
    transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager},
};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinSet};

/// Serves until it is dropped.
pub(crate) struct RmcpServer {
    pub(crate) url: String,
    _serving: JoinSet<()>,
}

/// Has one tool, `add`.
#[derive(Clone)]
struct Adds;

impl ServerHandler for Adds {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let integer = json!({"type": "integer"});
        let schema = json!({"type": "object", "properties": {"a": integer, "b": integer}, "required": ["a", "b"]});
        let schema = schema.as_object().unwrap().clone();
        Ok(ListToolsResult::with_all_items(vec![Tool::new("add", "Adds two numbers", schema)]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let number = |name| arguments.get(name).and_then(serde_json::Value::as_i64).unwrap_or_default();
        let sum = (number("a") + number("b")).to_string();
        Ok(CallToolResponse::Complete(CallToolResult::success(vec![ContentBlock::text(sum)])))
    }
}

impl RmcpServer {
    /// Listens on a free port.
    pub(crate) async fn start() -> Self {
        let sessions = Arc::new(LocalSessionManager::default());
        let service = StreamableHttpService::new(|| Ok(Adds), sessions, StreamableHttpServerConfig::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = TowerToHyperService::new(service.clone());
                // A gateway that goes away ends the test.
                connections
                    .spawn(async move { http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok() });
            }
        });
        Self { url, _serving: serving }
    }
}
