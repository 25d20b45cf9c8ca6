//! A client of a running gateway: MCP 2026-07-28 over HTTP or HTTPS, one request a connection.

mod error;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header, request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use runtime_http::tls::{self, Trust};
use rustls::pki_types::ServerName;
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::either::Either;
use twinway_proto::{
    headers::{MCP_METHOD, MCP_NAME, MCP_PROTOCOL_VERSION, encode_value},
    meta::key,
    revision,
};

use super::Endpoint;
use crate::admin::PREFIX;
pub(super) use error::{ClientError, Fault};

/// The one method that runs something.
pub(super) const CALL: &str = "tools/call";

/// Asks one gateway.
#[derive(Clone)]
pub(super) struct Client {
    endpoint: Endpoint,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    /// For https: what secures a connection, and the name that the gateway's certificate must bear.
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// A response of JSON-RPC; the result stays the bytes it came as.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    id: Value,
    result: Option<Box<RawValue>>,
    error: Option<Fault>,
}

impl Client {
    /// An empty token counts as none. `trust` says whose word the certificate of a gateway over https needs.
    pub(super) fn new(
        endpoint: &Endpoint,
        token: Option<&str>,
        timeout: Duration,
        trust: Trust<'_>,
    ) -> Result<Self, ClientError> {
        let token = token.filter(|token| !token.is_empty());
        let authorization = token.map(|token| HeaderValue::try_from(format!("Bearer {token}"))).transpose();
        let authorization = authorization.map_err(|_| ClientError::Token)?;
        let tls = match trust {
            _ if endpoint.is_https() => Some((tls::connector(trust)?, tls::server_name(endpoint.host())?)),
            Trust::File(_) => return Err(ClientError::CaWithoutTls(endpoint.clone())),
            Trust::Machine => None,
        };
        Ok(Self { endpoint: endpoint.clone(), authorization, timeout, tls })
    }

    /// Makes one request. `name` is what `params` names, for the header that mirrors it.
    pub(super) async fn ask(
        &self,
        method: &'static str,
        name: Option<&str>,
        params: Map<String, Value>,
    ) -> Result<Box<RawValue>, ClientError> {
        let request = self.request(1, method, name, params)?;
        let (status, body) = self.exchange(request, method == CALL).await?;
        read(method, status, &body)
    }

    /// A document of the admin API, `route/echo` for example, about the view that the endpoint names.
    pub(super) async fn document(&self, path: &str, query: &BTreeMap<&str, &str>) -> Result<Box<RawValue>, ClientError> {
        let (status, body) = self.get(&self.endpoint.admin(path, query)).await?;
        read_document(status, &body)
    }

    /// Tells the admin API to do something. `path` is what stands behind its prefix.
    pub(super) async fn tell(&self, path: &str, wish: &Value) -> Result<Box<RawValue>, ClientError> {
        let request = Request::post(self.endpoint.beside(&format!("{PREFIX}{path}")));
        let request = self.with_credentials(request).header(header::CONTENT_TYPE, "application/json");
        let request = request.body(Full::from(wish.to_string())).map_err(ClientError::Request)?;
        let (status, body) = self.exchange(request, true).await?;
        read_document(status, &body)
    }

    /// Whether the gateway wants requests, and its own words.
    pub(super) async fn readiness(&self) -> Result<(bool, Box<RawValue>), ClientError> {
        let (status, body) = self.get(&self.endpoint.beside("/health/ready")).await?;
        Ok((status.is_success(), serde_json::from_slice(&body).map_err(ClientError::NotMcp)?))
    }

    async fn get(&self, path: &str) -> Result<(StatusCode, Bytes), ClientError> {
        let request = self.with_credentials(Request::get(path));
        self.exchange(request.body(Full::default()).map_err(ClientError::Request)?, false).await
    }

    /// Says who is asked, and who asks.
    fn with_credentials(&self, request: request::Builder) -> request::Builder {
        let request = request.header(header::HOST, self.endpoint.authority());
        match &self.authorization {
            Some(authorization) => request.header(header::AUTHORIZATION, authorization),
            None => request,
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>, may_have_run: bool) -> Result<(StatusCode, Bytes), ClientError> {
        let deadline = Instant::now() + self.timeout;
        let stream = self.connect(deadline).await?;
        let timed_out = |_| ClientError::TimedOut { endpoint: self.endpoint.clone(), timeout: self.timeout, may_have_run };
        let broken = |source| ClientError::Broken { endpoint: self.endpoint.clone(), source, may_have_run };
        timeout_at(deadline, exchange(stream, request)).await.map_err(timed_out)?.map_err(broken)
    }

    /// Nothing has been sent as long as there is no connection.
    async fn connect(&self, deadline: Instant) -> Result<Either<TcpStream, TlsStream<TcpStream>>, ClientError> {
        let connecting = async {
            let stream = TcpStream::connect((self.endpoint.host(), self.endpoint.port())).await?;
            match &self.tls {
                None => Ok(Either::Left(stream)),
                Some((connector, name)) => connector.connect(name.clone(), stream).await.map(Either::Right),
            }
        };
        let connected = timeout_at(deadline, connecting).await.unwrap_or_else(|late| Err(late.into()));
        connected.map_err(|source| ClientError::Unreachable { endpoint: self.endpoint.clone(), source })
    }

    /// Where it is asked, as in a `Host` header.
    pub(super) fn authority(&self) -> &str {
        self.endpoint.authority()
    }

    /// The request that [`Client::ask`] makes, for a connection of somebody else.
    pub(super) fn request(
        &self,
        id: u64,
        method: &'static str,
        name: Option<&str>,
        mut params: Map<String, Value>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let meta = params.entry("_meta").or_insert_with(|| json!({}));
        meta[key::PROTOCOL_VERSION] = revision::MODERN.into();
        meta[key::CLIENT_INFO] = json!({ "name": "twinway", "version": env!("CARGO_PKG_VERSION") });
        meta[key::CLIENT_CAPABILITIES] = json!({});
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();

        let mut request = self
            .with_credentials(Request::post(self.endpoint.whole()))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header(MCP_PROTOCOL_VERSION, revision::MODERN)
            .header(MCP_METHOD, method);
        if let Some(name) = name {
            request = request.header(MCP_NAME, encode_value(name));
        }
        request.body(Full::from(body)).map_err(ClientError::Request)
    }
}

async fn exchange<I>(stream: I, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), hyper::Error>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let response: Response<hyper::body::Incoming> = sender.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    };
    tokio::pin!(answer);
    // The connection does the work; it ends by itself only when the other side closes it.
    tokio::select! {
        biased;
        answered = &mut answer => answered,
        Err(error) = connection => Err(error),
        else => answer.await,
    }
}

/// A document of the admin API, or why there is none.
fn read_document(status: StatusCode, body: &Bytes) -> Result<Box<RawValue>, ClientError> {
    if status.is_success() {
        return serde_json::from_slice(body).map_err(ClientError::NotMcp);
    }
    let unnamed = || Fault { code: None, message: String::from_utf8_lossy(body).trim().to_owned(), data: None };
    let fault = serde_json::from_slice(body).ok().and_then(|message: Message| message.error).unwrap_or_else(unnamed);
    Err(ClientError::Refused { status, fault })
}

/// The result, out of a JSON body or of the last event of a stream.
fn read(method: &str, status: StatusCode, body: &Bytes) -> Result<Box<RawValue>, ClientError> {
    read_answer(method, status, body).map(|(_, result)| result)
}

/// The same with the id that it answers.
pub(super) fn read_answer(method: &str, status: StatusCode, body: &Bytes) -> Result<(Value, Box<RawValue>), ClientError> {
    let text = String::from_utf8_lossy(body);
    let last_event = text.lines().filter_map(|line| line.strip_prefix("data:")).next_back();
    let message = serde_json::from_str(last_event.unwrap_or(&text).trim());
    match message {
        Ok(Message { id, result: Some(result), .. }) => Ok((id, result)),
        Ok(Message { error: Some(fault), .. }) => Err(blame(method, status, fault)),
        Ok(Message { .. }) => Err(ClientError::NotMcp(serde::de::Error::custom("neither a result nor an error"))),
        Err(_) if !status.is_success() => {
            Err(ClientError::Refused { status, fault: Fault { code: None, message: text.trim().to_owned(), data: None } })
        }
        Err(error) => Err(ClientError::NotMcp(error)),
    }
}

/// Whose error it is. The gateway signs its own errors of calls; what is not signed is the upstream's, as it came.
fn blame(method: &str, status: StatusCode, fault: Fault) -> ClientError {
    // The modern revision gives this answer of an upstream the status of a missing page.
    let is_unknown_method = status == StatusCode::NOT_FOUND && fault.code == Some(-32601);
    let is_answer = status.is_success() || (is_unknown_method && method == CALL);
    if !is_answer {
        ClientError::Refused { status, fault }
    } else if method == CALL && !fault.is_of_the_gateway() {
        ClientError::Upstream(fault)
    } else {
        ClientError::Answered(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: [(&str, u16, &str, Result<&str, &str>); 9] = [
        (CALL, 200, r#"{"jsonrpc":"2.0","id":1,"result":{"n":12345678901234567890123}}"#, Ok(r#"{"n":12345678901234567890123}"#)),
        (CALL, 200, "event: message\ndata: {\"id\":1,\"result\":{}}\n\n", Ok("{}")),
        (
            CALL,
            200,
            r#"{"id":1,"error":{"code":-32602,"message":"no such tool","data":{"origin":"caller","delivery":"not_sent"}}}"#,
            Err("no such tool (code -32602)"),
        ),
        (
            CALL,
            200,
            r#"{"id":1,"error":{"code":-32000,"message":"no rain","data":{"origin":1}}}"#,
            Err("upstream answered with an error: no rain (code -32000)"),
        ),
        (
            CALL,
            404,
            r#"{"id":1,"error":{"code":-32601,"message":"what?"}}"#,
            Err("upstream answered with an error: what? (code -32601)"),
        ),
        (
            "tools/list",
            503,
            r#"{"error":{"code":-32603,"message":"busy"}}"#,
            Err("the gateway refused the request with status 503 Service Unavailable: busy"),
        ),
        (
            CALL,
            401,
            r#"{"error":{"code":-32603,"message":"who are you"}}"#,
            Err(
                "the gateway refused the request with status 401 Unauthorized: who are you; give a token with --token or TWINWAY_TOKEN",
            ),
        ),
        (CALL, 404, "not here\n", Err("the gateway refused the request with status 404 Not Found: not here")),
        (CALL, 200, "<html>", Err("the answer is not one of MCP")),
    ];

    #[test]
    fn answers_are_read_as_json_and_as_events_and_errors_say_whose_they_are() {
        for (method, status, text, expected) in CASES {
            let read = read(method, StatusCode::from_u16(status).unwrap(), &Bytes::from_static(text.as_bytes()));

            let read = read.map(|result| result.get().to_owned()).map_err(|error| error.to_string());
            assert_eq!(read, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn programs_get_the_error_as_the_gateway_gave_it() {
        let error = r#"{"code":-32001,"message":"late","data":{"code":"deadline","origin":"runtime","delivery":"unknown"}}"#;
        let body = Bytes::from(format!(r#"{{"id":1,"error":{error}}}"#));

        let read = read(CALL, StatusCode::OK, &body).unwrap_err();

        assert_eq!(read.document(""), serde_json::from_str::<Value>(error).unwrap());
    }
}
