//! What is said to the client of one call faster than it reads, where the calls of others come on the same stream.
//!
//! ```text
//! reader of the stream ──► channel ──────────────► client
//!                             │ full                 ▲
//!                             └────► Backlog ────────┘ once the channel is empty
//! ```
//!
//! Whatever stands in the channel is older than what stands here: as long as anything waits here, notifications go nowhere else.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{
        Notify,
        mpsc::{Receiver, Sender, error::TrySendError},
    },
    time::timeout,
};

use crate::{CallerEvent, CallerGone};

/// 8 MiB for the client of one call: 10,000 log lines of 700 bytes, and more than 30,000 reports of progress. Who is further behind does not
/// read, or will not catch up.
const CALL_BYTES_MAX: usize = 8 * 1024 * 1024;

/// 32 MiB for all calls of one stream: four clients that are as far behind as they may be. It is what a target can make the gateway hold.
const STREAM_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What it costs to keep one notification beside its text: its place in the queue and two allocations.
const EACH_BYTES: usize = 160;

/// How long a client that is as far behind as it may be can hold up the others of its stream: longer than any that reads needs, and once
/// in a call.
const PATIENCE: Duration = Duration::from_millis(250);

/// Room for what waits on one stream for the clients of its calls. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct StreamRoom(Arc<Room>);

#[derive(Debug, Default)]
struct Room {
    used_bytes: AtomicUsize,
    /// For the one reader of the stream.
    freed: Notify,
}

/// Room that is taken; dropping it gives it back.
#[derive(Debug)]
struct Taken {
    room: StreamRoom,
    bytes: usize,
}

impl StreamRoom {
    fn take(&self, bytes: usize) -> Option<Taken> {
        let fits = |used: usize| used.checked_add(bytes).filter(|used| *used <= STREAM_BYTES_MAX);
        self.0.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Taken { room: self.clone(), bytes })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.0.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.room.0.freed.notify_one();
    }
}

/// What waits for the client of one call beyond its channel.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// Something once waited here. Until then nobody takes the lock to look.
    is_used: AtomicBool,
    waiting: Mutex<Waiting>,
    /// Its client let somebody's patience pass.
    stalled: AtomicBool,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<(CallerEvent, Option<Taken>)>,
    bytes: usize,
    reader: Option<Waker>,
}

impl Backlog {
    /// Passes a notification on, now or when the client has read what came before it. Waits only for a client that is as far behind as
    /// it may be, for a moment, and in the same call never again for one that let it pass.
    ///
    /// # Errors
    /// [`CallerGone`] when the client is gone, or there is no room; the latter is counted.
    pub(crate) async fn notify(
        &self,
        client: &Sender<CallerEvent>,
        room: &StreamRoom,
        event: CallerEvent,
    ) -> Result<(), CallerGone> {
        let mut event = match self.put(client, room, event) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(_)) => return Err(CallerGone),
            Err(TrySendError::Full(event)) => event,
        };
        let putting = async {
            loop {
                tokio::select! {
                    () = room.0.freed.notified() => {}
                    () = self.reads_on(client) => {}
                }
                event = match self.put(client, room, event) {
                    Ok(()) => return Ok(()),
                    Err(TrySendError::Closed(_)) => return Err(CallerGone),
                    Err(TrySendError::Full(event)) => event,
                };
            }
        };
        if !self.stalled.load(Ordering::Relaxed)
            && let Ok(put) = timeout(PATIENCE, putting).await
        {
            return put;
        }
        self.stalled.store(true, Ordering::Relaxed);
        self.lost.fetch_add(1, Ordering::Relaxed);
        Err(CallerGone)
    }

    /// Waits until the client has read from its channel, where that is all that it has to read: the stream gets no room back from it.
    /// Cancel-safe.
    async fn reads_on(&self, client: &Sender<CallerEvent>) {
        if !self.waiting.lock().events.is_empty() {
            return std::future::pending().await;
        }
        // Whether there is room, or nobody any more, is seen by the next attempt.
        client.reserve().await.ok();
    }

    /// Gives the event back when there is no room for it, or no client.
    fn put(&self, client: &Sender<CallerEvent>, room: &StreamRoom, event: CallerEvent) -> Result<(), TrySendError<CallerEvent>> {
        let mut waiting = self.waiting.lock();
        let event = match waiting.pass(client, event) {
            Err(TrySendError::Full(event)) => event,
            passed => return passed,
        };
        let bytes = event.bytes() + EACH_BYTES;
        let taken = (waiting.bytes + bytes <= CALL_BYTES_MAX).then(|| room.take(bytes)).flatten();
        let Some(taken) = taken else { return Err(TrySendError::Full(event)) };
        waiting.bytes += bytes;
        self.keep(&mut waiting, event.unshared(), Some(taken));
        Ok(())
    }

    /// Puts a question behind the notifications that wait; gives it back when none do. There is always room: whoever reads for many
    /// calls has a bound for the questions that are open.
    pub(crate) fn ask(&self, event: CallerEvent) -> Option<CallerEvent> {
        if !self.is_used.load(Ordering::Acquire) {
            return Some(event);
        }
        let mut waiting = self.waiting.lock();
        if waiting.events.is_empty() {
            return Some(event);
        }
        self.keep(&mut waiting, event, None);
        None
    }

    fn keep(&self, waiting: &mut Waiting, event: CallerEvent, taken: Option<Taken>) {
        waiting.events.push_back((event, taken));
        self.is_used.store(true, Ordering::Release);
        waiting.reader.take().into_iter().for_each(Waker::wake);
    }

    /// The next event for a client whose channel was empty a moment ago, or is `over`.
    pub(crate) fn poll(&self, channel: &mut Receiver<CallerEvent>, over: bool, cx: &Context<'_>) -> Poll<Option<CallerEvent>> {
        if !self.is_used.load(Ordering::Acquire) {
            return if over { Poll::Ready(None) } else { Poll::Pending };
        }
        let mut waiting = self.waiting.lock();
        // What came into the channel meanwhile is older than what waits here.
        if let Ok(event) = channel.try_recv() {
            return Poll::Ready(Some(event));
        }
        match waiting.events.pop_front() {
            Some((event, taken)) => {
                waiting.bytes -= taken.map_or(0, |taken| taken.bytes);
                Poll::Ready(Some(event))
            }
            None if over => Poll::Ready(None),
            None => {
                waiting.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Nobody reads any more: the channel is closed already.
    pub(crate) fn clear(&self) {
        if self.is_used.load(Ordering::Acquire) {
            *self.waiting.lock() = Waiting::default();
        }
    }

    /// Notifications that found no room.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Waiting {
    /// Passes an event on to the client, unless others wait before it.
    fn pass(&self, client: &Sender<CallerEvent>, event: CallerEvent) -> Result<(), TrySendError<CallerEvent>> {
        if self.events.is_empty() {
            return client.try_send(event);
        }
        Err(if client.is_closed() { TrySendError::Closed(event) } else { TrySendError::Full(event) })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::{sync::oneshot, time::Instant};

    use super::*;
    use crate::{Caller, CallerEvents, Wants};

    /// Some 84 of them fit in the backlog of a call.
    fn large() -> Bytes {
        vec![b'x'; 100_000].into()
    }

    async fn tell(caller: &Caller, room: &StreamRoom, params: Bytes) -> Result<(), CallerGone> {
        caller.notify_on(room, "notifications/message", params).await
    }

    async fn tell_number(caller: &Caller, room: &StreamRoom, number: usize) {
        tell(caller, room, number.to_string().into()).await.expect("room");
    }

    fn number(event: Option<CallerEvent>) -> usize {
        let Some(CallerEvent::Notification { params, .. }) = event else { panic!("a notification: {event:?}") };
        std::str::from_utf8(&params).unwrap().parse().unwrap()
    }

    async fn count(events: &mut CallerEvents) -> usize {
        let mut count = 0;
        while events.next().await.is_some() {
            count += 1;
        }
        count
    }

    fn used(room: &StreamRoom) -> usize {
        room.0.used_bytes.load(Ordering::Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_wait_for_a_client_that_reads_later_and_come_in_order_with_a_question_in_its_place() {
        let ((caller, mut events), room) = (Caller::channel(Wants::default()), StreamRoom::default());
        let began = Instant::now();

        for number in 0..10_000 {
            tell_number(&caller, &room, number).await;
        }
        // There is room in the channel again, but not for what is younger than what waits.
        for expected in 0..10 {
            assert_eq!(number(events.next().await), expected);
        }
        let (answer, _answered) = oneshot::channel();
        let question = CallerEvent::Request { method: "roots/list".into(), params: Bytes::new(), answer };
        assert!(caller.backlog().ask(question).is_none(), "it has its place behind what waits");
        tell_number(&caller, &room, 10_000).await;
        let losses = caller.losses();
        drop(caller);

        assert_eq!(began.elapsed(), Duration::ZERO, "nobody was held up");
        for expected in 10..10_000 {
            assert_eq!(number(events.next().await), expected);
        }
        assert!(matches!(events.next().await, Some(CallerEvent::Request { .. })));
        assert_eq!(number(events.next().await), 10_000);
        assert!(events.next().await.is_none());
        assert_eq!((losses.count(), used(&room)), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_has_its_bound_and_what_is_beyond_it_is_waited_for_once_and_counted() {
        let ((caller, mut events), room) = (Caller::channel(Wants::default()), StreamRoom::default());
        let ((other, mut its_events), losses) = (Caller::channel(Wants::default()), caller.losses());
        let began = Instant::now();

        let mut kept = 0;
        for _ in 0..1_000 {
            kept += u64::from(tell(&caller, &room, large()).await.is_ok());
        }
        tell(&other, &room, large()).await.expect("another call of the stream has room");

        assert_eq!(began.elapsed(), PATIENCE);
        assert!(used(&room) <= CALL_BYTES_MAX && used(&room) > CALL_BYTES_MAX - 200_000, "{}", used(&room));
        assert_eq!(losses.count(), 1_000 - kept);
        drop((caller, other));
        assert_eq!((count(&mut events).await as u64, count(&mut its_events).await), (kept, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_more_slowly_than_it_is_told_is_waited_for_and_loses_nothing() {
        let ((caller, mut events), room) = (Caller::channel(Wants::default()), StreamRoom::default());
        let losses = caller.losses();

        let telling = async {
            for _ in 0..400 {
                tell(&caller, &room, large()).await.expect("room in time");
            }
            drop(caller);
        };
        let reading = async {
            let mut count = 0;
            while events.next().await.is_some() {
                count += 1;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            count
        };
        let ((), read) = tokio::join!(telling, reading);

        assert_eq!((read, losses.count()), (400, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn all_calls_of_a_stream_have_a_bound_together_and_room_comes_back_with_reading_and_with_leaving() {
        let room = StreamRoom::default();
        let mut calls: Vec<_> = (0..8).map(|_| Caller::channel(Wants::default())).collect();
        for (caller, _) in &calls {
            for _ in 0..64 + 70 {
                tell(caller, &room, large()).await.ok();
            }
        }
        let (last, last_events) = calls.pop().expect("eight");
        assert!(used(&room) <= STREAM_BYTES_MAX);
        assert!(last.losses().count() > 0, "the stream is full");
        assert!(tell(&last, &room, large()).await.is_err());

        let (first, its_events) = calls.swap_remove(0);
        drop(its_events);

        assert!(tell(&first, &room, Bytes::new()).await.is_err(), "its client is gone");
        assert_eq!(first.losses().count(), 0, "nobody is left who misses it");
        tell(&last, &room, large()).await.expect("room");
        drop((calls, last, last_events));
        assert_eq!(used(&room), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_loses_nothing_though_others_have_filled_the_stream() {
        let ((caller, mut events), room) = (Caller::channel(Wants::default()), StreamRoom::default());
        let losses = caller.losses();
        let _full = room.take(STREAM_BYTES_MAX).expect("nobody else");

        let telling = async {
            for number in 0..200 {
                tell_number(&caller, &room, number).await;
            }
        };
        let reading = async {
            for expected in 0..200 {
                assert_eq!(number(events.next().await), expected);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::join!(telling, reading);

        assert_eq!(losses.count(), 0);
    }

    #[tokio::test]
    async fn a_client_that_waits_is_woken_by_what_comes_late() {
        let ((caller, mut events), room) = (Caller::channel(Wants::default()), StreamRoom::default());
        for number in 0..100 {
            tell_number(&caller, &room, number).await;
        }
        for expected in 0..100 {
            assert_eq!(number(events.next().await), expected);
        }

        let (read, ()) = tokio::join!(async { number(events.next().await) }, tell_number(&caller, &room, 100));

        assert_eq!(read, 100);
    }
}
