//! How the last change of the configuration went, for whoever looks after the gateway.

use std::{sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use serde::Serialize;
use serde_json::{Value, json};

/// How the last change of the configuration went. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Status(Arc<ArcSwap<Last>>);

#[derive(Debug, Default)]
struct Last {
    report: Option<Report>,
    /// When one was last taken over in whole or in part.
    applied_at: Option<SystemTime>,
}

#[derive(Debug)]
struct Report {
    at: SystemTime,
    trigger: Trigger,
    outcome: Outcome,
}

/// What made the gateway read its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Trigger {
    /// The gateway has just begun to watch.
    Start,
    Signal,
    File,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub(super) enum Outcome {
    Applied { changes: usize, needs_restart: Vec<String> },
    Unchanged { needs_restart: Vec<String> },
    Refused { error: String },
}

impl Outcome {
    /// The label of the counter.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Applied { .. } => "applied",
            Self::Unchanged { .. } => "unchanged",
            Self::Refused { .. } => "refused",
        }
    }
}

impl Status {
    pub(super) fn set(&self, trigger: Trigger, outcome: Outcome) {
        let at = SystemTime::now();
        let applied_at = if matches!(outcome, Outcome::Applied { .. }) { Some(at) } else { self.0.load().applied_at };
        self.0.store(Arc::new(Last { report: Some(Report { at, trigger, outcome }), applied_at }));
    }

    /// As `/health/runtime` shows it: null when it was read only once. Secrets are not in it.
    #[must_use]
    pub fn last(&self) -> Value {
        let last = self.0.load();
        let Some(Report { at, trigger, outcome }) = &last.report else { return Value::Null };
        let time = |at: SystemTime| humantime::format_rfc3339_seconds(at).to_string();
        let mut document = json!({ "read_at": time(*at), "trigger": trigger, "applied_at": last.applied_at.map(time) });
        if let (Value::Object(document), Ok(Value::Object(outcome))) = (&mut document, serde_json::to_value(outcome)) {
            document.extend(outcome);
        }
        document
    }
}
