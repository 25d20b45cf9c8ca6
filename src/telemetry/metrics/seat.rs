//! The numbers of one target for as long as somebody may add to them.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use runtime_api::Delivery;

use super::{ByDelivery, ByOutcome, ByRoute, Families, Histograms};

/// The targets that somebody holds handles of.
pub(super) type Seats = Arc<Mutex<HashMap<ByRoute, Weak<Seat>>>>;

/// Held by every handle of one target. The last one takes the target's samples with it.
#[derive(Debug)]
pub(super) struct Seat {
    labels: ByRoute,
    seats: Seats,
    histograms: Mutex<HashSet<ByOutcome>>,
    durations: Histograms,
    failures: Family<ByDelivery, Counter>,
    counters: [Family<ByRoute, Counter>; 5],
    gauges: [Family<ByRoute, Gauge>; 2],
}

impl Seat {
    /// The one seat of a target.
    pub(super) fn of(families: &Families, labels: ByRoute) -> Arc<Self> {
        let mut seats = families.seats.lock();
        if let Some(seat) = seats.get(&labels).and_then(Weak::upgrade) {
            return seat;
        }
        let seat = Arc::new(Self {
            labels: labels.clone(),
            seats: Arc::clone(&families.seats),
            histograms: Mutex::default(),
            durations: families.durations.clone(),
            failures: families.failures.clone(),
            counters: [
                &families.retries,
                &families.fallbacks,
                &families.breaker_opened,
                &families.breaker_refused,
                &families.definition_changes,
            ]
            .map(Clone::clone),
            gauges: [&families.in_flight, &families.breaker_state].map(Clone::clone),
        });
        seats.insert(labels, Arc::downgrade(&seat));
        seat
    }

    pub(super) const fn labels(&self) -> &ByRoute {
        &self.labels
    }

    /// Remembers a histogram that was made, to take it away again.
    pub(super) fn note(&self, labels: ByOutcome) {
        self.histograms.lock().insert(labels);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.seats.lock();
        // The target may have come back meanwhile: then these are its samples too.
        if seats.get(&self.labels).is_some_and(|seat| seat.strong_count() > 0) {
            return;
        }
        seats.remove(&self.labels);
        let ByRoute { runtime, target } = &self.labels;
        for labels in self.histograms.get_mut().iter() {
            self.durations.remove(labels);
        }
        for delivery in [Delivery::NotSent, Delivery::Answered, Delivery::Unknown].map(Delivery::as_str) {
            self.failures.remove(&ByDelivery { runtime: runtime.clone(), target: target.clone(), delivery });
        }
        for counter in &self.counters {
            counter.remove(&self.labels);
        }
        for gauge in &self.gauges {
            gauge.remove(&self.labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;

    #[test]
    fn the_numbers_of_a_target_go_with_the_last_who_holds_it() {
        let metrics = Metrics::new(None);
        let (calls, breaker) = (metrics.route("http", "up", "general"), metrics.breaker("http", "up"));
        breaker.opened.inc();

        drop(breaker);
        assert!(metrics.render().contains(r#"twinway_breaker_opened_total{runtime="http",target="up"} 1"#));
        drop(calls);
        assert!(!metrics.render().contains(r#"target="up""#), "{}", metrics.render());

        let _again = metrics.breaker("http", "up");
        assert!(metrics.render().contains(r#"twinway_breaker_opened_total{runtime="http",target="up"} 0"#));
    }
}
