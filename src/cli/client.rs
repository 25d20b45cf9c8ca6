//! A client of a running gateway: MCP 2026-07-28 over plain HTTP, one request a connection.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use runtime_api::BoxError;
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};
use thiserror::Error;
use tokio::{net::TcpStream, time::timeout};
use twinway_proto::{
    headers::{MCP_METHOD, MCP_NAME, MCP_PROTOCOL_VERSION, encode_value},
    meta::key,
    revision,
};
use url::{Position, Url};

use crate::config::HttpUrl;

/// Asks one gateway.
#[derive(Debug)]
pub(super) struct Client {
    endpoint: Url,
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

/// Why there is no result.
#[derive(Debug, Error)]
pub(super) enum ClientError {
    #[error("the endpoint `{0}` does not begin with http://; this command speaks to a gateway directly, without TLS")]
    Endpoint(Url),
    #[error("the token holds characters that cannot stand in a header")]
    Token,
    #[error("the gateway at {endpoint} cannot be reached")]
    Unreachable {
        endpoint: Url,
        #[source]
        source: BoxError,
    },
    #[error("the gateway at {endpoint} did not answer within {}", humantime::format_duration(*.timeout))]
    TimedOut { endpoint: Url, timeout: Duration },
    #[error("the gateway refused the request with status {status}: {message}")]
    Refused { status: StatusCode, message: String },
    #[error("{message} (code {code})")]
    Answered { code: i64, message: String },
    #[error("the answer is not one of MCP")]
    NotMcp(#[source] serde_json::Error),
}

/// A response of JSON-RPC; the result stays the bytes it came as.
#[derive(Deserialize)]
struct Message {
    result: Option<Box<RawValue>>,
    error: Option<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    code: i64,
    message: String,
}

impl Client {
    pub(super) fn new(endpoint: &HttpUrl, token: Option<&str>, timeout: Duration) -> Result<Self, ClientError> {
        let endpoint = endpoint.as_url().clone();
        if endpoint.scheme() != "http" {
            return Err(ClientError::Endpoint(endpoint));
        }
        let authorization = token.map(|token| HeaderValue::try_from(format!("Bearer {token}"))).transpose();
        Ok(Self { endpoint, authorization: authorization.map_err(|_| ClientError::Token)?, timeout })
    }

    /// Makes one request. `name` is what `params` names, for the header that mirrors it.
    pub(super) async fn ask(
        &self,
        method: &'static str,
        name: Option<&str>,
        params: Map<String, Value>,
    ) -> Result<Box<RawValue>, ClientError> {
        let request = self.request(method, name, params)?;
        let answered = timeout(self.timeout, self.exchange(request)).await;
        let timed_out = |_| ClientError::TimedOut { endpoint: self.endpoint.clone(), timeout: self.timeout };
        let (status, body) = answered.map_err(timed_out)??;
        read(status, &body)
    }

    fn request(
        &self,
        method: &'static str,
        name: Option<&str>,
        mut params: Map<String, Value>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let meta = params.entry("_meta").or_insert_with(|| json!({}));
        meta[key::PROTOCOL_VERSION] = revision::MODERN.into();
        meta[key::CLIENT_INFO] = json!({ "name": "twinway", "version": env!("CARGO_PKG_VERSION") });
        meta[key::CLIENT_CAPABILITIES] = json!({});
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();

        let path = format!("{}/mcp", self.endpoint.path().trim_end_matches('/'));
        let mut request = Request::post(path)
            .header(header::HOST, &self.endpoint[Position::BeforeHost..Position::AfterPort])
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header(MCP_PROTOCOL_VERSION, revision::MODERN)
            .header(MCP_METHOD, method);
        if let Some(name) = name {
            request = request.header(MCP_NAME, encode_value(name));
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        request.body(Full::from(body)).map_err(|_| ClientError::Endpoint(self.endpoint.clone()))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), ClientError> {
        let unreachable = |source| ClientError::Unreachable { endpoint: self.endpoint.clone(), source };
        let host = self.endpoint.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let port = self.endpoint.port_or_known_default().unwrap_or(80);
        let stream = TcpStream::connect((host, port)).await.map_err(|error| unreachable(error.into()))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(error.into()))?;
        let answer = async {
            let response: Response<hyper::body::Incoming> = sender.send_request(request).await?;
            let status = response.status();
            Ok::<_, hyper::Error>((status, response.into_body().collect().await?.to_bytes()))
        };
        tokio::pin!(answer);
        // The connection does the work; it ends by itself only when the other side closes it.
        tokio::select! {
            biased;
            answered = &mut answer => answered,
            Err(error) = connection => Err(error),
            else => answer.await,
        }
        .map_err(|error| unreachable(error.into()))
    }
}

/// The result, out of a JSON body or of the last event of a stream.
fn read(status: StatusCode, body: &Bytes) -> Result<Box<RawValue>, ClientError> {
    let text = String::from_utf8_lossy(body);
    let last_event = text.lines().filter_map(|line| line.strip_prefix("data:")).next_back();
    let message = serde_json::from_str(last_event.unwrap_or(&text).trim());
    match message {
        Ok(Message { result: Some(result), .. }) => Ok(result),
        Ok(Message { error: Some(Fault { code, message }), .. }) if status.is_success() => {
            Err(ClientError::Answered { code, message })
        }
        Ok(Message { error: Some(Fault { message, .. }), .. }) => Err(ClientError::Refused { status, message }),
        Ok(Message { .. }) => Err(ClientError::NotMcp(serde::de::Error::custom("neither a result nor an error"))),
        Err(_) if !status.is_success() => Err(ClientError::Refused { status, message: text.trim().to_owned() }),
        Err(error) => Err(ClientError::NotMcp(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(status: u16, text: &str) -> Result<String, String> {
        let read = read(StatusCode::from_u16(status).unwrap(), &Bytes::copy_from_slice(text.as_bytes()));
        read.map(|result| result.get().to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn answers_are_read_as_json_and_as_events() {
        let cases = [
            (200, r#"{"jsonrpc":"2.0","id":1,"result":{"n":12345678901234567890123}}"#, Ok(r#"{"n":12345678901234567890123}"#)),
            (200, "event: message\ndata: {\"id\":1,\"result\":{}}\n\n", Ok("{}")),
            (200, r#"{"id":1,"error":{"code":-32602,"message":"no such tool"}}"#, Err("no such tool (code -32602)")),
            (
                503,
                r#"{"error":{"code":-32603,"message":"busy"}}"#,
                Err("the gateway refused the request with status 503 Service Unavailable: busy"),
            ),
            (404, "not here\n", Err("the gateway refused the request with status 404 Not Found: not here")),
            (200, "<html>", Err("the answer is not one of MCP")),
        ];
        for (status, text, expected) in cases {
            assert_eq!(read_text(status, text), expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_gateway_is_spoken_to_without_tls_only() {
        let endpoint: HttpUrl = "https://gateway.example".parse().unwrap();

        assert!(matches!(Client::new(&endpoint, None, Duration::from_secs(1)), Err(ClientError::Endpoint(_))));
    }
}
