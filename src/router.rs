//! Chooses the runtime and the target for a tool call, and says why.

use std::{
    fmt,
    future::{Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{self, Context, Poll},
    time::Duration,
};

use futures_util::future::Either;
use pin_project_lite::pin_project;
use runtime_api::{Call, CallError, CallService, ErrorCode, Reply, RuntimeId, TargetId};
use tokio::time::Instant;
use tower::{Service, ServiceExt, util::Oneshot};
use tracing::{Instrument, Span, instrument::Instrumented};

use crate::{
    catalog::Entry,
    config::RuntimeChoice,
    metadata::Metadata,
    pipeline::{Answered, Routed, Taken},
    telemetry::{RouteMetrics, latency::Latencies, metrics::Outcome, span},
};

/// The name of the runtime that `http` means in a rule.
pub const HTTP: &str = "http";
/// The name of the runtime that `mcpp` means in a rule, and that `requires_p2p` asks for.
pub const MCPP: &str = "mcpp";

/// Names that say that a tool belongs to peers. Only asked when both runtimes offer the tool.
const PEER_NAMES: [&str; 4] = ["workflow", "taskqueue", "peer", "bootstrap"];

/// A target that offers the tool.
#[derive(Clone)]
pub struct Candidate {
    /// Which runtime reaches it.
    pub runtime: RuntimeId,
    /// The target.
    pub target: TargetId,
    /// The tool's name there.
    pub name: Arc<str>,
    /// Makes the call.
    pub service: CallService,
    /// Its numbers.
    pub metrics: Arc<RouteMetrics>,
    /// How long its calls took, for whoever compares routes.
    pub latencies: Arc<Latencies>,
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.runtime, self.target, self.name)
    }
}

/// Why a route was chosen. The order is the order in which the reasons count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The metadata names the runtime.
    Explicit,
    /// The metadata allows peers only.
    RequiresP2p,
    /// The name says that the tool belongs to peers.
    NamePattern,
    /// Nobody else offers it.
    OnlyCandidate,
    /// The default runtime.
    Default,
}

impl Reason {
    /// The code, in spans, metrics and `twinway/explain`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::RequiresP2p => "requires_p2p",
            Self::NamePattern => "name_pattern",
            Self::OnlyCandidate => "only_candidate",
            Self::Default => "default",
        }
    }
}

/// Chooses among the runtimes that offer a tool. Returns the place in `runtimes`.
///
/// # Errors
/// The runtime that the metadata demands and nobody has.
pub fn choose(name: &str, metadata: &Metadata, runtimes: &[&str]) -> Result<(usize, Reason), &'static str> {
    let at = |wanted: &'static str| runtimes.iter().position(|runtime| *runtime == wanted).ok_or(wanted);
    match metadata.runtime {
        // A tool that needs peers and is bound to HTTP has no route at all.
        RuntimeChoice::Http if metadata.requires_p2p => return Err(MCPP),
        RuntimeChoice::Http => return Ok((at(HTTP)?, Reason::Explicit)),
        RuntimeChoice::Mcpp => return Ok((at(MCPP)?, Reason::Explicit)),
        RuntimeChoice::Auto => {}
    }
    if metadata.requires_p2p {
        return Ok((at(MCPP)?, Reason::RequiresP2p));
    }
    match (runtimes.len(), at(MCPP)) {
        (1, _) => Ok((0, Reason::OnlyCandidate)),
        (_, Ok(peer)) if belongs_to_peers(name) => Ok((peer, Reason::NamePattern)),
        _ => Ok((at(HTTP).unwrap_or(0), Reason::Default)),
    }
}

fn belongs_to_peers(name: &str) -> bool {
    name.starts_with("p2p_") || PEER_NAMES.iter().any(|part| name.contains(part))
}

/// The innermost service of the pipeline: makes the call on the route that was chosen.
#[derive(Debug, Clone, Copy)]
pub struct Router;

impl Service<Routed> for Router {
    type Response = Answered;
    type Error = CallError;
    type Future = Either<OnRoute, Ready<Result<Answered, CallError>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, routed: Routed) -> Self::Future {
        let Routed { entry, mut call, span: parent } = routed;
        let (candidate, reason) = match route(&entry) {
            Ok(found) => found,
            Err(error) => return Either::Right(ready(Err(error))),
        };
        call.target = candidate.target.clone();
        call.name = Arc::clone(&candidate.name);
        let taken = Taken { runtime: candidate.runtime.clone(), target: candidate.target.clone(), reason: reason.as_str() };
        let hop = open_hop(&parent, &taken, &mut call);
        let reply = candidate.service.clone().oneshot(call).instrument(hop.clone());
        Either::Left(OnRoute { reply, hop, taken: Some(taken), clock: Clock::start(&candidate.latencies) })
    }
}

/// The span of the hop, and its context for whatever comes next. A call that is not traced does not even pay for the
/// fields of a span.
fn open_hop(parent: &Span, taken: &Taken, call: &mut Call) -> Span {
    if parent.is_none() {
        return Span::none();
    }
    let about = span::Hop {
        method: call.method,
        name: &call.name,
        runtime: taken.runtime.as_str(),
        target: taken.target.as_str(),
        reason: taken.reason,
        // The HTTP runtime knows no other; a peer's connection is chosen by its runtime.
        transport: (taken.runtime.as_str() == HTTP).then_some("tcp"),
        server_address: None,
    };
    let hop = span::hop(parent, &about);
    call.trace = span::context_of(&hop, &call.trace);
    hop
}

pin_project! {
    /// A call that a runtime makes.
    #[derive(Debug)]
    pub struct OnRoute {
        #[pin]
        reply: Instrumented<Oneshot<CallService, Call>>,
        hop: Span,
        taken: Option<Taken>,
        clock: Clock,
    }
}

/// Times a call on its route. Dropped before its end, it counts a call without a reply.
#[derive(Debug)]
struct Clock {
    latencies: Arc<Latencies>,
    began: Instant,
    ended: bool,
}

impl Clock {
    fn start(latencies: &Arc<Latencies>) -> Self {
        Self { latencies: Arc::clone(latencies), began: Instant::now(), ended: false }
    }

    fn stop(&mut self, reply: &Result<Reply, CallError>) -> Duration {
        self.ended = true;
        let took = self.began.elapsed();
        let outcome = match reply {
            Ok(reply) if reply.is_error => Outcome::ToolError,
            Ok(_) => Outcome::Ok,
            Err(error) => Outcome::Failed(error.code()),
        };
        self.latencies.record(outcome, took);
        took
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        if !self.ended {
            self.latencies.record(Outcome::Failed(ErrorCode::Cancelled), self.began.elapsed());
        }
    }
}

impl Future for OnRoute {
    type Output = Result<Answered, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let call = self.project();
        let reply = task::ready!(call.reply.poll(cx)).inspect_err(|error| span::fail(call.hop, error.code().row().name));
        let hop = call.clock.stop(&reply);
        let taken = call.taken.take().expect("a future is not polled after it is done");
        Poll::Ready(Ok(Answered { reply: reply?, taken, hop, cache: None }))
    }
}

fn route(entry: &Entry) -> Result<(&Candidate, Reason), CallError> {
    match &entry.route {
        Ok((place, reason)) => Ok((&entry.candidates[*place], *reason)),
        Err(wanted) => {
            let message =
                format!("tool `{}` may only be called over the runtime `{wanted}`, where nobody offers it", entry.public);
            Err(CallError::gateway(ErrorCode::Unavailable, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(runtime: RuntimeChoice, requires_p2p: bool) -> Metadata {
        Metadata { runtime, requires_p2p, ..Metadata::default() }
    }

    #[test]
    fn each_reason_decides_where_the_ones_before_it_do_not() {
        use RuntimeChoice::{Auto, Http, Mcpp};
        let both = [HTTP, MCPP];
        type Case<'a> = (&'a str, RuntimeChoice, bool, &'a [&'a str], Result<(usize, Reason), &'a str>);
        let cases: [Case<'_>; 11] = [
            ("t", Http, false, &both, Ok((0, Reason::Explicit))),
            ("t", Mcpp, false, &both, Ok((1, Reason::Explicit))),
            ("t", Mcpp, true, &both, Ok((1, Reason::Explicit))),
            ("t", Http, true, &both, Err(MCPP)),
            ("t", Mcpp, false, &[HTTP], Err(MCPP)),
            ("t", Auto, true, &both, Ok((1, Reason::RequiresP2p))),
            ("t", Auto, true, &[HTTP], Err(MCPP)),
            ("p2p_echo", Auto, false, &both, Ok((1, Reason::NamePattern))),
            ("p2p_echo", Auto, false, &[HTTP], Ok((0, Reason::OnlyCandidate))),
            ("t", Auto, false, &["other"], Ok((0, Reason::OnlyCandidate))),
            ("t", Auto, false, &[MCPP, HTTP], Ok((1, Reason::Default))),
        ];
        for (name, runtime, requires_p2p, runtimes, expected) in cases {
            let found = choose(name, &metadata(runtime, requires_p2p), runtimes);

            assert_eq!(found, expected, "{name} {runtime:?} requires_p2p: {requires_p2p} {runtimes:?}");
        }
    }
}
