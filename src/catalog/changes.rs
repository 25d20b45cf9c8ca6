//! What differs between two catalogues, tool by tool, and what did lately.

use std::{cmp::Ordering, collections::VecDeque, ops::RangeInclusive, sync::Arc, time::SystemTime};

use parking_lot::Mutex;

use super::{Categories, Entry, Snapshot, View};

/// Names in each list of a change. Whoever wants to know more asks for the catalogue itself.
const NAMES_MAX: usize = 100;

/// Changes that are remembered. With all lists full they are some 2 MB.
const REMEMBERED: usize = 64;

/// How one catalogue differs from the one before it.
#[derive(Debug, Clone)]
pub struct Changes {
    /// The number of the newer catalogue.
    pub number: u64,
    /// When it was made.
    pub at: SystemTime,
    /// Each view that differs, the merged one first; the others in the order of their names.
    pub views: Vec<ViewChanges>,
}

/// How one view differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ViewChanges {
    /// Its name; the merged one has none.
    pub view: Arc<str>,
    /// Tools that were not there.
    pub added: Listed<Arc<str>>,
    /// Tools that are gone.
    pub removed: Listed<Arc<str>>,
    /// Tools that are not what they were.
    pub changed: Listed<Changed>,
    /// Categories of which the list of tools is another, each once. A tool that changes its category changes two of them, and nothing
    /// for whom sees all.
    pub categories: Listed<Arc<str>>,
    /// The list of prompts is another.
    pub prompts: bool,
    /// The list of resources, or that of templates, is another.
    pub resources: bool,
}

/// Which lists of a view are others than they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "each field is the list of the same name")]
pub struct Touched {
    pub tools: bool,
    pub prompts: bool,
    pub resources: bool,
}

impl Touched {
    /// All of them.
    pub const ALL: Self = Self { tools: true, prompts: true, resources: true };

    /// Those that are in one of them.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self {
            tools: self.tools || other.tools,
            prompts: self.prompts || other.prompts,
            resources: self.resources || other.resources,
        }
    }

    /// Those that are in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            tools: self.tools && other.tools,
            prompts: self.prompts && other.prompts,
            resources: self.resources && other.resources,
        }
    }
}

/// A list of which only the beginning is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// How many there are.
    pub count: usize,
    /// The first of them.
    pub first: Vec<T>,
}

/// A tool that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Its name.
    pub tool: Arc<str>,
    /// Its `schema_version` before.
    pub old_version: Arc<str>,
    /// Its `schema_version` now.
    pub new_version: Arc<str>,
    /// Its definition differs, not only what is known beside it.
    pub definition: bool,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { count: 0, first: Vec::new() }
    }
}

impl<T> Listed<T> {
    fn push(&mut self, make: impl FnOnce() -> T) {
        self.count += 1;
        if self.first.len() < NAMES_MAX {
            self.first.push(make());
        }
    }
}

impl ViewChanges {
    /// Compares two views: their tools one by one, by their names, which both have in order.
    #[must_use]
    pub fn between(view: Arc<str>, old: &View, new: &View) -> Self {
        let mut changes = Self {
            view,
            prompts: !old.prompts.shows_the_same_as(&new.prompts),
            resources: !(old.resources.shows_the_same_as(&new.resources) && old.templates.shows_the_same_as(&new.templates)),
            ..Self::default()
        };
        let (mut before, mut after) = (old.tools.iter().peekable(), new.tools.iter().peekable());
        loop {
            let order = match (before.peek(), after.peek()) {
                (None, None) => return changes,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => old.public.cmp(&new.public),
            };
            let gone = before.next_if(|_| order.is_le());
            let come = after.next_if(|_| order.is_ge());
            match (gone, come) {
                (Some(old), Some(new)) => changes.compare(old, new),
                (Some(old), None) => {
                    changes.removed.push(|| old.public.clone());
                    changes.touch(old);
                }
                (None, Some(new)) => {
                    changes.added.push(|| new.public.clone());
                    changes.touch(new);
                }
                (None, None) => {}
            }
        }
    }

    /// Whether nothing differs.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        !(self.tools() || self.prompts || self.resources || self.categories.count > 0)
    }

    /// Whether the list of tools is another.
    #[must_use]
    pub const fn tools(&self) -> bool {
        self.added.count > 0 || self.removed.count > 0 || self.changed.count > 0
    }

    /// Whether the list of tools of these categories is another.
    #[must_use]
    pub fn tools_of(&self, categories: &Categories) -> bool {
        if categories.are_all() {
            return self.tools();
        }
        let Listed { count, first } = &self.categories;
        // Of those that are not named it may be any.
        *count > first.len() || first.iter().any(|category| categories.has(category))
    }

    fn touch(&mut self, entry: &Entry) {
        let category = &entry.metadata.category;
        if !self.categories.first.contains(category) {
            self.categories.push(|| Arc::clone(category));
        }
    }

    fn compare(&mut self, old: &Entry, new: &Entry) {
        let definition = old.definition != new.definition;
        let versions = [&old.metadata.schema_version, &new.metadata.schema_version];
        if definition || versions[0] != versions[1] {
            let [old_version, new_version] = versions.map(Arc::clone);
            self.changed.push(|| Changed { tool: new.public.clone(), old_version, new_version, definition });
            self.touch(new);
        }
        if old.metadata.category != new.metadata.category {
            [old, new].into_iter().for_each(|entry| self.touch(entry));
        }
    }
}

impl Changes {
    /// How `new` differs from `old`; `None` when no client could notice.
    #[must_use]
    pub fn between(old: &Snapshot, new: &Snapshot, number: u64) -> Option<Self> {
        let nothing = View::default();
        let mut names: Vec<_> = old.alone.keys().chain(new.alone.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let alone = names.into_iter().map(|name| {
            let [before, after] = [old, new].map(|snapshot| snapshot.alone.get(name).unwrap_or(&nothing));
            ViewChanges::between(name.clone(), before, after)
        });
        let merged = ViewChanges::between("".into(), &old.merged, &new.merged);
        let views: Vec<_> = std::iter::once(merged).chain(alone).filter(|view| !view.is_empty()).collect();
        (!views.is_empty()).then(|| Self { number, at: SystemTime::now(), views })
    }

    /// How the merged view differs, if it does.
    #[must_use]
    pub fn merged(&self) -> Option<&ViewChanges> {
        self.views.iter().find(|view| view.view.is_empty())
    }
}

/// The latest changes.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<VecDeque<Arc<Changes>>>);

impl History {
    pub(super) fn push(&self, changes: Changes) -> Arc<Changes> {
        let changes = Arc::new(changes);
        let mut remembered = self.0.lock();
        if remembered.len() == REMEMBERED {
            remembered.pop_front();
        }
        remembered.push_back(Arc::clone(&changes));
        changes
    }

    /// In what a view, and of its tools those of these categories, differs between the catalogues of these two numbers; in everything,
    /// when the first is forgotten. What was pushed after the second is for whoever asks next.
    pub(super) fn touches(&self, numbers: RangeInclusive<u64>, view: &str, categories: &Categories) -> Touched {
        let (number, last) = numbers.into_inner();
        let remembered = self.0.lock();
        let is_forgotten = remembered.len() == REMEMBERED && remembered.front().is_some_and(|oldest| oldest.number > number);
        if is_forgotten {
            return Touched::ALL;
        }
        let since =
            remembered.iter().rev().take_while(|changes| changes.number > number).filter(|changes| changes.number <= last);
        let of_view = since.flat_map(|changes| &changes.views).filter(|changed| &*changed.view == view);
        of_view.fold(Touched::default(), |touched, changed| {
            let tools = changed.tools_of(categories);
            touched.or(Touched { tools, prompts: changed.prompts, resources: changed.resources })
        })
    }

    /// Those of catalogues after that number, the oldest first.
    pub(super) fn since(&self, number: u64) -> Vec<Arc<Changes>> {
        self.0.lock().iter().filter(|changes| changes.number > number).cloned().collect()
    }
}
