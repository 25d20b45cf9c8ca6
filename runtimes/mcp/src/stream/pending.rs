//! The requests that are out, and those given up whose answer may still come.
//!
//! ```text
//!            add            sent                 answer
//!   (none) ──────► Queued ────────► Sent ─────────────────────► (none)
//!                    │               │ given up
//!                    │ given up      ▼           late answer, time is up, or too many
//!                    └─► (none)   Tombstone ──────────────────► (none)
//! ```

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;
use runtime_api::{CallError, Caller, Delivery, ErrorCode};
use tokio::{sync::oneshot, time::Instant};

use super::Ended;
use crate::Incoming;

/// How long a late answer is told from one to nothing: twice the longest wait of the default configuration. Ids are never
/// used twice, so it is only the count that becomes less exact afterwards.
const TOMBSTONE_TTL: Duration = Duration::from_secs(60);

/// Tombstones at once, 16 bytes each; the oldest goes first.
const TOMBSTONES_MAX: usize = 1024;

/// What an asker waits for.
pub(super) type Answer = Result<Incoming, CallError>;

/// The table. Every method is short and takes the lock once.
#[derive(Debug, Default)]
pub(super) struct Pending {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    open: HashMap<u64, Open>,
    tombstones: VecDeque<(u64, Instant)>,
    ended: Option<Ended>,
}

#[derive(Debug)]
struct Open {
    answer: oneshot::Sender<Answer>,
    caller: Caller,
    sent: bool,
}

/// What became of an answer.
#[derive(Debug)]
pub(super) enum Taken {
    /// It goes here.
    Wanted(oneshot::Sender<Answer>),
    /// Nobody waits for it any more.
    Late,
    /// It was never asked for.
    Unknown,
}

/// What giving up a request means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// It never left: nothing more to do.
    BeforeSending,
    /// The other side should be told.
    AfterSending,
    /// It was answered or ended already.
    TooLate,
}

impl Pending {
    /// Enters a request.
    ///
    /// # Errors
    /// Why the conversation has ended.
    pub(super) fn add(&self, id: u64, caller: Caller) -> Result<oneshot::Receiver<Answer>, Ended> {
        let mut table = self.table.lock();
        if let Some(ended) = &table.ended {
            return Err(ended.clone());
        }
        let (answer, answered) = oneshot::channel();
        table.open.insert(id, Open { answer, caller, sent: false });
        Ok(answered)
    }

    /// The request is handed to the transport now; `false` when it was given up.
    pub(super) fn sent(&self, id: u64) -> bool {
        self.table.lock().open.get_mut(&id).map(|open| open.sent = true).is_some()
    }

    /// Takes the place where an answer goes.
    pub(super) fn take(&self, id: u64) -> Taken {
        let mut table = self.table.lock();
        // An answer to what was never sent is a guess of the other side.
        if table.open.get(&id).is_some_and(|open| open.sent) {
            let open = table.open.remove(&id).expect("it was there");
            return Taken::Wanted(open.answer);
        }
        match table.tombstones.iter().position(|(tombstone, _)| *tombstone == id) {
            Some(at) => {
                table.tombstones.remove(at);
                Taken::Late
            }
            None => Taken::Unknown,
        }
    }

    /// Who hears of progress of a request.
    pub(super) fn caller(&self, id: u64) -> Option<Caller> {
        self.table.lock().open.get(&id).map(|open| open.caller.clone())
    }

    /// The one call in flight whose client takes something. Over a stream nobody says which call a question or a log line of the
    /// other side belongs to: where there are several, no client must be asked for another's.
    pub(super) fn only_caller(&self, takes: impl Fn(&Caller) -> bool) -> Option<Caller> {
        let table = self.table.lock();
        let mut callers = table.open.values().filter(|open| open.sent && takes(&open.caller));
        let caller = callers.next()?.caller.clone();
        callers.next().is_none().then_some(caller)
    }

    /// Gives up a request; one that was sent becomes a tombstone.
    pub(super) fn give_up(&self, id: u64, now: Instant) -> GivenUp {
        let mut table = self.table.lock();
        match table.open.remove(&id) {
            None => GivenUp::TooLate,
            Some(open) if !open.sent => GivenUp::BeforeSending,
            Some(_) => {
                table.bury(id, now);
                GivenUp::AfterSending
            }
        }
    }

    /// Ends the conversation: every request fails, and none is entered any more. The first reason stays.
    pub(super) fn end(&self, ended: &Ended) {
        let open = {
            let mut table = self.table.lock();
            table.ended.get_or_insert_with(|| ended.clone());
            std::mem::take(&mut table.open)
        };
        for (_, open) in open {
            let delivery = if open.sent { Delivery::Unknown } else { Delivery::NotSent };
            // Whoever has stopped waiting needs no error.
            open.answer.send(Err(ended.to_call_error(delivery))).ok();
        }
    }

    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        let table = self.table.lock();
        (table.open.len(), table.tombstones.len())
    }
}

impl Table {
    fn bury(&mut self, id: u64, now: Instant) {
        while self.tombstones.front().is_some_and(|(_, until)| *until <= now) || self.tombstones.len() >= TOMBSTONES_MAX {
            self.tombstones.pop_front();
        }
        self.tombstones.push_back((id, now + TOMBSTONE_TTL));
    }
}

impl Ended {
    /// What a request gets that had no answer when the conversation ended.
    pub(super) fn to_call_error(&self, delivery: Delivery) -> CallError {
        let code = match self {
            Self::ByPeer | Self::Here | Self::Broken(_) => ErrorCode::Disconnected,
            Self::Garbage(_) | Self::Flooded => ErrorCode::Protocol,
        };
        CallError::runtime(code, delivery, self.to_string()).with_source(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_taken_once_and_only_for_what_was_sent() {
        let pending = Pending::default();
        let _answered = pending.add(1, Caller::none()).unwrap();

        assert!(matches!(pending.take(1), Taken::Unknown), "not sent yet");
        assert!(pending.sent(1));
        assert!(matches!(pending.take(1), Taken::Wanted(_)));
        assert!(matches!(pending.take(1), Taken::Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_finds_the_tombstone_and_nobody_else() {
        let pending = Pending::default();
        let _answered = pending.add(1, Caller::none()).unwrap();
        pending.sent(1);
        assert_eq!(pending.give_up(1, Instant::now()), GivenUp::AfterSending);
        assert_eq!(pending.give_up(1, Instant::now()), GivenUp::TooLate);

        assert!(matches!(pending.take(1), Taken::Late));
        assert!(matches!(pending.take(1), Taken::Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_given_up_before_sending_leaves_nothing_behind() {
        let pending = Pending::default();
        let _answered = pending.add(1, Caller::none()).unwrap();

        assert_eq!(pending.give_up(1, Instant::now()), GivenUp::BeforeSending);

        assert!(!pending.sent(1));
        assert_eq!(pending.counts(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn tombstones_are_bounded_in_number_and_time() {
        let pending = Pending::default();
        let bury = |id| {
            let _answered = pending.add(id, Caller::none()).unwrap();
            pending.sent(id);
            pending.give_up(id, Instant::now());
        };

        (0..2000).for_each(bury);
        assert_eq!(pending.counts(), (0, TOMBSTONES_MAX));
        tokio::time::advance(TOMBSTONE_TTL).await;
        bury(2000);

        assert_eq!(pending.counts(), (0, 1));
    }

    #[tokio::test]
    async fn the_end_says_of_each_request_whether_it_may_have_run() {
        let pending = Pending::default();
        let queued = pending.add(1, Caller::none()).unwrap();
        let sent = pending.add(2, Caller::none()).unwrap();
        pending.sent(2);

        pending.end(&Ended::ByPeer);

        assert_eq!(queued.await.unwrap().unwrap_err().delivery(), Delivery::NotSent);
        assert_eq!(sent.await.unwrap().unwrap_err().delivery(), Delivery::Unknown);
        assert!(pending.add(3, Caller::none()).is_err());
    }
}
