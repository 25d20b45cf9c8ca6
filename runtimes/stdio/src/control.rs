//! Changes the servers of a runtime while it runs. As with upstreams over HTTP, a server whose settings are the same stays as it is,
//! with its process; one that is gone or changed finishes its calls and is ended then.

use std::convert::Infallible;

use runtime_api::{Roster, RosterPlan};

use crate::{settings::Server, target::Target};

/// A way to a runtime's servers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct StdioControl {
    pub(crate) targets: Roster<Target>,
}

/// Servers that are not in force yet. Dropping it changes nothing.
#[derive(Debug)]
pub struct Plan(RosterPlan<Target>);

impl StdioControl {
    /// What it takes to have these servers and no others; their names are unique. Starts no process.
    #[must_use]
    pub fn plan(&self, servers: Vec<Server>) -> Plan {
        let wanted = servers.into_iter().map(|server| (server.target.clone(), server));
        let fits = |target: &Target, server: &Server| *target.server == *server;
        let Ok(plan) = self.targets.plan(wanted, fits, |server| Ok::<_, Infallible>(Target::new(server)));
        Plan(plan)
    }

    /// Puts a plan in force. New calls go to the new servers; calls in flight to those that are gone finish where they are.
    pub fn apply(&self, plan: Plan) {
        self.targets.apply(plan.0);
    }
}
