//! `twinway health`: whether a running gateway wants requests.

use clap::Args;
use serde::Deserialize;

use super::{ClientError, Failure, Gateway, Output};

/// Ask a gateway whether it wants requests.
#[derive(Debug, Args)]
pub(super) struct Health {
    #[command(flatten)]
    gateway: Gateway,
}

/// `/health/ready`.
#[derive(Debug, Deserialize)]
struct Document {
    status: String,
}

impl Health {
    /// # Errors
    /// Also when the gateway answers that it is starting or draining, for whoever looks at the exit code alone.
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let (ready, raw) = self.gateway.client()?.readiness().await?;
        let Document { status } = serde_json::from_str(raw.get()).map_err(ClientError::NotMcp)?;
        if !ready {
            return Err(Failure::failed(format!("the gateway is {status}")));
        }
        Ok(output.raw_line(if output.is_json() { raw.get() } else { &status })?)
    }
}
