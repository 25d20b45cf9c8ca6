//! The load generator's process, as its parent sees it.

use anyhow::bail;
use tokio::time::Duration;
use twinway::measure::Outcome;

use crate::cluster::{Setup, start_role};
use crate::load::{Order, Report};
use crate::process::{Party, Usage};

/// Beyond the time of the round itself; the load generator's own limit is shorter.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// A running load generator. What it cannot measure at all comes back as the reason.
pub(crate) struct Generator(Party);

impl Generator {
    pub(crate) fn start(setup: &Setup<'_>) -> anyhow::Result<Self> {
        Ok(Self(start_role("load", &[], setup)?))
    }

    /// Opens connections and makes the calls that nobody times.
    pub(crate) async fn warm_up(&mut self, order: &Order) -> anyhow::Result<Result<(), String>> {
        self.0.tell(order).await?;
        match self.0.hear(limit(order)).await? {
            Report::Warm => Ok(Ok(())),
            Report::Failed(reason) => Ok(Err(reason)),
            Report::Done(_) => bail!("the load generator ended a round that was not started"),
        }
    }

    /// Makes the calls of an order that was warmed up.
    pub(crate) async fn measure(&mut self, order: &Order) -> anyhow::Result<Result<Outcome, String>> {
        self.0.tell(&"go").await?;
        match self.0.hear(limit(order)).await? {
            Report::Done(outcome) => Ok(Ok(outcome)),
            Report::Failed(reason) => Ok(Err(reason)),
            Report::Warm => bail!("the load generator warmed up twice"),
        }
    }

    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        self.0.usage()
    }
}

fn limit(order: &Order) -> Duration {
    ANSWER_WITHIN + Duration::from_secs_f64(order.seconds + order.warm_up_seconds)
}
