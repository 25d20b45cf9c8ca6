//! The client over HTTP/1.1, one connection each.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, StatusCode};
use twinway::measure::HttpConnection;

use crate::load::Order;
use crate::request::{Era, RequestBuilder, SESSION_HEADER};

/// A client with its connection, and in the legacy era with its session.
pub(crate) struct HttpClient {
    requests: RequestBuilder,
    connection: HttpConnection,
    is_open: bool,
}

impl HttpClient {
    pub(crate) fn new(era: Era, order: &Order) -> anyhow::Result<Self> {
        let authority = order.endpoint.split('/').next().context("the endpoint is empty")?;
        let requests = RequestBuilder::new(era, &order.endpoint, &order.tool)?;
        Ok(Self { requests, connection: HttpConnection::new(authority), is_open: false })
    }

    /// Opens the connection if it is not open, and the session if there is none yet.
    pub(crate) async fn ensure_open(&mut self) -> anyhow::Result<()> {
        self.connection.ensure_open().await.map_err(anyhow::Error::from_boxed)?;
        if self.requests.era() == Era::Legacy && !self.is_open {
            self.open_session().await.context("`initialize` failed")?;
        }
        self.is_open = true;
        Ok(())
    }

    async fn open_session(&mut self) -> anyhow::Result<()> {
        let answer = self.connection.send(self.requests.initialize()).await.map_err(anyhow::Error::from_boxed)?;
        ensure!(answer.status == StatusCode::OK, "`initialize` was answered with {}", answer.status);
        self.requests.enter_session(answer.headers.get(SESSION_HEADER).cloned());
        let answer = self.connection.send(self.requests.initialized()).await.map_err(anyhow::Error::from_boxed)?;
        ensure!(answer.status == StatusCode::ACCEPTED, "`notifications/initialized` was answered with {}", answer.status);
        Ok(())
    }

    pub(crate) async fn call(&mut self, id: u64, text: &str) -> anyhow::Result<Bytes> {
        self.ask(self.requests.call(id, text)).await
    }

    pub(crate) async fn list(&mut self, id: u64) -> anyhow::Result<Bytes> {
        self.ask(self.requests.list(id)).await
    }

    async fn ask(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Bytes> {
        let answer = self.connection.send(request).await.map_err(anyhow::Error::from_boxed)?;
        ensure!(answer.status == StatusCode::OK, "HTTP {}: {}", answer.status, refusal(&answer.body));
        let is_json = answer.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
        // Nothing precedes this result, so an event stream would be needless work for both sides.
        ensure!(is_json, "the answer is not application/json");
        Ok(answer.body)
    }

    pub(crate) async fn close(mut self) {
        if self.requests.era() == Era::Legacy && self.is_open {
            // A server may refuse to end sessions (405), and a failed end of a session is no failed call.
            drop(self.connection.send(self.requests.delete()).await);
        }
    }
}

/// The start of the error in `body`, without the id before it, so that equal failures count as one.
fn refusal(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let error = text.find("\"error\"").map_or_else(|| text.as_ref(), |start| &text[start..]);
    error.chars().take(200).collect()
}
