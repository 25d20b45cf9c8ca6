//! Tells by its bearer token who a client is, on each way in that knows clients by tokens.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderMap, header};
use runtime_api::Principal;
use subtle::ConstantTimeEq;

use crate::config;

/// The configured clients. With none, everybody is `anonymous`. Cheap to clone: all clones know the same clients.
#[derive(Clone)]
pub(crate) struct Auth(Arc<ArcSwap<Clients>>);

struct Clients {
    clients: Vec<(Principal, Vec<u8>)>,
    anonymous: Principal,
}

impl Auth {
    pub(crate) fn new(clients: &[config::Client]) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Clients::new(clients))))
    }

    /// Knows these clients from now on, and no others.
    pub(crate) fn replace(&self, clients: &[config::Client]) {
        self.0.store(Arc::new(Clients::new(clients)));
    }

    /// Whether everybody is let in.
    pub(crate) fn is_open(&self) -> bool {
        self.0.load().clients.is_empty()
    }

    /// Who sends these headers; `None` when that cannot be told and has to be.
    pub(crate) fn principal(&self, headers: &HeaderMap) -> Option<Principal> {
        self.0.load().principal(headers).cloned()
    }
}

impl Clients {
    fn new(clients: &[config::Client]) -> Self {
        let clients = clients.iter().map(|client| {
            let token = client.token.expose().as_bytes().to_vec();
            (Principal(client.name.as_str().into()), token)
        });
        Self { clients: clients.collect(), anonymous: Principal::anonymous() }
    }

    fn principal(&self, headers: &HeaderMap) -> Option<&Principal> {
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
        for (principal, known) in &self.clients {
            if bool::from(known.ct_eq(token)) {
                found = Some(principal);
            }
        }
        found
    }
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("clients", &self.0.load().clients.len()).finish_non_exhaustive()
    }
}
