//! One HTTP/1.1 connection of a caller.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use runtime_api::BoxError;
use tokio::{net::TcpStream, task::JoinSet};

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// A connection that is opened when it is needed; dropping it closes it.
#[derive(Debug)]
pub struct HttpConnection {
    /// `host:port`.
    authority: Box<str>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    sender: SendRequest<Full<Bytes>>,
    /// Dropping it closes the connection.
    _driver: JoinSet<()>,
}

impl HttpConnection {
    /// A connection to `host:port`, not open yet.
    #[must_use]
    pub fn new(authority: &str) -> Self {
        Self { authority: authority.into(), open: None }
    }

    /// Opens it unless it is open. One that broke in a call is replaced: the call was counted as a failure.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn ensure_open(&mut self) -> Result<(), BoxError> {
        self.opened().await.map(|_| ())
    }

    /// Closes it; the next request opens another.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, BoxError> {
        let open = self.opened().await?;
        open.sender.ready().await?;
        let (head, body) = open.sender.send_request(request).await?.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, body: body.collect().await?.to_bytes() })
    }

    async fn opened(&mut self) -> Result<&mut Open, BoxError> {
        if self.open.as_ref().is_some_and(|open| open.sender.is_closed()) {
            self.open = None;
        }
        match &mut self.open {
            Some(open) => Ok(open),
            closed => Ok(closed.insert(Open::connect(&self.authority).await?)),
        }
    }
}

impl Open {
    async fn connect(authority: &str) -> Result<Self, BoxError> {
        let stream = TcpStream::connect(authority).await.map_err(|error| format!("no connection to {authority}: {error}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        // A lost connection shows in the next call, which is where it is counted.
        driver.spawn(async { connection.await.unwrap_or_default() });
        Ok(Self { sender, _driver: driver })
    }
}
