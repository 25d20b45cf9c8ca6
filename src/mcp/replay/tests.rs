//! What is kept of a session's streams, and what goes when it does not fit.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;

use super::{
    store::{BYTES_MAX, KEPT_FOR, signed},
    streams::{EVENT_BYTES, STREAMS_MAX, copied},
    *,
};
use crate::telemetry::metrics::ReplayMetrics;

const SESSION_BYTES_MAX: usize = 10 * (EVENT_BYTES + 10);

fn store() -> Arc<Store> {
    Arc::new(Store::new(SESSION_BYTES_MAX, None, ReplayMetrics::default()))
}

fn kept(store: &Arc<Store>) -> Arc<Kept> {
    Arc::new(Kept::new(Arc::clone(store), false))
}

fn begin(kept: &Arc<Kept>) -> Speaker {
    kept.begin(Origin::Post, vec!["7".into()]).expect("room").0
}

/// Says so many messages of ten bytes; returns the id of the last.
fn say(speaker: &Speaker, count: usize) -> EventId {
    let mut last = None;
    for number in 0..count {
        let (said, _) = speaker.say(Bytes::from(format!("message {number:02}")).into());
        let Said::Kept(id, _) = said else { panic!("{said:?}") };
        last = Some(id);
    }
    last.expect("something was said")
}

fn before(id: EventId, count: u32) -> EventId {
    EventId { event: id.event - count, ..id }
}

/// What a client that comes back after that event is given at once.
fn missed(kept: &Arc<Kept>, after: EventId) -> Vec<String> {
    let Followed::Stream(mut stream) = kept.follow(after) else { panic!("no stream after {after}") };
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let mut missed = Vec::new();
    while let std::task::Poll::Ready(Some(Said::Kept(_, message))) = stream.poll_next(&mut cx) {
        missed.push(String::from_utf8(message.into_bytes().to_vec()).expect("text"));
    }
    missed
}

/// How much a client that comes back would be given; it does not come yet.
fn missed_later(kept: &Arc<Kept>, after: EventId) -> usize {
    kept.streams.lock().find(after.stream).map_or(0, |stream| stream.after(after).len())
}

fn bytes_of(store: &Store) -> usize {
    let bytes = store.bytes.load(Ordering::Relaxed);
    assert_eq!(store.metrics.bytes.get(), signed(bytes));
    bytes
}

#[test]
fn an_id_is_read_as_it_was_written_and_nothing_else_is_one() {
    for origin in [Origin::Post, Origin::Get] {
        let id = EventId { origin, nonce: 0x0a_0b0c, stream: 3, event: 17 };
        assert_eq!(EventId::parse(&id.to_string()), Some(id), "{id}");
    }
    for text in
        ["", "7", "p", "x00000000-1-1", "p00000000-1", "p00000000-1-1-1", "p00000000-1--1", "é", "pzz-1-1", "p1-99999999999-1"]
    {
        assert_eq!(EventId::parse(text), None, "{text}");
    }
}

#[tokio::test]
async fn each_stream_gives_what_came_after_the_event_and_nothing_of_others() {
    let kept = kept(&store());
    let (one, other) = (begin(&kept), begin(&kept));
    let of_one = say(&one, 3);
    say(&other, 2);

    assert_eq!(missed(&kept, before(of_one, 3)), ["message 00", "message 01", "message 02"]);
    assert_eq!(missed(&kept, before(of_one, 1)), ["message 02"]);
    assert!(missed(&kept, of_one).is_empty());

    one.end();
    assert!(matches!(kept.follow(of_one), Followed::Over));
    for unknown in [
        EventId { event: of_one.event + 1, ..of_one },
        EventId { stream: 9, ..of_one },
        EventId { origin: Origin::Get, ..of_one },
        EventId { nonce: !of_one.nonce, ..of_one },
    ] {
        assert!(matches!(kept.follow(unknown), Followed::Unknown), "{unknown}");
    }
}

#[tokio::test]
async fn the_oldest_stream_that_is_over_goes_first_then_the_speaker_s_own_oldest_events() {
    let store = store();
    let kept = kept(&store);
    let (older, newer, open) = (begin(&kept), begin(&kept), begin(&kept));
    // The one that began later ends earlier.
    let of_newer = say(&newer, 3);
    newer.end();
    let of_older = say(&older, 3);
    older.end();

    let of_open = say(&open, 6);
    assert!(
        matches!(kept.follow(before(of_newer, 1)), Followed::Gap(requests, newest) if *requests == [Box::from("7")] && newest == of_newer)
    );
    assert_eq!(missed(&kept, before(of_older, 3)).len(), 3);

    let of_open = EventId { event: say(&open, 10).event, ..of_open };
    assert!(matches!(kept.follow(before(of_older, 1)), Followed::Gap(..)));
    assert!(matches!(kept.follow(before(of_open, 11)), Followed::Gap(..)));
    assert_eq!(missed(&kept, before(of_open, 10)).len(), 10);
    assert_eq!(bytes_of(&store), SESSION_BYTES_MAX);
}

#[tokio::test]
async fn what_is_larger_than_all_that_may_be_kept_is_a_gap_and_what_comes_after_it_is_kept_again() {
    let store = store();
    let kept = kept(&store);
    let speaker = begin(&kept);
    let small = say(&speaker, 2);

    let (said, _) = speaker.say(Bytes::from(vec![b'x'; SESSION_BYTES_MAX]).into());
    let Said::Kept(large, _) = said else { panic!("{said:?}") };
    assert_eq!(bytes_of(&store), 0);
    assert!(matches!(kept.follow(small), Followed::Gap(..)));

    say(&speaker, 1);
    assert_eq!(missed(&kept, large), ["message 00"]);
}

#[tokio::test]
async fn all_sessions_together_keep_no_more_than_the_budget_and_give_back_all_of_it() {
    let store =
        Arc::new(Store { bytes_max: 5 * (EVENT_BYTES + 10), ..Store::new(SESSION_BYTES_MAX, None, ReplayMetrics::default()) });
    let (one, other) = (kept(&store), kept(&store));
    let over = begin(&one);
    let of_over = say(&over, 3);
    over.end();
    let open = begin(&one);
    let of_open = say(&open, 2);

    let speaker = begin(&other);
    let last = say(&speaker, 3);
    assert!(matches!(one.follow(before(of_over, 1)), Followed::Gap(..)), "it was over, of whichever session");
    assert_eq!(missed(&one, before(of_open, 2)).len(), 2, "a stream that is spoken on keeps its events");
    assert_eq!(missed(&other, before(last, 3)).len(), 3);
    assert_eq!(bytes_of(&store), store.bytes_max);

    let beyond = say(&speaker, 1);
    assert!(matches!(other.follow(before(beyond, 1)), Followed::Gap(..)), "nobody gives way");
    drop((speaker, open, over, one, other));
    assert_eq!(bytes_of(&store), 0);
}

#[tokio::test(start_paused = true)]
async fn the_events_of_a_stream_are_kept_for_a_while_after_it_is_over() {
    let store = store();
    let kept = kept(&store);
    let (over, open) = (begin(&kept), begin(&kept));
    let (of_over, of_open) = (say(&over, 1), say(&open, 1));
    over.end();

    tokio::time::advance(KEPT_FOR - Duration::from_secs(1)).await;
    store.sweep();
    assert_eq!(missed(&kept, before(of_over, 1)).len(), 1);

    tokio::time::advance(Duration::from_secs(1)).await;
    store.sweep();
    assert!(matches!(kept.follow(before(of_over, 1)), Followed::Gap(..)));
    assert_eq!(missed(&kept, before(of_open, 1)).len(), 1);
    assert!(store.silent.lock().is_empty());
}

#[tokio::test]
async fn there_are_only_so_many_streams_and_those_that_are_over_give_way() {
    let kept = kept(&store());
    let mut open: Vec<_> = (0..STREAMS_MAX).map(|_| begin(&kept)).collect();
    assert!(kept.begin(Origin::Post, Vec::new()).is_none());

    open.pop().expect("one").end();

    assert!(kept.begin(Origin::Post, Vec::new()).is_some());
    assert_eq!(kept.streams.lock().known.len(), STREAMS_MAX);
}

#[tokio::test]
async fn a_stream_of_changes_is_taken_up_by_whoever_comes_back_and_replaced_by_whoever_begins_anew() {
    let kept = kept(&store());
    let (speaker, _lost) = kept.begin(Origin::Get, Vec::new()).expect("room");
    let last = say(&speaker, 2);
    speaker.end();

    let Followed::Left(_, speaker) = kept.follow(before(last, 1)) else { panic!("somebody has to speak again") };
    let next = say(&speaker, 1);
    assert_eq!((next.stream, next.event), (last.stream, last.event + 1));

    let _newer = kept.begin(Origin::Get, Vec::new()).expect("room");
    assert!(matches!(kept.follow(next), Followed::Unknown));
}

#[test]
fn what_is_kept_of_a_message_holds_nothing_else() {
    let large = Bytes::from(vec![b'x'; 1 << 20]);
    let small = Rope::from(large.slice(10..20));

    let kept = copied(&small);

    assert_eq!(&kept[..], &large[10..20]);
    drop((small, large));
    assert!(kept.is_unique());
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_for_a_client_that_was_sent_away_waits_for_it_and_gives_way_when_it_is_late() {
    for is_of_all in [false, true] {
        let store = Arc::new(Store {
            bytes_max: if is_of_all { 5 * (EVENT_BYTES + 10) } else { BYTES_MAX },
            ..Store::new(if is_of_all { SESSION_BYTES_MAX } else { 5 * (EVENT_BYTES + 10) }, None, ReplayMetrics::default())
        });
        let kept = kept(&store);
        let (away, other) = (begin(&kept), begin(&kept));
        away.send_away(RETRY).await;
        let of_away = say(&away, 3);
        away.end();

        say(&other, 10);
        assert_eq!(missed_later(&kept, before(of_away, 3)), 3, "it is expected back");
        tokio::time::advance(RETRY + RETURN_GRACE).await;
        say(&other, 10);

        assert!(matches!(kept.follow(before(of_away, 3)), Followed::Gap(..)), "it is lost, as any other");
    }
}
