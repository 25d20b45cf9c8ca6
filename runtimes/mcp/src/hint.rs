//! Reads for how long and for whom a result is good, as its server says (2026-07-28, caching).

use std::time::Duration;

use runtime_api::CacheScope;
use twinway_proto::json;

/// A day: whatever is said to be good for longer is asked for anew long before.
const TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A raw `ttlMs`; `None` when it is no number. A negative one counts as 0.
pub(crate) fn ttl(raw: &str) -> Option<Duration> {
    let ms: f64 = raw.parse().ok()?;
    Some(Duration::try_from_secs_f64(ms.max(0.0) / 1000.0).map_or(TTL_MAX, |ttl| ttl.min(TTL_MAX)))
}

/// A raw `cacheScope`.
pub(crate) fn scope(raw: &str) -> CacheScope {
    json::string(raw).map_or(CacheScope::Private, |name| CacheScope::named(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_live_is_any_number_within_bounds() {
        let cases = [
            ("0", Some(0)),
            ("-5", Some(0)),
            ("1500", Some(1_500)),
            ("1.5e3", Some(1_500)),
            ("1e400", Some(86_400_000)),
            ("99999999999999999999", Some(86_400_000)),
            ("null", None),
            (r#""5""#, None),
            ("{}", None),
        ];
        for (raw, expected) in cases {
            assert_eq!(ttl(raw), expected.map(Duration::from_millis), "{raw}");
        }
    }

    #[test]
    fn only_what_says_so_is_for_everybody() {
        for (raw, expected) in [
            (r#""public""#, CacheScope::Public),
            (r#""p\u0075blic""#, CacheScope::Public),
            (r#""private""#, CacheScope::Private),
            (r#""shared""#, CacheScope::Private),
            ("null", CacheScope::Private),
        ] {
            assert_eq!(scope(raw), expected, "{raw}");
        }
    }
}
