//! One upstream: its eras, its sessions, and calls to it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use runtime_api::{Call, CallError, Caller, Client, Era, Eras, ErrorCode, Principal, Reply, Support, TraceContext};
use runtime_mcp::{
    Incoming,
    era::{Verdict, error_code, judge},
    handshake::{self, ServerFacts},
    outgoing::{self, Hop},
};
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;
use twinway_proto::{
    envelope::{self, Message},
    headers::{MCP_METHOD, MCP_NAME, MCP_PROTOCOL_VERSION, MCP_SESSION_ID, ParamHeaders, encode_value},
    revision,
    rope::Rope,
};

use crate::{
    connect::Origin,
    exchange::{Endpoint, Kind, kind, refused, value},
    pool::{Exchange, Pool},
    session::{Session, Sessions},
    settings::{EraChoice, Upstream},
    sse_reply::SseReply,
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) settings: Upstream,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) sessions: Sessions,
    pub(crate) background: TaskTracker,
    /// Something happened that makes it worth while to look at the upstream now.
    pub(crate) wake: Notify,
    /// Tools whose arguments are mirrored in headers.
    pub(crate) param_headers: ArcSwap<HashMap<Arc<str>, ParamHeaders>>,
    ids: AtomicU64,
    modern: AtomicSupport,
    legacy: AtomicSupport,
    permits: Semaphore,
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
            background,
            wake: Notify::new(),
            param_headers: ArcSwap::default(),
            ids: AtomicU64::new(1),
            modern: AtomicSupport::new(modern),
            legacy: AtomicSupport::new(legacy),
            permits: Semaphore::new(settings.concurrency),
            settings,
        })
    }

    /// Which eras it serves, as far as known.
    pub(crate) fn eras(&self) -> Eras {
        Eras { modern: self.modern.get(), legacy: self.legacy.get() }
    }

    /// Makes a call. Dropping the future cancels it upstream.
    pub(crate) async fn call(self: Arc<Self>, call: Call) -> Result<Reply, CallError> {
        let _permit = self.permits.acquire().await.map_err(|_| stopping())?;
        let answered = match self.era_for(&call).await? {
            Era::Modern => self.call_modern(&call).await,
            Era::Legacy => self.call_legacy(&call).await,
        };
        if matches!(&answered, Err(error) if error.code() == ErrorCode::Unavailable) {
            self.wake.notify_one();
        }
        let reply = answered?.into_reply();
        refuse_what_cannot_travel(&call, &reply)?;
        Ok(reply)
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
                Err(error) if error.delivery() == runtime_api::Delivery::NotSent && error.code() == ErrorCode::Unavailable => {
                    Err(error)
                }
                Err(_) => {
                    self.legacy.set(Support::No);
                    Ok(Era::Modern)
                }
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
        // A server that is starting or a proxy before it: says nothing of the era.
        if matches!(status.as_u16(), 502..=504) {
            return Err(refused(status));
        }
        let body = self.probe_body(exchange, id).await?;
        let verdict = judge(Some(status.as_u16()), body, id)?;
        match verdict {
            Verdict::Modern(facts) => {
                self.modern.set(Support::Yes);
                Ok(Some(facts))
            }
            Verdict::Legacy if self.settings.era == EraChoice::Modern => Err(refused(status)),
            Verdict::Legacy => {
                self.modern.set(Support::No);
                Ok(None)
            }
        }
    }

    async fn probe_body(self: &Arc<Self>, exchange: Exchange, id: u64) -> Result<Bytes, CallError> {
        if kind(exchange.response.headers()) != Kind::Events {
            return self.endpoint.body(exchange).await;
        }
        self.sse_reply(&Caller::none(), &self.endpoint.headers, id).read(exchange).await.map(|answer| answer.message)
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
        self.sessions.get(principal, || Box::pin(self.open_session())).await
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
        match kind(exchange.response.headers()) {
            Kind::Json if status == StatusCode::OK => Ok(Incoming::read(self.endpoint.body(exchange).await?, id)?),
            Kind::Events if status == StatusCode::OK => {
                let headers = session.map_or(&self.endpoint.headers, |session| &session.headers);
                let reply = self.sse_reply(caller, headers, id);
                Ok(Box::pin(reply.read(exchange)).await?)
            }
            Kind::Json if status.is_client_error() => {
                let body = self.endpoint.body(exchange).await?;
                Err(self.client_error(status, &body, session.is_some()))
            }
            _ if status == StatusCode::NOT_FOUND && session.is_some() => Err(AskError::Expired),
            _ => Err(refused(status).into()),
        }
    }

    /// A 4xx with a JSON body: an expired session, or the error that the upstream answers with.
    fn client_error(&self, status: StatusCode, body: &Bytes, in_session: bool) -> AskError {
        let failure = match envelope::parse(body) {
            Ok(Message::Failure(failure)) => body.slice(failure.error),
            _ if status == StatusCode::NOT_FOUND && in_session => return AskError::Expired,
            _ => return refused(status).into(),
        };
        // The TypeScript SDK's servers refuse an unknown session with 400 and -32000, and so unseen.
        let session_refused = status == StatusCode::BAD_REQUEST && matches!(error_code(&failure), Some(-32001 | -32000));
        if in_session && (status == StatusCode::NOT_FOUND || session_refused) {
            return AskError::Expired;
        }
        CallError::answered(failure).into()
    }

    fn sse_reply<'a>(&'a self, caller: &'a Caller, session_headers: &'a HeaderMap, id: u64) -> SseReply<'a> {
        SseReply { endpoint: &self.endpoint, background: &self.background, session_headers, caller, id }
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
        let (endpoint, session) = (Arc::clone(&self.target.endpoint), Arc::clone(self.session));
        self.target.background.spawn(async move {
            if let Ok(exchange) = endpoint.post(session.headers.clone(), message).await {
                endpoint.body(exchange).await.ok();
            }
        });
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
        match self.0.load(Ordering::Acquire) {
            found if found == Support::Yes as u8 => Support::Yes,
            found if found == Support::No as u8 => Support::No,
            _ => Support::Unknown,
        }
    }

    fn set(&self, support: Support) {
        self.0.store(support as u8, Ordering::Release);
    }
}

/// Who the gateway is when it asks for itself.
pub(crate) fn own_principal() -> Principal {
    // No configured client can have a colon in its name.
    Principal("gateway:".into())
}

/// A result that only a modern client can go on with has no way to a legacy one.
fn refuse_what_cannot_travel(call: &Call, reply: &Reply) -> Result<(), CallError> {
    let Some(result_type) = reply.result_type.clone() else { return Ok(()) };
    if matches!(call.client, Client::Legacy(_)) && &reply.result[result_type] != b"\"complete\"" {
        let message = "the upstream asks for more input, which cannot be passed to a client of this revision";
        return Err(CallError::runtime(ErrorCode::Unsupported, runtime_api::Delivery::Answered, message));
    }
    Ok(())
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
