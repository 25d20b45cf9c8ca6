//! Everything the gateway offers at this moment: one snapshot, replaced whole, read without a lock.

mod builder;
mod candidates;
mod capabilities;
mod categories;
mod changes;
mod definition;
mod fingerprint;
mod instructions;
mod known;
mod names;
mod offered;
mod pins;
mod promise;
mod rules;
mod shelf;
mod sound;
mod template;
mod view;

use std::{collections::HashMap, ops::RangeInclusive, sync::Arc};

use arc_swap::{ArcSwap, Guard};
use prometheus_client::metrics::counter::Counter;
use runtime_api::{Kind, RuntimeId, TargetId, TargetOffers, TargetState};
use tokio::{
    sync::watch,
    time::{Duration, Instant},
};
use twinway_proto::headers::ParamHeaders;

pub use builder::Builder;
pub use capabilities::{Capabilities, Tasks};
pub use categories::Categories;
pub use changes::{Changed, Changes, Listed, Touched, ViewChanges};
pub use definition::has_free_output;
pub use fingerprint::Fingerprint;
pub use names::NAME_BYTES_MAX;
pub use offered::Unsound;
pub use pins::{AcceptError, Pin, Pins, PinsError, Quarantined};
pub use promise::Promise;
pub use rules::Rules;
pub use shelf::{Page, Shelf};
pub use sound::{Flaw, shown, spelled_out};
pub use view::{TaskSource, View};

use changes::History;

use crate::{
    layers::Caching,
    metadata::Metadata,
    router::{self, Candidate, Route},
};

/// A tool, prompt, resource or template as clients see it.
#[derive(Debug)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Its name here; of a resource its URI, of a template the template.
    pub public: Arc<str>,
    /// The name that it would have if clients took any. Whoever calls it by that finds it.
    pub full: Option<Arc<str>>,
    /// Its definition with the public name, otherwise byte for byte as the target gave it, unless that breaks clients.
    pub definition: bytes::Bytes,
    /// What decides how it is called.
    pub metadata: Metadata,
    /// Who offers it; never empty.
    pub candidates: Vec<Candidate>,
    /// Which of them answers and why, or which runtime is demanded and missing.
    pub route: Result<Route, &'static str>,
    /// How its results are kept; absent when they are not.
    pub caching: Option<Caching>,
    /// Counts its calls, if clients are told to stop using it.
    pub deprecated: Option<Counter>,
    /// Counts route decisions; absent without a route.
    pub decisions: Option<Counter>,
    /// Arguments that a modern client mirrors in headers.
    pub mirrored: ParamHeaders,
    /// Its `outputSchema` describes something else than an object, which revisions with sessions do not know.
    pub free_output: bool,
}

impl Entry {
    /// The candidate that answers, or the first where none may.
    #[must_use]
    pub fn chosen(&self) -> &Candidate {
        let place = self.route.as_ref().map_or(0, |route| route.place);
        &self.candidates[place]
    }

    /// Whether a call that fails may be made again, elsewhere or later. Looked at for each call.
    #[must_use]
    pub fn recovers(&self) -> bool {
        self.metadata.retry.is_some() || self.candidates.len() > 1
    }

    /// Whether no peer has a part in it.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.candidates.iter().all(|candidate| candidate.runtime.as_str() != router::MCPP)
    }
}

/// A tool that is not offered as somebody wanted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The name.
    pub public: Arc<str>,
    /// Whose tool it is.
    pub target: TargetId,
    /// Whose tool has the name, or the schema that counts.
    pub holder: TargetId,
    /// Why.
    pub cause: Cause,
}

/// Why a tool is not offered as somebody wanted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its name would shadow another target's tool, so it is not offered at all.
    NameTaken,
    /// A rule makes it one with others, and its input schema differs from theirs: it stays a tool of its own.
    OtherSchema,
}

impl Cause {
    /// What it is, in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NameTaken => "tool is not offered: its name belongs to another target",
            Self::OtherSchema => {
                "tool is not made one with others: its input schema differs; `compatible = true` in the rule allows it"
            }
        }
    }
}

/// All views at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Each has the next.
    pub number: u64,
    /// Everything, with prefixes.
    pub merged: View,
    /// Each target alone, without prefixes.
    pub alone: HashMap<Arc<str>, View>,
    /// What could not be offered.
    pub refused: Vec<Refused>,
    /// Tools whose definition was repaired, or is beyond that.
    pub unsound: Vec<Unsound>,
    /// Tools that somebody has to accept first, by their names in the merged view.
    pub quarantined: Vec<Arc<Quarantined>>,
    targets: Vec<(RuntimeId, Arc<TargetOffers>)>,
}

impl Snapshot {
    /// The view with that name; the merged one has none.
    #[must_use]
    pub fn view(&self, name: &str) -> Option<&View> {
        if name.is_empty() { Some(&self.merged) } else { self.alone.get(name) }
    }

    /// The target with that name. Linear in the targets.
    #[must_use]
    pub fn target(&self, name: &TargetId) -> Option<&TargetOffers> {
        self.targets.iter().map(|(_, target)| &**target).find(|target| target.target == *name)
    }

    /// Every target and its runtime, in the order of the configuration.
    #[must_use]
    pub fn targets(&self) -> &[(RuntimeId, Arc<TargetOffers>)] {
        &self.targets
    }
}

/// The catalogue. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog {
    snapshot: Arc<ArcSwap<Snapshot>>,
    changed: watch::Sender<u64>,
    history: Arc<History>,
    pins: Pins,
}

impl Catalog {
    /// The snapshot of this moment. Do not keep the guard across an await.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Says when there is a new snapshot.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What changed since the catalogue of that number, as far back as it is remembered, the oldest first. Whoever is told of
    /// a new snapshot and asks with the number of the last one learns whether a view of theirs is another.
    #[must_use]
    pub fn changes_since(&self, number: u64) -> Vec<Arc<Changes>> {
        self.history.since(number)
    }

    /// In what a view, and of its tools those of these categories, differs between the catalogues of two numbers, both among `numbers`.
    /// When the first is longer ago than is remembered, in everything.
    #[must_use]
    pub fn touched_in(&self, numbers: RangeInclusive<u64>, view: &str, categories: &Categories) -> Touched {
        self.history.touches(numbers, view, categories)
    }

    /// Which definitions are accepted.
    #[must_use]
    pub const fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Waits until each target has answered or failed, or `limit` is over.
    pub async fn settled(&self, limit: Duration) {
        self.settled_where(limit, |_| true).await;
    }

    /// The same for the targets of some runtimes.
    pub async fn settled_where(&self, limit: Duration, matters: impl Fn(&RuntimeId) -> bool) {
        let deadline = Instant::now() + limit;
        let mut changes = self.changes();
        let settled = |snapshot: &Snapshot| {
            let mut awaited = snapshot.targets.iter().filter(|(runtime, _)| matters(runtime));
            awaited.all(|(_, target)| target.state != TargetState::Connecting)
        };
        while !settled(&self.load()) {
            let changed = tokio::time::timeout_at(deadline, changes.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return;
            }
        }
    }
}
