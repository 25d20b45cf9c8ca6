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
    limits: HashMap<String, TargetLimits>,
    metrics: Metrics,
    known: Arc<DashMap<(RuntimeId, TargetId), Arc<Guard>>>,
}

impl Guards {
    /// None yet; each is made with its configured limits when a route first leads to it.
    #[must_use]
    pub fn new(config: &Config, metrics: Metrics) -> Self {
        Self { limits: limits(config), metrics, known: Arc::default() }
    }

    /// Takes over new limits. A target whose limits changed, or that is gone, begins anew; calls in flight end under the old
    /// ones. All others keep their state.
    pub fn adopt(&mut self, config: &Config) {
        let old = std::mem::replace(&mut self.limits, limits(config));
        self.known.retain(|(_, target), _| {
            let limits = self.limits.get(target.as_str());
            limits.is_some() && limits == old.get(target.as_str())
        });
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

fn limits(config: &Config) -> HashMap<String, TargetLimits> {
    let upstreams = config.upstream.iter().map(|one| (one.name.to_string(), one.limits()));
    let peers = config.peer.iter().map(|one| (one.name.to_string(), one.limits()));
    upstreams.chain(peers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(of_b: u8) -> Config {
        let table = |name: &str, percent| {
            format!("[[upstream]]\nname = \"{name}\"\nurl = \"http://127.0.0.1:1\"\nretry_budget_percent = {percent}\n")
        };
        toml::from_str(&format!("{}{}", table("a", 20), table("b", of_b))).expect("a configuration")
    }

    #[test]
    fn only_a_target_whose_limits_changed_begins_anew() {
        let runtime = RuntimeId("http".into());
        let mut guards = Guards::new(&config(20), Metrics::new(None));
        let of = |guards: &Guards, name: &str| guards.of(&runtime, &TargetId::from(name));
        let (a, b) = (of(&guards, "a"), of(&guards, "b"));

        guards.adopt(&config(30));

        assert!(Arc::ptr_eq(&a, &of(&guards, "a")));
        assert!(!Arc::ptr_eq(&b, &of(&guards, "b")));
    }
}
