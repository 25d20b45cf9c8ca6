//! Streams on which a client is told when its list of tools is another: `subscriptions/listen` (2026-07-28, subscriptions) and
//! the stream that a legacy session opens with GET (2025-11-25, transports).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;
use runtime_api::{CallError, Caller, Era, ErrorCode, Wants};
use runtime_mcp::handshake::part;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use twinway_proto::{
    envelope::{self, Request},
    meta::key,
};

use super::{Answer, Inbound, Outgoing, Running, Server, Session, answer, listing::unknown_view, running::Events};
use crate::catalog::Catalog;

const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
const TOOLS_CHANGED: &str = "notifications/tools/list_changed";

/// Longest life of a stream. Whoever still listens opens another, and nothing of ours is kept for years.
const LIFE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Sees when one view becomes another.
struct Watch {
    catalog: Catalog,
    view: Box<str>,
    seen: u64,
    numbers: watch::Receiver<u64>,
}

/// What ends a stream from our side.
struct End {
    closing: CancellationToken,
    at: Instant,
    /// Freed when the stream is over, however it ended.
    _place: Place,
}

/// One of the places for those who listen; counted while it is taken.
struct Place {
    gauge: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn new(permit: OwnedSemaphorePermit, gauge: &Gauge) -> Self {
        gauge.inc();
        Self { gauge: gauge.clone(), _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

impl Watch {
    fn new(catalog: &Catalog, view: &str) -> Self {
        let mut numbers = catalog.changes();
        let seen = *numbers.borrow_and_update();
        Self { catalog: catalog.clone(), view: view.into(), seen, numbers }
    }

    /// Waits until a tool came, went or is not what it was since this was asked last. Cancel-safe; never ends without a
    /// change.
    async fn changed(&mut self) {
        while self.numbers.changed().await.is_ok() {
            let number = *self.numbers.borrow_and_update();
            let seen = std::mem::replace(&mut self.seen, number);
            if self.catalog.touched_since(seen, &self.view).tools {
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}

impl End {
    async fn comes(&self) {
        tokio::select! {
            biased;
            () = self.closing.cancelled() => {}
            () = sleep_until(self.at) => {}
        }
    }
}

impl Server {
    /// Ends the streams of notifications: those who listen are told that it is over.
    pub fn close_streams(&self) {
        self.shared.closing.cancel();
    }

    /// `subscriptions/listen`: what is honoured is said first, then each change, and in the end that it is over.
    pub(super) fn listen(&self, inbound: &Inbound<'_>, request: &Request<'_>) -> Answer {
        if self.shared.catalog.load().view(inbound.view).is_none() {
            return unknown_view(request.id, inbound.view);
        }
        let params = request.params.as_ref().map(|params| inbound.message.slice(params.range.clone())).unwrap_or_default();
        let Some(wanted) = part(&params, "notifications").filter(|wanted| wanted.starts_with(b"{")) else {
            let message = "`subscriptions/listen` has no object `notifications` that says what is listened for";
            return answer::error(200, Some(request.id), -32602, message, None);
        };
        let tools = part(&wanted, "toolsListChanged").is_some_and(|raw| &raw[..] == b"true");
        let end = match self.end() {
            Ok(end) => end,
            Err(full) => return Answer::Message(answer::failed(request.id, &full, Era::Modern)),
        };
        let (caller, events) = Caller::channel(Wants::default());
        let (deadline, watch) = (end.at, Watch::new(&self.shared.catalog, inbound.view));
        let meta = format!(r#""_meta":{{"{}":{}}}"#, key::SUBSCRIPTION_ID, request.id);
        let id: Box<str> = request.id.into();
        let answer = Box::pin(async move {
            let honoured = if tools { r#"{"toolsListChanged":true}"# } else { "{}" };
            let acknowledged = format!(r#"{{"notifications":{honoured},{meta}}}"#);
            if caller.notify(ACKNOWLEDGED, acknowledged.into()).await.is_ok() {
                if tools {
                    tell(&caller, watch, &end, format!("{{{meta}}}").into()).await;
                } else {
                    end.comes().await;
                }
            }
            let result = format!(r#"{{"resultType":"complete",{meta}}}"#);
            Outgoing::new(200, envelope::response(&id, result.into_bytes().into()))
        });
        Answer::Running(Box::new(Running::new(answer, Some(Events::only(events)), deadline, self.shared.left_behind.clone())))
    }

    /// The stream of a legacy session, which takes the place of an older one: a client that opens a second has lost the first.
    /// It ends without a message.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] when there are as many streams as sessions may be.
    pub fn listen_in(&self, session: &Session, view: &str) -> Result<Running, CallError> {
        let end = self.end()?;
        let (caller, events) = Caller::channel(Wants::default());
        let (deadline, watch) = (end.at, Watch::new(&self.shared.catalog, view));
        let over = session.listen();
        let withdrawn = over.clone();
        let answer = Box::pin(async move {
            // Also when nobody drives this any more.
            let over = over.drop_guard();
            tell(&caller, watch, &end, Bytes::from_static(b"{}")).await;
            drop(over);
            std::future::pending().await
        });
        let running = Running::new(answer, Some(Events::only(events)), deadline, self.shared.left_behind.clone());
        Ok(running.until(withdrawn))
    }

    fn end(&self) -> Result<End, CallError> {
        let permit = Arc::clone(&self.shared.streams).try_acquire_owned().map_err(|_| {
            let message = "too many clients listen for changes; ask for the list now and then instead";
            CallError::gateway(ErrorCode::Overloaded, message)
        })?;
        let place = Place::new(permit, self.shared.metrics.listening());
        Ok(End { closing: self.shared.closing.clone(), at: Instant::now() + LIFE_MAX, _place: place })
    }
}

/// Tells of each change until the end, or until nobody listens. Changes that come while the client does not read are told
/// as one.
async fn tell(caller: &Caller, mut watch: Watch, end: &End, params: Bytes) {
    let telling = async {
        loop {
            watch.changed().await;
            if caller.notify(TOOLS_CHANGED, params.clone()).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        () = end.comes() => {}
        () = telling => {}
    }
}
