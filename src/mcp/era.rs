//! Which era a request speaks, and whether it speaks it correctly (2026-07-28, versioning; Streamable HTTP, headers).

use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};
use runtime_api::{Client, ClientSession, Era, LegacyClient};
use twinway_proto::{
    envelope::{self, ParamsIndex, Request},
    headers::{MCP_METHOD, MCP_NAME, MCP_PROTOCOL_VERSION, MCP_SESSION_ID, decode_value},
    json::{self, members, text},
    meta::RequestMeta,
    revision,
};

use super::{
    Answer, Binding, Inbound, Outgoing, Session, SessionError, Sessions, Way,
    answer::{HEADER_MISMATCH, UNSUPPORTED_VERSION},
};

/// How a request is spoken.
#[derive(Debug, Clone)]
pub(super) enum Spoken {
    /// On its own.
    Modern,
    /// `initialize`.
    Opening,
    /// In a session.
    Legacy { session: Arc<Session>, client: Arc<LegacyClient> },
}

impl Spoken {
    pub(super) const fn era(&self) -> Era {
        match self {
            Self::Modern => Era::Modern,
            Self::Opening | Self::Legacy { .. } => Era::Legacy,
        }
    }

    pub(super) fn revision(&self) -> &'static str {
        match self {
            Self::Modern => revision::MODERN,
            Self::Legacy { client, .. } => client.revision,
            Self::Opening => revision::LATEST_LEGACY,
        }
    }

    /// Names the session in logs and traces, if there is one.
    pub(super) fn session_id(&self) -> Option<String> {
        match self {
            Self::Legacy { session, .. } => Some(session.public_id()),
            Self::Modern | Self::Opening => None,
        }
    }

    /// The session as runtimes know it, if there is one.
    pub(super) fn session(&self) -> Option<ClientSession> {
        match self {
            Self::Legacy { session, .. } => Some(session.life()),
            Self::Modern | Self::Opening => None,
        }
    }

    /// The session's client, for a legacy client.
    pub(super) fn client(&self) -> Client {
        match self {
            Self::Legacy { client, .. } => Client::Legacy(Arc::clone(client)),
            Self::Modern | Self::Opening => Client::Modern,
        }
    }
}

/// A request that is refused before it means anything.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) reason: &'static str,
    status: u16,
    code: i32,
    message: Cow<'static, str>,
    data: Option<String>,
    retry_after_s: Option<u64>,
}

impl Refused {
    fn new(reason: &'static str, status: u16, code: i32, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, status, code, message: message.into(), data: None, retry_after_s: None }
    }

    fn mismatch(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new("header_mismatch", 400, HEADER_MISMATCH, message)
    }

    /// A rule of the MCP++ bindings is broken; `why` is its name there.
    fn binding(why: &'static str, code: i32, message: &'static str) -> Self {
        Self { data: Some(format!(r#"{{"reason":"{why}"}}"#)), ..Self::new(why, 400, code, message) }
    }

    pub(super) fn answer(&self, id: Option<&str>) -> Answer {
        let error = envelope::error_object(self.code, &self.message, self.data.as_deref().map(str::as_bytes));
        let refusal = Outgoing::new(self.status, envelope::failure(id, error));
        Answer::Message(Outgoing { retry_after_s: self.retry_after_s, ..refusal })
    }
}

/// Decides the era and checks what that era demands of every request.
pub(super) fn of_request(inbound: &Inbound<'_>, request: &Request<'_>, sessions: &Sessions) -> Result<Spoken, Refused> {
    check_kind_of_meta(inbound, request.params.as_ref())?;
    let meta = &request.meta;
    let named = meta.protocol_version.and_then(json::string);
    match &inbound.way {
        Way::Http { headers } => http(inbound, headers, request, meta, named.as_deref(), sessions),
        Way::Stream { session, binding, .. } => stream(session, *binding, inbound, request, meta, named.as_deref()),
    }
}

fn http(
    inbound: &Inbound<'_>,
    headers: &HeaderMap,
    request: &Request<'_>,
    meta: &RequestMeta<'_>,
    named: Option<&str>,
    sessions: &Sessions,
) -> Result<Spoken, Refused> {
    let header = single(headers, &MCP_PROTOCOL_VERSION)?;
    let legacy_header = header.as_deref().is_some_and(|version| revision::legacy(version).is_some());
    let modern = named.is_some() || request.method == "server/discover" || (header.is_some() && !legacy_header);
    if request.method == "initialize" && header.as_deref() != Some(revision::MODERN) {
        return Ok(Spoken::Opening);
    }
    if modern {
        // Before anything is made of either: two that differ say nothing.
        check_same_version(header.as_deref(), named)?;
        check_version(named.or(header.as_deref()))?;
        check_meta(meta)?;
        check_mirrors(headers, request, inbound)?;
        return Ok(Spoken::Modern);
    }
    let session = session_of(inbound, sessions)?;
    let client = session.client().ok_or_else(not_initialized)?;
    Ok(Spoken::Legacy { session, client })
}

/// The session that the request's header names.
pub(super) fn session_of(inbound: &Inbound<'_>, sessions: &Sessions) -> Result<Arc<Session>, Refused> {
    let Way::Http { headers } = &inbound.way else { return Err(not_initialized()) };
    let handle = single(headers, &MCP_SESSION_ID)?.ok_or_else(|| {
        let message = "no session: begin with `initialize`, or send the headers and `_meta` of revision 2026-07-28";
        Refused::new("no_session", 400, -32600, message)
    })?;
    sessions.find(&handle, inbound.principal, inbound.view).map_err(|error| {
        let reason = match error {
            SessionError::Unknown => "session_unknown",
            SessionError::Ended => "session_ended",
            SessionError::Foreign => "session_foreign",
            SessionError::Full { .. } => "session_full",
        };
        Refused { retry_after_s: error.retry_after_s(), ..Refused::new(reason, error.status(), -32600, error.to_string()) }
    })
}

/// The order of the MCP++ compatibility matrix: initialize, then `_meta`, then an open session, else ambiguous.
fn stream(
    session: &Arc<Session>,
    binding: Option<Binding>,
    inbound: &Inbound<'_>,
    request: &Request<'_>,
    meta: &RequestMeta<'_>,
    named: Option<&str>,
) -> Result<Spoken, Refused> {
    if request.method == "initialize" {
        if let Some(binding) = binding {
            check_opening(binding, inbound, request, named)?;
        }
        return Ok(Spoken::Opening);
    }
    if named.is_some() || request.method == "server/discover" {
        check_version(named)?;
        check_meta(meta)?;
        return Ok(Spoken::Modern);
    }
    match session.client() {
        Some(client) => Ok(Spoken::Legacy { session: Arc::clone(session), client }),
        None if binding.is_none() => Err(not_initialized()),
        None => {
            Err(Refused::binding("path_ambiguous", -32602, "neither `_meta` of revision 2026-07-28 nor an initialized session"))
        }
    }
}

fn check_opening(binding: Binding, inbound: &Inbound<'_>, request: &Request<'_>, named: Option<&str>) -> Result<(), Refused> {
    let params = request.params.as_ref().map(|params| text(&inbound.message[params.range.clone()])).unwrap_or("{}");
    let part = |object, name| members(object).flatten().find(|member| member.key.is(name)).map(|member| member.value);
    let asked = part(params, "protocolVersion").and_then(json::string);
    if named.is_some() || asked.as_deref() == Some(revision::MODERN) {
        let message = "revision 2026-07-28 has no `initialize`";
        return Err(Refused::binding("initialize_as_current_rejected", -32601, message));
    }
    let capabilities = part(params, "capabilities").unwrap_or("{}");
    let ours = part(capabilities, "mcp++").and_then(|ours| part(ours, "bindingId"));
    let experimental = part(capabilities, "experimental").and_then(|found| part(found, "mcp++/bindingId"));
    match (binding, ours.or(experimental).and_then(json::string)) {
        (Binding::Strict, None) => {
            Err(Refused::binding("binding_not_offered", -32602, "a legacy session has to name its binding id"))
        }
        (_, Some(id)) if id != super::lifecycle::LEGACY_BINDING => {
            Err(Refused::binding("binding_id_mismatch", -32602, "this binding id does not belong to a legacy session"))
        }
        _ => Ok(()),
    }
}

fn check_kind_of_meta(inbound: &Inbound<'_>, params: Option<&ParamsIndex>) -> Result<(), Refused> {
    let Some((params, meta)) = params.and_then(|params| Some((params, params.meta.as_ref()?))) else { return Ok(()) };
    if inbound.message[params.range.start + meta.start] == b'{' {
        return Ok(());
    }
    Err(Refused::new("bad_meta", 400, -32602, "`params._meta` is not an object"))
}

fn check_version(version: Option<&str>) -> Result<(), Refused> {
    match version {
        None | Some(revision::MODERN) => Ok(()),
        Some(other) => {
            let mut requested = Vec::new();
            json::write_string(&mut requested, other);
            let data = format!(r#"{{"supported":["{}"],"requested":{}}}"#, revision::MODERN, text(&requested));
            let refused = Refused::new("unsupported_version", 400, UNSUPPORTED_VERSION, "this revision is not supported");
            Err(Refused { data: Some(data), ..refused })
        }
    }
}

fn check_meta(meta: &RequestMeta<'_>) -> Result<(), Refused> {
    let missing = |what: &str| {
        let message = format!("`params._meta` has no `io.modelcontextprotocol/{what}`");
        Err(Refused::new("incomplete_meta", 400, -32602, message))
    };
    match (meta.protocol_version, meta.client_capabilities) {
        (None, _) => missing("protocolVersion"),
        (_, Some(capabilities)) if capabilities.starts_with('{') => Ok(()),
        _ => missing("clientCapabilities"),
    }
}

fn check_same_version(header: Option<&str>, named: Option<&str>) -> Result<(), Refused> {
    // A `_meta` that names none is incomplete, and is told so.
    if named.is_some() && header != named {
        return Err(Refused::mismatch("the header MCP-Protocol-Version does not say what `_meta` says"));
    }
    Ok(())
}

/// The body is the truth; whoever reads only headers must not be told something else.
fn check_mirrors(headers: &HeaderMap, request: &Request<'_>, inbound: &Inbound<'_>) -> Result<(), Refused> {
    if mirrored(headers, &MCP_METHOD)?.as_deref() != Some(&request.method) {
        return Err(Refused::mismatch("the header Mcp-Method does not say what `method` says"));
    }
    let named_by = match &*request.method {
        "tools/call" | "prompts/get" => |params: &ParamsIndex| params.name.clone(),
        "resources/read" => |params: &ParamsIndex| params.uri.clone(),
        "tasks/get" | "tasks/update" | "tasks/cancel" => |params: &ParamsIndex| params.task_id.clone(),
        _ => return Ok(()),
    };
    let params = request.params.as_ref();
    let name = params.and_then(|params| named_by(params).map(|range| &inbound.message[params.range.clone()][range]));
    let name = name.and_then(|raw| json::string(text(raw)));
    if name.is_some() && mirrored(headers, &MCP_NAME)? != name {
        return Err(Refused::mismatch("the header Mcp-Name does not say what the parameters say"));
    }
    Ok(())
}

/// A header that must not stand there twice: two readers could take different ones.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Refused> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    match values.next() {
        None => Ok(value),
        Some(_) => Err(Refused::mismatch(format!("the header {name} stands there twice"))),
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<Cow<'a, str>>, Refused> {
    let Some(value) = only(headers, name)? else { return Ok(None) };
    let text = value.to_str().map_err(|_| Refused::mismatch(format!("the header {name} is not plain ASCII")))?;
    Ok(Some(Cow::Borrowed(text.trim())))
}

fn mirrored<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<Cow<'a, str>>, Refused> {
    let Some(value) = only(headers, name)? else { return Ok(None) };
    decode_value(value).map(Some).map_err(|fault| Refused::mismatch(format!("the header {name}: {fault}")))
}

fn not_initialized() -> Refused {
    Refused::new("not_initialized", 400, -32600, "the session is not initialized")
}
