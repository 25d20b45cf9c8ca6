//! What a `subscriptions/listen` asked for, and what of it the other side has said that it honours (2026-07-28, subscriptions).

use std::collections::BTreeSet;

use bytes::Bytes;
use runtime_api::Standing;

use super::{Uris, refused};
use crate::handshake::part;

/// The notification that says so, the first on each stream.
pub const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

/// What one `subscriptions/listen` is good for.
#[derive(Debug, Clone, Default)]
pub struct Honoured {
    /// What it asked for.
    pub asked: Uris,
    /// What was acknowledged of that; `None` as long as nothing was.
    pub acknowledged: Option<BTreeSet<String>>,
}

impl Honoured {
    /// How a subscription to that resource stands; `None` when it was not asked for.
    #[must_use]
    pub fn standing(&self, uri: &str) -> Option<Standing> {
        if !self.asked.contains(uri) {
            return None;
        }
        Some(match &self.acknowledged {
            Some(acknowledged) if acknowledged.contains(uri) => Ok(()),
            Some(_) => refused("the target does not tell of updates of this resource"),
            None => refused("the target has not acknowledged the subscription"),
        })
    }
}

/// The URIs that an acknowledgement names, by its raw parameters.
#[must_use]
pub fn honoured_uris(params: &Bytes) -> BTreeSet<String> {
    let uris = part(params, "notifications").and_then(|honoured| part(&honoured, "resourceSubscriptions"));
    uris.and_then(|uris| serde_json::from_slice(&uris).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_and_not_acknowledged_is_refused_and_of_the_rest_nothing_is_known() {
        let asked = Uris::new(["x:1", "x:2"].map(Into::into).into());
        let params = Bytes::from_static(br#"{"notifications":{"resourceSubscriptions":["x:1","x:3"]}}"#);
        let honoured = Honoured { asked: Uris::clone(&asked), acknowledged: Some(honoured_uris(&params)) };
        let silent = Honoured { asked, acknowledged: None };

        assert!(matches!(honoured.standing("x:1"), Some(Ok(()))));
        assert!(matches!(honoured.standing("x:2"), Some(Err(_))));
        assert!(honoured.standing("x:3").is_none());
        assert!(matches!(silent.standing("x:1"), Some(Err(_))));
        assert!(honoured_uris(&Bytes::from_static(br#"{"notifications":{"toolsListChanged":true}}"#)).is_empty());
    }
}
