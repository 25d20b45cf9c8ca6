//! What is wanted of one conversation with a target, and what the target has said to it.
//!
//! ```text
//! client ──waits: Subscribed::standing()──► Interest
//!   ▲                                          │ changed(), wanted()
//!   └── Standing ◄── settle(what it knows) ── Demand: whoever asks the target
//! ```
//!
//! Nothing of what the target has said is kept here: whoever holds the conversation knows what is true of it, and says so at each change.

use std::{collections::BTreeSet, convert::Infallible, fmt, sync::Arc};

use tokio::sync::{oneshot, watch};

use super::{Interest, URIS_MAX};
use crate::{CallError, ErrorCode, Party};

/// Whether a target has taken note of a subscription, or why it has not.
pub type Standing = Result<(), Arc<CallError>>;

/// For whom a conversation is.
type Whose = Box<dyn Fn(&Party) -> bool + Send + Sync>;

/// A subscription of which somebody waits to know how it stands.
pub(super) struct Unsettled {
    uri: Arc<str>,
    by: Party,
    standing: oneshot::Sender<Standing>,
}

/// What is wanted of one conversation with a target: by everybody, or by the parties that it is for.
pub struct Demand {
    interest: Interest,
    /// Everybody without it.
    whose: Option<Whose>,
    changes: watch::Receiver<()>,
}

impl Demand {
    /// Of nobody, for ever.
    #[must_use]
    pub fn of_nobody() -> Self {
        Interest::default().demand()
    }

    pub(super) fn new(interest: Interest, whose: Option<Whose>) -> Self {
        let changes = interest.changes();
        Self { interest, whose, changes }
    }

    /// The URIs that are wanted now: the target's own.
    #[must_use]
    pub fn wanted(&self) -> Arc<BTreeSet<Arc<str>>> {
        match &self.whose {
            None => Arc::clone(&self.interest.0.wanted.borrow()),
            Some(whose) => Arc::new(self.interest.wanted_by(whose)),
        }
    }

    /// Waits until somebody wants something more or less, or waits to know how a subscription stands. Cancel-safe.
    pub async fn changed(&mut self) {
        self.changes.changed().await.expect("the interest is held here");
    }

    /// Tells those who wait how their subscriptions stand; of what nothing is known yet they go on waiting.
    ///
    /// Only what will stay as it is until [`Self::wanted`] is read the next time may be said: whoever is told that the target has taken
    /// note is among those who want it by then.
    pub fn settle(&self, standing: impl Fn(&str) -> Option<Standing>) {
        self.interest.settle(|party| self.whose.as_ref().is_none_or(|whose| whose(party)), standing);
    }

    /// The same now and whenever somebody begins to wait. Cancel-safe.
    pub async fn keep_settling(&mut self, standing: impl Fn(&str) -> Option<Standing>) -> Infallible {
        loop {
            self.settle(&standing);
            self.changed().await;
        }
    }
}

impl Interest {
    /// Tells those of these parties who wait how their subscriptions stand.
    pub fn settle(&self, whose: impl Fn(&Party) -> bool, standing: impl Fn(&str) -> Option<Standing>) {
        let mut unsettled = self.0.unsettled.lock();
        let waiting = std::mem::take(&mut *unsettled).into_iter().filter(|one| !one.standing.is_closed());
        for one in waiting {
            match whose(&one.by).then(|| standing(&one.uri)).flatten() {
                // Whoever has stopped waiting a moment ago need not know.
                Some(standing) => drop(one.standing.send(standing)),
                None => unsettled.push(one),
            }
        }
    }

    /// Somebody begins to wait.
    pub(super) fn ask_standing(&self, uri: Arc<str>, by: Party) -> oneshot::Receiver<Standing> {
        let (standing, told) = oneshot::channel();
        let mut unsettled = self.0.unsettled.lock();
        if unsettled.len() >= URIS_MAX {
            unsettled.retain(|one| !one.standing.is_closed());
        }
        if unsettled.len() < URIS_MAX {
            unsettled.push(Unsettled { uri, by, standing });
        } else {
            let full =
                CallError::gateway(ErrorCode::Overloaded, "too many clients wait for this target to take note of a subscription");
            drop(standing.send(Err(Arc::new(full))));
        }
        drop(unsettled);
        self.0.changed.send_replace(());
        told
    }
}

impl fmt::Debug for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Demand").field("interest", &self.interest).field("of_all", &self.whose.is_none()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::{Principal, Subscriber};

    fn of(name: &str) -> Party {
        Party { principal: Principal(name.into()), session: None }
    }

    #[test]
    fn whoever_waits_is_told_what_is_known_of_its_own_subscription_and_waits_for_the_rest() {
        let (interest, client) = (Interest::default(), Subscriber::default());
        let subscribe = |uri: &str, by| interest.subscribe(uri, uri.into(), by, &client).expect("room");
        let subscribed = [subscribe("x:1", of("ann")), subscribe("x:2", of("ann")), subscribe("x:1", of("bob"))];
        let [one, two, of_bob] = subscribed.each_ref().map(|subscribed| subscribed.standing());
        let demand = interest.demand_of(|party| *party == of("ann"));

        demand.settle(|uri| (uri == "x:1").then_some(Ok(())));

        assert!(matches!(one.now_or_never(), Some(Ok(()))));
        assert!(two.now_or_never().is_none() && of_bob.now_or_never().is_none());
        let again = subscribed[0].standing();
        assert!(again.now_or_never().is_none(), "it is for the conversation to say whether it still holds");
        assert_eq!(demand.wanted().len(), 2);
        assert_eq!(interest.demand().wanted(), demand.wanted());
    }

    #[test]
    fn whoever_begins_to_wait_is_a_change_and_those_who_have_stopped_take_no_place() {
        let (interest, client) = (Interest::default(), Subscriber::default());
        let subscribed = interest.subscribe("x:1", "x:1".into(), of("ann"), &client).expect("room");
        let mut demand = interest.demand();
        assert!(demand.changed().now_or_never().is_none());

        (0..URIS_MAX).for_each(|_| drop(subscribed.standing()));
        assert!(demand.changed().now_or_never().is_some());
        let mut waiting: Vec<_> = (0..URIS_MAX).map(|_| Box::pin(subscribed.standing())).collect();
        assert!(waiting.iter_mut().all(|one| one.now_or_never().is_none()));

        let full = subscribed.standing().now_or_never().expect("no room").expect_err("refused");
        assert_eq!(full.code(), ErrorCode::Overloaded);
    }
}
