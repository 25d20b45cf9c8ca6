//! Everything the gateway offers at this moment: one snapshot, replaced whole, read without a lock.

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
mod rules;
mod shelf;
mod sound;
mod template;
mod view;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arc_swap::{ArcSwap, Guard};
use futures_util::{FutureExt, StreamExt, stream::BoxStream};
use prometheus_client::metrics::counter::Counter;
use runtime_api::{ANSWER_TIMEOUT, CallService, Item, Kind, Offers, RuntimeId, Support, TargetId, TargetOffers, TargetState};
use runtime_mcpp::Carrier;
use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use twinway_proto::headers::ParamHeaders;

pub use capabilities::{Capabilities, Tasks};
pub use categories::Categories;
pub use changes::{Changed, Changes, Listed, Touched, ViewChanges};
pub use definition::has_free_output;
pub use fingerprint::Fingerprint;
pub use names::NAME_BYTES_MAX;
pub use offered::Unsound;
pub use pins::{AcceptError, Pin, Pins, PinsError, Quarantined};
pub use rules::Rules;
pub use shelf::{Page, Shelf};
pub use sound::{Flaw, shown, spelled_out};
pub use view::{TaskSource, View};

use changes::History;
use known::Known;
use names::Named;
use offered::{Offered, Taking};
use sound::Care;

use crate::{
    config::{Config, PinMode, Prefix, Routing, Share, ToolRule, Trust},
    layers::{Caching, Guards},
    metadata::{Metadata, Sources},
    router::{self, Average, Candidate, Reason, Route},
    telemetry::{Metrics, RouteMetrics},
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

/// The template that every URI fits.
const ANY_URI: &str = "{+uri}";

/// What stands for the id of any task, in spans and in the catalogue.
const ANY_TASK: &str = "{taskId}";

/// How long one request waits for the end of a task. Longer than this neither servers nor proxies hold a request open, and a client
/// that wants to wait for longer asks again.
const TASK_WAIT_MAX: Duration = ANSWER_TIMEOUT;
/// How long after it failed the file of pins is written again without anybody asking: whatever was in the way is rarely gone at once.
const SAVE_AGAIN: Duration = Duration::from_secs(30);

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

/// How one target's tools appear.
#[derive(Debug, Clone, Copy)]
struct Manner {
    prefix: Prefix,
    trust: Trust,
    pin: PinMode,
    /// What it answers may depend on the session.
    per_session: bool,
}

/// What a tool is called here.
struct PublicName {
    public: Arc<str>,
    /// See [`Entry::full`].
    full: Option<Arc<str>>,
    /// Its name in the merged view, by which rules know it.
    ruled: Arc<str>,
}

/// A runtime as the catalogue needs it.
struct Source {
    id: RuntimeId,
    service: CallService,
    offers: watch::Receiver<Arc<Offers>>,
}

/// The catalogue. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog {
    snapshot: Arc<ArcSwap<Snapshot>>,
    changed: watch::Sender<u64>,
    history: Arc<History>,
    pins: Pins,
}

/// Builds snapshots from what the runtimes offer. Runs until told to stop.
pub struct Builder {
    sources: Vec<Source>,
    rules: Rules,
    /// The configuration that the fields below were made from.
    adopted: Arc<Config>,
    manners: HashMap<String, Manner>,
    metadata: Sources,
    separator: Arc<str>,
    care: Care,
    metrics: Metrics,
    route_metrics: HashMap<(RuntimeId, TargetId, Arc<str>), Arc<RouteMetrics>>,
    routing: Routing,
    guards: Guards,
    /// How quick the candidates of tools with several are, by public name and target.
    averages: HashMap<(Arc<str>, RuntimeId, TargetId), Arc<Average>>,
    known: Known,
    catalog: Catalog,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("sources", &self.sources.len()).finish_non_exhaustive()
    }
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

    /// In what a view, and of its tools those of these categories, is another than in the catalogue of that number. When that is longer
    /// ago than is remembered, in everything.
    #[must_use]
    pub fn touched_since(&self, number: u64, view: &str, categories: &Categories) -> Touched {
        self.history.touches(number, view, categories)
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

impl Builder {
    /// A builder without runtimes, and the catalogue that it fills.
    #[must_use]
    pub fn new(config: &Config, metrics: Metrics, pins: Pins) -> (Self, Catalog) {
        let (changed, _) = watch::channel(0);
        let catalog = Catalog { snapshot: Arc::default(), changed, history: Arc::default(), pins };
        let rules = Rules::new(config);
        let builder = Self {
            sources: Vec::new(),
            adopted: rules.with(Arc::clone),
            rules,
            manners: manners(config),
            metadata: Sources::new(config),
            separator: config.http.separator.as_str().into(),
            care: care(config),
            routing: config.routing.clone(),
            guards: Guards::new(config, metrics.clone()),
            averages: HashMap::new(),
            metrics,
            route_metrics: HashMap::new(),
            known: Known::default(),
            catalog: catalog.clone(),
        };
        (builder, catalog)
    }

    /// Adds a runtime, before [`Builder::run`].
    pub fn add(&mut self, runtime: &dyn runtime_api::Runtime) {
        self.sources.push(Source { id: runtime.id(), service: runtime.service(), offers: runtime.offers() });
        self.rebuild();
    }

    /// A way to change the rules while it runs.
    #[must_use]
    pub fn rules(&self) -> Rules {
        self.rules.clone()
    }

    /// Publishes a new snapshot whenever a runtime's offers change, or the rules do.
    pub async fn run(mut self, stop: CancellationToken) {
        let offers = self.sources.iter().map(|source| tokio_stream_of(source.offers.clone()));
        let rules = tokio_stream_of(self.rules.changes());
        let accepted = tokio_stream_of(self.catalog.pins.accepted());
        let mut changes = futures_util::stream::select_all(offers.chain([rules, accepted]));
        loop {
            // Whoever accepts a tool waits for this; what a first list holds is pinned as soon as it is in the file.
            self.catalog.pins.save().await;
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.catalog.pins.save().await,
                changed = changes.next() => if changed.is_none() {
                    return;
                },
                () = sleep(SAVE_AGAIN), if self.catalog.pins.is_unsaved() => continue,
            }
            // What changed in one step is published in one.
            while changes.next().now_or_never().flatten().is_some() {}
            self.rebuild();
        }
    }

    /// Takes over what new rules say.
    fn adopt(&mut self, config: Arc<Config>) {
        for name in self.adopted.targets_changed(&config) {
            self.known.forget(&name);
        }
        self.manners = manners(&config);
        self.metadata = Sources::new(&config);
        self.separator = config.http.separator.as_str().into();
        self.care = care(&config);
        self.routing = config.routing.clone();
        self.guards.adopt(&config);
        self.adopted = config;
    }

    fn rebuild(&mut self) {
        let (config, offers) = self.rules.with(|config| {
            let offers = self.sources.iter().map(|source| source.offers.borrow().clone()).collect::<Vec<_>>();
            (Arc::clone(config), offers)
        });
        if !Arc::ptr_eq(&config, &self.adopted) {
            self.adopt(config);
        }
        self.known.begin();
        let mut snapshot = Snapshot::default();
        let offered = self.take(&offers, &mut snapshot.unsound);
        let there: HashSet<_> = offered.iter().map(|offer| (&offer.runtime, &offer.target.target)).collect();
        self.route_metrics.retain(|(runtime, target, _), _| there.contains(&(runtime, target)));
        let (mut sources, mut task_sources) = (Vec::new(), Vec::new());
        let mut tool_names = Some(self.names(Kind::Tool, &offered));
        let merged_names: HashMap<_, _> = tool_names
            .iter()
            .flat_map(|(names, _)| names)
            .map(|named| ((named.target, named.item), Arc::clone(&named.public)))
            .collect();
        for (target_place, offer) in offered.iter().enumerate() {
            let source = Capabilities::of(&offer.target).resources.then(|| self.source(offer));
            let of_tasks = self.task_source(offer);
            // Rules know a tool by its name in the merged view, wherever it is called.
            let ruled = |item: usize| merged_names.get(&(target_place, item)).cloned();
            let view = self.alone(offer, source.iter().cloned().collect(), ruled);
            let view = view.with_tasks(of_tasks.iter().cloned().collect());
            snapshot.alone.insert(offer.target.target.0.clone(), view);
            sources.extend(source);
            task_sources.extend(of_tasks);
        }
        let (mut refused, mut quarantined) = (Vec::new(), Vec::new());
        let targets: Vec<_> = offered.iter().map(|offer| offer.target.clone()).collect();
        // Models do what they are told here: only whose word counts may say anything.
        let trusted = targets.iter().filter(|target| self.manner(&target.target).trust == Trust::Hints);
        let instructions = instructions::of_several(trusted.map(|target| &**target));
        let entries = |kind| {
            let names = tool_names.take_if(|_| kind == Kind::Tool).unwrap_or_else(|| self.names(kind, &offered));
            self.merge(kind, names, &offered, (&mut refused, &mut quarantined))
        };
        let merged = View::new(entries, sources, TargetState::Ready, targets).without(&quarantined);
        snapshot.merged = merged.with_tasks(task_sources).with_instructions(instructions);
        snapshot.targets = offered.iter().map(|offer| (offer.runtime.clone(), offer.target.clone())).collect();
        snapshot.quarantined = quarantined;
        snapshot.refused = refused;
        self.report(&snapshot);
        let carried = |runtime: &RuntimeId, target: &TargetOffers| match target.state {
            TargetState::Ready if runtime.as_str() == router::MCPP => target.transport,
            _ => None,
        };
        for carrier in Carrier::ALL.map(Carrier::as_str) {
            let peers = offered.iter().filter(|offer| carried(&offer.runtime, &offer.target) == Some(carrier)).count();
            self.metrics.set_peers_connected(carrier, peers);
        }
        self.metrics.tools().set(i64::try_from(snapshot.merged.tools.len()).unwrap_or(i64::MAX));
        self.known.end();
        self.publish(snapshot);
    }

    fn publish(&self, snapshot: Snapshot) {
        debug!(tools = snapshot.merged.tools.len(), "new catalogue");
        let number = *self.catalog.changed.borrow() + 1;
        let changes = Changes::between(&self.catalog.load(), &snapshot, number);
        self.catalog.snapshot.store(Arc::new(snapshot));
        // Whoever is woken by the new number finds what changed.
        if let Some(changes) = changes {
            let changes = self.catalog.history.push(changes);
            changes.merged().into_iter().for_each(|merged| self.tell(merged));
        }
        self.catalog.changed.send_replace(number);
    }

    fn tell(&self, merged: &ViewChanges) {
        let (added, removed, changed) = (merged.added.count, merged.removed.count, merged.changed.count);
        self.metrics.catalogue_changed(added, removed, changed);
        let (categories, prompts, resources) = (merged.categories.count, merged.prompts, merged.resources);
        info!(added, removed, changed, categories, prompts, resources, "the catalogue changed");
        for Changed { tool, old_version, new_version, definition } in &merged.changed.first {
            info!(%tool, %old_version, %new_version, definition, "a tool is not what it was");
        }
    }

    /// Says what is not offered, and what not as it came, as far as that was not so before.
    fn report(&self, new: &Snapshot) {
        let known = self.catalog.load();
        for refusal in new.refused.iter().filter(|refusal| !known.refused.contains(refusal)) {
            let Refused { public, target, holder, cause } = refusal;
            warn!(tool = %public, %target, %holder, "{}", cause.as_str());
        }
        offered::report(&new.unsound, &known.unsound, &self.metrics);
        pins::report(&new.quarantined, &known.quarantined);
        self.metrics.quarantined_tools().set(i64::try_from(new.quarantined.len()).unwrap_or(i64::MAX));
    }

    /// What the targets offer, each tool judged and compared with its pin.
    fn take(&mut self, offers: &[Arc<Offers>], unsound: &mut Vec<Unsound>) -> Vec<Offered> {
        let mut offered = Vec::new();
        for (source, offers) in self.sources.iter().zip(offers) {
            for target in &offers.targets {
                let pin = manner(&self.manners, &target.target).pin;
                let taking = Taking {
                    care: self.care,
                    pins: self.catalog.pins.of(&target.target, pin),
                    known: &mut self.known,
                    metrics: &self.metrics,
                    unsound,
                };
                offered.push(Offered::take(&source.id, &source.service, target, taking));
            }
        }
        offered
    }

    /// One target without prefixes.
    fn alone(&mut self, offer: &Offered, sources: Vec<Arc<Entry>>, ruled: impl Fn(usize) -> Option<Arc<str>>) -> View {
        let target = &offer.target;
        let mut quarantined = Vec::new();
        let entries = |kind| {
            let mut entries = Vec::new();
            for (place, item) in offer.items.of(kind).iter().enumerate() {
                match offer.quarantined(kind, place, &item.name) {
                    Some(tool) => quarantined.push(Arc::new(tool)),
                    None => entries.push(self.entry(kind, item.name.clone(), (offer, place), ruled(place))),
                }
            }
            entries
        };
        let view = View::new(entries, sources, target.state.clone(), vec![target.clone()]);
        view.without(&quarantined).with_instructions(instructions::of_one(target))
    }

    /// All items of a kind, under the names of the merged view.
    fn merge(
        &mut self,
        kind: Kind,
        (mut names, shadowed): (Vec<Named>, Vec<Refused>),
        offered: &[Offered],
        (refused, quarantined): (&mut Vec<Refused>, &mut Vec<Arc<Quarantined>>),
    ) -> Vec<Arc<Entry>> {
        refused.extend(shadowed);
        if kind != Kind::Tool {
            let entry = |named: Named| self.entry(kind, named.public, (&offered[named.target], named.item), None);
            return names.into_iter().map(entry).collect();
        }
        // They have their names already, so that nobody else gets one of these meanwhile.
        names.retain(|named| {
            let tool = offered[named.target].quarantined(kind, named.item, &named.public).map(Arc::new);
            let is_offered = tool.is_none();
            quarantined.extend(tool);
            is_offered
        });
        let groups = candidates::group(names, self.metadata.making(), &offered, refused);
        quarantined.extend(made_of(quarantined, &groups, self.metadata.making()));
        quarantined.sort_unstable_by(|a, b| a.public.cmp(&b.public));
        let entries = groups.into_iter().map(|group| {
            let parts: Vec<_> = group.parts.iter().map(|part| (&offered[part.target], part.item)).collect();
            // What a rule makes has the name that the rule gives.
            let full = group.parts[0].full.clone().filter(|_| !group.made);
            let ruled = Arc::clone(&group.public);
            self.tool(PublicName { public: group.public, full, ruled }, &parts, group.made)
        });
        entries.collect()
    }

    /// The names of all items of a kind in the merged view.
    fn names(&self, kind: Kind, offered: &[Offered]) -> (Vec<Named>, Vec<Refused>) {
        names::assign(offered, kind, |target| self.manner(target).prefix, &self.separator)
    }

    /// An item of one target under that name; a tool by the name that rules know it by, if that is another.
    fn entry(&mut self, kind: Kind, public: Arc<str>, part: (&Offered, usize), ruled: Option<Arc<str>>) -> Arc<Entry> {
        let (offer, place) = part;
        if kind == Kind::Tool {
            let own = &offer.given(place).name;
            let full = (*own != public).then(|| Arc::clone(own));
            let ruled = ruled.unwrap_or_else(|| Arc::clone(&public));
            return self.tool(PublicName { public, full, ruled }, &[part], false);
        }
        let item = &offer.items.of(kind)[place];
        let definition = definition::rename(&item.definition, kind, &item.name, &public);
        self.plain(kind, public, offer, item, definition)
    }

    /// Whoever has any resource of this target.
    fn source(&mut self, offer: &Offered) -> Arc<Entry> {
        let all = Item { name: ANY_URI.into(), definition: bytes::Bytes::new() };
        self.plain(Kind::Template, ANY_URI.into(), offer, &all, bytes::Bytes::new())
    }

    /// Whoever makes tasks of calls. Peers do not: a grant names tools, and a task has outgrown the call of its tool.
    fn task_source(&mut self, offer: &Offered) -> Option<TaskSource> {
        let is_peer = offer.runtime.as_str() == router::MCPP;
        let tasks = Some(Tasks::of(&offer.target)).filter(|tasks| !is_peer && *tasks != Tasks::NONE)?;
        let any = Item { name: ANY_TASK.into(), definition: bytes::Bytes::new() };
        let mut entry = |timeout: Duration| {
            // Cancelling and answering change something, so nothing of it is made again after it may have been done.
            let metadata = Metadata { category: "tasks".into(), timeout, ..Metadata::default() };
            self.with_metadata(metadata, Kind::Template, ANY_TASK.into(), offer, &any, bytes::Bytes::new())
        };
        Some(TaskSource { entry: entry(Metadata::default().timeout), waiting: entry(TASK_WAIT_MAX), tasks })
    }

    fn plain(&mut self, kind: Kind, public: Arc<str>, offer: &Offered, item: &Item, definition: bytes::Bytes) -> Arc<Entry> {
        // Rules and hints are about tools.
        let metadata = Metadata { category: kind.capability().into(), read_only: true, ..Metadata::default() };
        self.with_metadata(metadata, kind, public, offer, item, definition)
    }

    fn with_metadata(
        &mut self,
        metadata: Metadata,
        kind: Kind,
        public: Arc<str>,
        offer: &Offered,
        item: &Item,
        definition: bytes::Bytes,
    ) -> Arc<Entry> {
        let route = Route { place: 0, reason: Reason::OnlyCandidate, choice: None };
        let decisions = self.metrics.route_decisions(route.reason.as_str());
        let candidates = vec![self.candidate(&public, kind, offer, item, &metadata, false)];
        Arc::new(Entry {
            kind,
            public,
            full: None,
            definition,
            metadata,
            candidates,
            route: Ok(route),
            caching: None,
            deprecated: None,
            decisions: Some(decisions),
            mirrored: ParamHeaders::default(),
            free_output: false,
        })
    }

    /// A tool out of these parts: each an offer, and the place of the tool in it. The first one's definition is shown.
    fn tool(&mut self, name: PublicName, parts: &[(&Offered, usize)], made: bool) -> Arc<Entry> {
        let PublicName { public, full, ruled } = name;
        let first = parts[0].0.items.tools[parts[0].1].clone();
        let trusted = parts.iter().all(|(offer, _)| self.manner(&offer.target.target).trust == Trust::Hints);
        let trust = if trusted { Trust::Hints } else { Trust::None };
        let metadata = match made {
            true => self.metadata.of_made(&ruled, &first.definition, trust),
            false => self.metadata.of(&ruled, &first.definition, trust),
        };
        let runtimes: Vec<_> = parts.iter().map(|(offer, _)| offer.runtime.as_str()).collect();
        let route = router::choose(&ruled, &metadata, &runtimes, &self.routing);
        let decisions = route.as_ref().ok().map(|route| self.metrics.route_decisions(route.reason.as_str()));
        let several = parts.len() > 1;
        let candidates = parts
            .iter()
            .map(|(offer, place)| self.candidate(&public, Kind::Tool, offer, offer.given(*place), &metadata, several));
        let candidates = candidates.collect();
        let caching = metadata.keeps_results().map(|ttl| {
            let definitions = parts
                .iter()
                .map(|(offer, place)| self.known.definition(&offer.runtime, &offer.target.target, offer.given(*place)));
            let definitions = definitions.collect();
            let per_session = parts.iter().any(|(offer, _)| self.manner(&offer.target.target).per_session);
            Caching { ttl, definitions, per_session }
        });
        let schema = runtime_mcp::handshake::part(&first.definition, "inputSchema");
        let schema = schema.as_deref().and_then(|schema| std::str::from_utf8(schema).ok());
        let mirrored = schema.and_then(|schema| ParamHeaders::from_schema(schema).ok()).unwrap_or_default();
        let free_output = has_free_output(std::str::from_utf8(&first.definition).unwrap_or_default());
        let mut definition = definition::rename(&first.definition, Kind::Tool, &first.name, &public);
        if metadata.deprecated {
            definition = definition::deprecate(&definition, metadata.deprecation_message.as_deref());
        }
        let deprecated = metadata.deprecated.then(|| self.metrics.deprecated_calls(&public));
        let kind = Kind::Tool;
        Arc::new(Entry {
            kind,
            public,
            full,
            definition,
            metadata,
            candidates,
            route,
            caching,
            deprecated,
            decisions,
            mirrored,
            free_output,
        })
    }

    fn candidate(
        &mut self,
        public: &Arc<str>,
        kind: Kind,
        offer: &Offered,
        item: &Item,
        metadata: &Metadata,
        several: bool,
    ) -> Candidate {
        let Offered { runtime, service, target: of, .. } = offer;
        let guard = self.guards.of(runtime, &of.target);
        let average = several.then(|| {
            let key = (Arc::clone(public), runtime.clone(), of.target.clone());
            Arc::clone(self.averages.entry(key).or_default())
        });
        Candidate {
            runtime: runtime.clone(),
            target: of.target.clone(),
            name: item.name.clone(),
            service: service.clone(),
            metrics: self.route_metrics(runtime, &of.target, &metadata.category),
            classes: guard.doors(metadata),
            guard,
            ready: of.state == TargetState::Ready,
            modern: of.eras.modern == Support::Yes,
            average,
            latencies: self.known.latencies(runtime, &of.target, kind, item),
        }
    }

    fn route_metrics(&mut self, runtime: &RuntimeId, target: &TargetId, category: &Arc<str>) -> Arc<RouteMetrics> {
        let category = self.metrics.category(category);
        let new = || self.metrics.route(runtime.as_str(), target.as_str(), &category);
        self.route_metrics.entry((runtime.clone(), target.clone(), category.clone())).or_insert_with(new).clone()
    }

    /// A target that no configuration names was found by somebody: its tools are prefixed and its word does not count.
    fn manner(&self, target: &TargetId) -> Manner {
        manner(&self.manners, target)
    }
}

/// The tools that rules would make, were not all of their parts quarantined.
fn made_of<'r>(
    quarantined: &[Arc<Quarantined>],
    groups: &[candidates::Group],
    rules: impl Iterator<Item = &'r ToolRule>,
) -> Vec<Arc<Quarantined>> {
    let missing = rules.filter_map(|rule| {
        let name = rule.name.as_deref().filter(|name| groups.iter().all(|group| &*group.public != *name))?;
        let part = quarantined.iter().find(|tool| rule.from.iter().any(|part| *part == *tool.public))?;
        Some(Arc::new(Quarantined { public: name.into(), ..(**part).clone() }))
    });
    missing.collect()
}

/// See [`Builder::manner`].
fn manner(manners: &HashMap<String, Manner>, target: &TargetId) -> Manner {
    let stranger = Manner { prefix: Prefix::Always, trust: Trust::None, pin: PinMode::Off, per_session: false };
    manners.get(target.as_str()).copied().unwrap_or(stranger)
}

const fn care(config: &Config) -> Care {
    Care { strips_hidden_text: config.definitions.strip_hidden_text }
}

fn manners(config: &Config) -> HashMap<String, Manner> {
    let upstreams = config.upstream.iter().map(|one| {
        let per_session = one.share == Some(Share::Session);
        (&one.name, Manner { prefix: one.prefix, trust: one.trust, pin: one.pin, per_session })
    });
    let peers = config
        .peer
        .iter()
        .map(|one| (&one.name, Manner { prefix: one.prefix, trust: one.trust, pin: one.pin, per_session: false }));
    upstreams.chain(peers).map(|(name, manner)| (name.as_str().to_owned(), manner)).collect()
}

impl candidates::Parts for &[Offered] {
    fn definition(&self, named: &Named) -> &bytes::Bytes {
        &self[named.target].items.tools[named.item].definition
    }

    fn target(&self, named: &Named) -> TargetId {
        self[named.target].target.target.clone()
    }
}

/// One item for each change.
fn tokio_stream_of<T: Send + Sync + 'static>(watched: watch::Receiver<T>) -> BoxStream<'static, ()> {
    Box::pin(futures_util::stream::unfold(watched, |mut watched| async move {
        watched.changed().await.ok()?;
        Some(((), watched))
    }))
}
