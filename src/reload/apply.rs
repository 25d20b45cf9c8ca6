//! Puts a configuration in force: everything that can fail first, then everything that changes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use runtime_api::BoxError;
use runtime_http::HttpControl;
use runtime_mcpp::{Authority, PeersControl, PeersPlan};
use runtime_stdio::StdioControl;
use thiserror::Error;

use super::status::{Outcome, Trigger};
use crate::{
    app::{servers, upstreams},
    catalog::Rules,
    config::{self, Change, Config, Effect},
    layers::{Bounds, Door},
    mcp::{Seal, Server},
    transports::{auth::Auth, http::Entrance},
};

/// The parts of a gateway that can be changed while it runs.
pub(crate) struct Parts {
    pub(crate) http: HttpControl,
    pub(crate) stdio: StdioControl,
    /// None without a node.
    pub(crate) peers: Option<PeersControl>,
    pub(crate) rules: Rules,
    /// None when nothing listens on HTTP.
    pub(crate) entrance: Option<Entrance>,
    pub(crate) auth: Auth,
    pub(crate) door: Arc<Door>,
    pub(crate) authority: Arc<ArcSwap<Authority>>,
    pub(crate) server: Server,
}

/// Knows which configuration is in force and replaces it.
pub(crate) struct Reloader {
    in_force: Arc<Config>,
    parts: Parts,
}

/// It is right, and yet cannot be put in force beside what needs a restart.
#[derive(Debug, Error)]
#[error("it takes a restart to put this in force: {what}, while {keys} keeps its value")]
struct NeedsRestart {
    what: String,
    keys: String,
}

/// Everything that was checked.
struct Plan {
    http: runtime_http::Plan,
    stdio: runtime_stdio::Plan,
    peers: Option<PeersPlan>,
    authority: Authority,
    seal: Option<Seal>,
}

impl Reloader {
    pub(crate) fn new(in_force: Config, parts: Parts) -> Self {
        Self { in_force: Arc::new(in_force), parts }
    }

    /// Puts whatever of `new` can be changed in force. Returns how it differs from what was in force.
    pub(super) fn take_over(&mut self, new: &Config) -> Result<Vec<Change>, BoxError> {
        let changes = self.in_force.difference(new);
        if changes.iter().all(|change| change.effect == Effect::Restart) {
            return Ok(changes);
        }
        let merged = self.in_force.with_live_of(new);
        if let Some(mistake) = merged.mistakes().into_iter().next() {
            let keys = changes.iter().filter(|change| change.effect == Effect::Restart).map(|change| &*change.key);
            return Err(NeedsRestart { what: mistake.what, keys: keys.collect::<Vec<_>>().join(", ") }.into());
        }
        let plan = self.plan(&merged, &changes)?;
        self.apply(plan, merged);
        Ok(changes)
    }

    /// Says how it went.
    pub(super) fn report(&self, trigger: Trigger, outcome: Outcome) {
        if trigger == Trigger::Start && matches!(&outcome, Outcome::Unchanged { needs_restart } if needs_restart.is_empty()) {
            return;
        }
        self.parts.server.metrics().reloaded(outcome.as_str());
        self.parts.server.configuration().set(trigger, outcome);
    }

    fn plan(&self, config: &Config, changes: &[Change]) -> Result<Plan, BoxError> {
        let peers: Vec<_> = config.peer.iter().map(config::Peer::to_runtime).collect();
        // Without a key there is an ephemeral one, which must not change when something else does.
        let seal_changed = changes.iter().any(|change| change.key.starts_with("http.seal_key"));
        Ok(Plan {
            http: self.parts.http.plan(upstreams(config)?)?,
            stdio: self.parts.stdio.plan(servers(config)),
            peers: self.parts.peers.as_ref().map(|control| control.plan(&peers)).transpose()?,
            authority: Authority::new(&config.p2p.clone().unwrap_or_default())?,
            seal: seal_changed.then(|| Seal::new(&config.http)).transpose()?,
        })
    }

    fn apply(&mut self, plan: Plan, config: Config) {
        let Plan { http, stdio, peers, authority, seal } = plan;
        let config = Arc::new(config);
        self.parts.entrance.iter().for_each(|entrance| entrance.replace(&config.http));
        self.parts.auth.replace(&config.http);
        self.parts.server.reconfigure(&config.http);
        self.parts.door.resize(Bounds::from(&config.admission));
        self.parts.authority.store(Arc::new(authority));
        if let Some(seal) = seal {
            self.parts.server.sessions().replace_seal(seal);
        }
        self.parts.rules.change(Arc::clone(&config), || {
            self.parts.http.apply(http);
            self.parts.stdio.apply(stdio);
            if let (Some(control), Some(plan)) = (&self.parts.peers, peers) {
                control.apply(plan);
            }
        });
        self.in_force = config;
    }
}
