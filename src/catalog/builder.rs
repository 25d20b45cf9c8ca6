//! Builds the catalogue anew whenever a runtime's offers change, or the rules do.

mod entries;
mod manner;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures_util::{FutureExt, StreamExt, stream::BoxStream};
use runtime_api::{CallService, Kind, Offers, RuntimeId, TargetId, TargetOffers, TargetState};
use runtime_mcpp::Carrier;
use tokio::{
    sync::watch,
    time::{Duration, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    Capabilities, Catalog, Changed, Changes, Entry, Pins, Quarantined, Refused, Rules, Snapshot, Unsound, View, ViewChanges,
    candidates, instructions,
    known::Known,
    names::{self, Named},
    offered::{self, Offered, Taking},
    pins,
    sound::Care,
};
use crate::{
    config::{Config, Routing, ToolRule, Trust},
    layers::Guards,
    metadata::Sources,
    router::{self, Average},
    telemetry::{Metrics, RouteMetrics},
};

use entries::PublicName;
use manner::{Manner, manner, manners};

/// How long after it failed the file of pins is written again without anybody asking: whatever was in the way is rarely gone at once.
const SAVE_AGAIN: Duration = Duration::from_secs(30);

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

/// A runtime as the catalogue needs it.
struct Source {
    id: RuntimeId,
    service: CallService,
    offers: watch::Receiver<Arc<Offers>>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("sources", &self.sources.len()).finish_non_exhaustive()
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

    fn publish(&self, mut snapshot: Snapshot) {
        debug!(tools = snapshot.merged.tools.len(), "new catalogue");
        let number = *self.catalog.changed.borrow() + 1;
        snapshot.number = number;
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

const fn care(config: &Config) -> Care {
    Care { strips_hidden_text: config.definitions.strip_hidden_text }
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
