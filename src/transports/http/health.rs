//! `/health`, `/health/ready`, `/health/runtime`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::mcp::Server;

/// Each runtime and its targets.
pub(super) fn runtimes(server: &Server) -> Value {
    let snapshot = server.catalog().load();
    let mut runtimes: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (runtime, target) in snapshot.targets() {
        runtimes.entry(runtime.as_str()).or_default().push(json!({
            "target": target.target.as_str(),
            "state": target.state.as_str(),
            "reason": target.state.reason(),
            "transport": target.transport,
            "tools": target.items.tools.len(),
            "eras": { "modern": format!("{:?}", target.eras.modern).to_lowercase(), "legacy": format!("{:?}", target.eras.legacy).to_lowercase() },
        }));
    }
    let refused = snapshot.refused.iter().map(
        |refused| json!({ "tool": &*refused.public, "target": refused.target.as_str(), "held_by": refused.holder.as_str() }),
    );
    json!({ "runtimes": runtimes, "refused": refused.collect::<Vec<_>>(), "configuration": server.configuration().last() })
}
