//! What a client sees: everything, or one target alone.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use runtime_api::{Cacheable, Kind, TargetOffers, TargetState};

use super::{
    Entry, Promise, Quarantined, Shelf,
    capabilities::{Capabilities, Tasks},
    names::unqualified,
    promise::Promises,
    template,
};

/// The lists of one view, and what its targets can do beside them.
#[derive(Debug)]
pub struct View {
    /// Its tools.
    pub tools: Shelf,
    /// Its prompts.
    pub prompts: Shelf,
    /// Its resources.
    pub resources: Shelf,
    /// Its templates of resources.
    pub templates: Shelf,
    /// Whom to ask for a resource that nobody lists: one for each target that has resources.
    pub sources: Vec<Arc<Entry>>,
    /// Whom to ask for a task: one for each target that makes tasks of calls.
    pub task_sources: Vec<TaskSource>,
    /// What a server in front of these targets can do.
    pub capabilities: Capabilities,
    /// How to use it, as a raw JSON string.
    pub instructions: Option<Bytes>,
    /// Tools that are not offered until somebody accepts them, by the names that they would have.
    quarantined: HashMap<Arc<str>, Arc<Quarantined>>,
    promises: Promises,
    state: TargetState,
    targets: Vec<Arc<TargetOffers>>,
}

/// Whom to ask for a task.
#[derive(Debug, Clone)]
pub struct TaskSource {
    /// Answers at once how a task stands.
    pub entry: Arc<Entry>,
    /// Answers when the task has ended.
    pub waiting: Arc<Entry>,
    /// What its target does of tasks.
    pub tasks: Tasks,
}

impl Default for View {
    fn default() -> Self {
        Self::new(|_| Vec::new(), Vec::new(), TargetState::Ready, Vec::new())
    }
}

impl View {
    pub(super) fn new(
        mut entries: impl FnMut(Kind) -> Vec<Arc<Entry>>,
        sources: Vec<Arc<Entry>>,
        state: TargetState,
        targets: Vec<Arc<TargetOffers>>,
    ) -> Self {
        let mut shelf = |kind| Shelf::new(entries(kind));
        Self {
            tools: shelf(Kind::Tool),
            prompts: shelf(Kind::Prompt),
            resources: shelf(Kind::Resource),
            templates: shelf(Kind::Template),
            sources,
            task_sources: Vec::new(),
            capabilities: targets.iter().map(|target| Capabilities::of(target)).collect(),
            instructions: None,
            quarantined: HashMap::new(),
            promises: Promises::of(&targets),
            state,
            targets,
        }
    }

    /// The same with these targets for tasks: what others declare of tasks is not offered.
    pub(super) fn with_tasks(mut self, sources: Vec<TaskSource>) -> Self {
        self.capabilities.tasks = sources.iter().fold(Tasks::NONE, |all, source| all.or(source.tasks));
        self.task_sources = sources;
        self
    }

    /// The same with these instructions.
    pub(super) fn with_instructions(self, instructions: Option<Bytes>) -> Self {
        Self { instructions, ..self }
    }

    /// The view that knows why these tools are not in it.
    pub(super) fn without(self, quarantined: &[Arc<Quarantined>]) -> Self {
        let by_name = quarantined.iter().map(|tool| (Arc::clone(&tool.public), Arc::clone(tool))).collect();
        Self { quarantined: by_name, ..self }
    }

    /// The tool of that name, if it is not offered because nobody has accepted it.
    #[must_use]
    pub fn quarantined(&self, name: &str) -> Option<&Quarantined> {
        self.quarantined.get(name).map(|tool| &**tool)
    }

    /// One of the lists.
    #[must_use]
    pub const fn shelf(&self, kind: Kind) -> &Shelf {
        match kind {
            Kind::Tool => &self.tools,
            Kind::Prompt => &self.prompts,
            Kind::Resource => &self.resources,
            Kind::Template => &self.templates,
        }
    }

    /// What may be promised of one of the lists, or of what the view says of itself.
    #[must_use]
    pub const fn promise(&self, what: Cacheable) -> &Promise {
        self.promises.of_result(what)
    }

    /// Whom to ask for a task of this target. Linear in the targets.
    #[must_use]
    pub fn task_source(&self, target: &str) -> Option<&TaskSource> {
        self.task_sources.iter().find(|source| source.entry.chosen().target.as_str() == target)
    }

    /// The templates that this URI fits. Linear in the templates.
    pub fn templates_that_fit(&self, uri: &str) -> impl Iterator<Item = &Arc<Entry>> {
        self.templates.iter().filter(move |entry| template::fits(&entry.public, uri))
    }

    /// Whom to ask for a resource whose URI names its target, and its URI there.
    #[must_use]
    pub fn qualified<'u>(&self, uri: &'u str) -> Option<(&Arc<Entry>, &'u str)> {
        let (target, own) = unqualified(uri)?;
        let source = self.sources.iter().find(|source| source.chosen().target.as_str() == target)?;
        Some((source, own))
    }

    /// Whether the target of this view answers; a merged view always does.
    #[must_use]
    pub const fn state(&self) -> &TargetState {
        &self.state
    }

    /// The targets whose offers are here.
    #[must_use]
    pub fn targets(&self) -> &[Arc<TargetOffers>] {
        &self.targets
    }

    /// Targets whose last known offers are served because they do not answer.
    pub fn stale(&self) -> impl Iterator<Item = &TargetOffers> {
        self.targets.iter().map(|target| &**target).filter(|target| matches!(target.state, TargetState::Stale(_)))
    }
}
