//! Finds out which eras an MCP server serves and what it offers, and ends sessions that nobody uses.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, StatusCode};
use runtime_api::{CacheHint, CacheHints, CallError, Caller, Era, Item, Items, Kind, Support};
use runtime_mcp::{
    Incoming,
    era::{Verdict, error_code, judge},
    handshake::{self, ServerFacts},
    listing::{Listing, Next},
};
use tracing::{debug, info};
use twinway_proto::{
    envelope,
    headers::{InvalidParamHeader, ParamHeaders},
    rope::Rope,
};

use super::{
    Ask, McpServer,
    fault::{AskError, refuses_sessions},
    listen::Tells,
    old_sse::OpenError,
    session::{Owner, Session},
    support::Wire,
};
use crate::{
    exchange::{Content, content, refused, refused_by},
    h1::Exchange,
    settings::{EraChoice, TransportChoice},
    site::Site,
    target::Found,
};

impl McpServer {
    /// Asks for everything the server offers.
    pub(crate) async fn look(&self) -> Result<Found, CallError> {
        let mut facts = self.probe_modern().await?;
        if facts.is_none() {
            facts = Some(self.meet().await?);
        }
        let mut facts = facts.unwrap_or_default();
        let (mut items, mut hints) = (Items::default(), CacheHints::without_lists(facts.hint));
        for kind in Kind::ALL.into_iter().filter(|kind| facts.has(kind.capability())) {
            let Some(listing) = self.list(kind).await? else { continue };
            // Only the modern revision knows such words.
            let is_modern = self.modern.get() == Support::Yes;
            hints.set(kind, if is_modern { listing.hint() } else { CacheHint::default() });
            *items.of_mut(kind) = listing.finish().into();
        }
        self.param_headers.store(Arc::new(mirrored(&items.tools)));
        let era = if self.modern.get() == Support::Yes { Era::Modern } else { Era::Legacy };
        let tells = Tells::of(era, &facts);
        self.tells.send_if_modified(|known| std::mem::replace(known, tells) != tells);
        self.add_what_sessions_tell(&mut facts.about, &mut items.tools).await;
        Ok(Found { items, eras: self.eras(), about: facts.about, hints })
    }

    /// What a server of sessions says of itself, over whatever carries its messages. What carried them last is tried first.
    async fn meet(&self) -> Result<ServerFacts, CallError> {
        let wire = self.wire.get();
        let refused = match self.meet_over(wire).await {
            Err(OpenError::NotSpoken(error)) if self.transport == TransportChoice::Auto => error,
            met => return Ok(met?),
        };
        let other = wire.other();
        match self.meet_over(other).await {
            Ok(facts) => {
                self.wire.set(other);
                let target = &self.site.settings.target;
                info!(target_name = %target, transport = other.as_str(), "found what carries the messages of the upstream");
                Ok(facts)
            }
            Err(OpenError::NotSpoken(_)) => Err(refused),
            Err(OpenError::Failed(error)) => Err(error),
        }
    }

    async fn meet_over(&self, wire: Wire) -> Result<ServerFacts, OpenError> {
        match wire {
            Wire::Http => match self.session(&Owner::gateway()).await {
                Ok(session) => Ok(session.facts.clone()),
                Err(error) if refuses_sessions(&error) => Err(OpenError::NotSpoken(error)),
                Err(error) => Err(OpenError::Failed(error)),
            },
            Wire::Sse => {
                let facts = self.old.stream(&Owner::gateway()).await?.facts().clone();
                self.legacy.set(Support::Yes);
                Ok(facts)
            }
        }
    }

    /// Lists the tools for nothing but what they want mirrored in headers.
    pub(super) async fn refresh_mirrored(&self) -> Result<(), CallError> {
        let tools = self.list(Kind::Tool).await?.map(Listing::finish).unwrap_or_default();
        self.param_headers.store(Arc::new(mirrored(&tools)));
        Ok(())
    }

    /// One list; `None` of a server that has no such method.
    async fn list(&self, kind: Kind) -> Result<Option<Listing>, CallError> {
        let mut listing = Listing::new(kind);
        let mut members = String::new();
        loop {
            let page = match self.ask_for_itself(kind.list_method(), &members).await {
                // Declared with the resources, and not built by every server that has some.
                Err(error) if kind == Kind::Template && has_no_method(&error) => return Ok(None),
                page => page?,
            };
            match listing.take(&page)? {
                Next::Page(cursor) => members = format!(r#""cursor":{cursor}"#),
                Next::Done => return Ok(Some(listing)),
            }
        }
    }

    /// A request that the gateway makes for itself, in the era that the upstream serves.
    async fn ask_for_itself(&self, method: &'static str, members: &str) -> Result<Incoming, CallError> {
        if self.speaks_sse() {
            return self.old.ask_for_itself(method, members).await;
        }
        for _ in 0..2 {
            let id = self.next_id();
            let modern = self.modern.get() == Support::Yes;
            let (params, head, session) = if modern {
                (handshake::own_params(members), self.modern_head(method), None)
            } else {
                let session = self.session(&Owner::gateway()).await?;
                let params = format!("{{{members}}}").into_bytes().into();
                (params, session.head.begin(), Some(session))
            };
            let caller = Caller::none();
            let ask = Ask { id, method, params: Some(params), head, caller: &caller, session: session.as_ref() };
            match (self.ask(ask).await, session) {
                (Ok(answer), _) => return Ok(answer),
                (Err(AskError::Failed(error)), _) => return Err(error),
                (Err(AskError::Expired), Some(session)) => self.sessions.forget(&Owner::gateway(), &session),
                (Err(AskError::Expired), None) => break,
            }
        }
        Err(refused(StatusCode::NOT_FOUND))
    }

    /// Asks whether the upstream speaks the modern revision; remembers the answer.
    pub(super) async fn probe_modern(&self) -> Result<Option<ServerFacts>, CallError> {
        if self.era == EraChoice::Legacy {
            return Ok(None);
        }
        let id = self.next_id();
        let message = envelope::request(id, handshake::DISCOVER, Some(handshake::own_params("")));
        let exchange = self.site.endpoint.post(self.modern_head(handshake::DISCOVER), message).await?;
        let status = exchange.head.status;
        // Of a busy or starting server, or of a proxy before it, an answer says nothing of the era; and what was modern
        // a minute ago is not legacy because of one fault.
        let troubled = status == StatusCode::TOO_MANY_REQUESTS || matches!(status.as_u16(), 502..=504);
        if troubled || (status.is_server_error() && self.modern.get() == Support::Yes) {
            return Err(refused_by(&exchange.head));
        }
        let body = self.probe_body(exchange, id).await?;
        let verdict = judge(Some(status.as_u16()), body, id)?;
        match verdict {
            Verdict::Modern(facts) => {
                self.found(Support::Yes);
                Ok(Some(facts))
            }
            Verdict::Legacy if self.era == EraChoice::Modern => Err(refused(status)),
            Verdict::Legacy => {
                self.found(Support::No);
                Ok(None)
            }
        }
    }

    /// Remembers what a probe found. Another answer than the last one comes from another server: what was known of its
    /// sessions is void.
    fn found(&self, modern: Support) {
        if self.modern.replace(modern) != modern && self.era == EraChoice::Auto {
            self.legacy.set(Support::Unknown);
        }
    }

    async fn probe_body(&self, exchange: Exchange, id: u64) -> Result<Bytes, CallError> {
        if content(&exchange.head) != Content::Events {
            return self.site.endpoint.body(exchange).await;
        }
        match self.sse_reply(&Caller::none(), None, id).read(exchange).await {
            Ok(answer) => Ok(answer.message),
            // An error is an answer to a probe, however it comes.
            Err(error) => match error.answer() {
                Some(answer) => Ok(envelope::failure(Some(&id.to_string()), answer.clone()).into_bytes()),
                None => Err(error),
            },
        }
    }

    /// Ends the sessions that nobody used lately, or all.
    pub(crate) async fn end_sessions(&self, all: bool) {
        let sessions = self.sessions.take_idle(all);
        join_all(sessions.iter().map(|session| end_session(&self.site, session))).await;
        self.old.end_streams(all);
    }
}

/// DELETE, as far as the upstream takes it (405 is allowed). One second is enough for a courtesy.
pub(super) async fn end_session(site: &Site, session: &Session) {
    if !session.has_id() {
        return;
    }
    let ending = async {
        let exchange = site.endpoint.send(&Method::DELETE, &session.headers, Rope::default()).await?;
        site.endpoint.body(exchange).await
    };
    let ended = tokio::time::timeout(Duration::from_secs(1), ending).await;
    debug!(target_name = %site.settings.target, ended = matches!(ended, Ok(Ok(_))), "ended a session upstream");
}

fn has_no_method(error: &CallError) -> bool {
    error.answer().and_then(|answer| error_code(answer)) == Some(-32601)
}

fn param_headers(tool: &Item) -> Result<ParamHeaders, InvalidParamHeader> {
    let schema = runtime_mcp::handshake::part(&tool.definition, "inputSchema");
    let schema = schema.as_deref().and_then(|schema| std::str::from_utf8(schema).ok());
    schema.map_or_else(|| Ok(ParamHeaders::default()), ParamHeaders::from_schema)
}

/// The tools that want arguments mirrored in headers. One whose headers break the rules is not offered; of a name that is listed
/// twice the first counts, as in the catalogue.
fn mirrored(tools: &[Item]) -> HashMap<Arc<str>, ParamHeaders> {
    let headers_of = |tool: &Item| (tool.name.clone(), param_headers(tool).unwrap_or_default());
    let mut mirrored: HashMap<_, _> = tools.iter().rev().map(headers_of).collect();
    mirrored.retain(|_, headers| !headers.is_empty());
    mirrored
}
