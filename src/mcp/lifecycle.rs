//! `initialize` and `server/discover`.

use std::sync::Arc;

use bytes::Bytes;
use runtime_api::{Cacheable, LegacyClient};
use runtime_mcp::{
    client::{TASKS, declared},
    handshake::{CLIENT_INFO, part},
};
use twinway_proto::{
    envelope::{self, Request},
    json,
    meta::key,
    revision,
};

use crate::catalog::{Capabilities, Tasks};

use super::{Answer, Inbound, Outgoing, Server, SessionError, Way, answer, caching, listing::unknown_view};

/// The binding of a modern conversation over libp2p.
pub(super) const MODERN_BINDING: &str = "mcp-binding/2026-07-28";
/// The binding of a legacy conversation over libp2p.
pub(super) const LEGACY_BINDING: &str = "mcp-binding/legacy-2024-11-05";

/// Longest `clientInfo` or `capabilities` that a session remembers. They travel in the session's handle, and so in a
/// header of every request, and servers refuse heads above 8 KiB or 16 KiB.
const CLIENT_PART_BYTES_MAX: usize = 1024;

impl Server {
    pub(super) fn initialize(&self, inbound: &Inbound<'_>, request: &Request<'_>) -> Answer {
        let params = request.params.as_ref().map(|params| inbound.message.slice(params.range.clone())).unwrap_or_default();
        let Some(asked) = part(&params, "protocolVersion") else {
            return answer::error(200, Some(request.id), -32602, "`initialize` has no `protocolVersion`", None);
        };
        let asked = std::str::from_utf8(&asked).ok().and_then(json::string);
        // Of a revision that is not known the newest one that is (2025-11-25, lifecycle).
        let revision = asked.and_then(|asked| revision::legacy(&asked)).unwrap_or(revision::LATEST_LEGACY);
        // A client that got a session where there is no view would read every later 404 as "session gone".
        let Some(Offered { capabilities, instructions, .. }) = self.offered(inbound, revision) else {
            return unknown_view(request.id, inbound.view);
        };
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
        let result = format!(
            r#"{{"protocolVersion":"{revision}","capabilities":{capabilities},"serverInfo":{CLIENT_INFO}{instructions}}}"#
        );
        let message = envelope::response(request.id, result.into_bytes().into());
        Answer::Message(Outgoing { session: handle, ..Outgoing::new(200, message) })
    }

    pub(super) fn discover(&self, inbound: &Inbound<'_>, request: &Request<'_>) -> Answer {
        let Some(Offered { capabilities, instructions, caching }) = self.offered(inbound, revision::MODERN) else {
            return unknown_view(request.id, inbound.view);
        };
        let result = format!(
            r#"{{"resultType":"complete","supportedVersions":["{}"],"capabilities":{capabilities}{instructions},{caching},"_meta":{{"{}":{CLIENT_INFO}}}}}"#,
            revision::MODERN,
            key::SERVER_INFO
        );
        answer::result(request.id, result.into_bytes().into())
    }

    /// What the gateway offers in the client's view; none when there is no such view. Over libp2p it names the MCP++ binding and
    /// the one profile that it serves, and says nothing of tools that a peer may not have.
    fn offered(&self, inbound: &Inbound<'_>, revision: &str) -> Option<Offered> {
        let snapshot = self.shared.catalog.load();
        let view = snapshot.view(inbound.view)?;
        let caching = caching::members(view.promise(Cacheable::About), inbound);
        if let Way::Stream { binding: Some(_), .. } = &inbound.way {
            let binding = if revision == revision::MODERN { MODERN_BINDING } else { LEGACY_BINDING };
            let capabilities = format!(
                r#"{{"tools":{{}},"mcp++":{{"bindingId":"{binding}","bindingIds":["{MODERN_BINDING}","{LEGACY_BINDING}"],"profiles":["mcp++/p2p-transport"]}}}}"#
            );
            return Some(Offered { capabilities, instructions: String::new(), caching });
        }
        let instructions = view.instructions.as_deref().and_then(|raw| std::str::from_utf8(raw).ok());
        let instructions = instructions.map(|raw| format!(r#","instructions":{raw}"#)).unwrap_or_default();
        let capabilities = written(view.capabilities, revision, inbound.is_lazy());
        Some(Offered { capabilities, instructions, caching })
    }
}

/// What a client is told in the beginning.
struct Offered {
    /// The object.
    capabilities: String,
    /// The member with the comma before it, or nothing.
    instructions: String,
    /// The members that say for how long and for whom all this is.
    caching: String,
}

/// Tools are always among it: a target may come that has some. The three tools of a lazy client never change.
fn written(offered: Capabilities, revision: &str, is_lazy: bool) -> String {
    let mut members = vec![if is_lazy { r#""tools":{}"# } else { r#""tools":{"listChanged":true}"# }];
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
    let tasks = tasks(offered.tasks, revision);
    members.extend(tasks.as_deref());
    format!("{{{}}}", members.join(","))
}

/// Tasks are offered in two revisions, each in its own way (2025-11-25, tasks; 2026-07-28, the extension of tasks).
fn tasks(offered: Tasks, revision: &str) -> Option<String> {
    let Tasks { calls, list, cancel, extension } = offered;
    match revision {
        revision::MODERN => extension.then(|| format!(r#""extensions":{{"{TASKS}":{{}}}}"#)),
        revision::LATEST_LEGACY if calls => {
            let list = if list { r#""list":{},"# } else { "" };
            let cancel = if cancel { r#""cancel":{},"# } else { "" };
            Some(format!(r#""tasks":{{{list}{cancel}"requests":{{"tools":{{"call":{{}}}}}}}}"#))
        }
        _ => None,
    }
}

fn bounded(part: Option<Bytes>, otherwise: &'static str) -> Bytes {
    part.filter(|part| part.len() <= CLIENT_PART_BYTES_MAX && part.starts_with(b"{"))
        .map_or_else(|| Bytes::from_static(otherwise.as_bytes()), |part| Bytes::copy_from_slice(&part))
}

fn refuse_session(id: &str, error: &SessionError) -> Answer {
    let message = envelope::failure(Some(id), envelope::error_object(-32603, &error.to_string(), None));
    Answer::Message(Outgoing { retry_after_s: error.retry_after_s(), ..Outgoing::new(error.status(), message) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_offered_in_the_way_of_the_revision_or_not_at_all() {
        let all = Tasks { calls: true, list: true, cancel: true, extension: true };
        let cases = [
            (all, "2025-11-25", Some(r#""tasks":{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}"#)),
            (Tasks { list: false, ..all }, "2025-11-25", Some(r#""tasks":{"cancel":{},"requests":{"tools":{"call":{}}}}"#)),
            (all, "2025-06-18", None),
            (all, "2026-07-28", Some(r#""extensions":{"io.modelcontextprotocol/tasks":{}}"#)),
            (Tasks { extension: true, ..Tasks::NONE }, "2025-11-25", None),
            (Tasks { calls: true, ..Tasks::NONE }, "2026-07-28", None),
        ];
        for (offered, revision, expected) in cases {
            assert_eq!(tasks(offered, revision).as_deref(), expected, "{offered:?} {revision}");
        }
    }

    #[test]
    fn what_a_view_can_do_is_written_and_nothing_else() {
        let all = Capabilities {
            prompts: true,
            resources: true,
            subscribe: true,
            completions: true,
            logging: true,
            ..Capabilities::default()
        };
        let written = |offered| written(offered, "2025-06-18", false);

        assert_eq!(written(Capabilities::default()), r#"{"tools":{"listChanged":true}}"#);
        assert_eq!(
            written(all),
            r#"{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true},"completions":{},"logging":{}}"#
        );
        let resources = Capabilities { resources: true, ..Capabilities::default() };
        assert_eq!(written(resources), r#"{"tools":{"listChanged":true},"resources":{"listChanged":true}}"#);
    }
}
