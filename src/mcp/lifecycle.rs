//! `initialize` and `server/discover`.

use std::sync::Arc;

use bytes::Bytes;
use runtime_api::LegacyClient;
use runtime_mcp::{
    client::declared,
    handshake::{CLIENT_INFO, part},
};
use twinway_proto::{
    envelope::{self, Request},
    json,
    meta::key,
    revision,
};

use crate::catalog::Capabilities;

use super::{Answer, Inbound, Outgoing, Server, SessionError, Way, answer, listing::unknown_view};

/// The binding of a modern conversation over libp2p.
pub(super) const MODERN_BINDING: &str = "mcp-binding/2026-07-28";
/// The binding of a legacy conversation over libp2p.
pub(super) const LEGACY_BINDING: &str = "mcp-binding/legacy-2024-11-05";

/// How long a client may keep what discovery told. The offers of a gateway change when any of its targets does.
const TTL_MS: u64 = 5_000;

/// Longest `clientInfo` or `capabilities` that a session remembers. They travel in the session's handle, and so in a
/// header of every request, and servers refuse heads above 8 KiB or 16 KiB.
const CLIENT_PART_BYTES_MAX: usize = 1024;

impl Server {
    pub(super) fn initialize(&self, inbound: &Inbound<'_>, request: &Request<'_>) -> Answer {
        // A client that got a session here would read every later 404 as "session gone".
        let Some(capabilities) = self.capabilities(inbound, LEGACY_BINDING) else {
            return unknown_view(request.id, inbound.view);
        };
        let params = request.params.as_ref().map(|params| inbound.message.slice(params.range.clone())).unwrap_or_default();
        let Some(asked) = part(&params, "protocolVersion") else {
            return answer::error(200, Some(request.id), -32602, "`initialize` has no `protocolVersion`", None);
        };
        let asked = std::str::from_utf8(&asked).ok().and_then(json::string);
        // Of a revision that is not known the newest one that is (2025-11-25, lifecycle).
        let revision = asked.and_then(|asked| revision::legacy(&asked)).unwrap_or(revision::LATEST_LEGACY);
        let capabilities_of_client = part(&params, "capabilities").unwrap_or_default();
        let client = Arc::new(LegacyClient {
            revision,
            declared: declared(std::str::from_utf8(&capabilities_of_client).unwrap_or_default()),
            capabilities: bounded(Some(capabilities_of_client), "{}"),
            info: bounded(part(&params, "clientInfo"), r#"{"name":"unknown","version":"0"}"#),
        });
        let handle = match &inbound.way {
            Way::Stream { session, .. } => {
                session.initialize(client);
                None
            }
            Way::Http { .. } => match self.shared.sessions.open(client, inbound.principal, inbound.view) {
                Ok(handle) => Some(handle),
                Err(full) => return refuse_session(request.id, &full),
            },
        };
        let result = format!(r#"{{"protocolVersion":"{revision}","capabilities":{capabilities},"serverInfo":{CLIENT_INFO}}}"#);
        let message = envelope::response(request.id, result.into_bytes().into());
        Answer::Message(Outgoing { session: handle, ..Outgoing::new(200, message) })
    }

    pub(super) fn discover(&self, inbound: &Inbound<'_>, request: &Request<'_>) -> Answer {
        let Some(capabilities) = self.capabilities(inbound, MODERN_BINDING) else {
            return unknown_view(request.id, inbound.view);
        };
        let result = format!(
            r#"{{"resultType":"complete","supportedVersions":["{}"],"capabilities":{capabilities},"ttlMs":{TTL_MS},"cacheScope":"private","_meta":{{"{}":{CLIENT_INFO}}}}}"#,
            revision::MODERN,
            key::SERVER_INFO
        );
        answer::result(request.id, result.into_bytes().into())
    }

    /// What the gateway offers in the client's view; none when there is no such view. Over libp2p it names the MCP++ binding, and
    /// the one profile that it serves.
    fn capabilities(&self, inbound: &Inbound<'_>, binding: &str) -> Option<String> {
        let offered = self.shared.catalog.load().view(inbound.view)?.capabilities;
        Some(match &inbound.way {
            Way::Http { .. } | Way::Stream { binding: None, .. } => written(offered),
            Way::Stream { .. } => format!(
                r#"{{"tools":{{}},"mcp++":{{"bindingId":"{binding}","bindingIds":["{MODERN_BINDING}","{LEGACY_BINDING}"],"profiles":["mcp++/p2p-transport"]}}}}"#
            ),
        })
    }
}

/// Tools are always among it: a target may come that has some.
fn written(offered: Capabilities) -> String {
    let mut members = vec![r#""tools":{"listChanged":true}"#];
    if offered.prompts {
        members.push(r#""prompts":{"listChanged":true}"#);
    }
    match (offered.resources, offered.subscribe) {
        (true, true) => members.push(r#""resources":{"subscribe":true,"listChanged":true}"#),
        (true, false) => members.push(r#""resources":{"listChanged":true}"#),
        (false, _) => {}
    }
    if offered.completions {
        members.push(r#""completions":{}"#);
    }
    if offered.logging {
        members.push(r#""logging":{}"#);
    }
    format!("{{{}}}", members.join(","))
}

fn bounded(part: Option<Bytes>, otherwise: &'static str) -> Bytes {
    part.filter(|part| part.len() <= CLIENT_PART_BYTES_MAX && part.starts_with(b"{"))
        .map_or_else(|| Bytes::from_static(otherwise.as_bytes()), |part| Bytes::copy_from_slice(&part))
}

fn refuse_session(id: &str, error: &SessionError) -> Answer {
    let retry_after_s = match error {
        SessionError::Full { retry_after } => Some(retry_after.as_secs()),
        SessionError::Unknown | SessionError::Ended | SessionError::Foreign => None,
    };
    let message = envelope::failure(Some(id), envelope::error_object(-32603, &error.to_string(), None));
    Answer::Message(Outgoing { retry_after_s, ..Outgoing::new(503, message) })
}
