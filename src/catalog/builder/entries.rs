//! How one item, or several that are made one, becomes an entry of the catalogue.

use std::sync::Arc;

use runtime_api::{ANSWER_TIMEOUT, Item, Kind, RuntimeId, Support, TargetId, TargetState};
use tokio::time::Duration;
use twinway_proto::headers::ParamHeaders;

use super::Builder;
use crate::{
    catalog::{Entry, TaskSource, Tasks, definition, offered::Offered},
    config::Trust,
    layers::Caching,
    metadata::Metadata,
    router::{self, Candidate, Reason, Route},
    telemetry::RouteMetrics,
};

/// The template that every URI fits.
const ANY_URI: &str = "{+uri}";

/// What stands for the id of any task, in spans and in the catalogue.
const ANY_TASK: &str = "{taskId}";

/// How long one request waits for the end of a task. Longer than this neither servers nor proxies hold a request open, and a client
/// that wants to wait for longer asks again.
const TASK_WAIT_MAX: Duration = ANSWER_TIMEOUT;

/// What a tool is called here.
pub(super) struct PublicName {
    pub(super) public: Arc<str>,
    /// See [`Entry::full`].
    pub(super) full: Option<Arc<str>>,
    /// Its name in the merged view, by which rules know it.
    pub(super) ruled: Arc<str>,
}

impl Builder {
    /// An item of one target under that name; a tool by the name that rules know it by, if that is another.
    pub(super) fn entry(&mut self, kind: Kind, public: Arc<str>, part: (&Offered, usize), ruled: Option<Arc<str>>) -> Arc<Entry> {
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
    pub(super) fn source(&mut self, offer: &Offered) -> Arc<Entry> {
        let all = Item { name: ANY_URI.into(), definition: bytes::Bytes::new() };
        self.plain(Kind::Template, ANY_URI.into(), offer, &all, bytes::Bytes::new())
    }

    /// Whoever makes tasks of calls. Peers do not: a grant names tools, and a task has outgrown the call of its tool.
    pub(super) fn task_source(&mut self, offer: &Offered) -> Option<TaskSource> {
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
    pub(super) fn tool(&mut self, name: PublicName, parts: &[(&Offered, usize)], made: bool) -> Arc<Entry> {
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
        let free_output = definition::has_free_output(std::str::from_utf8(&first.definition).unwrap_or_default());
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
}
