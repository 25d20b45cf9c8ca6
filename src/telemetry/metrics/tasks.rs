//! The tasks that live on each of our executors.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};
use tokio::runtime::{Handle, RuntimeMetrics};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByExecutor {
    executor: String,
}

/// The executors of this process: each counts its tasks by itself, and is asked when somebody looks.
#[derive(Debug, Clone, Default)]
pub(super) struct Executors(Arc<Mutex<Vec<Executor>>>);

#[derive(Debug)]
struct Executor {
    name: Box<str>,
    counts: RuntimeMetrics,
}

impl Executors {
    pub(super) fn add(&self, name: &str, executor: &Handle) {
        self.0.lock().push(Executor { name: name.into(), counts: executor.metrics() });
    }
}

impl Collector for Executors {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut family = encoder.encode_descriptor("tasks", "Tasks that live, by executor", None, MetricType::Gauge)?;
        self.0.lock().iter().try_for_each(|Executor { name, counts }| {
            let labels = ByExecutor { executor: name.to_string() };
            let alive = i64::try_from(counts.num_alive_tasks()).unwrap_or(i64::MAX);
            ConstGauge::new(alive).encode(family.encode_family(&labels)?)
        })
    }
}
