//! `[telemetry]`: logs and traces.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::HttpUrl;

/// Logs and traces.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where spans are sent, as OTLP over gRPC: `http://127.0.0.1:4317`, or `https://…` to a collector that this
    /// machine's certificate authorities vouch for. Absent: nothing is traced.
    pub otlp: Option<HttpUrl>,
    /// Share of the calls without a trace of their own that are traced, 0 to 1. A caller's own decision is followed.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample_ratio: f64,
    /// The name of this gateway in traces.
    pub service_name: String,
    /// Form of the log lines.
    pub log: LogFormat,
    /// Which lines are written: `info`, `twinway=debug,info`. The variable `TWINWAY_LOG` overrides it.
    pub log_filter: String,
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For a terminal.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            otlp: None,
            // Whoever sets up a collector wants to see the first call there; busy gateways lower it.
            sample_ratio: 1.0,
            service_name: "twinway".to_owned(),
            log: LogFormat::Human,
            // Start, stop and state changes; calls one by one are `debug`.
            // The swarm says who it is at "info", and so do we, with more to it.
            log_filter: "info,libp2p_swarm=warn".to_owned(),
        }
    }
}

impl Config {
    /// Checks what the types cannot: the key that is wrong, and what is wrong with it.
    pub(crate) fn validate(&self) -> Result<(), (&'static str, String)> {
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return Err(("sample_ratio", format!("{} is not within 0 to 1", self.sample_ratio)));
        }
        match tracing_subscriber::EnvFilter::try_new(&self.log_filter) {
            Ok(_) => Ok(()),
            Err(error) => Err(("log_filter", format!("`{}` is not a log filter: {error}", self.log_filter))),
        }
    }
}
