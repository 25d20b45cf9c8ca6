//! Finds tools by what is said of them, for clients that are not shown the whole list.
//!
//! ```text
//! find -> its turn -> (a thread for slow work) the view's index, made if there is none of this catalogue -> the best tools
//! ```
//!
//! Nothing is made before somebody looks for something, and nothing of it is on the way of a call. A catalogue that has changed is indexed
//! anew by the first one who looks for something in it; whoever comes meanwhile waits for the same index.

mod about;
mod index;
mod words;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
};

use thiserror::Error;
use tokio::{
    sync::{Mutex, Semaphore},
    task::{JoinError, spawn_blocking},
};

pub(crate) use about::About;

use crate::catalog::{Categories, Entry, Snapshot, View};
use index::Index;

/// Searches that wait for their turn. One takes milliseconds, and a new index of a large catalogue a fraction of a second: more would
/// wait for longer than a model is patient.
const WAITING_MAX: usize = 256;

/// Categories that are counted apart. A client reads each of them.
const CATEGORIES_MAX: usize = 200;

/// Names for which it is guessed what was meant. Each is compared with every tool, and others wait for their turn meanwhile.
const GUESSED_MAX: usize = 3;

/// Names that are near to one that nobody has.
const NEAR_MAX: usize = 3;

/// Bytes of a name that can be near to another: as many as the specification allows a tool's name to have.
const NAME_BYTES_MAX: usize = 128;

/// How alike names have to be (Jaro-Winkler, 0 to 1) for one to be meant by the other.
const NEAR_ENOUGH: f64 = 0.8;

/// The search. Cheap to clone: all clones share the indexes.
#[derive(Debug, Clone)]
pub struct Search {
    /// One at a time: a search is work for a whole core, and the cores belong to the calls.
    indexes: Arc<Mutex<Indexes>>,
    waiting: Arc<Semaphore>,
}

/// What somebody looks for.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    /// Words in any order; without any, all tools are meant.
    pub(crate) text: String,
    /// Of this category only.
    pub(crate) category: Option<String>,
    /// Of these only.
    pub(crate) categories: Categories,
    /// How many are wanted.
    pub(crate) limit: usize,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// How many there are.
    pub(crate) matched: usize,
    /// The best of them, the best first; none when nothing is said of what is wanted.
    pub(crate) tools: Vec<Arc<Entry>>,
    /// Then they are counted by category, the largest first.
    pub(crate) categories: Vec<(Arc<str>, usize)>,
}

/// Nothing was looked for.
#[derive(Debug, Error)]
pub(crate) enum SearchError {
    /// It would take too long.
    #[error("too many clients look for tools at this moment")]
    Full,
    /// A fault of ours.
    #[error("the index of tools does not work")]
    Index(#[from] rusqlite::Error),
    /// A fault of ours.
    #[error("the search broke off")]
    Broken(#[from] JoinError),
}

/// The indexes of one catalogue: of each view in which somebody has looked for something.
#[derive(Debug, Default)]
struct Indexes {
    of: Weak<Snapshot>,
    views: HashMap<Box<str>, Index>,
}

impl Default for Search {
    fn default() -> Self {
        Self { indexes: Arc::default(), waiting: Arc::new(Semaphore::new(WAITING_MAX)) }
    }
}

impl Search {
    /// Looks for tools in a view of this catalogue. Without such a view there are none. Dropping the future gives up the turn.
    pub(crate) async fn find(&self, snapshot: Arc<Snapshot>, view: Box<str>, query: Query) -> Result<Found, SearchError> {
        Ok(self.in_turn(move |indexes| indexes.find(&snapshot, &view, &query)).await??)
    }

    /// The names of tools of a view for which each of the first of these could have been meant.
    pub(crate) async fn near(
        &self,
        snapshot: Arc<Snapshot>,
        view: Box<str>,
        names: Vec<String>,
    ) -> Result<Vec<Vec<Arc<str>>>, SearchError> {
        let near = move |_: &mut Indexes| match snapshot.view(&view) {
            Some(view) => {
                let near = names.iter().take(GUESSED_MAX).map(|name| near(view, name));
                near.chain(std::iter::repeat_with(Vec::new)).take(names.len()).collect()
            }
            None => vec![Vec::new(); names.len()],
        };
        self.in_turn(near).await
    }

    /// Runs what would hold up a thread that serves others, one after the other.
    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce(&mut Indexes) -> T + Send + 'static) -> Result<T, SearchError> {
        let Ok(_place) = self.waiting.try_acquire() else { return Err(SearchError::Full) };
        // The turn goes with the work: whoever does not wait for the end of it does not let the next one in before.
        let mut turn = Arc::clone(&self.indexes).lock_owned().await;
        Ok(spawn_blocking(move || work(&mut turn)).await?)
    }
}

impl Indexes {
    fn find(&mut self, snapshot: &Arc<Snapshot>, name: &str, query: &Query) -> rusqlite::Result<Found> {
        let Some(view) = snapshot.view(name) else { return Ok(Found::default()) };
        let tools: Vec<_> = view.tools.iter().collect();
        let wanted = |place: &usize| tools.get(*place).is_some_and(|entry| query.wants(entry));
        let words = words::of_query(&query.text);
        let places: Vec<_> = if words.is_empty() {
            (0..tools.len()).filter(wanted).collect()
        } else {
            self.of_view(snapshot, name, view)?.best(&words, wanted)?
        };
        let found = places.iter().map(|place| tools[*place]);
        let (matched, listed) = (places.len(), Found::default());
        if words.is_empty() && query.category.is_none() {
            return Ok(Found { matched, categories: counted(found), ..listed });
        }
        Ok(Found { matched, tools: found.take(query.limit).cloned().collect(), ..listed })
    }

    fn of_view(&mut self, snapshot: &Arc<Snapshot>, name: &str, view: &View) -> rusqlite::Result<&Index> {
        let of = Arc::downgrade(snapshot);
        if !self.of.ptr_eq(&of) {
            *self = Self { of, views: HashMap::new() };
        }
        if !self.views.contains_key(name) {
            self.views.insert(name.into(), Index::of(&view.tools)?);
        }
        Ok(&self.views[name])
    }
}

impl Query {
    fn wants(&self, entry: &Entry) -> bool {
        let category = &entry.metadata.category;
        self.categories.has(category) && self.category.as_ref().is_none_or(|wanted| **wanted == **category)
    }
}

/// How many tools each category has, the largest first.
fn counted<'a>(tools: impl Iterator<Item = &'a Arc<Entry>>) -> Vec<(Arc<str>, usize)> {
    let mut counts: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
    tools.for_each(|entry| *counts.entry(&entry.metadata.category).or_default() += 1);
    let mut counts: Vec<_> = counts.into_iter().map(|(category, count)| (Arc::clone(category), count)).collect();
    counts.sort_by_key(|(_, count)| Reverse(*count));
    counts.truncate(CATEGORIES_MAX);
    counts
}

fn near(view: &View, name: &str) -> Vec<Arc<str>> {
    if name.len() > NAME_BYTES_MAX {
        return Vec::new();
    }
    // Of a merged name people and models forget the prefix first.
    let likeness = |entry: &Entry| {
        let [public, own] = [&entry.public, &entry.chosen().name].map(|known| strsim::jaro_winkler(known, name));
        public.max(own)
    };
    let names = view.tools.iter().map(|entry| (likeness(entry), &entry.public));
    let mut near: Vec<_> = names.filter(|(likeness, _)| *likeness >= NEAR_ENOUGH).collect();
    near.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    near.into_iter().take(NEAR_MAX).map(|(_, name)| Arc::clone(name)).collect()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn searches_take_turns_and_who_comes_when_too_many_wait_is_refused() {
        let search = Search::default();
        let turn = Arc::clone(&search.indexes).lock_owned().await;
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|number| Box::pin(search.in_turn(move |_| number))).collect();
        assert!(waiting.iter_mut().all(|search| search.as_mut().now_or_never().is_none()));

        let refused = search.in_turn(|_| ()).await;
        drop(turn);
        let done = futures_util::future::try_join_all(waiting).await;

        assert!(matches!(refused, Err(SearchError::Full)));
        assert_eq!(done.expect("their turn comes"), (0..WAITING_MAX).collect::<Vec<_>>());
        assert!(search.in_turn(|_| ()).await.is_ok());
    }
}
