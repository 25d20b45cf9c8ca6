//! An HTTP application with an OpenAPI document, such as a FastAPI application: its operations are tools.
//!
//! What a call needs is decided when the document is read (`operation`): which argument goes where and how it is written. A
//! call looks its plan up, reads its arguments (`argument`), writes path, parameters and body (`path`, `parameter`, `body`)
//! and turns the answer into a result (`answer`).

mod answer;
mod argument;
mod base64;
mod body;
mod document;
mod multipart;
mod names;
mod operation;
mod parameter;
mod path;
mod request;
mod schema;
mod security;
mod servers;
mod settings;
mod source;
mod style;
mod value;

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, header};
use runtime_api::{Call, CallError, Delivery, Eras, ErrorCode, Item, Method, Reply};
use tokio::sync::Mutex;
use tracing::{info, warn};
use url::Url;

use self::{
    answer::Answer,
    document::Document,
    operation::{Converted, Converter, Plan},
    servers::Servers,
    source::{Read, Source},
};
pub use self::{
    settings::{OpenApi, OperationRule},
    source::address as document_address,
};
use crate::{
    site::{Site, add_trace},
    target::Found,
    tool_result::of_failure,
};

/// What an answer may be, where an operation does not say more.
pub(crate) const ACCEPT: &str = "application/json, */*;q=0.5";

/// Operations that are left out are named in the log, up to this many for one document; then they are counted.
const LEFT_OUT_NAMED_MAX: usize = 50;

#[derive(Debug)]
pub(crate) struct OpenApiServer {
    site: Arc<Site>,
    settings: Arc<OpenApi>,
    /// Where the document is.
    address: Url,
    /// What every request begins with; what an operation sets itself is not in it.
    headers: HeaderMap,
    plans: ArcSwap<HashMap<Arc<str>, Plan>>,
    /// Only one look at a time reads the document.
    known: Mutex<Known>,
}

/// What the last look found.
#[derive(Debug, Default)]
struct Known {
    source: Source,
    tools: Vec<Item>,
}

impl OpenApiServer {
    pub(crate) fn new(site: Arc<Site>, settings: OpenApi) -> Result<Self, Box<str>> {
        let address = source::address(&site.settings.url, settings.document.as_deref())?;
        let mut headers = site.endpoint.headers.clone();
        headers.remove(header::CONTENT_TYPE);
        headers.remove(header::ACCEPT);
        let (plans, known) = (ArcSwap::default(), Mutex::default());
        Ok(Self { site, settings: Arc::new(settings), address, headers, plans, known })
    }

    /// Makes a call. Dropping the future closes its connection, which is how a server learns that nobody waits.
    ///
    /// Arguments that do not fit are a result with `isError`, so that a model sees what it did wrong and can do better
    /// (MCP 2026-07-28, tools, error handling).
    pub(crate) async fn call(&self, call: &Call) -> Result<Reply, CallError> {
        if call.method != Method::ToolsCall {
            let message = format!("an upstream with an OpenAPI document has tools only, and no {}", call.method);
            return Err(CallError::gateway(ErrorCode::UnknownMethod, message));
        }
        let plans = self.plans.load_full();
        let Some(plan) = plans.get(&call.name) else {
            return Err(CallError::gateway(ErrorCode::UnknownName, format!("the upstream has no operation `{}`", call.name)));
        };
        let request = match request::build(plan, call, &self.headers) {
            Ok(request) => request,
            Err(bad) => return Ok(of_failure(&bad.to_string(), None)),
        };
        let uri = format!("openapi://{}{}", call.target, request.path);
        let mut head = request.head;
        add_trace(&call.trace, &mut head);
        let exchange = self.site.endpoint.pool.send(head.with(request.body.into())).await?;
        let mut answer = Answer::begin(&exchange.head);
        answer.body = self.site.endpoint.body(exchange).await?;
        answer.into_reply(plan.promise, &uri)
    }

    /// Reads the document, if it is another one than before.
    pub(crate) async fn look(&self) -> Result<Found, CallError> {
        let mut known = self.known.lock().await;
        let read = source::read(&self.site, &self.headers, &self.address, &known.source).await?;
        if let Read::New(bytes, source) = read {
            let tools = self.take(bytes).await?;
            *known = Known { source, tools };
        }
        Ok(Found::of_tools(known.tools.clone(), Eras::default()))
    }

    /// Converts a document and calls by it from now on.
    async fn take(&self, bytes: Bytes) -> Result<Vec<Item>, CallError> {
        let (settings, headers) = (Arc::clone(&self.settings), self.headers.clone());
        let (base, address) = (self.site.settings.url.clone(), self.address.clone());
        // Tens of megabytes take a second, in which a worker would answer nobody.
        let converting = tokio::task::spawn_blocking(move || {
            let document = Document::read(&bytes)?;
            let servers = Servers::new(&base, &address, &document);
            Ok(Converter { document: &document, settings: &settings, headers: &headers, servers }.convert())
        });
        let converted = converting
            .await
            .map_err(|error| CallError::gateway(ErrorCode::Internal, "reading the OpenAPI document failed").with_source(error))?;
        let converted = converted.map_err(|error: document::DocumentError| {
            CallError::runtime(ErrorCode::Protocol, Delivery::Answered, "the OpenAPI document cannot be used").with_source(error)
        })?;
        self.report(&converted);
        let mut tools = Vec::with_capacity(converted.operations.len());
        let mut plans = HashMap::with_capacity(converted.operations.len());
        for operation in converted.operations {
            plans.insert(operation.tool.name.clone(), operation.plan);
            tools.push(operation.tool);
        }
        self.plans.store(Arc::new(plans));
        Ok(tools)
    }

    fn report(&self, converted: &Converted) {
        let target = &self.site.settings.target;
        for left_out in converted.left_out.iter().take(LEFT_OUT_NAMED_MAX) {
            warn!(target_name = %target, operation = left_out.operation, reason = %left_out.reason, "operation is not offered");
        }
        let (tools, left_out) = (converted.operations.len(), converted.left_out.len());
        info!(target_name = %target, document = %self.address, tools, left_out, "read an OpenAPI document");
    }
}
