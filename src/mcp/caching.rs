//! For how long and for whom a result is (2026-07-28, caching).

use runtime_api::CacheScope;
use tokio::time::Instant;

use super::Inbound;
use crate::catalog::Promise;

/// The raw members `ttlMs` and `cacheScope`.
pub(super) fn members(promise: &Promise, inbound: &Inbound<'_>) -> String {
    let ttl_ms = promise.ttl(Instant::now()).as_millis();
    let scope = if inbound.is_like_any_other() { promise.scope() } else { CacheScope::Private };
    format!(r#""ttlMs":{ttl_ms},"cacheScope":"{}""#, scope.as_str())
}
