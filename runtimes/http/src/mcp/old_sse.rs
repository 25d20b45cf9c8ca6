//! Servers of revision 2024-11-05 (HTTP with SSE; 2025-11-25, transports, backwards compatibility): GET opens a stream whose first
//! event, `endpoint`, names where to POST messages; whatever the server has to say comes on the stream.
//!
//! ```text
//!   GET ──► Events ──► source ─┐
//!            │ endpoint        ├─ Conversation (runtime_mcp::stream) ──► Stream, one for each owner
//!            ▼                 │
//!   POST ◄── Poster ◄── sink ──┘
//! ```
//!
//! A stream that ended takes its session with it: calls that were out have an unknown outcome, and the next call opens another.

mod events;
mod poster;

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use runtime_api::{Call, CallError, Caller, Delivery, Era, ErrorCode, Principal};
use runtime_mcp::{
    Incoming,
    client::capabilities,
    handshake::{self, ServerFacts},
    stream::{Ask, Changes, Connection, Conversation, Garbage, Met, Settings, opening},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_util::sync::PollSender;
use tracing::debug;
use twinway_proto::revision;

use self::{
    events::{Events, Opened},
    poster::Poster,
};
use super::session::{Owner, Sessions};
use crate::site::Site;

/// How long the first event may take. Servers send it before they do anything else.
const ENDPOINT_PATIENCE: Duration = Duration::from_secs(5);

/// Messages that wait for the task that posts them. It does nothing but take them; what waits longer waits in the conversation,
/// which bounds it.
const MESSAGES_WAITING_MAX: usize = 16;

/// An upstream that speaks HTTP+SSE.
#[derive(Debug)]
pub(super) struct OldServer {
    site: Arc<Site>,
    streams: Sessions<Stream>,
}

/// A session: a conversation over one stream of events. Dropping it ends both.
#[derive(Debug)]
pub(super) struct Stream {
    met: Met,
    _ending: Ending,
}

/// Ends a conversation with itself: nobody else would.
#[derive(Debug)]
struct Ending(Connection);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// No stream.
#[derive(Debug)]
pub(super) enum OpenError {
    /// The server has answered, and not as one that speaks HTTP+SSE.
    NotSpoken(CallError),
    /// Any other reason.
    Failed(CallError),
}

impl From<CallError> for OpenError {
    fn from(error: CallError) -> Self {
        Self::Failed(error)
    }
}

impl From<OpenError> for CallError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NotSpoken(error) | OpenError::Failed(error) => error,
        }
    }
}

impl Stream {
    /// What the server says of itself.
    pub(super) fn facts(&self) -> &ServerFacts {
        &self.met.facts
    }

    /// Makes requests in the session.
    pub(super) fn connection(&self) -> &Connection {
        &self.met.connection
    }
}

impl OldServer {
    pub(super) fn new(site: Arc<Site>) -> Self {
        Self { site, streams: Sessions::new() }
    }

    /// Makes a call. Dropping the future withdraws it.
    pub(super) async fn call(&self, call: &Call) -> Result<Incoming, CallError> {
        let owner = Owner::of(call);
        let stream = self.stream(&owner).await?;
        match stream.met.call(call, self.site.settings.trusted).await {
            Err(error) if has_not_arrived(&error) => self.streams.forget(&owner, &stream),
            answered => return answered,
        }
        let another = self.stream(&owner).await?;
        another.met.call(call, self.site.settings.trusted).await
    }

    /// Makes a request that the gateway makes for itself; `members` are those of its parameters.
    pub(super) async fn ask_for_itself(&self, method: &str, members: &str) -> Result<Incoming, CallError> {
        let stream = self.stream(&Owner::gateway()).await?;
        let ask = Ask { method, deadline: Instant::now() + self.site.settings.list_timeout, caller: &Caller::none() };
        let params = format!("{{{members}}}").into_bytes();
        stream.connection().request(ask, |_| Ok(Some(params.into()))).await
    }

    /// The owner's stream, opened when there is none or it has ended.
    pub(super) async fn stream(&self, owner: &Owner) -> Result<Arc<Stream>, OpenError> {
        let open = || Box::pin(self.open(owner));
        let stream = self.streams.get(owner, open).await?;
        if !stream.connection().is_ended() {
            return Ok(stream);
        }
        self.streams.forget(owner, &stream);
        self.streams.get(owner, open).await
    }

    /// Ends the streams that nobody used lately, or all.
    pub(super) fn end_streams(&self, all: bool) {
        drop(self.streams.take_idle(all));
    }

    async fn open(&self, owner: &Owner) -> Result<Arc<Stream>, OpenError> {
        let list_timeout = self.site.settings.list_timeout;
        let deadline = Instant::now() + list_timeout;
        // The other half is for what is to be said then.
        let patience = ENDPOINT_PATIENCE.min(list_timeout / 2);
        let opened = timeout(patience, Events::open(&self.site)).await.unwrap_or_else(|_| {
            let message = format!("no event `endpoint` within {} ms", patience.as_millis());
            Err(OpenError::NotSpoken(CallError::runtime(ErrorCode::Protocol, Delivery::NotSent, message)))
        })?;
        let ending = Ending(self.converse(opened));
        let connection = ending.0.clone();
        let capabilities = capabilities(owner.declared);
        let params = handshake::initialize_params(revision::LATEST_LEGACY, &capabilities, handshake::CLIENT_INFO);
        let facts = opening::initialize(&connection, params, deadline, handshake::read_initialized).await?;
        self.site.endpoint.background.spawn(hear(connection.changes(), Arc::clone(&self.site), owner.principal.clone()));
        Ok(Arc::new(Stream { met: Met::new(connection, Era::Legacy, facts), _ending: ending }))
    }

    fn converse(&self, opened: Opened) -> Connection {
        let Opened { events, endpoint } = opened;
        let (messages, to_post) = mpsc::channel(MESSAGES_WAITING_MAX);
        // The places of the target bound the calls; what the gateway asks for itself comes on top.
        let in_flight_max = self.site.settings.concurrency.saturating_add(8).try_into().expect("not zero");
        let target = self.site.settings.target.clone();
        let settings = Settings {
            garbage: Garbage::Ignore,
            transport: "tcp",
            on_fault: Arc::new(move |fault| debug!(target_name = %target, ?fault, "an event of the server was thrown away")),
            ..Settings::new(in_flight_max, self.site.settings.answer_bytes_max)
        };
        let background = &self.site.endpoint.background;
        let source = events.messages().boxed();
        let connection = Conversation::new(source, PollSender::new(messages), settings).spawn(background);
        let poster = Poster::new(&self.site, &endpoint, connection.clone(), in_flight_max.get());
        background.spawn(poster.run(to_post));
        connection
    }
}

/// Passes on what a principal's session tells of changes, until it ends.
async fn hear(changes: Changes, site: Arc<Site>, principal: Principal) {
    while let Some(changed) = changes.next().await {
        site.changed(&changed, &principal);
    }
}

/// Whether a call has certainly not reached the server, because the stream it was meant for is not there any more.
fn has_not_arrived(error: &CallError) -> bool {
    let is_gone = matches!(error.code(), ErrorCode::Disconnected | ErrorCode::Unavailable);
    is_gone && error.delivery() == Delivery::NotSent
}
