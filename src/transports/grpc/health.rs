//! `grpc.health.v1.Health`: SERVING when requests should come here, NOT_SERVING before that and while draining.

use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic_health::{ServingStatus, pb::health_server::HealthServer, server::HealthReporter};

use super::peers::PeerServer;
use crate::readiness::Readiness;

/// What can be asked for: everything, under the empty name, and each service of ours.
const NAMES: [&str; 2] = ["", <PeerServer as NamedService>::NAME];

/// Tells the health service what to answer.
#[derive(Debug)]
pub(super) struct Health {
    reporter: HealthReporter,
    readiness: Readiness,
}

/// The service, and what tells it.
pub(super) fn new(readiness: Readiness) -> (Health, HealthServer<impl tonic_health::pb::health_server::Health>) {
    let (reporter, service) = tonic_health::server::health_reporter();
    (Health { reporter, readiness }, service)
}

impl Health {
    /// Follows the gateway until `stop`. Then it says NOT_SERVING and ends the streams of those who watch, who would
    /// otherwise hold the drain up for ever.
    pub(super) async fn follow(mut self, stop: &CancellationToken) {
        // Before anything is accepted: the reporter begins with SERVING.
        self.set(ServingStatus::NotServing).await;
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.readiness.until_ready() => self.set(ServingStatus::Serving).await,
        }
        stop.cancelled().await;
        self.set(ServingStatus::NotServing).await;
        for name in NAMES {
            self.reporter.clear_service_status(name).await;
        }
    }

    async fn set(&self, status: ServingStatus) {
        for name in NAMES {
            self.reporter.set_service_status(name, status).await;
        }
    }
}
