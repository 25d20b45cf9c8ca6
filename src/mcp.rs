//! The server side of MCP: what a client's message means in its era, and what it is answered.
//!
//! ```text
//! message -> envelope -> era -> lifecycle (initialize, discover, ping) | tools/list | tools/call, listen -> Running
//! ```
//!
//! Nothing here reads or writes a socket: a transport hands in an [`Inbound`] and carries the [`Answer`] back.

mod answer;
mod batch;
mod caching;
mod call;
mod deprecation;
mod ended;
mod era;
mod fault;
mod find;
mod inbound;
mod input;
mod lazy;
mod lifecycle;
mod listen;
mod listing;
mod losses;
mod output;
mod parked;
mod replay;
mod rest;
mod result;
mod running;
mod seal;
mod session;
mod sessions;
mod shown;
mod stream;
mod task;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use runtime_api::{CallError, Era, ErrorCode, Kind, Method};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use twinway_proto::{
    envelope::{self, EnvelopeError, Message, Notification, Request},
    headers::MCP_SESSION_ID,
};

pub use answer::{Answer, Outgoing, rest_refusal};
pub use inbound::{Binding, Inbound, Scope, Way};
pub use replay::Said;
pub use running::{Running, Step};
pub use seal::{Seal, SealError};
pub use session::Session;
pub use sessions::{SessionError, Sessions};
pub use shown::{Shown, Sight, UnknownExposure};
pub use stream::{EventStream, NoStream};

use parked::Parked;

use crate::{
    catalog::Catalog,
    config::{self, Config},
    pipeline::Pipeline,
    reload,
    search::Search,
    telemetry::{Metrics, Sampler},
};

/// When a client whose calls are as many as may be may try again: one of them may be answered at any moment.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Answers clients. Cheap to clone; all clones share sessions, catalogue and pipeline.
#[derive(Debug, Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    catalog: Catalog,
    pipeline: Pipeline,
    sessions: Sessions,
    parked: Parked,
    search: Search,
    sampler: Sampler,
    metrics: Metrics,
    told: deprecation::Told,
    made: Arc<task::Made>,
    depth_max: usize,
    page_size: usize,
    configuration: reload::Status,
    /// Calls whose client is gone but whose session is not.
    left_behind: TaskTracker,
    /// Places for clients that listen for changes.
    streams: Arc<Semaphore>,
    /// Those who listen are sent home.
    closing: CancellationToken,
}

impl Server {
    /// A server in front of this catalogue and pipeline.
    ///
    /// # Errors
    /// [`SealError`] when the configured key for session handles cannot be used.
    pub fn new(config: &Config, catalog: Catalog, pipeline: Pipeline, metrics: Metrics) -> Result<Self, SealError> {
        let sessions = Sessions::new(&config.http, &metrics)?;
        let shared = Shared {
            catalog,
            pipeline,
            sessions,
            parked: Parked::new(config.http.input_timeout, metrics.parked().clone()),
            search: Search::default(),
            sampler: Sampler::new(config.telemetry.as_ref()),
            metrics,
            told: deprecation::Told::default(),
            made: Arc::new(task::Made::new(config.http.client.is_empty())),
            depth_max: config.http.json_depth_max,
            page_size: config.http.page_size.get(),
            configuration: reload::Status::default(),
            left_behind: TaskTracker::new(),
            streams: Arc::new(Semaphore::new(config.http.sessions_max.get().min(Semaphore::MAX_PERMITS))),
            closing: CancellationToken::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What is offered.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.shared.catalog
    }

    /// The numbers of this gateway.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// How the last change of the configuration went.
    #[must_use]
    pub fn configuration(&self) -> &reload::Status {
        &self.shared.configuration
    }

    /// The legacy sessions.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.shared.sessions
    }

    /// Answers one message, or a batch of them. Calls are begun but not driven: the transport drives what it gets.
    #[must_use]
    pub fn handle(&self, inbound: &Inbound<'_>) -> Answer {
        match self.handle_one(inbound) {
            Answer::Unreadable(EnvelopeError::Batch, _) => self.batch(inbound),
            answer => answer,
        }
    }

    fn handle_one(&self, inbound: &Inbound<'_>) -> Answer {
        match envelope::parse_within(&inbound.message, self.shared.depth_max) {
            Ok(Message::Request(request)) => self.request(inbound, &request),
            Ok(Message::Notification(notification)) => self.notification(inbound, &notification),
            Ok(Message::Response(response)) => {
                let result = inbound.message.slice(response.result.range);
                self.answered(inbound, Some(response.id), &Ok(self.with_own_task(inbound, result)))
            }
            Ok(Message::Failure(failure)) => self.answered(inbound, failure.id, &Err(inbound.message.slice(failure.error))),
            Err(error) => answer::unreadable(error),
        }
    }

    /// Ends what was left behind by clients that went away, for at most `limit`.
    pub async fn drain(&self, limit: Duration) {
        self.shared.left_behind.close();
        let drained = tokio::time::timeout(limit, self.shared.left_behind.wait()).await;
        if drained.is_err() {
            self.shared.sessions.cancel_all();
        }
        self.shared.parked.clear();
    }

    /// Lets something run that belongs to a client; a drain waits for it.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.left_behind.spawn(task);
    }

    /// The shortest time for which it waits for somebody to come back.
    pub(crate) fn patience(&self) -> Duration {
        self.shared.sessions.idle().min(self.shared.parked.timeout())
    }

    /// Gives up what nobody came back for: idle sessions, and calls that wait for input.
    pub fn sweep(&self) {
        self.shared.sessions.sweep();
        self.shared.parked.sweep();
        self.shared.made.sweep();
    }

    /// Takes over what another configuration says of clients.
    pub(crate) fn reconfigure(&self, http: &config::Http) {
        self.shared.made.set_by_one_client(http.client.is_empty());
    }

    fn request(&self, inbound: &Inbound<'_>, request: &Request<'_>) -> Answer {
        let spoken = match era::of_request(inbound, request, &self.shared.sessions) {
            Ok(spoken) => spoken,
            Err(refused) => {
                self.shared.metrics.request_refused(refused.reason);
                return refused.answer(Some(request.id));
            }
        };
        if inbound.way.is_full() && begins_a_call(&request.method) {
            self.shared.metrics.request_refused("stream_full");
            return Answer::Message(answer::failed(request.id, &stream_full(), spoken.era()));
        }
        let answer = match (&*request.method, spoken.era()) {
            ("initialize", Era::Legacy) => self.initialize(inbound, request),
            ("server/discover", Era::Modern) => self.discover(inbound, request),
            ("ping", Era::Legacy) => answer::result(request.id, b"{}".to_vec().into()),
            ("logging/setLevel", Era::Legacy) => self.set_log_level(inbound, request, &spoken),
            ("tools/list", _) => self.list(Kind::Tool, inbound, request, &spoken),
            ("tools/call", _) if inbound.is_lazy() => self.call_lazily(inbound, request, &spoken),
            ("tools/call", _) => self.call(Method::ToolsCall, inbound, request, &spoken),
            // Peers are given tools and nothing else: their grants name tools. They list anew by `ttlMs`, because what they may see is
            // not known here for as long as they would listen.
            (method, era) if !inbound.scope.is_everything() => answer::unknown_method(request.id, method, era),
            ("subscriptions/listen", Era::Modern) => self.listen(inbound, request),
            ("prompts/list", _) => self.list(Kind::Prompt, inbound, request, &spoken),
            ("prompts/get", _) => self.call(Method::PromptsGet, inbound, request, &spoken),
            ("resources/list", _) => self.list(Kind::Resource, inbound, request, &spoken),
            ("resources/templates/list", _) => self.list(Kind::Template, inbound, request, &spoken),
            ("resources/read", _) => self.call(Method::ResourcesRead, inbound, request, &spoken),
            ("resources/subscribe", Era::Legacy) => self.subscribe(inbound, request, &spoken, true),
            ("resources/unsubscribe", Era::Legacy) => self.subscribe(inbound, request, &spoken, false),
            ("completion/complete", _) => self.call(Method::CompletionComplete, inbound, request, &spoken),
            ("tasks/get", _) => self.task(Method::TasksGet, inbound, request, &spoken),
            ("tasks/result", Era::Legacy) => self.task(Method::TasksResult, inbound, request, &spoken),
            ("tasks/list", Era::Legacy) => self.task(Method::TasksList, inbound, request, &spoken),
            ("tasks/update", Era::Modern) => self.task(Method::TasksUpdate, inbound, request, &spoken),
            ("tasks/cancel", _) => self.task(Method::TasksCancel, inbound, request, &spoken),
            (method, era) => answer::unknown_method(request.id, method, era),
        };
        match answer {
            Answer::Message(outgoing) if outgoing.message.len() > inbound.answer_bytes_max => {
                let too_large = answer::too_large(inbound.answer_bytes_max);
                Answer::Message(answer::failed(request.id, &too_large, spoken.era()))
            }
            answer => answer,
        }
    }

    /// The client's answer to a question that it was asked in its session.
    fn answered(&self, inbound: &Inbound<'_>, id: Option<&str>, answer: &Result<Bytes, Bytes>) -> Answer {
        let session = match &inbound.way {
            Way::Stream { session, .. } => Ok(Arc::clone(session)),
            Way::Http { .. } => era::session_of(inbound, &self.shared.sessions),
        };
        match session {
            Ok(session) => {
                id.into_iter().for_each(|id| session.answered(id, answer));
                Answer::Accepted
            }
            Err(refused) => refused.answer(None),
        }
    }

    fn notification(&self, inbound: &Inbound<'_>, notification: &Notification<'_>) -> Answer {
        let session = match &inbound.way {
            Way::Stream { session, .. } => Some(Arc::clone(session)),
            Way::Http { headers } if headers.contains_key(&MCP_SESSION_ID) => {
                match era::session_of(inbound, &self.shared.sessions) {
                    Ok(session) => Some(session),
                    Err(refused) => return refused.answer(None),
                }
            }
            Way::Http { .. } => None,
        };
        if notification.method == "notifications/cancelled" {
            let params = notification.params.as_ref();
            let id = params.and_then(|params| {
                let raw = &inbound.message[params.range.clone()];
                std::str::from_utf8(&raw[params.request_id.clone()?]).ok()
            });
            if let (Some(session), Some(id)) = (session, id) {
                session.cancel(id);
            }
        }
        Answer::Accepted
    }
}

/// Whether somebody else is asked for the answer. Whatever else a client says is answered at once, or listens.
fn begins_a_call(method: &str) -> bool {
    matches!(method, "tools/call" | "prompts/get" | "resources/read" | "completion/complete") || method.starts_with("tasks/")
}

fn stream_full() -> CallError {
    let message = "as many calls of this client are under way as may be; one of them has to be answered and read first";
    CallError::gateway(ErrorCode::Overloaded, message).with_retry_after(RETRY_AFTER)
}
