//! Everything the gateway offers at this moment: one snapshot, replaced whole, read without a lock.

mod candidates;
mod capabilities;
mod changes;
mod definition;
mod instructions;
mod known;
mod names;
mod rules;
mod shelf;
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
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use twinway_proto::headers::ParamHeaders;

pub use capabilities::{Capabilities, Tasks};
pub use changes::{Changed, Changes, Listed, Touched, ViewChanges};
pub use names::NAME_BYTES_MAX;
pub use rules::Rules;
pub use shelf::{Page, Shelf};
pub use view::{TaskSource, View};

use changes::History;
use known::Known;
use names::{Named, Offered};

use crate::{
    config::{Config, Prefix, Routing, Trust},
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
    /// Its definition with that name, otherwise byte for byte as the target gave it.
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

    /// In what a view is another than in the catalogue of that number. When that is longer ago than is remembered, in everything.
    #[must_use]
    pub fn touched_since(&self, number: u64, view: &str) -> Touched {
        self.history.touches(number, view)
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
    pub fn new(config: &Config, metrics: Metrics) -> (Self, Catalog) {
        let (changed, _) = watch::channel(0);
        let catalog = Catalog { snapshot: Arc::default(), changed, history: Arc::default() };
        let rules = Rules::new(config);
        let builder = Self {
            sources: Vec::new(),
            adopted: rules.with(Arc::clone),
            rules,
            manners: manners(config),
            metadata: Sources::new(config),
            separator: config.http.separator.as_str().into(),
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
        let mut changes = futures_util::stream::select_all(offers.chain([rules]));
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = changes.next() => if changed.is_none() {
                    return;
                },
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
        let with_source = self.sources.iter().zip(&offers);
        let offered: Vec<Offered> = with_source
            .flat_map(|(source, offers)| {
                offers.targets.iter().map(|target| (source.id.clone(), source.service.clone(), target.clone()))
            })
            .collect();
        let there: HashSet<_> = offered.iter().map(|(runtime, _, offers)| (runtime, &offers.target)).collect();
        self.route_metrics.retain(|(runtime, target, _), _| there.contains(&(runtime, target)));
        self.known.begin();
        let mut snapshot = Snapshot::default();
        let (mut sources, mut task_sources) = (Vec::new(), Vec::new());
        for offer in &offered {
            let target = &offer.2;
            let source = Capabilities::of(target).resources.then(|| self.source(offer));
            let entries = |kind| {
                let items = target.items.of(kind).iter().enumerate();
                items.map(|(place, item)| self.entry(kind, item.name.clone(), (offer, place))).collect()
            };
            let view = View::new(entries, source.iter().cloned().collect(), target.state.clone(), vec![target.clone()]);
            let of_tasks = self.task_source(offer);
            let view = view.with_tasks(of_tasks.iter().cloned().collect()).with_instructions(instructions::of_one(target));
            snapshot.alone.insert(target.target.0.clone(), view);
            sources.extend(source);
            task_sources.extend(of_tasks);
        }
        let mut refused = Vec::new();
        let targets: Vec<_> = offered.iter().map(|(_, _, target)| target.clone()).collect();
        // Models do what they are told here: only whose word counts may say anything.
        let trusted = targets.iter().filter(|target| self.manner(&target.target).trust == Trust::Hints);
        let instructions = instructions::of_several(trusted.map(|target| &**target));
        let merged = View::new(|kind| self.merge(kind, &offered, &mut refused), sources, TargetState::Ready, targets);
        snapshot.merged = merged.with_tasks(task_sources).with_instructions(instructions);
        snapshot.targets = offered.iter().map(|(runtime, _, target)| (runtime.clone(), target.clone())).collect();
        self.report(&refused);
        snapshot.refused = refused;
        let carried = |runtime: &RuntimeId, target: &TargetOffers| match target.state {
            TargetState::Ready if runtime.as_str() == router::MCPP => target.transport,
            _ => None,
        };
        for carrier in Carrier::ALL.map(Carrier::as_str) {
            let peers = offered.iter().filter(|(runtime, _, target)| carried(runtime, target) == Some(carrier)).count();
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
        let (prompts, resources) = (merged.prompts, merged.resources);
        info!(added, removed, changed, prompts, resources, "the catalogue changed");
        for Changed { tool, old_version, new_version, definition } in &merged.changed.first {
            info!(%tool, %old_version, %new_version, definition, "a tool is not what it was");
        }
    }

    fn report(&self, refused: &[Refused]) {
        let known = self.catalog.load();
        for refusal in refused.iter().filter(|refusal| !known.refused.contains(refusal)) {
            let Refused { public, target, holder, cause } = refusal;
            warn!(tool = %public, %target, %holder, "{}", cause.as_str());
        }
    }

    /// All items of a kind, under the names of the merged view.
    fn merge(&mut self, kind: Kind, offered: &[Offered], refused: &mut Vec<Refused>) -> Vec<Arc<Entry>> {
        let (names, shadowed) = names::assign(offered, kind, |target| self.manner(target).prefix, &self.separator);
        refused.extend(shadowed);
        if kind != Kind::Tool {
            return names.into_iter().map(|named| self.entry(kind, named.public, (&offered[named.target], named.item))).collect();
        }
        let groups = candidates::group(names, self.metadata.making(), &offered, refused);
        let entries = groups.into_iter().map(|group| {
            let parts: Vec<_> = group.parts.iter().map(|part| (&offered[part.target], part.item)).collect();
            self.tool(group.public, &parts, group.made)
        });
        entries.collect()
    }

    /// An item of one target under that name.
    fn entry(&mut self, kind: Kind, public: Arc<str>, part: (&Offered, usize)) -> Arc<Entry> {
        if kind == Kind::Tool {
            return self.tool(public, &[part], false);
        }
        let (offer, place) = part;
        let item = &offer.2.items.of(kind)[place];
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
        let (runtime, _, target) = offer;
        let tasks = Some(Tasks::of(target)).filter(|tasks| runtime.as_str() != router::MCPP && *tasks != Tasks::NONE)?;
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
            definition,
            metadata,
            candidates,
            route: Ok(route),
            caching: None,
            deprecated: None,
            decisions: Some(decisions),
            mirrored: ParamHeaders::default(),
        })
    }

    /// A tool out of these parts: each an offer, and the place of the tool in it. The first one's definition is shown.
    fn tool(&mut self, public: Arc<str>, parts: &[(&Offered, usize)], made: bool) -> Arc<Entry> {
        let tool = |(offer, place): &(&Offered, usize)| offer.2.items.tools[*place].clone();
        let first = tool(&parts[0]);
        let trusted = parts.iter().all(|(offer, _)| self.manner(&offer.2.target).trust == Trust::Hints);
        let trust = if trusted { Trust::Hints } else { Trust::None };
        let metadata = match made {
            true => self.metadata.of_made(&public, &first.definition, trust),
            false => self.metadata.of(&public, &first.definition, trust),
        };
        let runtimes: Vec<_> = parts.iter().map(|(offer, _)| offer.0.as_str()).collect();
        let route = router::choose(&public, &metadata, &runtimes, &self.routing);
        let decisions = route.as_ref().ok().map(|route| self.metrics.route_decisions(route.reason.as_str()));
        let several = parts.len() > 1;
        let candidates = parts.iter().map(|(offer, place)| {
            let item = &offer.2.items.tools[*place];
            self.candidate(&public, Kind::Tool, offer, item, &metadata, several)
        });
        let candidates = candidates.collect();
        let caching = metadata.keeps_results().map(|ttl| {
            let definitions = parts.iter().map(|(offer, place)| {
                let (runtime, _, of) = offer;
                self.known.definition(runtime, &of.target, &of.items.tools[*place])
            });
            Caching { ttl, definitions: definitions.collect() }
        });
        let schema = runtime_mcp::handshake::part(&first.definition, "inputSchema");
        let schema = schema.as_deref().and_then(|schema| std::str::from_utf8(schema).ok());
        let mirrored = schema.and_then(|schema| ParamHeaders::from_schema(schema).ok()).unwrap_or_default();
        let mut definition = definition::rename(&first.definition, Kind::Tool, &first.name, &public);
        if metadata.deprecated {
            definition = definition::deprecate(&definition, metadata.deprecation_message.as_deref());
        }
        let deprecated = metadata.deprecated.then(|| self.metrics.deprecated_calls(&public));
        let kind = Kind::Tool;
        Arc::new(Entry { kind, public, definition, metadata, candidates, route, caching, deprecated, decisions, mirrored })
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
        let (runtime, service, of) = offer;
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
        let stranger = Manner { prefix: Prefix::Always, trust: Trust::None };
        self.manners.get(target.as_str()).copied().unwrap_or(stranger)
    }
}

fn manners(config: &Config) -> HashMap<String, Manner> {
    let upstreams = config.upstream.iter().map(|one| (one.name.as_str(), one.prefix, one.trust));
    let peers = config.peer.iter().map(|one| (one.name.as_str(), one.prefix, one.trust));
    upstreams.chain(peers).map(|(name, prefix, trust)| (name.to_owned(), Manner { prefix, trust })).collect()
}

impl candidates::Parts for &[Offered] {
    fn definition(&self, named: &Named) -> &bytes::Bytes {
        &self[named.target].2.items.tools[named.item].definition
    }

    fn target(&self, named: &Named) -> TargetId {
        self[named.target].2.target.clone()
    }
}

/// One item for each change.
fn tokio_stream_of<T: Send + Sync + 'static>(watched: watch::Receiver<T>) -> BoxStream<'static, ()> {
    Box::pin(futures_util::stream::unfold(watched, |mut watched| async move {
        watched.changed().await.ok()?;
        Some(((), watched))
    }))
}
