//! Tells each client once that a tool it calls is deprecated.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher, RandomState},
};

use parking_lot::Mutex;
use runtime_api::{Principal, Reply};
use tracing::warn;
use twinway_proto::{json::write_string, meta::key};

use super::{answer::with_meta, era::Spoken};
use crate::catalog::Entry;

/// Pairs of client and tool that are remembered, 24 bytes each. Beyond that the oldest are forgotten, and told again.
const TOLD_MAX: usize = 10_000;

/// Who was told of which tool.
#[derive(Debug, Default)]
pub(super) struct Told {
    hasher: RandomState,
    pairs: Mutex<Pairs>,
}

#[derive(Debug, Default)]
struct Pairs {
    known: HashSet<u64>,
    in_order: VecDeque<u64>,
}

impl Told {
    /// Counts a call of a deprecated tool. `true` when its client has not been told yet; it is from now on.
    pub(super) fn count(&self, entry: &Entry, principal: &Principal, spoken: &Spoken, client_info: Option<&str>) -> bool {
        let Some(calls) = &entry.deprecated else { return false };
        calls.inc();
        // A session is one client. Without one, clients that share a principal may still give their names.
        let session = spoken.session_id();
        let pair = self.hasher.hash_one((&entry.public, principal.as_str(), &session, client_info));
        let is_new = self.pairs.lock().add(pair);
        if is_new {
            let message = entry.metadata.deprecation_message.as_deref().unwrap_or_default();
            warn!(tool = %entry.public, client = principal.as_str(), session, message, "a client calls a deprecated tool");
        }
        is_new
    }
}

impl Pairs {
    fn add(&mut self, pair: u64) -> bool {
        if !self.known.insert(pair) {
            return false;
        }
        self.in_order.push_back(pair);
        if self.in_order.len() > TOLD_MAX
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

/// The reply with the notice in its `_meta`.
pub(super) fn with_notice(reply: Reply, entry: &Entry) -> Reply {
    let mut notice = b"{\"tool\":".to_vec();
    write_string(&mut notice, &entry.public);
    if let Some(message) = &entry.metadata.deprecation_message {
        notice.extend_from_slice(b",\"message\":");
        write_string(&mut notice, message);
    }
    notice.push(b'}');
    with_meta(reply, key::DEPRECATION, &notice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_remembered_up_to_a_bound() {
        let mut pairs = Pairs::default();

        assert!(pairs.add(1) && !pairs.add(1));
        assert!((2..=TOLD_MAX as u64).all(|pair| pairs.add(pair)));
        assert!(!pairs.add(1));
        assert!(pairs.add(0), "one too many");
        assert!(pairs.add(1), "the oldest was forgotten");
        assert_eq!((pairs.known.len(), pairs.in_order.len()), (TOLD_MAX, TOLD_MAX));
    }
}
