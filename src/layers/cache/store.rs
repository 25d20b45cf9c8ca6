//! Kept replies, within bounds: what was not used for longest gives way first.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Weak,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use runtime_api::Reply;
use tokio::time::Instant;

use super::key::{Definition, Key};
use crate::{config::Cache as Bounds, pipeline::Taken, telemetry::metrics::CacheMetrics};

/// What one reply costs beside its bytes: its key twice, its place in both tables, its expiry. Measured with some room.
const OVERHEAD_BYTES: usize = 320;

/// The part of the memory that a single reply may take: one large reply must not push out everything else.
const SHARE_OF_ONE: usize = 8;

/// All kept replies of a gateway.
#[derive(Debug)]
pub(super) struct Store {
    bytes_max: usize,
    entries_max: usize,
    kept: Mutex<Kept>,
    metrics: CacheMetrics,
}

/// A reply and how it was come by.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) reply: Reply,
    pub(super) taken: Taken,
}

#[derive(Debug, Default)]
struct Kept {
    by_key: HashMap<Key, Slot>,
    /// The one that was not used for longest comes first.
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    answer: Answer,
    /// Gone once no catalogue has this definition any more.
    definition: Weak<Definition>,
    expires: Instant,
    last_use: u64,
}

impl Store {
    pub(super) fn new(bounds: &Bounds, metrics: CacheMetrics) -> Self {
        let (bytes_max, entries_max) = (bounds.bytes_max.get(), bounds.entries_max.get());
        Self { bytes_max, entries_max, kept: Mutex::default(), metrics }
    }

    /// A reply that is still good.
    pub(super) fn get(&self, key: &Key, now: Instant) -> Option<Answer> {
        let mut kept = self.kept.lock();
        let Kept { by_key, by_use, uses, .. } = &mut *kept;
        let slot = by_key.get_mut(key).filter(|slot| slot.expires > now && slot.definition.strong_count() > 0)?;
        by_use.remove(&slot.last_use);
        *uses += 1;
        slot.last_use = *uses;
        by_use.insert(*uses, *key);
        Some(slot.answer.clone())
    }

    /// Keeps a reply for `ttl`; one that is too large is not kept.
    pub(super) fn keep(&self, key: Key, mut answer: Answer, definition: Weak<Definition>, ttl: Duration, now: Instant) {
        if answer.cost() > self.bytes_max / SHARE_OF_ONE {
            return;
        }
        // The reply is a part of the message that brought it, which would be kept with it.
        answer.reply.result = Bytes::copy_from_slice(&answer.reply.result);
        let mut kept = self.kept.lock();
        kept.remove(&key);
        let cost = answer.cost();
        while kept.by_key.len() >= self.entries_max || kept.bytes + cost > self.bytes_max {
            let Some(oldest) = kept.by_use.values().next().copied() else { break };
            kept.remove(&oldest);
            self.metrics.evicted();
        }
        kept.insert(key, Slot { answer, definition, expires: now + ttl, last_use: 0 });
        self.metrics.size(kept.by_key.len(), kept.bytes);
    }

    /// Gives up what is expired, and what belongs to a definition that is not offered any more.
    pub(super) fn sweep(&self, now: Instant) {
        let mut kept = self.kept.lock();
        let is_dead = |slot: &Slot| slot.expires <= now || slot.definition.strong_count() == 0;
        let dead: Vec<Key> = kept.by_key.iter().filter(|(_, slot)| is_dead(slot)).map(|(key, _)| *key).collect();
        for key in dead {
            kept.remove(&key);
        }
        self.metrics.size(kept.by_key.len(), kept.bytes);
    }
}

impl Kept {
    fn insert(&mut self, key: Key, mut slot: Slot) {
        self.uses += 1;
        slot.last_use = self.uses;
        self.bytes += slot.answer.cost();
        self.by_use.insert(slot.last_use, key);
        self.by_key.insert(key, slot);
    }

    fn remove(&mut self, key: &Key) {
        if let Some(slot) = self.by_key.remove(key) {
            self.by_use.remove(&slot.last_use);
            self.bytes -= slot.answer.cost();
        }
    }
}

impl Answer {
    fn cost(&self) -> usize {
        self.reply.result.len() + OVERHEAD_BYTES
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroUsize, sync::Arc};

    use runtime_api::RuntimeId;

    use super::*;
    use crate::telemetry::Metrics;

    const TTL: Duration = Duration::from_secs(10);

    fn store(bytes_max: usize, entries_max: usize) -> Store {
        let not_zero = |number| NonZeroUsize::new(number).expect("not zero");
        let bounds = Bounds { bytes_max: not_zero(bytes_max), entries_max: not_zero(entries_max) };
        Store::new(&bounds, Metrics::new(None).cache())
    }

    fn answer(bytes: usize) -> Answer {
        let taken = Taken { runtime: RuntimeId("http".into()), target: "up".into(), reason: "only_candidate" };
        Answer { reply: Reply::new(Bytes::from(vec![b' '; bytes])), taken }
    }

    fn definition() -> Arc<Definition> {
        Arc::new(Definition::new("http", "up", "tool", b"{}"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_is_good_until_its_time_is_over() {
        let (store, definition) = (store(1 << 20, 8), definition());
        let began = Instant::now();

        store.keep([1; 32], answer(5), Arc::downgrade(&definition), TTL, began);

        assert!(store.get(&[1; 32], began + TTL - Duration::from_millis(1)).is_some());
        assert!(store.get(&[1; 32], began + TTL).is_none());
        assert!(store.get(&[2; 32], began).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_used_for_longest_gives_way_first() {
        let (store, definition) = (store(1 << 20, 2), definition());
        let now = Instant::now();
        let keep = |key: u8| store.keep([key; 32], answer(5), Arc::downgrade(&definition), TTL, now);
        keep(1);
        keep(2);
        assert!(store.get(&[1; 32], now).is_some());

        keep(3);

        let left = [1, 2, 3].map(|key| store.get(&[key; 32], now).is_some());
        assert_eq!(left, [true, false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_are_bounded_and_nothing_takes_more_than_its_share() {
        let (store, definition) = (store(16_000, 1_000), definition());
        let now = Instant::now();
        for key in 0..100 {
            store.keep([key; 32], answer(1_000), Arc::downgrade(&definition), TTL, now);
            assert!(store.kept.lock().bytes <= 16_000);
        }
        let before = store.kept.lock().by_key.len();

        store.keep([200; 32], answer(2_001), Arc::downgrade(&definition), TTL, now);

        assert_eq!((before, store.get(&[200; 32], now).is_some()), (12, false));
        assert_eq!(store.kept.lock().by_use.len(), 12);
    }

    #[tokio::test(start_paused = true)]
    async fn replies_of_a_definition_that_is_gone_and_expired_ones_are_given_up() {
        let (store, old, new) = (store(1 << 20, 8), definition(), definition());
        let now = Instant::now();
        store.keep([1; 32], answer(5), Arc::downgrade(&old), TTL, now);
        store.keep([2; 32], answer(5), Arc::downgrade(&new), TTL, now);
        store.keep([3; 32], answer(5), Arc::downgrade(&new), TTL * 2, now);
        drop(old);

        store.sweep(now + TTL);

        let kept = store.kept.lock();
        assert_eq!(kept.by_key.keys().collect::<Vec<_>>(), [&[3; 32]]);
        assert_eq!((kept.by_use.len(), kept.bytes), (1, 5 + OVERHEAD_BYTES));
    }
}
