//! One configured peer: calls go through its pooled streams, which its actor opens and watches.
//!
//! ```text
//!                      a stream, handshake and tool list within 10 s
//!             ┌──────────► Dialling ─────────────────────────► Connected ──┐
//!             │               │  ▲                                 │       │ every stream ended
//!    the wait │        failed │  └─────────────────────────────────┼───────┘
//!    is over  │               ▼                                    │
//!             └──────────── Down                                   │ stop, retired
//!                             │ stop, retired                      ▼
//!                             └──────────────────────────────► Draining
//! ```
//!
//! A call waits while the peer is dialled and fails at once while it is down: a dead peer costs its callers nothing.

mod actor;
mod fresh;
mod handshake;
mod lane;

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use libp2p::{Multiaddr, PeerId};
use runtime_api::{BoxError, Call, CallError, Delivery, ErrorCode, Member, Reply, TargetId};
use runtime_mcp::{
    Incoming,
    input::{self, wants_input},
    outgoing::{self, Hop},
    stream::{Ask, Connection, Conversation, Fault, Settings},
};
use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore, SemaphorePermit, watch},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    OutboundStream,
    config::{Config, ConfigError, PeerConfig},
    framed::{FramedError, framed},
    node::NodeHandle,
    refusals::{Refusal, RefusalCounters},
};
use fresh::Fresh;
use handshake::Terms;
use lane::{BulkLane, SmallLane};

pub(crate) use actor::Actor;

/// 64 KiB: a longer request gets a stream of its own, because a small one behind 4 MiB waits 20 ms instead of 1.
const SMALL_BYTES_MAX: usize = 64 * 1024;

/// What a hop adds to a call's parameters at most: envelope, trace, token, deadline. Only for the choice of the lane.
const OVERHEAD_BYTES: usize = 1024;

/// Why a peer that is there is not called.
const NOT_USED: &str = "it is not used any more";

/// One configured peer, shared by its callers and its actor.
#[derive(Debug)]
pub(crate) struct Peer {
    config: PeerConfig,
    target: TargetId,
    id: PeerId,
    node: NodeHandle,
    frame_bytes_max: usize,
    refusals: Arc<RefusalCounters>,
    /// Calls that are out, over both lanes.
    places: Semaphore,
    small: SmallLane,
    bulk: BulkLane,
    /// What the last handshake agreed on; none before the first.
    terms: ArcSwapOption<Terms>,
    state: watch::Sender<State>,
    /// A caller would like the actor to act: to open another stream, or to dial before the wait is over.
    nudge: Notify,
    /// The configuration does not name it any more, or with other settings: it finishes what it began and publishes nothing.
    retired: CancellationToken,
    /// Where the tasks of streams run; known once the actor runs.
    executor: OnceLock<Executor>,
}

#[derive(Debug)]
struct Executor {
    runtime: Handle,
    tasks: TaskTracker,
    /// Ends every stream, in whatever hands it is.
    stop: CancellationToken,
}

/// Where the peer is on the picture above.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Dialling,
    Connected,
    Down(Arc<str>),
    Draining,
}

impl Member for Peer {
    fn target(&self) -> &TargetId {
        &self.target
    }

    fn retire(&self) {
        self.retired.cancel();
    }
}

impl Peer {
    pub(crate) fn new(config: &Config, peer: &PeerConfig, node: NodeHandle) -> Result<Self, ConfigError> {
        peer.validate()?;
        Ok(Self {
            target: TargetId::from(peer.name.as_str()),
            id: peer.peer_id()?,
            frame_bytes_max: config.frame_bytes_max.get() as usize,
            refusals: node.refusals(),
            node,
            places: Semaphore::new(peer.calls_in_flight_max.get() as usize),
            small: SmallLane::default(),
            bulk: BulkLane::default(),
            terms: ArcSwapOption::empty(),
            state: watch::Sender::new(State::Dialling),
            nudge: Notify::new(),
            retired: CancellationToken::new(),
            executor: OnceLock::new(),
            config: peer.clone(),
        })
    }

    /// What was configured.
    pub(crate) const fn settings(&self) -> &PeerConfig {
        &self.config
    }

    /// Waits until the calls that are out have ended; from then on there are none. Each call has a deadline, so this ends.
    async fn drain(&self) {
        drop(self.places.acquire_many(self.config.calls_in_flight_max.get()).await);
        self.places.close();
    }

    /// Who it is.
    pub(crate) const fn id(&self) -> PeerId {
        self.id
    }

    /// Where it is dialled, without its PeerId.
    pub(crate) fn addresses(&self) -> Vec<Multiaddr> {
        let without_id = |mut address: Multiaddr| {
            address.pop();
            address
        };
        self.config.addresses.iter().cloned().map(without_id).collect()
    }

    /// Makes a call.
    pub(crate) async fn call(&self, call: Call) -> Result<Reply, CallError> {
        let _place = self.place(call.deadline).await?;
        let answer = match self.attempt(&call).await {
            // The stream ended between being chosen and being written to; the call has not left.
            Err(error) if error.code() == ErrorCode::Disconnected && error.delivery() == Delivery::NotSent => {
                self.attempt(&call).await
            }
            answer => answer,
        };
        match answer? {
            question if wants_input(&question, &call.client) => {
                let send = |round: Call| async move { self.attempt(&round).await };
                Box::pin(input::rounds(&call, question, send)).await.map(Incoming::into_reply)
            }
            answer => Ok(answer.into_reply()),
        }
    }

    async fn attempt(&self, call: &Call) -> Result<Incoming, CallError> {
        if call.params.raw.len() + OVERHEAD_BYTES <= SMALL_BYTES_MAX {
            let connection = self.small_stream(call.deadline).await?;
            return self.ask(&connection, call).await;
        }
        // The small lane tells whether the peer answers at all, and on what terms.
        self.small_stream(call.deadline).await?;
        let stream = self.bulk.stream(call.deadline, || self.open(call.deadline)).await?;
        self.ask(&stream, call).await
    }

    async fn ask(&self, connection: &Connection, call: &Call) -> Result<Incoming, CallError> {
        if call.trace.sampled {
            // The span of the hop. What carries the call is known only here.
            tracing::Span::current().record("network.transport", connection.transport());
        }
        let ask = Ask { method: call.method.as_str(), deadline: call.deadline, caller: &call.caller };
        let terms = self.terms.load();
        let terms = terms.as_deref().ok_or_else(|| self.unavailable("it has not answered yet"))?;
        let hop = |id| Hop {
            era: terms.era,
            progress_token: call.caller.wants().progress.then_some(id),
            gateway: terms.gateway,
            trusted: false,
        };
        connection.request(ask, |id| outgoing::params(call, hop(id)).map(Some)).await
    }

    async fn place(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, CallError> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        // Whoever comes now would wait for all others; nothing was sent, so it may go elsewhere.
        if self.retired.is_cancelled() {
            return Err(self.unavailable(NOT_USED));
        }
        let overloaded = || {
            let text = format!("{} calls are in flight to peer `{}`", self.config.calls_in_flight_max, self.config.name);
            CallError::runtime(ErrorCode::Overloaded, Delivery::NotSent, text)
        };
        let waited = timeout_at(deadline, self.places.acquire()).await;
        waited.map_err(|_| overloaded())?.map_err(|_| self.unavailable(NOT_USED))
    }

    async fn small_stream(&self, deadline: Instant) -> Result<Connection, CallError> {
        if let Some(choice) = self.small.choose() {
            if choice.crowded {
                self.nudge.notify_one();
            }
            return Ok(choice.connection);
        }
        let mut state = self.state.subscribe();
        let connected = async {
            loop {
                match &*state.borrow_and_update() {
                    State::Down(reason) => {
                        self.nudge.notify_one();
                        return Err(self.unavailable(&**reason));
                    }
                    State::Draining => return Err(self.unavailable(NOT_USED)),
                    State::Dialling | State::Connected => {}
                }
                if let Some(choice) = self.small.choose() {
                    return Ok(choice.connection);
                }
                state.changed().await.expect("the sender lives as long as the peer");
            }
        };
        timeout_at(deadline, connected).await.unwrap_or_else(|_| Err(self.unavailable("it is being dialled")))
    }

    /// Opens a stream on the terms that are known, or that it finds out.
    async fn open(&self, deadline: Instant) -> Result<Fresh, CallError> {
        match self.terms.load_full() {
            Some(terms) => self.open_on(&terms, deadline).await,
            None => Err(self.unavailable("it has not answered yet")),
        }
    }

    /// Opens a stream and holds a conversation on it. Nothing is sent yet.
    async fn converse(&self, deadline: Instant) -> Result<Fresh, CallError> {
        let executor = self.executor.get().ok_or_else(|| self.unavailable("this gateway is starting"))?;
        let opening = self.node.open_stream(self.id, self.config.addresses.clone(), deadline);
        let OutboundStream { transport, stream } = opening.await.map_err(|error| self.unavailable(error))?;
        let (reader, writer) = framed(stream, self.frame_bytes_max);
        let counted = Arc::clone(&self.refusals);
        let reader = futures_util::StreamExt::inspect(reader, move |frame| count_bad_frame(&counted, frame));
        Ok(executor.spawn(Conversation::new(reader, writer, self.stream_settings(transport))))
    }

    fn stream_settings(&self, transport: &'static str) -> Settings {
        // The peer's places bound the calls; the handshake and listings of the actor come on top.
        let in_flight_max = self.config.calls_in_flight_max.saturating_add(4);
        let in_flight_max = in_flight_max.try_into().expect("a u32 fits");
        let refusals = Arc::clone(&self.refusals);
        let on_fault = Arc::new(move |fault| refusal(fault).into_iter().for_each(|refusal| refusals.count(refusal)));
        Settings { on_fault, transport, ..Settings::new(in_flight_max, self.frame_bytes_max) }
    }

    fn unavailable(&self, reason: impl Into<BoxError>) -> CallError {
        let text = format!("peer `{}` cannot be reached", self.config.name);
        CallError::runtime(ErrorCode::Unavailable, Delivery::NotSent, text).with_source(reason)
    }
}

impl Executor {
    /// Lets a conversation run until somebody ends it, or the peer's actor stops.
    fn spawn(&self, conversation: Conversation) -> Fresh {
        let connection = conversation.spawn_on(&self.tasks, &self.runtime);
        let (stop, stopped) = (self.stop.clone(), connection.clone());
        let watch = async move {
            tokio::select! {
                () = stop.cancelled() => stopped.close(),
                () = stopped.ended() => {}
            }
        };
        self.tasks.spawn_on(watch, &self.runtime);
        Fresh::new(connection)
    }
}

fn count_bad_frame<T>(refusals: &RefusalCounters, frame: &Result<T, FramedError>) {
    let refused = frame.as_ref().err().and_then(FramedError::refusal);
    refused.into_iter().for_each(|refusal| refusals.count(refusal));
}

fn refusal(fault: Fault) -> Option<Refusal> {
    match fault {
        Fault::InvalidUtf8 => Some(Refusal::InvalidUtf8),
        Fault::InvalidJson => Some(Refusal::InvalidJson),
        Fault::NotAMessage => Some(Refusal::NotAMessage),
        Fault::UnknownId => Some(Refusal::UnknownId),
        Fault::LateAnswer => Some(Refusal::LateAnswer),
        _ => None,
    }
}
