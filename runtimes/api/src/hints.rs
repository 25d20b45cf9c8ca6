//! For how long, and for whom, results of a target are good, as the target itself says (2026-07-28, caching).

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::Kind;

/// Who may be given a result that somebody has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheScope {
    /// Whoever asked, and nobody else.
    #[default]
    Private,
    /// Everybody.
    Public,
}

/// What a server said of one result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheHint {
    /// Until when it is fresh. None when the server does not say.
    pub fresh_until: Option<Instant>,
    /// For whom it is.
    pub scope: CacheScope,
}

/// A result that a server may say this of, and that the gateway merges with those of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cacheable {
    /// That of `server/discover`.
    About,
    /// A list.
    List(Kind),
}

/// What a target said of each of its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheHints {
    /// Of what it says of itself.
    pub about: CacheHint,
    /// Of its lists, in the order of [`Kind::ALL`]. None of a list that it does not have.
    lists: [Option<CacheHint>; Kind::ALL.len()],
}

/// The latest word of a target on what it offers. Cheap to clone; all clones are the same, so that a word that is only given again needs
/// no new catalogue.
#[derive(Clone, Default)]
pub struct Freshness(Arc<ArcSwap<CacheHints>>);

impl CacheScope {
    /// The one that is written so; whatever else stands there is for nobody else.
    #[must_use]
    pub fn named(name: &str) -> Self {
        if name == "public" { Self::Public } else { Self::Private }
    }

    /// `public` or `private`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
        }
    }

    /// For whom something is that is made of two parts.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Public, Self::Public) => Self::Public,
            _ => Self::Private,
        }
    }
}

impl Default for CacheHints {
    /// Of a target that has not answered: it may have everything, and has said nothing.
    fn default() -> Self {
        Self { about: CacheHint::default(), lists: [Some(CacheHint::default()); Kind::ALL.len()] }
    }
}

impl CacheHints {
    /// Of a target that has no list yet.
    #[must_use]
    pub const fn without_lists(about: CacheHint) -> Self {
        Self { about, lists: [None; Kind::ALL.len()] }
    }

    /// Of a target that has nothing but tools, and says nothing of them.
    #[must_use]
    pub fn of_tools() -> Self {
        let mut hints = Self::without_lists(CacheHint::default());
        hints.set(Kind::Tool, CacheHint::default());
        hints
    }

    /// The target has this list, and says this of it.
    pub const fn set(&mut self, kind: Kind, hint: CacheHint) {
        self.lists[kind as usize] = Some(hint);
    }

    /// What it says of one result; none of a list that it does not have.
    #[must_use]
    pub const fn of(&self, what: Cacheable) -> Option<CacheHint> {
        match what {
            Cacheable::About => Some(self.about),
            Cacheable::List(kind) => self.lists[kind as usize],
        }
    }

    /// Whether both say the same but for the time.
    #[must_use]
    pub fn differs_in_time_only(&self, other: &Self) -> bool {
        let outline = |hint: CacheHint| (hint.fresh_until.is_some(), hint.scope);
        let lists = self.lists.iter().zip(&other.lists).all(|(one, other)| one.map(outline) == other.map(outline));
        lists && outline(self.about) == outline(other.about)
    }
}

impl Freshness {
    /// That word.
    #[must_use]
    pub fn new(hints: CacheHints) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(hints)))
    }

    /// The latest word.
    #[must_use]
    pub fn hints(&self) -> CacheHints {
        **self.0.load()
    }

    /// The target has said it again, of the same offers.
    pub(crate) fn renew(&self, hints: CacheHints) {
        self.0.store(Arc::new(hints));
    }
}

impl fmt::Debug for Freshness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Freshness").field(&self.hints()).finish()
    }
}
