//! One list of a view: its tools, prompts, resources or templates, by name and in order.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use foldhash::HashMap;

use super::Entry;

/// Entries by name and in order. The order is that of the names, so that a cursor needs no memory on our side.
#[derive(Debug, Default)]
pub struct Shelf {
    entries: Vec<Arc<Entry>>,
    by_name: HashMap<Arc<str>, usize>,
    /// The first page, which is all that most clients ask for.
    first_page: OnceLock<(usize, Page)>,
    /// There are tools whose output schemas revisions with sessions do not know.
    has_free_output: bool,
}

/// A part of a list as raw JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// An array of definitions.
    pub items: Bytes,
    /// The name after which the next page begins.
    pub next: Option<Arc<str>>,
}

impl Shelf {
    pub(super) fn new(mut entries: Vec<Arc<Entry>>) -> Self {
        entries.sort_unstable_by(|a, b| a.public.cmp(&b.public));
        let mut by_name: HashMap<_, _> = entries.iter().enumerate().map(|(place, entry)| (entry.public.clone(), place)).collect();
        // A full name that is somebody's public one stays theirs.
        for (place, entry) in entries.iter().enumerate() {
            if let Some(full) = &entry.full {
                by_name.entry(full.clone()).or_insert(place);
            }
        }
        let has_free_output = entries.iter().any(|entry| entry.free_output);
        Self { entries, by_name, first_page: OnceLock::new(), has_free_output }
    }

    /// The entry with that name, be it the public one or the full one behind it. O(1).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Entry>> {
        self.by_name.get(name).map(|place| &self.entries[*place])
    }

    /// Whether there are tools whose output schemas revisions with sessions do not know.
    #[must_use]
    pub const fn has_free_output(&self) -> bool {
        self.has_free_output
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.iter()
    }

    /// Whether another list shows its clients the same.
    #[must_use]
    pub fn shows_the_same_as(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().zip(other.iter()).all(|(a, b)| a.definition == b.definition)
    }

    /// At most `size` entries whose names come after `after`.
    #[must_use]
    pub fn page(&self, after: Option<&str>, size: usize) -> Page {
        let Some(after) = after else {
            let (made_with, page) = self.first_page.get_or_init(|| (size, self.slice(0, size)));
            return if *made_with == size { page.clone() } else { self.slice(0, size) };
        };
        self.slice(self.entries.partition_point(|entry| &*entry.public <= after), size)
    }

    /// The same for a client that may not see every entry.
    #[must_use]
    pub fn page_of(&self, after: Option<&str>, size: usize, allows: impl Fn(&Entry) -> bool) -> Page {
        let from = after.map_or(0, |after| self.entries.partition_point(|entry| &*entry.public <= after));
        let mut allowed = self.entries[from..].iter().filter(|entry| allows(entry));
        let entries: Vec<_> = allowed.by_ref().take(size).cloned().collect();
        write_page(&entries, allowed.next().is_some())
    }

    /// At most `size` entries that somebody wants, whose names come after `after`; and the name after which the next ones come.
    pub fn select(&self, after: Option<&str>, size: usize, wants: impl Fn(&Entry) -> bool) -> (Vec<&Entry>, Option<&str>) {
        let from = after.map_or(0, |after| self.entries.partition_point(|entry| &*entry.public <= after));
        let mut wanted = self.entries[from..].iter().map(|entry| &**entry).filter(|entry| wants(entry));
        let entries: Vec<_> = wanted.by_ref().take(size).collect();
        let next = entries.last().filter(|_| wanted.next().is_some()).map(|entry| &*entry.public);
        (entries, next)
    }

    fn slice(&self, from: usize, size: usize) -> Page {
        let to = self.entries.len().min(from.saturating_add(size));
        write_page(&self.entries[from..to], to < self.entries.len())
    }
}

fn write_page(entries: &[Arc<Entry>], more: bool) -> Page {
    let mut items = Vec::with_capacity(2 + entries.iter().map(|entry| entry.definition.len() + 1).sum::<usize>());
    items.push(b'[');
    for (place, entry) in entries.iter().enumerate() {
        if place > 0 {
            items.push(b',');
        }
        items.extend_from_slice(&entry.definition);
    }
    items.push(b']');
    let next = entries.last().filter(|_| more).map(|entry| entry.public.clone());
    Page { items: items.into(), next }
}
