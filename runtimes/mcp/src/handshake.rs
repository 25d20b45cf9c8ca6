//! Both ways to begin: `server/discover` for the modern revision, `initialize` for the others.

use bytes::Bytes;
use runtime_api::{About, CacheHint, CallError, Delivery, ErrorCode, Kind};
use tokio::time::Instant;
use twinway_proto::{json, json::members, meta::key, revision, rope::Rope};

use crate::{
    Incoming,
    client::{TASKS, has_tasks_extension},
    hint,
};

/// The gateway's `Implementation`, as client and as server.
pub const CLIENT_INFO: &str = concat!(r#"{"name":"twinway","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);

/// `initialize`
pub const INITIALIZE: &str = "initialize";
/// `notifications/initialized`
pub const INITIALIZED: &str = "notifications/initialized";
/// `server/discover`
pub const DISCOVER: &str = "server/discover";

/// What a server says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerFacts {
    /// The revision that was agreed on.
    pub revision: &'static str,
    /// The rest.
    pub about: About,
    /// Until when all this is good and for whom, as it says.
    pub hint: CacheHint,
}

impl ServerFacts {
    /// Whether it declares that capability at top level: `tools`, `prompts`, `resources`.
    #[must_use]
    pub fn has(&self, capability: &str) -> bool {
        self.capability(capability).is_some()
    }

    /// Whether it declares that it tells of changes of such a list.
    #[must_use]
    pub fn tells_of(&self, kind: Kind) -> bool {
        let capability = self.capability(kind.capability());
        capability.and_then(|capability| part(&capability, "listChanged")).is_some_and(|raw| &raw[..] == b"true")
    }

    /// Whether it declares that it tells of updates of single resources.
    #[must_use]
    pub fn tells_of_updates(&self) -> bool {
        let resources = self.capability("resources");
        resources.and_then(|resources| part(&resources, "subscribe")).is_some_and(|raw| &raw[..] == b"true")
    }

    /// Whether it has the extension of tasks.
    #[must_use]
    pub fn has_tasks_extension(&self) -> bool {
        let declared = self.about.capabilities.as_ref();
        declared.is_some_and(|declared| has_tasks_extension(text(declared)))
    }

    fn capability(&self, name: &str) -> Option<Bytes> {
        part(self.about.capabilities.as_ref()?, name)
    }
}

/// `_meta` of a modern request that the gateway makes for itself.
#[must_use]
pub fn own_meta() -> String {
    meta_declaring("{}")
}

fn meta_declaring(capabilities: &str) -> String {
    format!(
        r#"{{"{}":"{}","{}":{CLIENT_INFO},"{}":{capabilities}}}"#,
        key::PROTOCOL_VERSION,
        revision::MODERN,
        key::CLIENT_INFO,
        key::CLIENT_CAPABILITIES
    )
}

/// `params` of the `subscriptions/listen` by which the gateway hears how these tasks stand (2026-07-28, the extension of tasks). `ids` is
/// a raw array.
#[must_use]
pub fn listen_to_tasks(ids: &str) -> Rope {
    let declared = format!(r#"{{"extensions":{{"{TASKS}":{{}}}}}}"#);
    format!(r#"{{"notifications":{{"taskIds":{ids}}},"_meta":{}}}"#, meta_declaring(&declared)).into_bytes().into()
}

/// `params` of a modern request that the gateway makes for itself; `members` are further members, or empty.
#[must_use]
pub fn own_params(members: &str) -> Rope {
    let comma = if members.is_empty() { "" } else { "," };
    format!(r#"{{{members}{comma}"_meta":{}}}"#, own_meta()).into_bytes().into()
}

/// `params` of `initialize`. `capabilities` and `info` are raw objects.
#[must_use]
pub fn initialize_params(revision: &str, capabilities: &str, info: &str) -> Rope {
    format!(r#"{{"protocolVersion":"{revision}","capabilities":{capabilities},"clientInfo":{info}}}"#).into_bytes().into()
}

/// Reads a `DiscoverResult`.
///
/// # Errors
/// `Protocol` when the server does not speak [`revision::MODERN`].
pub fn read_discovered(answer: &Incoming) -> Result<ServerFacts, CallError> {
    let mut facts = ServerFacts { revision: revision::MODERN, ..ServerFacts::default() };
    let result = answer.result();
    let mut speaks = false;
    for member in members(text(&result)).flatten() {
        match &*member.key.text() {
            "supportedVersions" => speaks = member.value.contains(concat!('"', "2026-07-28", '"')),
            "capabilities" => facts.about.capabilities = Some(result.slice(member.range)),
            "instructions" => facts.about.instructions = Some(result.slice(member.range)),
            "_meta" => facts.about.server_info = part(&result.slice(member.range), key::SERVER_INFO),
            "ttlMs" => facts.hint.fresh_until = hint::ttl(member.value).map(|ttl| Instant::now() + ttl),
            "cacheScope" => facts.hint.scope = hint::scope(member.value),
            _ => {}
        }
    }
    if speaks { Ok(facts) } else { Err(refused("the server does not offer revision 2026-07-28")) }
}

/// Reads an `InitializeResult`.
///
/// # Errors
/// `Protocol` when the server chose a revision without sessions or an unknown one.
pub fn read_initialized(answer: &Incoming) -> Result<ServerFacts, CallError> {
    let mut facts = ServerFacts::default();
    let result = answer.result();
    for member in members(text(&result)).flatten() {
        match &*member.key.text() {
            "protocolVersion" => {
                let chosen = json::string(member.value).and_then(|name| revision::legacy(&name));
                facts.revision = chosen.ok_or_else(|| refused("the server chose a revision that is not known"))?;
            }
            "serverInfo" => facts.about.server_info = Some(result.slice(member.range)),
            "capabilities" => facts.about.capabilities = Some(result.slice(member.range)),
            "instructions" => facts.about.instructions = Some(result.slice(member.range)),
            _ => {}
        }
    }
    if facts.revision.is_empty() {
        return Err(refused("the server's answer to initialize has no protocolVersion"));
    }
    Ok(facts)
}

/// The value of one member of a raw object.
#[must_use]
pub fn part(object: &Bytes, name: &str) -> Option<Bytes> {
    members(text(object)).flatten().find(|member| member.key.is(name)).map(|member| object.slice(member.range))
}

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

fn refused(what: &'static str) -> CallError {
    CallError::runtime(ErrorCode::Protocol, Delivery::NotSent, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(result: &str) -> Incoming {
        Incoming::read(Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#)), 1).unwrap()
    }

    #[test]
    fn what_the_gateway_asks_for_itself_is_json() {
        assert_eq!(json::check(&own_params("").into_bytes()), Ok(()));
        assert_eq!(json::check(&own_params(r#""cursor":"x""#).into_bytes()), Ok(()));
        assert_eq!(json::check(&listen_to_tasks(r#"["t"]"#).into_bytes()), Ok(()));
        assert_eq!(json::check(&initialize_params(revision::LATEST_LEGACY, "{}", CLIENT_INFO).into_bytes()), Ok(()));
    }

    #[test]
    fn a_discovery_is_read() {
        let facts = read_discovered(&answer(
            r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}}"#,
        ))
        .unwrap();

        assert!(facts.has("tools") && !facts.has("prompts"));
        assert_eq!(facts.about.server_info.as_deref(), Some(&br#"{"name":"s"}"#[..]));
    }

    #[test]
    fn a_revision_that_is_not_known_is_refused() {
        assert!(read_initialized(&answer(r#"{"protocolVersion":"2026-07-28","capabilities":{}}"#)).is_err());
        assert!(read_initialized(&answer(r#"{"capabilities":{}}"#)).is_err());
        assert!(read_discovered(&answer(r#"{"supportedVersions":["2030-01-01"]}"#)).is_err());
    }
}
