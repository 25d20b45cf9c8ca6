//! Logs, traces and metrics.
//!
//! Whether a call is traced is decided once, at the entrance, before a span exists: a span that nobody wants costs
//! nearly as much as one that is exported. What is decided travels with the call as its [`runtime_api::TraceContext`].

mod config;
mod export;
pub mod field;
pub(crate) mod headers;
pub mod latency;
mod log;
pub mod metrics;
mod sampler;
pub mod span;

use std::time::Duration;

use thiserror::Error;
use tracing::{Subscriber, warn};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, registry::LookupSpan, util::SubscriberInitExt};

pub use config::{Config, LogFormat};
pub use metrics::{Metrics, RouteMetrics};
pub use sampler::{Decision, Sampler};

/// Overrides `log_filter`, in the syntax of `tracing_subscriber::EnvFilter`.
const FILTER_VARIABLE: &str = "TWINWAY_LOG";

/// Telemetry could not be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The filter of logs is not one.
    #[error("`{0}` is not a log filter")]
    Filter(String, #[source] tracing_subscriber::filter::ParseError),
    /// The exporter of spans could not be made.
    #[error("the exporter of spans cannot be made")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
    /// Somebody else in the process has set up logging already.
    #[error("logging is set up already")]
    AlreadyInstalled(#[source] tracing_subscriber::util::TryInitError),
}

/// Keeps the exporter. Call [`Guard::shutdown`] last.
#[derive(Debug)]
#[must_use = "spans are lost unless the guard is shut down"]
pub struct Guard {
    exporter: Option<export::Exporter>,
}

/// Starts logs, and the export of spans if an address for them is configured. Call it once, on the multi_thread runtime.
///
/// # Errors
/// [`TelemetryError`]; a collector that does not answer is not one.
pub fn init(config: &Config) -> Result<Guard, TelemetryError> {
    let exporter = config.otlp.as_ref().map(|otlp| export::Exporter::new(otlp, &config.service_name)).transpose()?;
    let spans = exporter.as_ref().map(export::Exporter::layer);
    let logs = log::layer(config.log).with_filter(filter(&config.log_filter)?);
    // The filter is on the logs alone: a quiet log must not cut traces short.
    let registry = tracing_subscriber::registry().with(spans).with(logs);
    registry.try_init().map_err(TelemetryError::AlreadyInstalled)?;
    Ok(Guard { exporter })
}

impl Guard {
    /// Sends the spans that are still waiting, for at most `within`.
    pub async fn shutdown(self, within: Duration) {
        let Some(exporter) = self.exporter else { return };
        if let Err(error) = exporter.shutdown(within).await {
            warn!(error = %error, "spans were lost at shutdown");
        }
    }
}

fn filter(configured: &str) -> Result<EnvFilter, TelemetryError> {
    let text = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| configured.to_owned());
    let filter = EnvFilter::try_new(&text).map_err(|error| TelemetryError::Filter(text, error))?;
    // Our spans are not printed, but a line that is printed shall know its trace, however quiet the log is.
    let spans = format!("{}=info", span::TARGET).parse().expect("a target and a level make a directive");
    Ok(filter.add_directive(spans))
}

/// What our layers ask of what they are laid upon.
trait Registry: Subscriber + for<'span> LookupSpan<'span> {}
impl<S: Subscriber + for<'span> LookupSpan<'span>> Registry for S {}
