//! `subscriptions/listen` on a conversation (2026-07-28, subscriptions).
//!
//! ```text
//!   (none) ── something is wanted ──► asked ── acknowledged ──► heard ── something else is wanted ──► heard, and another one asked
//!     ▲                                 │                        │ ▲                                              │
//!     └───────── it has ended ──────────┴────────────────────────┘ └───────── the other one is acknowledged ──────┘
//! ```
//!
//! It names what is wanted at one moment: for something else another one takes its place. Until that has begun the old one is heard, so that
//! nothing goes by between them.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use runtime_api::{Caller, CallerEvent, CallerEvents, Demand, Standing, Wants};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use twinway_proto::rope::Rope;

use super::{ACKNOWLEDGED, Honoured, SUBSCRIBE_TIMEOUT, Uris, honoured_uris};
use crate::stream::{Ask, Connection};

/// How long a modern side listens for us before it is asked anew.
const LISTEN_TIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Before it is asked anew when it has ended the listening itself.
const PAUSE: Duration = Duration::from_secs(5);

/// What somebody wants to hear of.
pub(super) trait Wish {
    fn wanted(&mut self) -> Uris;

    /// Cancel-safe.
    async fn changed(&mut self);

    /// Tells those who wait what is known.
    fn settle(&self, standing: impl Fn(&str) -> Option<Standing>);
}

impl Wish for Demand {
    fn wanted(&mut self) -> Uris {
        Self::wanted(self)
    }

    async fn changed(&mut self) {
        Self::changed(self).await;
    }

    fn settle(&self, standing: impl Fn(&str) -> Option<Standing>) {
        Self::settle(self, standing);
    }
}

/// Nobody waits to know how these stand.
impl Wish for watch::Receiver<Uris> {
    fn wanted(&mut self) -> Uris {
        Uris::clone(&self.borrow_and_update())
    }

    async fn changed(&mut self) {
        // It fails only when nobody can want anything any more.
        if Self::changed(self).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn settle(&self, _: impl Fn(&str) -> Option<Standing>) {}
}

/// Listens whenever `filter` makes something to listen for of what is wanted. Cancel-safe.
pub(super) async fn keep_listening(
    connection: &Connection,
    mut wish: impl Wish,
    filter: impl Fn(&Uris) -> Option<Rope>,
) -> Infallible {
    loop {
        let wanted = wish.wanted();
        match filter(&wanted) {
            None => wish.changed().await,
            Some(params) => {
                let first = Listening::ask(connection, wanted, params);
                if let Over::Ended = hear(connection, &mut wish, &filter, first).await {
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Why nothing is listened for.
enum Over {
    /// Nothing is wanted, or the other side does not listen for us twice.
    Unheard,
    /// The other side has ended it.
    Ended,
}

async fn hear<'c>(
    connection: &'c Connection,
    wish: &mut impl Wish,
    filter: impl Fn(&Uris) -> Option<Rope>,
    mut now: Listening<'c>,
) -> Over {
    let begun = now.begun().await;
    wish.settle(|uri| now.honoured.standing(uri));
    if begun.is_err() {
        return Over::Ended;
    }
    loop {
        let wanted = wish.wanted();
        if wanted == now.honoured.asked {
            wish.settle(|uri| now.honoured.standing(uri));
            tokio::select! {
                biased;
                () = &mut now.answer => return Over::Ended,
                () = wish.changed() => continue,
            }
        }
        let Some(params) = filter(&wanted) else { return Over::Unheard };
        let mut next = Listening::ask(connection, wanted, params);
        if now.until(&mut next, wish).await.is_err() {
            return Over::Unheard;
        }
        now = next;
    }
}

/// A request that is out. Dropping it withdraws it.
struct Listening<'c> {
    honoured: Honoured,
    answer: BoxFuture<'c, ()>,
    /// What the other side says in it apart from changes.
    events: CallerEvents,
}

/// The other side has answered, which ends it.
struct Answered;

impl<'c> Listening<'c> {
    fn ask(connection: &'c Connection, asked: Uris, params: Rope) -> Self {
        let (caller, events) = Caller::channel(Wants::default());
        let answer = Box::pin(async move {
            let ask = Ask { method: "subscriptions/listen", deadline: Instant::now() + LISTEN_TIME, caller: &caller };
            // However it has ended, it is asked for anew.
            connection.request(ask, |_| Ok(Some(params))).await.ok();
        });
        Self { honoured: Honoured { asked, acknowledged: None }, answer, events }
    }

    /// Waits for the acknowledgement. A side that says nothing is heard all the same.
    async fn begun(&mut self) -> Result<(), Answered> {
        let acknowledged = tokio::select! {
            biased;
            acknowledged = timeout(SUBSCRIBE_TIMEOUT, acknowledged(&mut self.events)) => acknowledged.ok(),
            () = &mut self.answer => return Err(Answered),
        };
        self.honoured.acknowledged = acknowledged;
        Ok(())
    }

    /// Hears this one until `next` has begun.
    async fn until(&mut self, next: &mut Listening<'c>, wish: &mut impl Wish) -> Result<(), Answered> {
        let (honoured, asked) = (&self.honoured, Arc::clone(&next.honoured.asked));
        // What the next one does not ask for is about to end.
        let meanwhile = async {
            loop {
                wish.settle(|uri| honoured.standing(uri).filter(|_| asked.contains(uri)));
                wish.changed().await;
            }
        };
        // A side that listens for us once alone ends this one: then only the next counts.
        let heard = async {
            (&mut self.answer).await;
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            biased;
            begun = next.begun() => begun,
            never = heard => match never {},
            never = meanwhile => never,
        }
    }
}

/// The URIs that the other side says it honours.
async fn acknowledged(events: &mut CallerEvents) -> BTreeSet<String> {
    loop {
        match events.next().await {
            Some(CallerEvent::Notification { method, params }) if *method == *ACKNOWLEDGED => return honoured_uris(&params),
            Some(_) => {}
            // The request has ended, and says so itself.
            None => std::future::pending().await,
        }
    }
}
