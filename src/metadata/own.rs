//! What a tool's definition says of the tool. A member that cannot be read is as good as absent: a definition of somebody
//! else must not stop the gateway.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use runtime_api::Priority;
use runtime_mcp::handshake::part;
use twinway_proto::json::{self, members};

use super::Wishes;
use crate::config::{Retry, RuntimeChoice};

/// The `_meta` member of a definition in which a tool describes itself.
const OWN_METADATA: &str = "twinway/metadata";

/// Reads `_meta["twinway/metadata"]`.
pub(super) fn metadata(definition: &Bytes) -> Wishes {
    let mut wishes = Wishes::default();
    let Some(own) = part(definition, "_meta").and_then(|meta| part(&meta, OWN_METADATA)) else { return wishes };
    for member in members(text(&own)).flatten() {
        let value = member.value;
        match &*member.key.text() {
            "runtime" => wishes.runtime = json::string(value).and_then(|text| runtime(&text)),
            "requires_p2p" => wishes.requires_p2p = boolean(value),
            "category" => wishes.category = string(value),
            "priority" => wishes.priority = value.parse().ok().and_then(Priority::new),
            "timeout" => wishes.timeout = duration(value),
            "retry" => wishes.retry = retry(value),
            "memory_intensive" => wishes.memory_intensive = boolean(value),
            "cpu_intensive" => wishes.cpu_intensive = boolean(value),
            "io_intensive" => wishes.io_intensive = boolean(value),
            "cache_ttl" => wishes.cache_ttl = duration(value),
            "deprecated" => wishes.deprecated = boolean(value),
            "deprecation_message" => wishes.deprecation_message = string(value),
            "schema_version" => wishes.schema_version = string(value),
            "read_only" => wishes.read_only = boolean(value),
            "idempotent" => wishes.idempotent = boolean(value),
            _ => {}
        }
    }
    wishes
}

/// Reads the annotations of MCP. A tool that says of itself that it destroys is not read-only, whatever else it says.
pub(super) fn annotations(definition: &Bytes) -> Wishes {
    let mut wishes = Wishes::default();
    let Some(annotations) = part(definition, "annotations") else { return wishes };
    let hint = |name| part(&annotations, name).and_then(|value| boolean(text(&value)));
    wishes.read_only = hint("readOnlyHint").filter(|_| hint("destructiveHint") != Some(true));
    wishes.idempotent = hint("idempotentHint");
    wishes
}

fn runtime(name: &str) -> Option<RuntimeChoice> {
    match name {
        "auto" => Some(RuntimeChoice::Auto),
        "http" | "fastapi" => Some(RuntimeChoice::Http),
        "mcpp" | "trio" => Some(RuntimeChoice::Mcpp),
        _ => None,
    }
}

fn retry(raw: &str) -> Option<Retry> {
    serde_json::from_str::<Retry>(raw).ok().filter(|retry| retry.check().is_ok())
}

fn duration(raw: &str) -> Option<Duration> {
    let duration = humantime::parse_duration(&json::string(raw)?).ok()?;
    (!duration.is_zero()).then_some(duration)
}

fn string(raw: &str) -> Option<Arc<str>> {
    json::string(raw).map(Arc::from)
}

fn boolean(raw: &str) -> Option<bool> {
    raw.parse().ok()
}

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
