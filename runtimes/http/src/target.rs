//! One upstream: its eras, its sessions, and calls to it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use runtime_api::{Call, CallError, Caller, Delivery, Era, Eras, ErrorCode, Principal, Reply, Support, TraceContext};
use runtime_mcp::{
    Incoming,
    era::{Verdict, error_code, judge},
    handshake::{self, ServerFacts},
    outgoing::{self, Hop},
};
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};
use tokio_util::task::TaskTracker;
use twinway_proto::{
    envelope::{self, Message},
    headers::{MCP_METHOD, MCP_NAME, MCP_PROTOCOL_VERSION, MCP_SESSION_ID, ParamHeaders, encode_value},
    revision,
    rope::Rope,
};

use crate::{
    connect::Origin,
    exchange::{Endpoint, Kind, TELLING_MAX, kind, refused, value},
    pool::{Exchange, Pool},
    session::{Session, Sessions},
    settings::{EraChoice, Upstream},
    sse_reply::SseReply,
};

/// When whoever finds an upstream busy may come back: short calls are over by then.
const RETRY_AFTER: Duration = Duration::from_secs(1);

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) settings: Upstream,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) sessions: Sessions,
    /// Something happened that makes it worth while to look at the upstream now.
    pub(crate) wake: Notify,
    /// Tools whose arguments are mirrored in headers.
    pub(crate) param_headers: ArcSwap<HashMap<Arc<str>, ParamHeaders>>,
    ids: AtomicU64,
    modern: AtomicSupport,
    legacy: AtomicSupport,
    permits: Semaphore,
    waiting: Semaphore,
}

/// A request on its way to the upstream.
struct Ask<'a> {
    id: u64,
    method: &'a str,
    params: Option<Rope>,
    headers: HeaderMap,
    caller: &'a Caller,
    session: Option<&'a Arc<Session>>,
}

/// No answer.
enum AskError {
    /// The upstream does not know the session (any more). The request was not executed.
    Expired,
    Failed(CallError),
}

impl From<CallError> for AskError {
    fn from(error: CallError) -> Self {
        Self::Failed(error)
    }
}

impl Target {
    pub(crate) fn new(settings: Upstream, background: TaskTracker) -> Result<Self, Box<str>> {
        let origin = Origin::new(&settings.url, settings.connect_timeout)?;
        let endpoint = Endpoint {
            pool: Pool::new(origin, background.clone()),
            background,
            telling: Arc::new(Semaphore::new(TELLING_MAX)),
            uri: path_and_query(&settings)?,
            headers: fixed_headers(&settings)?,
            answer_bytes_max: settings.answer_bytes_max,
        };
        let (modern, legacy) = match settings.era {
            EraChoice::Auto => (Support::Unknown, Support::Unknown),
            EraChoice::Legacy => (Support::No, Support::Yes),
            EraChoice::Modern => (Support::Yes, Support::No),
        };
        Ok(Self {
            endpoint: Arc::new(endpoint),
            sessions: Sessions::new(),
            wake: Notify::new(),
            param_headers: ArcSwap::default(),
            ids: AtomicU64::new(1),
            modern: AtomicSupport::new(modern),
            legacy: AtomicSupport::new(legacy),
            permits: Semaphore::new(settings.concurrency),
            waiting: Semaphore::new(settings.concurrency),
            settings,
        })
    }

    /// Which eras it serves, as far as known.
    pub(crate) fn eras(&self) -> Eras {
        Eras { modern: self.modern.get(), legacy: self.legacy.get() }
    }

    /// Makes a call. Dropping the future cancels it upstream.
    pub(crate) async fn call(self: Arc<Self>, call: Call) -> Result<Reply, CallError> {
        let _permit = self.enter(call.deadline).await?;
        let answered = match self.era_for(&call).await? {
            Era::Modern => self.call_modern(&call).await,
            Era::Legacy => self.call_legacy(&call).await,
        };
        if answered.as_ref().is_err_and(asks_for_a_look) {
            self.wake.notify_one();
        }
        Ok(answered?.into_reply())
    }

    /// A place among the calls in flight. As many may wait as may be in flight: whoever would stand further back is refused
    /// at once, so that one slow upstream does not hold up the whole gateway.
    async fn enter(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, CallError> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let Ok(_waiting) = self.waiting.try_acquire() else {
            let message = format!("{} calls to this upstream are in flight and as many wait", self.settings.concurrency);
            let overloaded = CallError::runtime(ErrorCode::Overloaded, Delivery::NotSent, message);
            return Err(overloaded.with_retry_after(RETRY_AFTER));
        };
        match timeout_at(deadline, self.permits.acquire()).await {
            Ok(entered) => entered.map_err(|_| stopping()),
            Err(_) => {
                let message = "the time given to this call is used up before the upstream had room for it";
                Err(CallError::runtime(ErrorCode::DeadlineExceeded, Delivery::NotSent, message))
            }
        }
    }

    /// The client's own era when the upstream serves it, else the other.
    async fn era_for(self: &Arc<Self>, call: &Call) -> Result<Era, CallError> {
        if self.modern.get() == Support::Unknown {
            Box::pin(self.probe_modern()).await?;
        }
        if call.client.era() == Era::Modern || self.modern.get() == Support::No {
            let era = if self.modern.get() == Support::Yes { Era::Modern } else { Era::Legacy };
            return Ok(era);
        }
        // A modern server may serve sessions too and says so nowhere: the first legacy client finds out.
        match self.legacy.get() {
            Support::Yes => Ok(Era::Legacy),
            Support::No => Ok(Era::Modern),
            Support::Unknown => match self.session(&call.principal).await {
                Ok(_) => Ok(Era::Legacy),
                Err(error) if refuses_sessions(&error) => {
                    self.legacy.set(Support::No);
                    Ok(Era::Modern)
                }
                Err(error) => Err(error),
            },
        }
    }

    async fn call_modern(self: &Arc<Self>, call: &Call) -> Result<Incoming, CallError> {
        let id = self.next_id();
        let params = outgoing::params(call, self.hop(call, Era::Modern, id))?;
        let mut headers = self.modern_headers(call.method.as_str(), Some(&call.name));
        self.mirror_arguments(call, &mut headers);
        trace_headers(&call.trace, &mut headers);
        let ask = Ask { id, method: call.method.as_str(), params: Some(params), headers, caller: &call.caller, session: None };
        self.ask(ask).await.map_err(|error| match error {
            AskError::Failed(error) => error,
            AskError::Expired => refused(StatusCode::NOT_FOUND),
        })
    }

    /// A session that expired is opened anew and the call repeated once: the upstream refused it unseen.
    async fn call_legacy(self: &Arc<Self>, call: &Call) -> Result<Incoming, CallError> {
        match self.call_in_session(call).await {
            Err(AskError::Expired) => {}
            Err(AskError::Failed(error)) => return Err(error),
            Ok(answer) => return Ok(answer),
        }
        self.wake.notify_one();
        self.call_in_session(call).await.map_err(|error| match error {
            AskError::Failed(error) => error,
            AskError::Expired => refused(StatusCode::NOT_FOUND),
        })
    }

    async fn call_in_session(self: &Arc<Self>, call: &Call) -> Result<Incoming, AskError> {
        let session = self.session(&call.principal).await?;
        let id = self.next_id();
        let params = outgoing::params(call, self.hop(call, Era::Legacy, id))?;
        let mut headers = session.headers.clone();
        trace_headers(&call.trace, &mut headers);
        let withdraw = Withdraw { target: self, session: &session, id, armed: true };
        let ask = Ask {
            id,
            method: call.method.as_str(),
            params: Some(params),
            headers,
            caller: &call.caller,
            session: Some(&session),
        };
        let answered = self.ask(ask).await;
        withdraw.disarm();
        if matches!(answered, Err(AskError::Expired)) {
            self.sessions.forget(&call.principal, &session);
        }
        answered
    }

    /// A request that the gateway makes for itself, in the era that the upstream serves.
    pub(crate) async fn ask_for_itself(self: &Arc<Self>, method: &'static str, members: &str) -> Result<Incoming, CallError> {
        for _ in 0..2 {
            let id = self.next_id();
            let modern = self.modern.get() == Support::Yes;
            let (params, headers, session) = if modern {
                (handshake::own_params(members), self.modern_headers(method, None), None)
            } else {
                let session = self.session(&own_principal()).await?;
                let params = format!("{{{members}}}").into_bytes().into();
                (params, session.headers.clone(), Some(session))
            };
            let caller = Caller::none();
            let ask = Ask { id, method, params: Some(params), headers, caller: &caller, session: session.as_ref() };
            match (self.ask(ask).await, session) {
                (Ok(answer), _) => return Ok(answer),
                (Err(AskError::Failed(error)), _) => return Err(error),
                (Err(AskError::Expired), Some(session)) => self.sessions.forget(&own_principal(), &session),
                (Err(AskError::Expired), None) => break,
            }
        }
        Err(refused(StatusCode::NOT_FOUND))
    }

    /// Asks whether the upstream speaks the modern revision; remembers the answer.
    pub(crate) async fn probe_modern(self: &Arc<Self>) -> Result<Option<ServerFacts>, CallError> {
        if self.settings.era == EraChoice::Legacy {
            return Ok(None);
        }
        let id = self.next_id();
        let message = envelope::request(id, handshake::DISCOVER, Some(handshake::own_params("")));
        let exchange = self.endpoint.post(self.modern_headers(handshake::DISCOVER, None), message).await?;
        let status = exchange.response.status();
        // Of a busy or starting server, or of a proxy before it, an answer says nothing of the era; and what was modern
        // a minute ago is not legacy because of one fault.
        let troubled = status == StatusCode::TOO_MANY_REQUESTS || matches!(status.as_u16(), 502..=504);
        if troubled || (status.is_server_error() && self.modern.get() == Support::Yes) {
            return Err(refused(status));
        }
        let body = self.probe_body(exchange, id).await?;
        let verdict = judge(Some(status.as_u16()), body, id)?;
        match verdict {
            Verdict::Modern(facts) => {
                self.found(Support::Yes);
                Ok(Some(facts))
            }
            Verdict::Legacy if self.settings.era == EraChoice::Modern => Err(refused(status)),
            Verdict::Legacy => {
                self.found(Support::No);
                Ok(None)
            }
        }
    }

    /// Remembers what a probe found. Another answer than the last one comes from another server: what was known of its
    /// sessions is void.
    fn found(&self, modern: Support) {
        if self.modern.replace(modern) != modern && self.settings.era == EraChoice::Auto {
            self.legacy.set(Support::Unknown);
        }
    }

    async fn probe_body(self: &Arc<Self>, exchange: Exchange, id: u64) -> Result<Bytes, CallError> {
        if kind(exchange.response.headers()) != Kind::Events {
            return self.endpoint.body(exchange).await;
        }
        match self.sse_reply(&Caller::none(), &self.endpoint.headers, id).read(exchange).await {
            Ok(answer) => Ok(answer.message),
            // An error is an answer to a probe, however it comes.
            Err(error) => match error.answer() {
                Some(answer) => Ok(envelope::failure(Some(&id.to_string()), answer.clone()).into_bytes()),
                None => Err(error),
            },
        }
    }

    async fn open_session(self: &Arc<Self>) -> Result<Session, CallError> {
        let id = self.next_id();
        let params = handshake::initialize_params(revision::LATEST_LEGACY, "{}", handshake::CLIENT_INFO);
        let message = envelope::request(id, handshake::INITIALIZE, Some(params));
        let exchange = self.endpoint.post(self.endpoint.headers.clone(), message).await?;
        let session_id = exchange.response.headers().get(MCP_SESSION_ID).cloned();
        let answer = self.read(exchange, id, &Caller::none(), None).await.map_err(|error| match error {
            AskError::Failed(error) => error,
            AskError::Expired => refused(StatusCode::NOT_FOUND),
        })?;
        let session = Session::new(self.endpoint.headers.clone(), session_id, handshake::read_initialized(&answer)?);
        let ready = envelope::notification(handshake::INITIALIZED, None);
        let exchange = self.endpoint.post(session.headers.clone(), ready).await?;
        let status = exchange.response.status();
        if !status.is_success() {
            return Err(refused(status));
        }
        self.endpoint.body(exchange).await?;
        self.legacy.set(Support::Yes);
        Ok(session)
    }

    /// The principal's session, opened when there is none.
    pub(crate) async fn session(self: &Arc<Self>, principal: &Principal) -> Result<Arc<Session>, CallError> {
        if self.settings.era == EraChoice::Modern {
            return Err(CallError::gateway(ErrorCode::Unsupported, "this upstream is configured as modern only"));
        }
        // Boxed, as everything that a warm call does not do: a call's future is moved, and small is quick.
        let session = self.sessions.get(principal, || Box::pin(self.open_session())).await;
        if session.as_ref().is_err_and(refuses_sessions) && self.settings.era == EraChoice::Auto {
            // It served sessions once and is another server now.
            self.legacy.set(Support::Unknown);
            self.wake.notify_one();
        }
        session
    }

    async fn ask(self: &Arc<Self>, ask: Ask<'_>) -> Result<Incoming, AskError> {
        let message = envelope::request(ask.id, ask.method, ask.params);
        let exchange = self.endpoint.post(ask.headers, message).await?;
        self.read(exchange, ask.id, ask.caller, ask.session).await
    }

    async fn read(
        self: &Arc<Self>,
        exchange: Exchange,
        id: u64,
        caller: &Caller,
        session: Option<&Arc<Session>>,
    ) -> Result<Incoming, AskError> {
        let status = exchange.response.status();
        // Only a session that has an id can be unknown.
        let in_session = session.is_some_and(|session| session.has_id());
        match kind(exchange.response.headers()) {
            Kind::Json if status == StatusCode::OK => Ok(Incoming::read(self.endpoint.body(exchange).await?, id)?),
            Kind::Events if status == StatusCode::OK => {
                let headers = session.map_or(&self.endpoint.headers, |session| &session.headers);
                let reply = self.sse_reply(caller, headers, id);
                Ok(Box::pin(reply.read(exchange)).await?)
            }
            Kind::Json if status.is_client_error() => {
                let body = self.endpoint.body(exchange).await?;
                Err(client_error(status, &body, in_session))
            }
            _ if status == StatusCode::NOT_FOUND && in_session => Err(AskError::Expired),
            _ => Err(refused(status).into()),
        }
    }

    fn sse_reply<'a>(&'a self, caller: &'a Caller, session_headers: &'a HeaderMap, id: u64) -> SseReply<'a> {
        SseReply { endpoint: &self.endpoint, session_headers, caller, id }
    }

    fn hop(&self, call: &Call, era: Era, id: u64) -> Hop {
        let progress_token = call.caller.listens().then_some(id);
        Hop { era, progress_token, gateway: false, trusted: self.settings.trusted }
    }

    fn mirror_arguments(&self, call: &Call, headers: &mut HeaderMap) {
        let index = self.param_headers.load();
        let Some(mirrored) = index.get(&call.name) else { return };
        let raw = call.params.arguments.clone().and_then(|range| std::str::from_utf8(&call.params.raw[range]).ok());
        // Arguments that cannot be mirrored do not fit the tool's schema: the upstream says so better.
        headers.extend(mirrored.from_arguments(raw.unwrap_or("{}")).unwrap_or_default());
    }

    fn modern_headers(&self, method: &'static str, name: Option<&str>) -> HeaderMap {
        let mut headers = self.endpoint.headers.clone();
        headers.insert(MCP_PROTOCOL_VERSION, HeaderValue::from_static(revision::MODERN));
        headers.insert(MCP_METHOD, HeaderValue::from_static(method));
        if let Some(name) = name {
            headers.insert(MCP_NAME, encode_value(name));
        }
        headers
    }

    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }
}

/// Tells a legacy upstream that nobody waits any more, if the call is dropped before its answer.
struct Withdraw<'a> {
    target: &'a Arc<Target>,
    session: &'a Arc<Session>,
    id: u64,
    armed: bool,
}

impl Withdraw<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        if !self.armed || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let params = format!(r#"{{"requestId":{},"reason":"the caller does not wait any more"}}"#, self.id);
        let message = envelope::notification("notifications/cancelled", Some(params.into_bytes().into()));
        self.target.endpoint.tell(self.session.headers.clone(), message);
    }
}

/// [`Support`] that many calls read and a probe writes.
#[derive(Debug)]
struct AtomicSupport(AtomicU8);

impl AtomicSupport {
    fn new(support: Support) -> Self {
        Self(AtomicU8::new(support as u8))
    }

    fn get(&self) -> Support {
        Self::read(self.0.load(Ordering::Acquire))
    }

    fn set(&self, support: Support) {
        self.0.store(support as u8, Ordering::Release);
    }

    fn replace(&self, support: Support) -> Support {
        Self::read(self.0.swap(support as u8, Ordering::AcqRel))
    }

    fn read(found: u8) -> Support {
        match found {
            found if found == Support::Yes as u8 => Support::Yes,
            found if found == Support::No as u8 => Support::No,
            _ => Support::Unknown,
        }
    }
}

/// A 4xx with a JSON body: an expired session, or the error that the upstream answers with.
fn client_error(status: StatusCode, body: &Bytes, in_session: bool) -> AskError {
    let failure = match envelope::parse(body) {
        Ok(Message::Failure(failure)) => body.slice(failure.error),
        _ if status == StatusCode::NOT_FOUND && in_session => return AskError::Expired,
        _ => return refused(status).into(),
    };
    if in_session && (status == StatusCode::NOT_FOUND || refuses_session(status, &failure)) {
        return AskError::Expired;
    }
    CallError::answered(failure).into()
}

/// Servers built on the TypeScript SDK refuse a session that they do not know with 400 and such a message, unseen. The
/// code alone does not say so: -32000 is any server's error, and a call that may have run must not be made again.
fn refuses_session(status: StatusCode, failure: &Bytes) -> bool {
    let message = handshake::part(failure, "message").map(|raw| raw.to_ascii_lowercase()).unwrap_or_default();
    let says = |what: &[u8]| message.windows(what.len()).any(|part| part == what);
    status == StatusCode::BAD_REQUEST
        && matches!(error_code(failure), Some(-32001 | -32000))
        && (says(b"session") || says(b"not initialized"))
}

/// Whether an upstream has answered that it does not serve `initialize`, as against not being able to just now.
fn refuses_sessions(error: &CallError) -> bool {
    matches!(error.code(), ErrorCode::Upstream | ErrorCode::Protocol)
}

/// Whether an error may mean that the upstream is gone, or another one than it was.
fn asks_for_a_look(error: &CallError) -> bool {
    let of_another_era =
        || error.answer().and_then(|answer| error_code(answer)).is_some_and(|code| (-32022..=-32020).contains(&code));
    matches!(error.code(), ErrorCode::Unavailable | ErrorCode::Disconnected | ErrorCode::Protocol) || of_another_era()
}

/// Who the gateway is when it asks for itself.
pub(crate) fn own_principal() -> Principal {
    // No configured client can have a colon in its name.
    Principal("gateway:".into())
}

fn trace_headers(trace: &TraceContext, headers: &mut HeaderMap) {
    if !trace.exists() {
        return;
    }
    if let Ok(traceparent) = HeaderValue::from_bytes(&trace.traceparent()) {
        headers.insert(TRACEPARENT, traceparent);
    }
    if let Some(Ok(state)) = trace.state.clone().map(HeaderValue::from_maybe_shared) {
        headers.insert(TRACESTATE, state);
    }
}

fn fixed_headers(settings: &Upstream) -> Result<HeaderMap, Box<str>> {
    // Room for what single requests add, so that a clone never grows.
    let mut headers = HeaderMap::with_capacity(16);
    let authority = Origin::authority(&settings.url);
    headers.insert(header::HOST, value(&authority).map_err(|error| error.to_string())?);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers.extend(settings.headers.iter().cloned());
    Ok(headers)
}

fn path_and_query(settings: &Upstream) -> Result<http::Uri, Box<str>> {
    let url = &settings.url;
    let text = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    text.parse().map_err(|error| format!("the url's path cannot be used: {error}").into())
}

fn stopping() -> CallError {
    CallError::gateway(ErrorCode::Unavailable, "the gateway is stopping")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_session_that_the_upstream_refused_unseen_is_opened_anew() {
        let error = |code: i32, message: &str| {
            Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":null,"error":{{"code":{code},"message":"{message}"}}}}"#))
        };
        let cases = [
            (404, error(-32600, "Session not found"), true, true),
            (404, Bytes::from_static(b"gone"), true, true),
            (404, error(-32601, "Method not found"), false, false),
            (400, error(-32000, "Bad Request: No valid session ID provided"), true, true),
            (400, error(-32000, "Bad Request: Server not initialized"), true, true),
            // Without a session id nothing can have expired.
            (400, error(-32000, "Bad Request: No valid session ID provided"), false, false),
            // Any server's error: the tool may have run.
            (400, error(-32000, "write failed half way"), true, false),
            (400, error(-32602, "no such session"), true, false),
        ];
        for (status, body, in_session, expected) in cases {
            let status = StatusCode::from_u16(status).expect("a status");
            let expired = matches!(client_error(status, &body, in_session), AskError::Expired);

            assert_eq!(expired, expected, "{status} {} in_session: {in_session}", String::from_utf8_lossy(&body));
        }
    }
}
