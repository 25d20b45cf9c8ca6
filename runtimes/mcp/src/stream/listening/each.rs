//! Subscribes to resources one by one (2025-11-25, resources).
//!
//! ```text
//!            wanted: resources/subscribe            not wanted: resources/unsubscribe
//!   (none) ─────────────────────────────► answered ──────────────────────────────────► (none)
//! ```

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::Arc,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use runtime_api::{Demand, Standing};

use super::Uris;

/// Requests that are out at once: one that is slow to be answered does not hold the others, and the other side is not flooded.
const ASKED_MAX: usize = 8;

/// What the other side has been told, and what it has said to that.
#[derive(Default)]
struct Told {
    answered: HashMap<Arc<str>, Standing>,
    /// What is being asked about.
    asked: HashSet<Arc<str>>,
}

impl Told {
    fn is_as(&self, wanted: &Uris, uri: &str) -> bool {
        self.asked.contains(uri) || wanted.contains(uri) == self.answered.contains_key(uri)
    }

    /// Nothing is said of what is being asked about, and of what is about to be given up.
    fn standing(&self, wanted: &Uris, uri: &str) -> Option<Standing> {
        self.answered.get(uri).filter(|_| wanted.contains(uri) && !self.asked.contains(uri)).cloned()
    }

    /// What to ask next about a resource. Of what was refused the other side has taken no note, and need not hear that it is over.
    fn next(&mut self, uri: &Arc<str>) -> Option<&'static str> {
        let method = match self.answered.get(uri) {
            None => "resources/subscribe",
            Some(Err(error)) if error.answer().is_some() => {
                self.answered.remove(uri);
                return None;
            }
            Some(_) => "resources/unsubscribe",
        };
        self.asked.insert(Arc::clone(uri));
        Some(method)
    }

    fn take(&mut self, uri: &Arc<str>, standing: Standing) {
        self.asked.remove(uri);
        if self.answered.remove(uri).is_none() {
            self.answered.insert(Arc::clone(uri), standing);
        }
    }
}

/// Subscribes to what is wanted, and no longer to what is not. `ask` makes the request of that method about that URI and says how it
/// was answered; an error of its ends this.
///
/// # Errors
/// The first one of `ask`.
pub async fn subscribe_each<E, F>(mut demand: Demand, ask: impl Fn(&'static str, Arc<str>) -> F) -> Result<Infallible, E>
where
    F: Future<Output = Result<Standing, E>>,
{
    let (mut told, mut asking) = (Told::default(), FuturesUnordered::new());
    loop {
        let wanted = demand.wanted();
        demand.settle(|uri| told.standing(&wanted, uri));
        let mut due: Vec<_> =
            wanted.iter().chain(told.answered.keys()).filter(|uri| !told.is_as(&wanted, uri)).cloned().collect();
        loop {
            while asking.len() < ASKED_MAX
                && let Some(uri) = due.pop()
            {
                if let Some(method) = told.next(&uri) {
                    let answer = ask(method, Arc::clone(&uri));
                    asking.push(async move { (uri, answer.await) });
                }
            }
            tokio::select! {
                biased;
                () = demand.changed() => break,
                Some((uri, answer)) = asking.next() => {
                    told.take(&uri, answer?);
                    demand.settle(|other| told.standing(&wanted, other).filter(|_| *other == *uri));
                    // It may be wanted again by now.
                    due.extend((!told.is_as(&wanted, &uri)).then_some(uri));
                }
            }
        }
    }
}
