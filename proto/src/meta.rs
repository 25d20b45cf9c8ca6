//! `_meta`: what a gateway reads of it, and how it is written anew for the next hop.

use crate::json::{DEPTH_MAX, JsonError, Key, Scanner, members};

/// Names of `_meta` members.
pub mod key {
    /// Revision of a modern request.
    pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    /// Capabilities of a modern client.
    pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    /// Name and version of a modern client.
    pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
    /// Log level of a modern request.
    pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
    /// Name and version of a modern server, in results.
    pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
    /// Which `subscriptions/listen` a notification belongs to: the id of that request.
    pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
    /// The task that a message belongs to (2025-11-25, tasks).
    pub const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";
    /// Progress token.
    pub const PROGRESS_TOKEN: &str = "progressToken";
    /// W3C Trace Context.
    pub const TRACEPARENT: &str = "traceparent";
    /// W3C Trace Context.
    pub const TRACESTATE: &str = "tracestate";
    /// W3C Baggage.
    pub const BAGGAGE: &str = "baggage";
    /// Members of ours begin so.
    pub const OURS: &str = "twinway/";
    /// Asks for the route decision in the reply; holds it there.
    pub const EXPLAIN: &str = "twinway/explain";
    /// In a reply: the tool is deprecated. Its client is told once.
    pub const DEPRECATION: &str = "twinway/deprecation";
    /// In an answer: how many notifications its client was not told before it.
    pub const LOST_NOTIFICATIONS: &str = "twinway/lost-notifications";
    /// Milliseconds that are left for the call.
    pub const DEADLINE_MS: &str = "twinway/deadline-ms";
    /// Names one intended side effect.
    pub const IDEMPOTENCY_KEY: &str = "twinway/idempotency-key";
    /// Gateways that a call went through, between gateways only.
    pub const PATH: &str = "twinway/path";
}

/// What a gateway reads of a request's `_meta`: raw JSON values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the member of the same name")]
pub struct RequestMeta<'a> {
    pub protocol_version: Option<&'a str>,
    pub client_capabilities: Option<&'a str>,
    pub client_info: Option<&'a str>,
    pub log_level: Option<&'a str>,
    pub progress_token: Option<&'a str>,
    pub traceparent: Option<&'a str>,
    pub tracestate: Option<&'a str>,
    pub baggage: Option<&'a str>,
    pub explain: Option<&'a str>,
    pub deadline_ms: Option<&'a str>,
    pub idempotency_key: Option<&'a str>,
    /// A member belongs, or may belong, to one hop only: what goes on has to be written anew.
    pub of_one_hop: bool,
}

impl<'a> RequestMeta<'a> {
    /// Reads the raw `_meta` object. Of duplicate keys the last counts, as in a full parser.
    ///
    /// # Errors
    /// [`JsonError`] when it is not an object.
    pub fn read(raw: &'a str) -> Result<Self, JsonError> {
        let mut scanner = Scanner::new(raw, DEPTH_MAX);
        let meta = Self::take(&mut scanner)?;
        scanner.end()?;
        Ok(meta)
    }

    /// The same on the way through a larger text: the scanner stands before the object, and behind it afterwards.
    pub(crate) fn take(scanner: &mut Scanner<'a>) -> Result<Self, JsonError> {
        let mut meta = Self::default();
        scanner.open_object()?;
        let mut first = true;
        while let Some(key) = scanner.next_key(first)? {
            first = false;
            let value = scanner.value()?;
            let name = key.text();
            meta.of_one_hop |= belongs_to_a_hop(&name);
            if let Some(field) = meta.field(&name) {
                *field = Some(scanner.slice(value));
            }
        }
        Ok(meta)
    }

    fn field(&mut self, name: &str) -> Option<&mut Option<&'a str>> {
        Some(match name {
            key::PROTOCOL_VERSION => &mut self.protocol_version,
            key::CLIENT_CAPABILITIES => &mut self.client_capabilities,
            key::CLIENT_INFO => &mut self.client_info,
            key::LOG_LEVEL => &mut self.log_level,
            key::PROGRESS_TOKEN => &mut self.progress_token,
            key::TRACEPARENT => &mut self.traceparent,
            key::TRACESTATE => &mut self.tracestate,
            key::BAGGAGE => &mut self.baggage,
            key::EXPLAIN => &mut self.explain,
            key::DEADLINE_MS => &mut self.deadline_ms,
            key::IDEMPOTENCY_KEY => &mut self.idempotency_key,
            _ => return None,
        })
    }
}

/// Whether a member of `_meta` is meant for the next hop alone, and has to be replaced there or taken out.
#[must_use]
pub fn belongs_to_a_hop(name: &str) -> bool {
    matches!(name, key::PROGRESS_TOKEN | key::TRACEPARENT | key::TRACESTATE | key::BAGGAGE) || name.starts_with(key::OURS)
}

/// Writes an object anew: the members of `raw` that `keep` wants, byte for byte and in their order, then `added`.
///
/// `added` holds keys without need of escapes and raw JSON values. Returns the object, `{}` when nothing is left.
///
/// # Errors
/// [`JsonError`] when `raw` is not an object.
pub fn rewrite(raw: Option<&str>, keep: impl Fn(&Key<'_>) -> bool, added: &[(&str, &[u8])]) -> Result<Vec<u8>, JsonError> {
    let added_len: usize = added.iter().map(|(key, value)| key.len() + value.len() + 4).sum();
    let mut out = Vec::with_capacity(raw.map_or(0, str::len) + added_len + 2);
    out.push(b'{');
    for member in raw.into_iter().flat_map(members) {
        let member = member?;
        if keep(&member.key) {
            comma(&mut out);
            out.extend_from_slice(member.key.raw.as_bytes());
            out.push(b':');
            out.extend_from_slice(member.value.as_bytes());
        }
    }
    for (key, value) in added {
        comma(&mut out);
        write_member(&mut out, key, value);
    }
    out.push(b'}');
    Ok(out)
}

/// Appends a member. The key needs no escapes, and the value is raw JSON.
pub fn write_member(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(value);
}

fn comma(out: &mut Vec<u8>) {
    if out.len() > 1 {
        out.push(b',');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewrite_keeps_what_it_does_not_know() {
        let raw = r#"{ "x-vendor": {"b":1,"a":1e400}, "progressToken":7, "twinway\/explain":true }"#;
        let keep = |key: &Key<'_>| !key.is(key::PROGRESS_TOKEN) && !key.text().starts_with(key::OURS);

        let out = rewrite(Some(raw), keep, &[(key::PROGRESS_TOKEN, b"12")]).unwrap();

        assert_eq!(String::from_utf8(out).unwrap(), r#"{"x-vendor":{"b":1,"a":1e400},"progressToken":12}"#);
    }

    #[test]
    fn reading_finds_each_member_once() {
        let raw = r#"{"progressToken":"a","traceparent":"t","io.modelcontextprotocol/protocolVersion":"2026-07-28","other":1}"#;

        let meta = RequestMeta::read(raw).unwrap();

        let expected = RequestMeta {
            protocol_version: Some("\"2026-07-28\""),
            progress_token: Some("\"a\""),
            traceparent: Some("\"t\""),
            of_one_hop: true,
            ..RequestMeta::default()
        };
        assert_eq!(meta, expected);
    }
}
