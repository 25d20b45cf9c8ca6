//! Clients that do not read, and streams that are lost and taken up again.

use std::{future::poll_fn, time::Duration};

use bytes::Bytes;
use runtime_api::{Caller, Wants};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::*;
use crate::mcp::{
    Outgoing,
    replay::{RETURN_GRACE, Store},
    running::{Events, READ_GRACE},
};
use crate::telemetry::metrics::ReplayMetrics;

/// A call that says so much before it is answered, and what says it.
fn call(answer: impl Future<Output = Outgoing> + Send + 'static) -> (Running, Caller, Instant) {
    let (caller, events) = Caller::channel(Wants::default());
    let deadline = Instant::now() + Duration::from_secs(30);
    (Running::new(Box::pin(answer), Some(Events::only(events)), deadline, TaskTracker::new()), caller, deadline)
}

async fn next(stream: &mut EventStream) -> Option<Said> {
    poll_fn(|cx| stream.poll_next(cx)).await
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_does_not_hold_its_call_beyond_the_deadline() {
    let (held, dropped) = tokio::sync::oneshot::channel::<()>();
    let (running, caller, deadline) = call(async move {
        let _held = held;
        std::future::pending().await
    });
    for _ in 0..2 {
        caller.notify("notifications/message", Bytes::from_static(b"{}")).await.expect("room");
    }

    let _unread = running.into_stream(None);

    assert!(dropped.await.is_err());
    assert_eq!(Instant::now(), deadline + READ_GRACE);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_a_call_whose_client_does_not_read_and_what_came_before_waits_for_it() {
    let (held, dropped) = tokio::sync::oneshot::channel::<()>();
    let (running, caller, deadline) = call(async move {
        let _held = held;
        tokio::time::sleep(Duration::from_secs(30)).await;
        Outgoing::new(200, Bytes::from_static(b"{}").into())
    });
    for _ in 0..3 {
        caller.notify("notifications/message", Bytes::from_static(b"{}")).await.expect("room");
    }
    drop(caller);

    let mut unread = running.into_stream(None);

    assert!(dropped.await.is_err());
    assert_eq!(Instant::now(), deadline);
    let mut heard = 0;
    while next(&mut unread).await.is_some() {
        heard += 1;
    }
    assert_eq!(heard, 4, "each notification, and the answer");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_stuck_gives_way_to_the_one_who_takes_the_stream_up() {
    let kept = Arc::new(Kept::new(Arc::new(Store::new(1 << 20, None, ReplayMetrics::default())), true));
    let (speaker, mut stuck) = kept.begin(Origin::Post, vec!["1".into()]).expect("room");
    let (running, caller, _) = call(async { Outgoing::new(200, Bytes::from_static(b"{}").into()) });
    for _ in 0..10 {
        caller.notify("notifications/message", Bytes::from_static(b"{}")).await.expect("room");
    }
    drop(caller);
    let Some(Said::Priming(first, _)) = next(&mut stuck).await else { panic!("an id to come back by") };
    let began = Instant::now();
    let speaking = tokio::task::JoinSet::from_iter([async move { speak(running, &speaker).await }]);
    tokio::task::yield_now().await;

    let Followed::Stream(mut again) = kept.follow(first) else { panic!("the stream is known") };

    let mut heard = 0;
    while let Some(said) = next(&mut again).await {
        heard += usize::from(matches!(said, Said::Kept(..)));
    }
    speaking.join_all().await;
    assert_eq!(heard, 11, "each event once, and the answer");
    assert_eq!(began.elapsed(), Duration::ZERO, "nobody waits for a reader that was replaced");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_sent_away_and_does_not_come_back_holds_its_call_up_only_so_long() {
    let kept = Arc::new(Kept::new(Arc::new(Store::new(1, None, ReplayMetrics::default())), true));
    let (speaker, mut stream) = kept.begin(Origin::Post, vec!["1".into()]).expect("room");
    let (began, retry) = (Instant::now(), Duration::from_millis(1_500));
    speaker.send_away(retry).await;

    let at_most = began + Duration::from_secs(60);
    speaker.tell(Bytes::from_static(b"more than is kept").into(), at_most).await;

    assert_eq!(began.elapsed(), retry + RETURN_GRACE);
    let told = [next(&mut stream).await, next(&mut stream).await, next(&mut stream).await];
    assert!(matches!(told, [Some(Said::Priming(_, RETRY)), Some(Said::Priming(_, told)), None] if told == retry), "{told:?}");
}
