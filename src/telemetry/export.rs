//! Sends spans to a collector over OTLP.

use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig, tonic_types::transport::ClientTlsConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkError,
    trace::{BatchSpanProcessor, Sampler, SdkTracerProvider},
};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, filter::FilterFn};

use super::{Registry, TelemetryError, span};
use crate::config::HttpUrl;

/// The pipeline of spans: a bounded queue, and a thread of the SDK that empties it in batches.
///
/// The queue holds the SDK's default of 2,048 spans; more are dropped, because a slow collector must not slow calls down.
#[derive(Debug)]
pub(super) struct Exporter {
    provider: SdkTracerProvider,
}

impl Exporter {
    pub(super) fn new(otlp: &HttpUrl, service_name: &str) -> Result<Self, TelemetryError> {
        let mut exporter = SpanExporter::builder().with_tonic().with_endpoint(otlp.as_url().as_str());
        if otlp.as_url().scheme() == "https" {
            exporter = exporter.with_tls_config(ClientTlsConfig::new().with_native_roots());
        }
        let processor = BatchSpanProcessor::builder(exporter.build().map_err(TelemetryError::Exporter)?).build();
        let provider = SdkTracerProvider::builder()
            // Whether to trace was decided before the span was made.
            .with_sampler(Sampler::AlwaysOn)
            .with_span_processor(processor)
            .with_resource(Resource::builder().with_service_name(service_name.to_owned()).build())
            .build();
        Ok(Self { provider })
    }

    pub(super) fn layer<S: Registry + Send + Sync>(&self) -> impl Layer<S> + use<S> {
        layer_of(&self.provider)
    }

    /// Sends what is waiting. Blocking work, so it runs on a thread for that.
    pub(super) async fn shutdown(self, within: Duration) -> Result<(), OTelSdkError> {
        let flush = move || self.provider.shutdown_with_timeout(within);
        let flushed = tokio::task::spawn_blocking(flush).await;
        flushed.unwrap_or_else(|error| Err(OTelSdkError::InternalFailure(error.to_string())))
    }
}

/// Turns our spans, and no others, into spans of this provider.
pub(super) fn layer_of<S: Registry + Send + Sync>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S> {
    let ours = FilterFn::new(|metadata| metadata.is_span() && metadata.target() == span::TARGET);
    tracing_opentelemetry::layer()
        // Each of these costs on every span, and nobody reads them.
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_level(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false)
        .with_tracer(provider.tracer("twinway"))
        // The hint keeps debug lines of libraries as cheap as without this layer.
        .with_filter(ours.with_max_level_hint(LevelFilter::INFO))
}

#[cfg(test)]
mod tests;
