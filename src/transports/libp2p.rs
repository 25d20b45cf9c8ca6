//! The libp2p way in: MCP over the streams that peers open.
//!
//! ```text
//! frame -> quota (bytes, calls) -> server side of MCP -> a task for each call -> frames
//! ```
//!
//! A stream's reader, its writer and its calls are tasks of their own. When the peer's quota or the writer's queue is
//! full, the reader stops reading, and the peer feels it.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, future::BoxFuture};
use runtime_api::{PartError, Principal, Transport};
use runtime_mcpp::{
    Authority, FrameReader, FrameWriter, InboundStream, IncomingStreams, NodeHandle, Refusal, RefusalCounters, authority::Origin,
    framed, framed::Half, quotas::PeerQuota,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use twinway_proto::{
    envelope::EnvelopeError,
    json::{Fault, JsonError},
};

use super::frames::{Frames, Unwritten, frames};
use crate::{
    app::SETTLE,
    catalog::Entry,
    mcp::{Answer, Binding, Inbound, Scope, Server, Session, Shown, Way},
    router::MCPP,
};

/// Serves the streams that peers open.
#[derive(Debug)]
pub struct Libp2p {
    incoming: IncomingStreams,
    shared: Arc<Shared>,
    drain_timeout: Duration,
}

/// What every stream's task needs.
#[derive(Debug)]
struct Shared {
    node: NodeHandle,
    server: Server,
    authority: Arc<ArcSwap<Authority>>,
    binding: Binding,
    frame_bytes_max: usize,
    idle: Duration,
    request_timeout: Duration,
    refusals: Arc<RefusalCounters>,
}

/// What the node's configuration says of the way in.
#[derive(Debug)]
pub struct Rules {
    /// Who may call what; looked at for each call.
    pub authority: Arc<ArcSwap<Authority>>,
    /// How legacy sessions must name their binding.
    pub binding: Binding,
    /// Largest frame in bytes.
    pub frame_bytes_max: usize,
    /// A stream without a call for so long is closed.
    pub idle: Duration,
    /// Longest call of a peer.
    pub request_timeout: Duration,
    /// How long calls in flight may take to end when it is time to stop.
    pub drain_timeout: Duration,
}

impl Libp2p {
    /// A transport over a bound node's incoming streams.
    #[must_use]
    pub fn new(node: NodeHandle, incoming: IncomingStreams, rules: Rules, server: Server) -> Self {
        let refusals = node.refusals();
        let Rules { authority, binding, frame_bytes_max, idle, request_timeout, drain_timeout } = rules;
        let shared = Shared { node, server, authority, binding, frame_bytes_max, idle, request_timeout, refusals };
        Self { incoming, shared: Arc::new(shared), drain_timeout }
    }
}

impl Transport for Libp2p {
    fn name(&self) -> &'static str {
        "libp2p"
    }

    fn local_addr(&self) -> String {
        let addresses: Vec<_> = self.shared.node.listen_addrs().iter().map(ToString::to_string).collect();
        format!("{} as {}", addresses.join(", "), self.shared.node.peer_id())
    }

    fn serve(mut self: Box<Self>, stop: CancellationToken) -> BoxFuture<'static, Result<(), PartError>> {
        Box::pin(async move {
            // Peers list once and then rarely: one that reconnects at once after a restart must not find half of the tools.
            // Other peers do not matter, and two that wait for each other would wait in vain.
            let targets_answered = self.shared.server.catalog().settled_where(SETTLE, |runtime| runtime.as_str() != MCPP);
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = targets_answered => {}
            }
            let mut streams = JoinSet::new();
            loop {
                let stream = tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    Some(_) = streams.join_next() => continue,
                    stream = self.incoming.next() => stream,
                };
                let Some(stream) = stream else { break };
                streams.spawn(serve_stream(stream, Arc::clone(&self.shared), stop.clone()));
            }
            let drained = async { while streams.join_next().await.is_some() {} };
            if tokio::time::timeout(self.drain_timeout, drained).await.is_err() {
                streams.shutdown().await;
            }
            Ok(())
        })
    }
}

async fn serve_stream(inbound: InboundStream, shared: Arc<Shared>, stop: CancellationToken) {
    let transport = inbound.transport();
    let InboundStream { peer, relayed, remote_addr, quota, permit: _permit, stream, .. } = inbound;
    let (reader, writer) = framed(stream, shared.frame_bytes_max);
    let (frames, unwritten) = frames();
    let (idle, stuck) = (shared.idle, unwritten.stuck());
    let mut tasks = JoinSet::new();
    tasks.spawn(write(writer, unwritten));
    let mut conversation = Conversation {
        principal: Principal(format!("peer:{peer}").into()),
        session: Session::of_stream(Principal(format!("peer:{peer}").into())),
        origin: (peer, remote_addr, relayed),
        transport,
        quota,
        frames,
        stuck,
        shared,
    };
    conversation.read(reader, &mut tasks, &stop).await;
    let Conversation { session, frames, .. } = conversation;
    if !stop.is_cancelled() {
        // The peer is gone or broke the rules: nobody waits for these answers.
        session.end();
    }
    drop(frames);
    // A peer that does not read any more must not hold its stream for ever.
    let ended = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(idle, ended).await.is_err() {
        tasks.shutdown().await;
    }
}

/// One stream.
struct Conversation {
    principal: Principal,
    session: Arc<Session>,
    origin: (runtime_mcpp::PeerId, runtime_mcpp::Multiaddr, bool),
    /// What carries the stream.
    transport: &'static str,
    quota: Arc<PeerQuota>,
    frames: Frames,
    /// Cancelled when the peer does not read.
    stuck: CancellationToken,
    shared: Arc<Shared>,
}

impl Conversation {
    /// Reads until the stream ends, breaks a rule, idles, or it is time to stop.
    async fn read(&mut self, mut reader: FrameReader<Half>, tasks: &mut JoinSet<()>, stop: &CancellationToken) {
        let mut idle_at = Instant::now() + self.shared.idle;
        loop {
            // The writer is one of the tasks; any further one is a call.
            let busy = tasks.len() > 1;
            let frame = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.stuck.cancelled() => return debug!(peer = %self.origin.0, "a peer does not read"),
                Some(_) = tasks.join_next() => {
                    idle_at = Instant::now() + self.shared.idle;
                    continue;
                }
                frame = reader.next() => frame,
                () = sleep_until(idle_at), if !busy => return,
            };
            let message = match frame {
                None => return,
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    if let Some(refusal) = error.refusal() {
                        self.shared.refusals.count(refusal);
                    }
                    debug!(peer = %self.origin.0, %error, "a stream broke the framing rules");
                    return;
                }
            };
            idle_at = Instant::now() + self.shared.idle;
            self.quota.admit_bytes(message.len()).await;
            if !self.take(message, tasks).await {
                return;
            }
        }
    }

    /// Handles one message; `false` when the stream cannot go on.
    async fn take(&self, message: Bytes, tasks: &mut JoinSet<()>) -> bool {
        match self.handle(message) {
            Answer::Accepted => true,
            Answer::Message(outgoing) => self.frames.answer(outgoing).await,
            Answer::Denied(outgoing) => {
                self.shared.refusals.count(Refusal::Authority);
                self.frames.answer(outgoing).await
            }
            Answer::Unreadable(fault, outgoing) => {
                self.shared.refusals.count(refusal(&fault));
                self.frames.answer(outgoing).await
            }
            Answer::Running(running) => {
                // A peer that has used up its calls is not read from until one of them ends; what it withdraws meanwhile
                // is seen then.
                let permit = self.quota.admit_call().await;
                let frames = self.frames.clone();
                tasks.spawn(async move {
                    let _permit = permit;
                    frames.drive(*running).await;
                });
                true
            }
        }
    }

    fn handle(&self, message: Bytes) -> Answer {
        let (peer, remote_addr, relayed) = &self.origin;
        let origin = Origin { peer: *peer, remote_addr, relayed: *relayed };
        // Tools of other peers are not passed on, so that two gateways that are each other's peers settle.
        let offered = |entry: &Entry| entry.is_own() && self.shared.authority.load().allows(&origin, &entry.public);
        self.shared.server.handle(&Inbound {
            message,
            view: "",
            principal: &self.principal,
            way: Way::Stream {
                session: &self.session,
                binding: Some(self.shared.binding),
                transport: self.transport,
                // The peer's quota holds its calls back instead.
                is_full: false,
            },
            scope: Scope::Only(&offered),
            shown: Shown::full(),
            answer_bytes_max: self.shared.frame_bytes_max,
            time_max: self.shared.request_timeout,
        })
    }
}

fn refusal(fault: &EnvelopeError) -> Refusal {
    match fault {
        EnvelopeError::Json(JsonError { fault: Fault::Utf8, .. }) => Refusal::InvalidUtf8,
        EnvelopeError::Json(_) => Refusal::InvalidJson,
        _ => Refusal::NotAMessage,
    }
}

async fn write(mut writer: FrameWriter<Half>, mut unwritten: Unwritten) {
    while let Some(frame) = unwritten.next().await {
        if let Err(error) = writer.send(frame).await {
            debug!(%error, "a frame could not be written");
            return;
        }
    }
    // The stream is finished properly, so that the peer can tell an end from a break.
    writer.close().await.ok();
}
