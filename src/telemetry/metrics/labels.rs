//! The labels of our metrics, and the counters that another part keeps.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
};
use runtime_mcpp::RefusalCounters;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByRoute {
    pub(super) runtime: String,
    pub(super) target: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByOutcome {
    pub(super) runtime: String,
    pub(super) target: String,
    pub(super) outcome: &'static str,
    pub(super) category: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByDelivery {
    pub(super) runtime: String,
    pub(super) target: String,
    pub(super) delivery: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByReason {
    pub(super) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByTool {
    pub(super) tool: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByChange {
    pub(super) change: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByFlaw {
    pub(super) outcome: &'static str,
    pub(super) flaw: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByResult {
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByTransport {
    pub(super) transport: &'static str,
}

/// What an MCP++ node turned away; it counts by itself and is asked when somebody looks.
#[derive(Debug)]
pub struct NodeRefusals(pub Arc<RefusalCounters>);

impl Collector for NodeRefusals {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut family =
            encoder.encode_descriptor("p2p_refused", "What the node turned away, by reason", None, MetricType::Counter)?;
        self.0.iter().try_for_each(|(refusal, count)| {
            let labels = ByReason { reason: refusal.as_str() };
            ConstCounter::new(count).encode(family.encode_family(&labels)?)
        })
    }
}
