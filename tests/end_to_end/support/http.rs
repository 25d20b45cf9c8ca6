//! One HTTP request on a connection of its own, so that dropping it is a client that goes away.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Body, Incoming},
    client::conn,
    server,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::within;

/// An answer whose body is still coming. Dropping it closes the connection.
pub(crate) struct Open {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    /// What came and was not given out yet.
    rest: Vec<u8>,
    _connection: JoinSet<()>,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Sends a request over HTTP/1.1 and reads the whole answer.
pub(crate) async fn send(address: SocketAddr, request: Request<String>) -> Answer {
    open(address, request).await.finish().await
}

/// Sends a request over HTTP/1.1 and waits for the head of its answer. Dropping the future closes the connection.
pub(crate) async fn open(address: SocketAddr, mut request: Request<String>) -> Open {
    request.headers_mut().entry(header::HOST).or_insert_with(|| address.to_string().parse().unwrap());
    let stream = TokioIo::new(connect(address).await);
    let (mut sender, connection) = conn::http1::handshake(stream).await.unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(async move { connection.await.unwrap_or(()) });
    let response = within("an answer", sender.send_request(request.map(|body| Full::new(Bytes::from(body))))).await.unwrap();
    Open::new(response, driver)
}

/// The same over HTTP/2 with prior knowledge.
pub(crate) async fn send_h2(address: SocketAddr, request: Request<String>) -> Answer {
    let (mut parts, body) = request.into_parts();
    parts.uri = format!("http://{address}{}", parts.uri).parse().unwrap();
    parts.version = http::Version::HTTP_2;
    let stream = TokioIo::new(connect(address).await);
    let (mut sender, connection) = conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(async move { connection.await.unwrap_or(()) });
    let request = Request::from_parts(parts, Full::new(Bytes::from(body)));
    let response = within("an answer", sender.send_request(request)).await.unwrap();
    assert_eq!(response.version(), http::Version::HTTP_2);
    Open::new(response, driver).finish().await
}

/// Answers every request of every connection over HTTP/1.1.
pub(crate) async fn accept<F, A, B>(listener: TcpListener, answer: F)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = http::Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let answer = answer.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request).map(Ok::<_, Infallible>));
            // A gateway that goes away is what some tests want.
            server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = within("a connection", TcpStream::connect(address)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

impl Open {
    fn new(response: http::Response<Incoming>, connection: JoinSet<()>) -> Self {
        let (parts, body) = response.into_parts();
        Self { status: parts.status, headers: parts.headers, body, rest: Vec::new(), _connection: connection }
    }

    /// The message of the next event of a stream; `None` at its end.
    pub(crate) async fn event(&mut self) -> Option<Value> {
        loop {
            if let Some(data) = data_of(&self.raw_event().await?) {
                return Some(data);
            }
        }
    }

    /// The text of the next event of a stream, whatever is in it; `None` at its end.
    pub(crate) async fn raw_event(&mut self) -> Option<String> {
        within("an event", async {
            loop {
                if let Some(end) = self.rest.windows(2).position(|two| two == b"\n\n") {
                    let event: Vec<u8> = self.rest.drain(..end + 2).collect();
                    return Some(String::from_utf8(event).unwrap());
                }
                let data = self.body.frame().await?.unwrap().into_data().unwrap_or_default();
                self.rest.extend_from_slice(&data);
            }
        })
        .await
    }

    /// The whole answer.
    pub(crate) async fn finish(self) -> Answer {
        let Self { status, headers, body, rest, _connection } = self;
        let more = within("the body of an answer", body.collect()).await.unwrap().to_bytes();
        Answer { status, headers, body: [rest.as_slice(), &more].concat().into() }
    }
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    /// A header as text; empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{} `{}`: {error}", self.status, self.text()))
    }

    /// Every message: one of a JSON body, all of an event stream.
    pub(crate) fn messages(&self) -> Vec<Value> {
        if self.header("content-type").starts_with("text/event-stream") {
            return self.text().split("\n\n").filter_map(data_of).collect();
        }
        vec![self.json()]
    }

    /// The `result` of the answer, which is the last message.
    pub(crate) fn result(&self) -> Value {
        let last = self.messages().pop().expect("an answer");
        assert!(last.get("result").is_some(), "{}: {last}", self.status);
        last["result"].clone()
    }

    /// The `error` of the answer.
    pub(crate) fn error(&self) -> Value {
        let last = self.messages().pop().expect("an answer");
        assert!(last.get("error").is_some(), "{}: {last}", self.status);
        last["error"].clone()
    }

    /// The text of the first piece of content of a tool's result.
    pub(crate) fn content(&self) -> String {
        self.result()["content"][0]["text"].as_str().unwrap_or_default().to_owned()
    }
}

fn data_of(event: &str) -> Option<Value> {
    let data: Vec<_> = event.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim_start).collect();
    let data = data.join("\n");
    // A priming event has none.
    (!data.is_empty()).then(|| serde_json::from_str(&data).unwrap())
}
