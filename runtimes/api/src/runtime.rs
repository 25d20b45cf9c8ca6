//! The two traits that others implement to add a way out or a way in.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{BoxError, CallService, Offers};

/// The name of a runtime: `http`, `mcpp`, or that of one added from outside.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuntimeId(pub Arc<str>);

impl RuntimeId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuntimeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A part stopped for another reason than being told to.
#[derive(Debug, Error)]
#[error("{part} failed")]
pub struct PartError {
    /// Which part.
    pub part: Arc<str>,
    /// Why.
    #[source]
    pub source: BoxError,
}

/// A way out: makes calls on the targets it knows.
///
/// `offers` and `service` are taken before `run`. A service answers as soon as it can: before `run` has connected
/// anything it fails with `Delivery::NotSent`.
pub trait Runtime: Send + Sync {
    /// Its name.
    fn id(&self) -> RuntimeId;

    /// What its targets offer, now and whenever that changes.
    fn offers(&self) -> watch::Receiver<Arc<Offers>>;

    /// Makes calls. Dropping a call's future cancels the call.
    fn service(&self) -> CallService;

    /// Drives connections, probes and refreshes until `stop`, then closes what it opened.
    ///
    /// # Errors
    /// [`PartError`] when it cannot go on. A target that fails is not such a reason.
    fn run(self: Box<Self>, stop: CancellationToken) -> BoxFuture<'static, Result<(), PartError>>;
}

/// A way in: takes requests from clients and hands them to the server side of MCP.
pub trait Transport: Send + Sync {
    /// Its name, for logs and start-up messages.
    fn name(&self) -> &'static str;

    /// Where it listens, as a person would write it. The socket is bound before the transport exists.
    fn local_addr(&self) -> String;

    /// Serves until `stop`, then drains what is in flight.
    ///
    /// # Errors
    /// [`PartError`] when it cannot go on. A client that misbehaves is not such a reason.
    fn serve(self: Box<Self>, stop: CancellationToken) -> BoxFuture<'static, Result<(), PartError>>;
}
