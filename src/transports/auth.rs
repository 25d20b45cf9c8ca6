//! Tells by its bearer token who a client is, on each way in that knows clients by tokens, and what it is shown.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderMap, header};
use runtime_api::Principal;
use subtle::ConstantTimeEq;

use crate::{
    config,
    mcp::{Shown, UnknownExposure},
};

/// The configured clients. With none, everybody is `anonymous`. Cheap to clone: all clones know the same clients.
#[derive(Clone)]
pub(crate) struct Auth(Arc<ArcSwap<Clients>>);

/// A client, as far as it is known.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) principal: Principal,
    /// Unless its requests say otherwise.
    pub(crate) shown: Shown,
}

struct Clients {
    clients: Vec<(Known, Vec<u8>)>,
    anonymous: Known,
}

impl Auth {
    pub(crate) fn new(http: &config::Http) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Clients::new(http))))
    }

    /// Knows the clients of this configuration from now on, and no others.
    pub(crate) fn replace(&self, http: &config::Http) {
        self.0.store(Arc::new(Clients::new(http)));
    }

    /// Whether everybody is let in.
    pub(crate) fn is_open(&self) -> bool {
        self.0.load().clients.is_empty()
    }

    /// Who sends these headers; `None` when that cannot be told and has to be.
    pub(crate) fn principal(&self, headers: &HeaderMap) -> Option<Principal> {
        self.0.load().known(headers).map(|known| known.principal.clone())
    }

    /// The same, and what it is shown.
    pub(crate) fn known(&self, headers: &HeaderMap) -> Option<Known> {
        self.0.load().known(headers).cloned()
    }
}

impl Clients {
    fn new(http: &config::Http) -> Self {
        let clients = http.client.iter().map(|client| {
            let token = client.token.expose().as_bytes().to_vec();
            let shown = Shown {
                exposure: client.exposure.unwrap_or(http.exposure),
                categories: client.categories.iter().map(String::as_str).collect(),
            };
            (Known { principal: Principal(client.name.as_str().into()), shown }, token)
        });
        Self { clients: clients.collect(), anonymous: Known::anonymous(http.exposure) }
    }

    fn known(&self, headers: &HeaderMap) -> Option<&Known> {
        if self.clients.is_empty() {
            return Some(&self.anonymous);
        }
        let value = headers.get(header::AUTHORIZATION)?.as_bytes();
        let (scheme, token) = value.split_at_checked(7)?;
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return None;
        }
        // Every token is compared, so that the time tells nothing of which came close.
        let mut found = None;
        for (client, known) in &self.clients {
            if bool::from(known.ct_eq(token)) {
                found = Some(client);
            }
        }
        found
    }
}

impl Known {
    /// Somebody of whom nothing is known.
    pub(crate) fn anonymous(exposure: config::Exposure) -> Self {
        Self { principal: Principal::anonymous(), shown: Shown { exposure, ..Shown::default() } }
    }

    /// The same client, with what the query of its address says.
    pub(crate) fn asking(self, query: Option<&str>) -> Result<Self, UnknownExposure> {
        Ok(Self { shown: self.shown.asked_for(query)?, ..self })
    }
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("clients", &self.0.load().clients.len()).finish_non_exhaustive()
    }
}
