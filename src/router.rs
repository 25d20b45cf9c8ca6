//! Chooses the runtime and the target for a tool call, and says why.

mod choice;

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
use runtime_api::{Call, CallError, CallService, ErrorCode, Kind, Reply, RuntimeId, TargetId};
use tokio::time::Instant;
use tower::{Service, ServiceExt, util::Oneshot};
use tracing::{Instrument, Span, instrument::Instrumented};

pub use choice::{Average, Choice, Picked};

use crate::{
    catalog::Entry,
    config::{Routing, RuntimeChoice},
    layers::{Door, Guard},
    metadata::Metadata,
    pipeline::{Answered, Routed, Taken},
    telemetry::{RouteMetrics, latency::Latencies, metrics::Outcome, span},
};

/// The name of the runtime that `http` means in a rule.
pub const HTTP: &str = "http";
/// The name of the runtime of servers that the gateway starts itself. A rule that wants `http` takes it too: both call servers of the
/// user's own.
pub const STDIO: &str = "stdio";
/// The name of the runtime that `mcpp` means in a rule, and that `requires_p2p` asks for.
pub const MCPP: &str = "mcpp";

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
    /// What the layers keep for the target.
    pub guard: Arc<Guard>,
    /// The doors that calls of this tool pass there; absent for a tool of no class.
    pub classes: Option<Box<[Arc<Door>]>>,
    /// Whether the target answered when it was last asked for its tools.
    pub ready: bool,
    /// Whether the target is known to serve revision 2026-07-28.
    pub modern: bool,
    /// How quick it is, for the choice; only kept for one of several.
    pub average: Option<Arc<Average>>,
    /// How long its calls took, for whoever compares routes.
    pub latencies: Arc<Latencies>,
}

impl Candidate {
    /// Whether a call has a good chance here: the target answers its keeper, and its breaker lets calls through.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.ready && self.guard.breaker.as_ref().is_none_or(|breaker| breaker.lets_through())
    }

    /// How quick it is, in nanoseconds; 0 before the first call, absent for the only candidate of a tool.
    #[must_use]
    pub fn average_ns(&self) -> Option<u64> {
        self.average.as_ref().map(|average| average.nanoseconds())
    }

    /// Takes the time of one call that was answered.
    pub(crate) fn observe(&self, took: Duration) {
        if let Some(average) = &self.average {
            average.observe(took);
        }
    }
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
    /// Those that the reason above speaks for cannot answer.
    Fallback,
}

/// The way of a tool's calls, chosen when the catalogue is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The candidate that answers, or the first of those that may.
    pub place: usize,
    /// Why.
    pub reason: Reason,
    /// Who may answer, where there is more than one.
    pub choice: Option<Choice>,
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
            Self::Fallback => "fallback",
        }
    }
}

/// Chooses among the candidates that offer a tool; `runtimes` has the runtime of each.
///
/// # Errors
/// The runtime that the metadata demands and nobody has.
pub fn choose(name: &str, metadata: &Metadata, runtimes: &[&str], routing: &Routing) -> Result<Route, &'static str> {
    let only = |wanted: &'static str, reason| {
        let (of_it, _) = split(runtimes, |runtime| is(runtime, wanted));
        route_of(of_it, Vec::new(), reason).ok_or(wanted)
    };
    match metadata.runtime {
        // A tool that needs peers and is bound to HTTP has no route at all.
        RuntimeChoice::Http if metadata.requires_p2p => return Err(MCPP),
        RuntimeChoice::Http => return only(HTTP, Reason::Explicit),
        RuntimeChoice::Mcpp => return only(MCPP, Reason::Explicit),
        RuntimeChoice::Auto => {}
    }
    if metadata.requires_p2p {
        return only(MCPP, Reason::RequiresP2p);
    }
    if runtimes.len() == 1 {
        return Ok(Route { place: 0, reason: Reason::OnlyCandidate, choice: None });
    }
    let both = runtimes.contains(&MCPP) && runtimes.iter().any(|runtime| *runtime != MCPP);
    let (wanted, reason) = if both && routing.peer_names.iter().any(|pattern| pattern.matches(name)) {
        (Some(MCPP), Reason::NamePattern)
    } else {
        let default = match routing.default_runtime {
            RuntimeChoice::Auto => None,
            RuntimeChoice::Http => Some(HTTP),
            RuntimeChoice::Mcpp => Some(MCPP),
        };
        (default, Reason::Default)
    };
    let (preferred, fallback) = split(runtimes, |runtime| wanted.is_none_or(|wanted| is(runtime, wanted)));
    // Where the default runtime has none of them, all are equal.
    let (preferred, fallback) = if preferred.is_empty() { (fallback, preferred) } else { (preferred, fallback) };
    Ok(route_of(preferred, fallback, reason).expect("a tool has a candidate"))
}

/// Whether a runtime is the one that a rule names.
fn is(runtime: &str, wanted: &str) -> bool {
    runtime == wanted || (wanted == HTTP && runtime == STDIO)
}

fn split(runtimes: &[&str], belongs: impl Fn(&str) -> bool) -> (Vec<usize>, Vec<usize>) {
    (0..runtimes.len()).partition(|place| belongs(runtimes[*place]))
}

fn route_of(preferred: Vec<usize>, fallback: Vec<usize>, reason: Reason) -> Option<Route> {
    let place = *preferred.first()?;
    let several = preferred.len() + fallback.len() > 1;
    Some(Route { place, reason, choice: several.then(|| Choice { preferred: preferred.into(), fallback: fallback.into() }) })
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
        let Routed { entry, mut call, span: parent, place, reason } = routed;
        if let Err(wanted) = &entry.route {
            return Either::Right(ready(Err(no_route(&entry, wanted))));
        }
        let candidate = &entry.candidates[place];
        call.target = candidate.target.clone();
        if entry.kind != Kind::Template {
            // A template has no name that could be called: the resource's own URI stands in the call.
            call.name = Arc::clone(&candidate.name);
        }
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
        Poll::Ready(Ok(Answered { reply: reply?, taken, hop, cache: None, attempts: Vec::new() }))
    }
}

fn no_route(entry: &Entry, wanted: &str) -> CallError {
    let message = format!("tool `{}` may only be called over the runtime `{wanted}`, where nobody offers it", entry.public);
    CallError::gateway(ErrorCode::Unavailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Pattern;

    fn metadata(runtime: RuntimeChoice, requires_p2p: bool) -> Metadata {
        Metadata { runtime, requires_p2p, ..Metadata::default() }
    }

    /// Where the choice leads first, all who may answer, and why.
    type Expected = Result<(&'static [usize], &'static [usize], Reason), &'static str>;

    fn chosen(
        name: &str,
        metadata: &Metadata,
        runtimes: &[&str],
        routing: &Routing,
    ) -> Result<(Vec<usize>, Vec<usize>, Reason), &'static str> {
        let route = choose(name, metadata, runtimes, routing)?;
        let Some(choice) = route.choice else { return Ok((vec![route.place], Vec::new(), route.reason)) };
        assert_eq!(route.place, choice.preferred[0]);
        Ok((choice.preferred.into(), choice.fallback.into(), route.reason))
    }

    #[test]
    fn each_reason_decides_where_the_ones_before_it_do_not() {
        use RuntimeChoice::{Auto, Http, Mcpp};
        let both = [HTTP, MCPP];
        let cases: [(&str, RuntimeChoice, bool, &[&str], Expected); 16] = [
            ("t", Http, false, &both, Ok((&[0], &[], Reason::Explicit))),
            ("t", Mcpp, false, &both, Ok((&[1], &[], Reason::Explicit))),
            ("t", Mcpp, false, &[MCPP, HTTP, MCPP], Ok((&[0, 2], &[], Reason::Explicit))),
            ("t", Mcpp, true, &both, Ok((&[1], &[], Reason::Explicit))),
            ("t", Http, true, &both, Err(MCPP)),
            ("t", Mcpp, false, &[HTTP], Err(MCPP)),
            ("t", Auto, true, &both, Ok((&[1], &[], Reason::RequiresP2p))),
            ("t", Auto, true, &[HTTP], Err(MCPP)),
            ("p2p_echo", Auto, false, &both, Ok((&[1], &[0], Reason::NamePattern))),
            ("my_workflow_run", Auto, false, &both, Ok((&[1], &[0], Reason::NamePattern))),
            ("p2p_echo", Auto, false, &[HTTP], Ok((&[0], &[], Reason::OnlyCandidate))),
            ("p2p_echo", Auto, false, &[HTTP, HTTP], Ok((&[0, 1], &[], Reason::Default))),
            ("t", Auto, false, &["other"], Ok((&[0], &[], Reason::OnlyCandidate))),
            ("t", Auto, false, &[MCPP, HTTP], Ok((&[1], &[0], Reason::Default))),
            ("t", Http, false, &[MCPP, STDIO], Ok((&[1], &[], Reason::Explicit))),
            ("t", Auto, false, &[MCPP, STDIO], Ok((&[1], &[0], Reason::Default))),
        ];
        for (name, runtime, requires_p2p, runtimes, expected) in cases {
            let found = chosen(name, &metadata(runtime, requires_p2p), runtimes, &Routing::default());

            let expected = expected.map(|(preferred, fallback, reason)| (preferred.to_vec(), fallback.to_vec(), reason));
            assert_eq!(found, expected, "{name} {runtime:?} requires_p2p: {requires_p2p} {runtimes:?}");
        }
    }

    #[test]
    fn names_of_peers_and_the_default_runtime_are_configured() {
        let routing = |default_runtime| Routing { peer_names: vec![Pattern::new("far_*").expect("a pattern")], default_runtime };
        let chosen = |name, default| chosen(name, &Metadata::default(), &[HTTP, MCPP], &routing(default)).expect("a route");

        assert_eq!(chosen("p2p_echo", RuntimeChoice::Http), (vec![0], vec![1], Reason::Default));
        assert_eq!(chosen("far_echo", RuntimeChoice::Http), (vec![1], vec![0], Reason::NamePattern));
        assert_eq!(chosen("echo", RuntimeChoice::Mcpp), (vec![1], vec![0], Reason::Default));
        assert_eq!(chosen("echo", RuntimeChoice::Auto), (vec![0, 1], vec![], Reason::Default));
    }
}
