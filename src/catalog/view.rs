//! What a client sees: everything, or one target alone.

use std::sync::Arc;

use runtime_api::{Kind, TargetOffers, TargetState};

use super::{Entry, Shelf, capabilities::Capabilities, names::unqualified, template};

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
    /// What a server in front of these targets can do.
    pub capabilities: Capabilities,
    state: TargetState,
    targets: Vec<Arc<TargetOffers>>,
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
            capabilities: targets.iter().map(|target| Capabilities::of(target)).collect(),
            state,
            targets,
        }
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
