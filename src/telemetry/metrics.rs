//! Metrics in the OpenMetrics text format, for Prometheus.
//!
//! A label look-up costs more than the measurement itself, so whatever counts calls is a handle that is resolved once,
//! when a route is built. Labels take values from the configuration and from our own tables only, so their number is bounded.

mod bounded;
mod cache;
mod labels;
mod route;
mod seat;
mod tasks;

use std::sync::Arc;

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

use bounded::Bounded;
pub use cache::CacheMetrics;
use labels::{ByChange, ByDelivery, ByFlaw, ByOutcome, ByReason, ByResult, ByRoute, ByTool, ByTransport};
pub use route::{BreakerMetrics, InFlight, Outcome, RouteMetrics};
use seat::{Seat, Seats};
use tasks::Executors;
use tokio::runtime::Handle;

/// Upper bounds of the buckets in seconds, 50 us to 60 s: the gateway itself costs tens of microseconds, a tool up to a minute.
const BUCKETS_SECONDS: [f64; 19] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_35, 0.000_5, 0.001, 0.002, 0.003_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
    30.0, 60.0,
];

/// Categories that are told apart: each has histograms of its own for each target that has tools of it.
const CATEGORIES_MAX: usize = 64;

/// Deprecated tools that are told apart: one counter each.
const DEPRECATED_MAX: usize = 256;

type Histograms = Family<ByOutcome, Histogram, fn() -> Histogram>;

/// Every metric of the gateway. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    families: Families,
    executors: Executors,
}

#[derive(Debug, Clone)]
struct Families {
    durations: Histograms,
    in_flight: Family<ByRoute, Gauge>,
    failures: Family<ByDelivery, Counter>,
    route_decisions: Family<ByReason, Counter>,
    shed: Family<ByReason, Counter>,
    requests_refused: Family<ByReason, Counter>,
    sessions_refused: Family<ByReason, Counter>,
    retries: Family<ByRoute, Counter>,
    fallbacks: Family<ByRoute, Counter>,
    reloads: Family<ByResult, Counter>,
    breaker_state: Family<ByRoute, Gauge>,
    breaker_opened: Family<ByRoute, Counter>,
    breaker_refused: Family<ByRoute, Counter>,
    sessions: Gauge,
    listening: Gauge,
    parked: Gauge,
    replay: ReplayMetrics,
    peers_connected: Family<ByTransport, Gauge>,
    tools: Gauge,
    cache: CacheMetrics,
    catalogue_changes: Family<ByChange, Counter>,
    definition_changes: Family<ByRoute, Counter>,
    unsound_tools: Family<ByFlaw, Gauge>,
    quarantined_tools: Gauge,
    deprecated_calls: Family<ByTool, Counter>,
    categories: Bounded,
    deprecated_tools: Bounded,
    seats: Seats,
}

/// Of clients of a session that come back for an event stream.
#[derive(Debug, Clone, Default)]
pub struct ReplayMetrics {
    /// Bytes kept for them.
    pub bytes: Gauge,
    /// Streams that were closed so that their client comes back.
    pub sent_away: Counter,
}

impl Metrics {
    /// The metrics of one gateway, with what the MCP++ node turns away if there is one.
    #[must_use]
    pub fn new(node: Option<NodeRefusals>) -> Self {
        let families = Families::new();
        let mut registry = Registry::with_prefix("twinway");
        families.register(&mut registry);
        if let Some(node) = node {
            registry.register_collector(Box::new(node));
        }
        let executors = Executors::default();
        registry.register_collector(Box::new(executors.clone()));
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", build);
        Self { registry: Arc::new(registry), families, executors }
    }

    /// The handles of one runtime's one target, for tools of one category. Resolve them when the route is built. When nobody
    /// holds any of a target, its numbers are forgotten: a gateway whose targets come and go does not grow.
    #[must_use]
    pub fn route(&self, runtime: &str, target: &str, category: &str) -> Arc<RouteMetrics> {
        let labels = ByRoute { runtime: runtime.to_owned(), target: target.to_owned() };
        let seat = Seat::of(&self.families, labels);
        Arc::new(RouteMetrics::new(&self.families, seat, &self.category(category)))
    }

    /// A category as the labels have it: itself, or `other` when there are too many.
    #[must_use]
    pub fn category(&self, category: &str) -> Arc<str> {
        self.families.categories.value(category)
    }

    /// Counts calls of a deprecated tool; keep the handle.
    #[must_use]
    pub fn deprecated_calls(&self, tool: &str) -> Counter {
        let tool = self.families.deprecated_tools.value(tool).to_string();
        self.families.deprecated_calls.get_or_create_owned(&ByTool { tool })
    }

    /// Counts tools that came, went, or changed.
    pub fn catalogue_changed(&self, added: usize, removed: usize, changed: usize) {
        for (change, count) in [("added", added), ("removed", removed), ("changed", changed)] {
            self.families.catalogue_changes.get_or_create(&ByChange { change }).inc_by(count as u64);
        }
    }

    /// Counts one definition of a tool that means something else than before.
    pub fn definition_changed(&self, runtime: &str, target: &str) {
        let labels = ByRoute { runtime: runtime.to_owned(), target: target.to_owned() };
        self.families.definition_changes.get_or_create(&labels).inc();
    }

    /// Tools whose definition has this flaw: they are not offered, or repaired.
    pub fn set_unsound_tools(&self, flaw: &'static str, dropped: bool, tools: usize) {
        let outcome = if dropped { "dropped" } else { "repaired" };
        let gauge = self.families.unsound_tools.get_or_create_owned(&ByFlaw { outcome, flaw });
        gauge.set(i64::try_from(tools).unwrap_or(i64::MAX));
    }

    /// Tools that are not offered until somebody accepts their definition.
    #[must_use]
    pub fn quarantined_tools(&self) -> &Gauge {
        &self.families.quarantined_tools
    }

    /// The handles of the breaker of one target, which begins closed.
    #[must_use]
    pub fn breaker(&self, runtime: &str, target: &str) -> BreakerMetrics {
        let labels = ByRoute { runtime: runtime.to_owned(), target: target.to_owned() };
        BreakerMetrics::new(&self.families, Seat::of(&self.families, labels))
    }

    /// Counts routes chosen for this reason; keep the handle.
    #[must_use]
    pub fn route_decisions(&self, reason: &'static str) -> Counter {
        self.families.route_decisions.get_or_create_owned(&ByReason { reason })
    }

    /// Counts calls that were not admitted for this reason, `queue_full` for example; keep the handle.
    #[must_use]
    pub fn shed(&self, reason: &'static str) -> Counter {
        self.families.shed.get_or_create_owned(&ByReason { reason })
    }

    /// Counts one request that was turned away at the entrance: `body_too_large`, `bad_host`, `unauthenticated`…
    pub fn request_refused(&self, reason: &'static str) {
        self.families.requests_refused.get_or_create(&ByReason { reason }).inc();
    }

    /// Counts one session that was not opened, or a handle that was not accepted.
    pub fn session_refused(&self, reason: &'static str) {
        self.families.sessions_refused.get_or_create(&ByReason { reason }).inc();
    }

    /// Counts one time that the configuration was read anew: `applied`, `unchanged`, `refused`.
    pub fn reloaded(&self, outcome: &'static str) {
        self.families.reloads.get_or_create(&ByResult { outcome }).inc();
    }

    /// Calls that wait for input of a modern client.
    #[must_use]
    pub fn parked(&self) -> &Gauge {
        &self.families.parked
    }

    /// Clients that come back for a stream.
    #[must_use]
    pub fn replay(&self) -> &ReplayMetrics {
        &self.families.replay
    }

    /// Clients that listen for changes.
    #[must_use]
    pub fn listening(&self) -> &Gauge {
        &self.families.listening
    }

    /// Legacy sessions that are open.
    #[must_use]
    pub fn sessions(&self) -> &Gauge {
        &self.families.sessions
    }

    /// Counts the tasks that live on this executor from now on.
    pub fn count_tasks(&self, name: &str, executor: &Handle) {
        self.executors.add(name, executor);
    }

    /// Peers that a connection over this transport is open to.
    pub fn set_peers_connected(&self, transport: &'static str, peers: usize) {
        let gauge = self.families.peers_connected.get_or_create_owned(&ByTransport { transport });
        gauge.set(i64::try_from(peers).unwrap_or(i64::MAX));
    }

    /// Tools in the merged catalogue.
    #[must_use]
    pub fn tools(&self) -> &Gauge {
        &self.families.tools
    }

    /// What the cache of results counts.
    #[must_use]
    pub fn cache(&self) -> CacheMetrics {
        self.families.cache.clone()
    }

    /// Everything, as `GET /metrics` answers it (`application/openmetrics-text; version=1.0.0; charset=utf-8`).
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

impl Families {
    fn new() -> Self {
        Self {
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS_SECONDS)),
            in_flight: Family::default(),
            failures: Family::default(),
            route_decisions: Family::default(),
            shed: Family::default(),
            requests_refused: Family::default(),
            sessions_refused: Family::default(),
            retries: Family::default(),
            fallbacks: Family::default(),
            reloads: Family::default(),
            breaker_state: Family::default(),
            breaker_opened: Family::default(),
            breaker_refused: Family::default(),
            sessions: Gauge::default(),
            listening: Gauge::default(),
            parked: Gauge::default(),
            replay: ReplayMetrics::default(),
            peers_connected: Family::default(),
            tools: Gauge::default(),
            cache: CacheMetrics::default(),
            catalogue_changes: Family::default(),
            definition_changes: Family::default(),
            unsound_tools: Family::default(),
            quarantined_tools: Gauge::default(),
            deprecated_calls: Family::default(),
            categories: Bounded::new(CATEGORIES_MAX),
            deprecated_tools: Bounded::new(DEPRECATED_MAX),
            seats: Seats::default(),
        }
    }

    /// Gives each its public name. `_total` and `_count` are added by the format.
    fn register(&self, registry: &mut Registry) {
        let all = self.clone();
        registry.register(
            "call_duration_seconds",
            "Calls by runtime, target and outcome; the count is the number of calls",
            all.durations,
        );
        registry.register("calls_in_flight", "Calls that wait for an answer of their target", all.in_flight);
        registry.register("call_failures", "Calls without a reply, by whether the tool may have run", all.failures);
        registry.register("route_decisions", "Routes chosen, by reason", all.route_decisions);
        registry.register("calls_shed", "Calls not admitted, by reason", all.shed);
        registry.register("requests_refused", "Requests turned away at the entrance, by reason", all.requests_refused);
        registry.register("sessions_refused", "Sessions not opened or not accepted, by reason", all.sessions_refused);
        registry.register("call_retries", "Calls made once more on the same target", all.retries);
        registry.register("call_fallbacks", "Calls made once more on another target", all.fallbacks);
        registry.register("reloads", "Times that the configuration was read anew, by outcome", all.reloads);
        registry.register("breaker_state", "Breaker of each target: 0 closed, 1 probing, 2 open", all.breaker_state);
        registry.register(
            "breaker_opened",
            "Times that a target was left alone because it could not be reached",
            all.breaker_opened,
        );
        registry.register("breaker_refused", "Calls not sent because their target is left alone", all.breaker_refused);
        registry.register("sessions", "Legacy sessions that are open", all.sessions);
        registry.register("parked_calls", "Calls that wait for input of a modern client", all.parked);
        registry.register("replay_bytes", "Bytes kept for clients that come back for a lost stream", all.replay.bytes);
        registry.register(
            "streams_sent_away",
            "Streams closed so that their client comes back for the rest",
            all.replay.sent_away,
        );
        registry.register("listening", "Streams on which clients are told of changes", all.listening);
        registry.register("peers_connected", "Configured peers that are connected and answer, by transport", all.peers_connected);
        all.cache.register(registry);
        let changes = "Tools that the merged catalogue gained, lost, or has in another form than before";
        registry.register("catalogue_changes", changes, all.catalogue_changes);
        let redefined = "Definitions of tools that mean something else than before, by target";
        registry.register("definition_changes", redefined, all.definition_changes);
        let unsound = "Tools whose definition would break clients, by what is wrong with it: repaired, or dropped";
        registry.register("unsound_tools", unsound, all.unsound_tools);
        let quarantined = "Tools that are not offered until somebody accepts their definition";
        registry.register("quarantined_tools", quarantined, all.quarantined_tools);
        registry.register("deprecated_calls", "Calls of tools that clients are told to stop using", all.deprecated_calls);
        registry.register("catalogue_tools", "Tools in the merged catalogue", all.tools);
    }
}

pub use labels::NodeRefusals;

#[cfg(test)]
mod tests;
