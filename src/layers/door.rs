//! A door with a bounded number of places behind it and a bounded, ordered queue before it.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use runtime_api::{CallError, ErrorCode, Priority};
use thiserror::Error;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::telemetry::Metrics;

/// When whoever is refused may come back. A second is long enough for a queue of short calls to drain.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Too much to do already. The call was not sent.
#[derive(Debug, Clone, Error)]
#[error("{owner} is busy with {in_flight} calls and {waiting} more wait")]
pub struct Overloaded {
    owner: Arc<str>,
    in_flight: usize,
    waiting: usize,
}

/// A call that did not get in. It was not sent.
#[derive(Debug, Clone, Error)]
pub enum Refused {
    /// There is too much to do.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// Its time was used up in the queue.
    #[error("the time given to this call was used up before {0} had room for it")]
    OutOfTime(Arc<str>),
}

impl From<Refused> for CallError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Overloaded(_) => Self::gateway(ErrorCode::Overloaded, refused.to_string()).with_retry_after(RETRY_AFTER),
            Refused::OutOfTime(_) => Self::gateway(ErrorCode::DeadlineExceeded, refused.to_string()),
        }
    }
}

/// A door; shared by everybody who has to pass it.
#[derive(Debug)]
pub struct Door {
    /// Whose door it is, as it stands in messages.
    owner: Arc<str>,
    in_flight_max: AtomicUsize,
    queue_max: AtomicUsize,
    in_flight: AtomicUsize,
    queue: Mutex<Queue>,
    refused: Counter,
    displaced: Counter,
}

/// Who waits: the most urgent first, and among equals the one who came first.
#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeMap<(Reverse<Priority>, u64), oneshot::Sender<Admitted>>,
    next: u64,
}

/// A call that is in. Dropping it lets the next one in.
#[derive(Debug)]
pub struct Admitted {
    door: Option<Arc<Door>>,
}

/// How many pass a door.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Calls behind it at one time.
    pub in_flight_max: usize,
    /// Calls before it that wait.
    pub queue_max: usize,
}

impl Door {
    /// A door with these bounds.
    #[must_use]
    pub fn new(owner: &str, bounds: Bounds, metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self {
            owner: owner.into(),
            in_flight_max: bounds.in_flight_max.into(),
            queue_max: bounds.queue_max.into(),
            in_flight: AtomicUsize::new(0),
            queue: Mutex::default(),
            refused: metrics.shed("queue_full"),
            displaced: metrics.shed("displaced"),
        })
    }

    /// Changes the bounds. Whoever is in or waits already stays: where there are fewer places now, nobody new gets in until
    /// enough have left.
    pub fn resize(self: &Arc<Self>, bounds: Bounds) {
        let mut queue = self.queue.lock();
        self.in_flight_max.store(bounds.in_flight_max, Ordering::Release);
        self.queue_max.store(bounds.queue_max, Ordering::Release);
        while !queue.waiting.is_empty() {
            let Some(admitted) = self.try_enter() else { return };
            if let Err(mut unused) = Self::hand_on(&mut queue, admitted) {
                // Left here and not by dropping it, which would ask for the lock.
                unused.door = None;
                self.in_flight.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }

    /// As [`Door::enter`], until `deadline`.
    ///
    /// # Errors
    /// [`Refused`]; nothing was sent.
    pub async fn enter_by(self: &Arc<Self>, deadline: Instant, priority: Priority) -> Result<Admitted, Refused> {
        let entered = timeout_at(deadline, self.enter(priority)).await;
        Ok(entered.map_err(|_| Refused::OutOfTime(Arc::clone(&self.owner)))??)
    }

    /// Enters, or waits for a place. Dropping the future gives up the place in the queue.
    ///
    /// # Errors
    /// [`Overloaded`] at once when the queue is full of calls at least as urgent, or later when more urgent ones need the place.
    pub async fn enter(self: &Arc<Self>, priority: Priority) -> Result<Admitted, Overloaded> {
        if let Some(admitted) = self.try_enter() {
            return Ok(admitted);
        }
        let place = self.wait(priority)?;
        match place {
            Place::In(admitted) => Ok(admitted),
            Place::Waiting(turn) => turn.await.map_err(|_| self.overloaded()),
        }
    }

    /// One atomic step when there is room; nobody waits while there is.
    pub(super) fn try_enter(self: &Arc<Self>) -> Option<Admitted> {
        let in_flight_max = self.in_flight_max.load(Ordering::Acquire);
        let more = |count: usize| (count < in_flight_max).then_some(count + 1);
        let entered = self.in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        entered.ok().map(|_| Admitted { door: Some(Arc::clone(self)) })
    }

    fn wait(self: &Arc<Self>, priority: Priority) -> Result<Place, Overloaded> {
        let mut queue = self.queue.lock();
        // Somebody may have left between the first look and the lock; whoever leaves later finds this call in the queue.
        if let Some(admitted) = self.try_enter() {
            return Ok(Place::In(admitted));
        }
        let queue_max = self.queue_max.load(Ordering::Acquire);
        if queue.waiting.len() >= queue_max {
            // Those who gave up are only looked for when their places are needed.
            queue.waiting.retain(|_, turn| !turn.is_closed());
        }
        if queue.waiting.len() >= queue_max && !self.displace(&mut queue, priority) {
            self.refused.inc();
            return Err(self.overloaded_with(queue.waiting.len()));
        }
        let (turn, place) = oneshot::channel();
        let number = queue.next;
        queue.next += 1;
        queue.waiting.insert((Reverse(priority), number), turn);
        Ok(Place::Waiting(place))
    }

    /// Sends the least urgent away if it is less urgent than the newcomer.
    fn displace(&self, queue: &mut Queue, newcomer: Priority) -> bool {
        let Some(last) = queue.waiting.last_entry().filter(|last| last.key().0.0 < newcomer) else { return false };
        drop(last.remove());
        self.displaced.inc();
        true
    }

    /// Hands the place on, or frees it.
    fn leave(self: Arc<Self>) {
        let mut queue = self.queue.lock();
        let is_wanted = self.in_flight.load(Ordering::Acquire) <= self.in_flight_max.load(Ordering::Acquire);
        if is_wanted {
            let Err(mut unused) = Self::hand_on(&mut queue, Admitted { door: Some(Arc::clone(&self)) }) else { return };
            unused.door = None;
        }
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    /// Gives the place to the first that still wants it; gives it back when nobody does.
    fn hand_on(queue: &mut Queue, mut admitted: Admitted) -> Result<(), Admitted> {
        while let Some((_, turn)) = queue.waiting.pop_first() {
            match turn.send(admitted) {
                Ok(()) => return Ok(()),
                // Whoever gave up does not take the place with them.
                Err(refused) => admitted = refused,
            }
        }
        Err(admitted)
    }

    fn overloaded(&self) -> Overloaded {
        let waiting = self.queue.lock().waiting.len();
        self.overloaded_with(waiting)
    }

    fn overloaded_with(&self, waiting: usize) -> Overloaded {
        Overloaded { owner: Arc::clone(&self.owner), in_flight: self.in_flight.load(Ordering::Relaxed), waiting }
    }
}

enum Place {
    In(Admitted),
    Waiting(oneshot::Receiver<Admitted>),
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(door) = self.door.take() {
            door.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn door(in_flight_max: usize, queue_max: usize) -> Arc<Door> {
        Door::new("the door", Bounds { in_flight_max, queue_max }, &Metrics::new(None))
    }

    fn level(level: u8) -> Priority {
        Priority::new(level).expect("at most ten")
    }

    #[tokio::test]
    async fn a_full_gateway_sheds_instead_of_queueing_without_end() {
        let door = door(1, 1);
        let _in = door.enter(level(5)).await.expect("room");
        let mut waits = Box::pin(door.enter(level(5)));
        assert!(waits.as_mut().now_or_never().is_none());

        let refused = door.enter(level(5)).await;

        let refused = refused.expect_err("the queue is full");
        assert_eq!(refused.to_string(), "the door is busy with 1 calls and 1 more wait");
        assert_eq!(door.refused.get(), 1);
    }

    #[tokio::test]
    async fn the_most_urgent_goes_first_and_equals_in_their_order() {
        let door = door(1, 8);
        let first = door.enter(level(5)).await.expect("room");
        let mut waiting: Vec<_> =
            [(2, "a"), (9, "b"), (9, "c"), (5, "d")].map(|(priority, name)| (name, Box::pin(door.enter(level(priority))))).into();
        for (_, place) in &mut waiting {
            assert!(place.as_mut().now_or_never().is_none());
        }

        let mut order = Vec::new();
        let mut holder = Some(first);
        while !waiting.is_empty() {
            drop(holder.take());
            let turn = waiting.iter_mut().position(|(_, place)| {
                let entered = place.as_mut().now_or_never();
                let is_in = entered.is_some();
                holder = holder.take().or_else(|| entered.and_then(Result::ok));
                is_in
            });
            order.push(waiting.remove(turn.expect("somebody's turn")).0);
        }

        assert_eq!(order, ["b", "c", "d", "a"]);
    }

    #[tokio::test]
    async fn a_door_that_is_resized_lets_those_in_who_wait_and_nobody_in_beyond_its_places() {
        let door = door(1, 8);
        let first = door.enter(level(5)).await.expect("room");
        let mut gone = Box::pin(door.enter(level(9)));
        let mut second = Box::pin(door.enter(level(5)));
        let mut third = Box::pin(door.enter(level(5)));
        for place in [&mut gone, &mut second, &mut third] {
            assert!(place.as_mut().now_or_never().is_none());
        }
        drop(gone);

        door.resize(Bounds { in_flight_max: 2, queue_max: 8 });
        let second = second.as_mut().now_or_never().expect("a place").expect("room");
        assert!(third.as_mut().now_or_never().is_none());

        door.resize(Bounds { in_flight_max: 1, queue_max: 0 });
        door.enter(level(5)).await.expect_err("no queue");
        drop(first);
        assert!(third.as_mut().now_or_never().is_none(), "the only place is taken");
        drop(second);
        let third = third.as_mut().now_or_never().expect("a place").expect("room");
        drop(third);
        assert_eq!(door.in_flight.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_more_urgent_call_takes_the_place_of_the_least_urgent() {
        let door = door(1, 1);
        let held = door.enter(level(5)).await.expect("room");
        let mut low = Box::pin(door.enter(level(1)));
        assert!(low.as_mut().now_or_never().is_none());

        let mut high = Box::pin(door.enter(level(8)));
        assert!(high.as_mut().now_or_never().is_none());

        assert!(low.await.is_err());
        drop(held);
        assert!(high.await.is_ok());
    }

    #[tokio::test]
    async fn whoever_gives_up_does_not_keep_the_place() {
        let door = door(1, 4);
        let held = door.enter(level(5)).await.expect("room");
        let mut gives_up = Box::pin(door.enter(level(9)));
        assert!(gives_up.as_mut().now_or_never().is_none());
        drop(gives_up);

        drop(held);

        assert!(door.enter(level(0)).await.is_ok());
    }
}
