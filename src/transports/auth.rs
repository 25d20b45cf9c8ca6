//! Tells by its bearer token who a client is, on each way in that knows clients by tokens.

use http::{HeaderMap, header};
use runtime_api::Principal;
use subtle::ConstantTimeEq;

use crate::config;

/// The configured clients. With none, everybody is `anonymous`.
pub(crate) struct Auth {
    clients: Vec<(Principal, Vec<u8>)>,
    anonymous: Principal,
}

impl Auth {
    pub(crate) fn new(clients: &[config::Client]) -> Self {
        let clients = clients.iter().map(|client| {
            let token = client.token.expose().as_bytes().to_vec();
            (Principal(client.name.as_str().into()), token)
        });
        Self { clients: clients.collect(), anonymous: Principal::anonymous() }
    }

    /// Whether everybody is let in.
    pub(crate) const fn is_open(&self) -> bool {
        self.clients.is_empty()
    }

    /// Who sends these headers; `None` when that cannot be told and has to be.
    pub(crate) fn principal(&self, headers: &HeaderMap) -> Option<&Principal> {
        if self.is_open() {
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
        f.debug_struct("Auth").field("clients", &self.clients.len()).finish_non_exhaustive()
    }
}
