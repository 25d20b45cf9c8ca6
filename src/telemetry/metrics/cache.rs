//! What the cache of results counts.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::ByReason;

/// The numbers of the cache. Cheap to clone; all clones count together.
#[derive(Debug, Clone, Default)]
pub struct CacheMetrics {
    hits: Counter,
    misses: Counter,
    bypasses: Family<ByReason, Counter>,
    evictions: Counter,
    entries: Gauge,
    bytes: Gauge,
}

impl CacheMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let all = self.clone();
        registry.register("cache_hits", "Calls answered with a kept result", all.hits);
        registry.register("cache_misses", "Calls of tools whose results are kept that found none", all.misses);
        let bypasses = "Calls of tools whose results are kept that cannot be told from others with certainty, by reason";
        registry.register("cache_bypasses", bypasses, all.bypasses);
        registry.register("cache_evictions", "Kept results that gave way to others before their time", all.evictions);
        registry.register("cache_entries", "Kept results", all.entries);
        registry.register("cache_bytes", "Memory of kept results, book-keeping included", all.bytes);
    }

    /// Counts a call that was answered from the cache.
    pub fn hit(&self) {
        self.hits.inc();
    }

    /// Counts a call that was not.
    pub fn missed(&self) {
        self.misses.inc();
    }

    /// Counts a call that the cache was not asked for.
    pub fn bypassed(&self, reason: &'static str) {
        self.bypasses.get_or_create(&ByReason { reason }).inc();
    }

    /// Counts a result that gave way to another.
    pub fn evicted(&self) {
        self.evictions.inc();
    }

    /// How much is kept.
    pub fn size(&self, entries: usize, bytes: usize) {
        let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.entries.set(number(entries));
        self.bytes.set(number(bytes));
    }
}
