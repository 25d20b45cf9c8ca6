//! The client over HTTP/1.1, one connection each.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::load::Order;
use crate::request::{Era, RequestBuilder, SESSION_HEADER};

/// A raw HTTP/1.1 connection.
pub(crate) struct HttpClient {
    requests: RequestBuilder,
    sender: http1::SendRequest<Full<Bytes>>,
    /// Dropping it closes the connection.
    _driver: JoinSet<()>,
    era: Era,
}

impl HttpClient {
    pub(super) async fn connect(era: Era, order: &Order) -> anyhow::Result<Self> {
        let authority = order.endpoint.split('/').next().context("the endpoint is empty")?;
        let stream = TcpStream::connect(authority).await.with_context(|| format!("no connection to {authority}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        // A lost connection shows in the next call, which is where it is counted.
        driver.spawn(async { connection.await.unwrap_or_default() });
        let requests = RequestBuilder::new(era, &order.endpoint, &order.tool)?;
        let mut client = Self { requests, sender, _driver: driver, era };
        if era == Era::Legacy {
            client.open_session().await.context("`initialize` failed")?;
        }
        Ok(client)
    }

    async fn open_session(&mut self) -> anyhow::Result<()> {
        let response = self.send(self.requests.initialize()).await?;
        ensure!(response.status() == StatusCode::OK, "`initialize` was answered with {}", response.status());
        let session = response.headers().get(SESSION_HEADER).cloned();
        response.into_body().collect().await?;
        self.requests.enter_session(session);
        let response = self.send(self.requests.initialized()).await?;
        ensure!(response.status() == StatusCode::ACCEPTED, "`notifications/initialized` was answered with {}", response.status());
        response.into_body().collect().await?;
        Ok(())
    }

    pub(super) async fn call(&mut self, id: u64, text: &str) -> anyhow::Result<Bytes> {
        let response = self.send(self.requests.call(id, text)).await?;
        let status = response.status();
        let is_json = response.headers().get(CONTENT_TYPE).is_some_and(is_json);
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status == StatusCode::OK, "HTTP {status}: {}", refusal(&body));
        // Nothing precedes this result, so an event stream would be needless work for both sides.
        ensure!(is_json, "the answer is not application/json");
        Ok(body)
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }

    pub(super) async fn close(mut self) {
        if self.era == Era::Legacy
            && let Ok(response) = self.send(self.requests.delete()).await
        {
            // A server may refuse to end sessions (405), and a failed end of a session is no failed call.
            drop(response.into_body().collect().await);
        }
    }
}

/// The start of the error in `body`, without the id before it, so that equal failures count as one.
fn refusal(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let error = text.find("\"error\"").map_or_else(|| text.as_ref(), |start| &text[start..]);
    error.chars().take(200).collect()
}

fn is_json(content_type: &HeaderValue) -> bool {
    content_type.as_bytes().starts_with(b"application/json")
}
