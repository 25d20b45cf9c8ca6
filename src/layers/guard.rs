//! What the layers keep for each target: its breaker, the places of its classes, its budget of retries.

use std::{collections::HashMap, sync::Arc};

use dashmap::DashMap;
use runtime_api::{RuntimeId, TargetId};

use super::{Bounds, Breaker, Budget, Door};
use crate::{
    config::{Config, TargetLimits},
    metadata::Metadata,
    telemetry::Metrics,
};

/// Calls that wait for each place of a class. At two seconds a call, whoever stands further back waits for longer than the
/// thirty seconds that a call has.
const QUEUE_PER_PLACE: usize = 16;

/// The state of one target. It outlives every catalogue: a target is no healthier because its list of tools changed.
#[derive(Debug)]
pub struct Guard {
    /// Leaves the target alone when it cannot be reached; absent when that is off.
    pub breaker: Option<Arc<Breaker>>,
    /// How many retries the target can bear.
    pub budget: Budget,
    memory_intensive: Arc<Door>,
    cpu_intensive: Arc<Door>,
    io_intensive: Arc<Door>,
}

impl Guard {
    fn new(runtime: &RuntimeId, target: &TargetId, limits: &TargetLimits, metrics: &Metrics) -> Self {
        let door = |class: &str, places: usize| {
            let bounds = Bounds { in_flight_max: places, queue_max: places.saturating_mul(QUEUE_PER_PLACE) };
            Door::new(&format!("the class `{class}` of `{target}`"), bounds, metrics)
        };
        let breaker = (limits.breaker.failures > 0)
            .then(|| Arc::new(Breaker::new(target.clone(), &limits.breaker, metrics.breaker(runtime.as_str(), target.as_str()))));
        Self {
            breaker,
            budget: Budget::new(limits.retry_budget_percent),
            memory_intensive: door("memory_intensive", limits.memory_intensive.get()),
            cpu_intensive: door("cpu_intensive", limits.cpu_intensive.get()),
            io_intensive: door("io_intensive", limits.io_intensive.get()),
        }
    }

    /// The doors that calls of such a tool have to pass, always in the same order, so that two calls that need the same two
    /// never wait for each other. `None` for a tool of no class.
    #[must_use]
    pub fn doors(&self, metadata: &Metadata) -> Option<Box<[Arc<Door>]>> {
        let classes = [
            (metadata.memory_intensive, &self.memory_intensive),
            (metadata.cpu_intensive, &self.cpu_intensive),
            (metadata.io_intensive, &self.io_intensive),
        ];
        let doors: Box<[_]> = classes.into_iter().filter(|(is_of, _)| *is_of).map(|(_, door)| Arc::clone(door)).collect();
        (!doors.is_empty()).then_some(doors)
    }
}

/// The states of all targets. Cheap to clone; all clones share them.
#[derive(Debug, Clone)]
pub struct Guards {
    limits: Arc<HashMap<String, TargetLimits>>,
    metrics: Metrics,
    known: Arc<DashMap<(RuntimeId, TargetId), Arc<Guard>>>,
}

impl Guards {
    /// None yet; each is made with its configured limits when a route first leads to it.
    #[must_use]
    pub fn new(config: &Config, metrics: Metrics) -> Self {
        let upstreams = config.upstream.iter().map(|one| (one.name.to_string(), one.limits()));
        let peers = config.peer.iter().map(|one| (one.name.to_string(), one.limits()));
        Self { limits: Arc::new(upstreams.chain(peers).collect()), metrics, known: Arc::default() }
    }

    /// The state of this target. Ask once, when a route is built, and keep it.
    #[must_use]
    pub fn of(&self, runtime: &RuntimeId, target: &TargetId) -> Arc<Guard> {
        let new = || {
            let limits = self.limits.get(target.as_str()).cloned().unwrap_or_default();
            Arc::new(Guard::new(runtime, target, &limits, &self.metrics))
        };
        self.known.entry((runtime.clone(), target.clone())).or_insert_with(new).clone()
    }
}
