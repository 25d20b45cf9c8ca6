//! What is written to a client whose calls share one stream: standard output, HTTP+SSE, libp2p.
//!
//! A client that does not read holds its own calls back, and none beyond its deadline. What it is not told then is counted in the answer,
//! and the answer waits for it still; a client that does not even take that has lost its stream, and can see it.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use twinway_proto::{
    envelope::{self, Message},
    rope::Rope,
};

use crate::mcp::{Outgoing, Running, Step};

/// Frames that wait for a slow client before its calls are held back.
const FRAMES_WAITING_MAX: usize = 16;

/// How long a client may take to read an answer that waits for nothing else. Longer, and it is gone or stuck.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The way to the client. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Frames {
    frames: mpsc::Sender<Rope>,
    stuck: CancellationToken,
}

/// What is to be written.
#[derive(Debug)]
pub(crate) struct Unwritten {
    frames: mpsc::Receiver<Rope>,
    stuck: CancellationToken,
}

/// A client, and what is to be written to it.
pub(super) fn frames() -> (Frames, Unwritten) {
    let (sender, frames) = mpsc::channel(FRAMES_WAITING_MAX);
    let stuck = CancellationToken::new();
    (Frames { frames: sender, stuck: stuck.clone() }, Unwritten { frames, stuck })
}

impl Unwritten {
    /// The next frame; `None` when nothing more comes. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Rope> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next frame, for bodies written by hand.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Rope>> {
        // Something is missing: the client must not take what follows for all.
        if self.stuck.is_cancelled() {
            return Poll::Ready(None);
        }
        self.frames.poll_recv(cx)
    }

    /// Cancelled when the client has not read for so long that its stream is to end.
    pub(super) fn stuck(&self) -> CancellationToken {
        self.stuck.clone()
    }
}

impl Frames {
    /// Sends an answer that is there already; says whether the client goes on. Dropped before that, it ends the stream: an answer is
    /// never missing on one that goes on.
    pub(super) async fn answer(&self, outgoing: Outgoing) -> bool {
        let missing = self.stuck.clone().drop_guard();
        let Ok(sent) = timeout(READ_TIMEOUT, self.frames.send(outgoing.message)).await else { return false };
        missing.disarm();
        sent.is_ok()
    }

    /// Sends a call's notifications and its answer. A client that is gone drops the call.
    pub(super) async fn drive(&self, mut running: Running) {
        loop {
            let step = tokio::select! {
                biased;
                () = self.frames.closed() => return,
                step = running.next() => step,
            };
            let message = match step {
                Step::Event(message) => message,
                // Its stream is no other call's to close.
                Step::Away(_) => continue,
                Step::Done(outgoing) => return self.finish(running, outgoing).await,
                Step::Withdrawn => return,
            };
            let given_up_at = running.given_up_at();
            let room = tokio::select! {
                biased;
                room = timeout_at(given_up_at, self.frames.reserve()) => room,
                () = running.withdrawn_unread() => return,
            };
            match room {
                Ok(Ok(room)) => room.send(message),
                Ok(Err(_)) => return,
                Err(_) => return self.give_up(running, message).await,
            }
        }
    }

    /// The answer waits as long as the call might, and then as any other answer.
    async fn finish(&self, running: Running, outgoing: Outgoing) {
        let given_up_at = running.given_up_at();
        drop(running);
        match timeout_at(given_up_at, self.frames.reserve()).await {
            Ok(Ok(room)) => room.send(outgoing.message),
            Ok(Err(_)) => {}
            Err(_) => {
                self.answer(outgoing).await;
            }
        }
    }

    /// The notifications of a call that nobody reads are given up, and its answer says so. What the target asks is answered by nobody.
    async fn give_up(&self, mut running: Running, untaken: Rope) {
        running.ask_nobody();
        let is_question = matches!(envelope::parse(&untaken.into_bytes()), Ok(Message::Request(_)));
        let mut lost = u64::from(!is_question);
        loop {
            match running.next().await {
                Step::Event(_) => lost += 1,
                Step::Away(_) => {}
                Step::Done(outgoing) => {
                    drop(running);
                    self.answer(outgoing.with_lost(lost)).await;
                    return;
                }
                Step::Withdrawn => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use runtime_api::{Caller, Principal, Wants};
    use tokio::time::Instant;

    use super::*;
    use crate::mcp::Session;

    const NOTIFICATIONS: usize = 40;

    /// A call that says forty things at once and is answered then, with ten seconds for it.
    async fn talkative() -> Running {
        let (caller, events) = Caller::channel(Wants::default());
        for number in 0..NOTIFICATIONS {
            caller.notify("n", number.to_string().into()).await.expect("room");
        }
        Running::of(Box::pin(async { answer() }), events, Instant::now() + Duration::from_secs(10))
    }

    fn answer() -> Outgoing {
        let message = envelope::response("7", Bytes::from_static(br#"{"content":[]}"#).into());
        Outgoing { status: 200, message, session: None, retry_after_s: None }
    }

    async fn all(mut unwritten: Unwritten) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(frame) = unwritten.next().await {
            all.push(String::from_utf8(frame.into_bytes().to_vec()).expect("JSON"));
        }
        all
    }

    fn notification(number: usize) -> String {
        let message = envelope::notification("n", Some(number.to_string().into_bytes().into()));
        String::from_utf8(message.into_bytes().to_vec()).expect("JSON")
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_within_the_time_of_its_call_is_told_everything() {
        let (frames, unwritten) = frames();
        let driving = async {
            frames.drive(talkative().await).await;
            drop(frames);
        };
        let reading = async {
            tokio::time::sleep(Duration::from_secs(14)).await;
            all(unwritten).await
        };

        let ((), read) = tokio::join!(driving, reading);

        assert_eq!(read[..NOTIFICATIONS], (0..NOTIFICATIONS).map(notification).collect::<Vec<_>>());
        assert_eq!(read[NOTIFICATIONS..], [r#"{"jsonrpc":"2.0","id":7,"result":{"content":[]}}"#]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_later_still_gets_the_answer_and_is_told_how_much_it_missed() {
        let (frames, unwritten) = frames();
        let driving = async {
            frames.drive(talkative().await).await;
            drop(frames);
        };
        let reading = async {
            tokio::time::sleep(Duration::from_secs(40)).await;
            all(unwritten).await
        };

        let ((), read) = tokio::join!(driving, reading);

        let (told, answer) = (FRAMES_WAITING_MAX, FRAMES_WAITING_MAX);
        let lost = NOTIFICATIONS - told;
        let meta = format!(r#""_meta":{{"twinway/lost-notifications":{lost}}}"#);
        assert_eq!(read[..told], (0..told).map(notification).collect::<Vec<_>>());
        assert_eq!(read[answer..], [format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"content":[],{meta}}}}}"#)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_even_take_the_answer_loses_its_stream() {
        let (frames, unwritten) = frames();
        let stuck = unwritten.stuck();

        frames.drive(talkative().await).await;

        assert!(stuck.is_cancelled());
        assert_eq!(all(unwritten).await, Vec::<String>::new(), "what is missing is not hidden by what follows");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_answers_what_is_asked_of_a_client_that_does_not_read_and_the_call_goes_on_at_once() {
        let ((frames, unwritten), session) = (frames(), Session::of_stream(Principal("ann".into())));
        let ((caller, events), began) = (Caller::channel(Wants::default()), Instant::now());
        let (told, answered_after) = tokio::sync::oneshot::channel();
        let calling = async move {
            let telling = async {
                for number in 0..NOTIFICATIONS {
                    caller.notify("n", number.to_string().into()).await.expect("room");
                }
            };
            let (open, ()) = tokio::join!(caller.request("roots/list", Bytes::from_static(b"{}")), telling);
            let further = caller.request("roots/list", Bytes::from_static(b"{}")).await;
            told.send((open.is_err(), further.is_err(), began.elapsed())).expect("somebody waits");
            answer()
        };
        let running = Running::asking(Box::pin(calling), events, began + Duration::from_secs(10), &session);
        let driving = async {
            frames.drive(running).await;
            drop(frames);
        };
        let reading = async {
            tokio::time::sleep(Duration::from_secs(40)).await;
            all(unwritten).await
        };

        let ((), read) = tokio::join!(driving, reading);

        let given_up = Duration::from_secs(15);
        assert_eq!(answered_after.await.expect("an answer"), (true, true, given_up));
        let lost = NOTIFICATIONS + 1 - FRAMES_WAITING_MAX;
        let said = format!(r#""twinway/lost-notifications":{lost}"#);
        assert!(read[FRAMES_WAITING_MAX].contains(&said), "{}", read[FRAMES_WAITING_MAX]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_an_answer_is_dropped_before_the_client_has_room_for_it() {
        let (frames, unwritten) = frames();
        for _ in 0..FRAMES_WAITING_MAX {
            assert!(frames.answer(answer()).await);
        }
        assert!(!unwritten.stuck().is_cancelled());

        timeout(Duration::from_secs(1), frames.answer(answer())).await.expect_err("no room");

        assert!(unwritten.stuck().is_cancelled());
    }
}
