//! How much one peer may ask of this node. Published defaults; full means that reading stops.

use std::{
    num::{NonZeroU32, NonZeroU64},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{refusals::Refusal, text};

/// Limits for each peer. The defaults are those of the MCP++ reference peers, so that two defaults fit together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Quotas {
    /// Streams open at once.
    pub streams_max: NonZeroU32,
    /// Calls in flight at once, over all streams.
    pub calls_in_flight_max: NonZeroU32,
    /// Bytes of frames read in one second.
    pub bytes_per_second: NonZeroU64,
    /// Streams opened in one second, on average.
    pub opens_per_second: NonZeroU32,
    /// Streams opened at once after a rest.
    pub opens_burst: NonZeroU32,
    /// A stream without a call for so long is closed.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub stream_idle: Duration,
    /// A call takes so long at most.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub request_timeout: Duration,
}

impl Default for Quotas {
    /// MCP++ transport, section 9: the values of the reference peers.
    fn default() -> Self {
        const fn nonzero(value: u32) -> NonZeroU32 {
            NonZeroU32::new(value).expect("not zero")
        }
        Self {
            streams_max: nonzero(32),
            calls_in_flight_max: nonzero(64),
            bytes_per_second: NonZeroU64::new(16 << 20).expect("not zero"),
            opens_per_second: nonzero(50),
            opens_burst: nonzero(100),
            stream_idle: Duration::from_secs(60),
            request_timeout: Duration::from_secs(30),
        }
    }
}

/// What one peer has used up, shared by all its connections and streams.
#[derive(Debug)]
pub struct PeerQuota {
    streams: Arc<Semaphore>,
    calls: Arc<Semaphore>,
    opens: Mutex<TokenBucket>,
    bytes: Mutex<TokenBucket>,
}

/// A stream's place in its peer's quota, given back when dropped.
#[derive(Debug)]
pub struct StreamPermit {
    _place: OwnedSemaphorePermit,
}

/// A call's place in its peer's quota, given back when dropped.
#[derive(Debug)]
pub struct CallPermit {
    _place: OwnedSemaphorePermit,
}

impl PeerQuota {
    pub(crate) fn new(quotas: &Quotas, now: Instant) -> Self {
        let opens = TokenBucket::new(quotas.opens_per_second.get().into(), quotas.opens_burst.get().into(), now);
        let bytes_per_second = quotas.bytes_per_second.get() as f64;
        Self {
            streams: Arc::new(Semaphore::new(quotas.streams_max.get() as usize)),
            calls: Arc::new(Semaphore::new(quotas.calls_in_flight_max.get() as usize)),
            opens: Mutex::new(opens),
            // One second's worth at once: a frame of the largest size fits the default exactly.
            bytes: Mutex::new(TokenBucket::new(bytes_per_second, bytes_per_second, now)),
        }
    }

    /// Admits a stream, or says why not.
    ///
    /// # Errors
    /// [`Refusal::OpenRate`], [`Refusal::StreamQuota`]
    pub fn admit_stream(&self) -> Result<StreamPermit, Refusal> {
        if !self.opens.lock().take(1.0, Instant::now()) {
            return Err(Refusal::OpenRate);
        }
        let place = Arc::clone(&self.streams).try_acquire_owned().map_err(|_| Refusal::StreamQuota)?;
        Ok(StreamPermit { _place: place })
    }

    /// Waits until the peer may have another call: whoever reads its stream waits here and thereby stops reading. Cancel-safe.
    pub async fn admit_call(&self) -> CallPermit {
        let place = Arc::clone(&self.calls).acquire_owned().await.expect("the semaphore is never closed");
        CallPermit { _place: place }
    }

    /// Accounts for a frame that was read, and waits until the next may be read.
    ///
    /// The frame is accounted for even when the future is dropped.
    pub async fn admit_bytes(&self, count: usize) {
        let wait = self.bytes.lock().borrow(count as f64, Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Whether nothing is in use, so that forgetting it gives nothing away but a rested bucket.
    pub(crate) fn is_idle(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) == 1
    }
}

/// Tokens that come back with time, on tokio's clock.
#[derive(Debug)]
struct TokenBucket {
    tokens: f64,
    per_second: f64,
    burst: f64,
    counted_at: Instant,
}

impl TokenBucket {
    fn new(per_second: f64, burst: f64, now: Instant) -> Self {
        Self { tokens: burst, per_second, burst, counted_at: now }
    }

    /// Takes tokens if there are so many.
    fn take(&mut self, count: f64, now: Instant) -> bool {
        self.refill(now);
        let enough = self.tokens >= count;
        if enough {
            self.tokens -= count;
        }
        enough
    }

    /// Takes tokens that may not be there yet; returns the time until the debt is paid.
    fn borrow(&mut self, count: f64, now: Instant) -> Duration {
        self.refill(now);
        self.tokens -= count;
        Duration::from_secs_f64((-self.tokens / self.per_second).max(0.0))
    }

    fn refill(&mut self, now: Instant) {
        let rested = now.saturating_duration_since(self.counted_at).as_secs_f64();
        self.tokens = (self.tokens + rested * self.per_second).min(self.burst);
        self.counted_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(edit: impl FnOnce(&mut Quotas)) -> PeerQuota {
        let mut quotas = Quotas::default();
        edit(&mut quotas);
        PeerQuota::new(&quotas, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn one_stream_above_the_quota_is_refused_until_another_closes() {
        let quota = quota(|_| {});
        let mut held: Vec<_> = (0..32).map(|_| quota.admit_stream().unwrap()).collect();

        assert_eq!(quota.admit_stream().unwrap_err(), Refusal::StreamQuota);
        held.pop();
        assert!(quota.admit_stream().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn opens_come_back_at_their_rate() {
        let quota = quota(|quotas| quotas.opens_burst = NonZeroU32::new(2).unwrap());
        assert!(quota.admit_stream().is_ok());
        assert!(quota.admit_stream().is_ok());

        assert_eq!(quota.admit_stream().unwrap_err(), Refusal::OpenRate);
        tokio::time::advance(Duration::from_millis(20)).await;
        assert!(quota.admit_stream().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_bytes_hold_the_reader_for_as_long_as_they_take() {
        let quota = quota(|_| {});
        let start = Instant::now();

        quota.admit_bytes(16 << 20).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        quota.admit_bytes(8 << 20).await;

        assert_eq!(start.elapsed(), Duration::from_millis(500));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_above_the_quota_waits_for_another_to_end() {
        let quota = quota(|quotas| quotas.calls_in_flight_max = NonZeroU32::new(1).unwrap());
        let first = quota.admit_call().await;

        let second = tokio::time::timeout(Duration::from_secs(1), quota.admit_call()).await;
        assert!(second.is_err(), "it waits");
        drop(first);
        drop(quota.admit_call().await);
    }
}
