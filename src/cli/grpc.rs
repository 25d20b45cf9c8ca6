//! A client of a running gateway's gRPC services.

use std::{fmt, io, str::FromStr, time::Duration};

use clap::Args;
use http::Uri;
use runtime_api::BoxError;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

use crate::config::HttpUrl;

/// What a gateway with a `[grpc]` table and every default prints at its start.
const DEFAULT: &str = "http://127.0.0.1:50051";

/// 64 MiB: a page ends after about 1 MiB, but the last record on it may be a peer with very many tools.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Which gateway's gRPC services a command speaks to.
#[derive(Debug, Args)]
pub(super) struct Grpc {
    /// The gateway's gRPC address: http://HOST:PORT, as it prints it at its start.
    #[arg(long, env = "TWINWAY_GRPC", default_value = DEFAULT, value_name = "URL")]
    endpoint: Address,
    /// The bearer token to show it.
    #[arg(long, env = "TWINWAY_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// How long to wait for its answer.
    // 30 s: what a gateway takes at most, by default.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    timeout: Duration,
}

/// `http://HOST:PORT`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address(Uri);

/// A connection, and what goes with each request on it.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) channel: Channel,
    address: Address,
    authorization: Option<MetadataValue<Ascii>>,
    timeout: Duration,
    deadline: Instant,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum GrpcError {
    #[error("the token holds characters that cannot stand in a header")]
    Token,
    /// Nothing was sent.
    #[error("the gateway at {address} cannot be reached; a `[grpc]` table in its configuration makes it listen")]
    Unreachable {
        address: Address,
        #[source]
        source: BoxError,
    },
    #[error("the gateway at {address} did not answer within {}", humantime::format_duration(*.timeout))]
    TimedOut { address: Address, timeout: Duration },
    #[error("{}{}", .0.message(), remedy(.0))]
    Refused(Box<Status>),
}

impl Grpc {
    /// Connects. An empty token counts as none.
    pub(super) async fn connect(&self) -> Result<Connected, GrpcError> {
        let token = self.token.as_deref().filter(|token| !token.is_empty());
        let authorization = token.map(|token| format!("Bearer {token}").parse()).transpose().map_err(|_| GrpcError::Token)?;
        let deadline = Instant::now() + self.timeout;
        let unreachable = |source: BoxError| GrpcError::Unreachable { address: self.endpoint.clone(), source };
        let endpoint = Endpoint::from(self.endpoint.0.clone());
        let connected = timeout_at(deadline, endpoint.connect())
            .await
            .map_err(|_| unreachable(io::Error::from(io::ErrorKind::TimedOut).into()))?;
        let channel = connected.map_err(|error| unreachable(innermost(error)))?;
        Ok(Connected { channel, address: self.endpoint.clone(), authorization, timeout: self.timeout, deadline })
    }
}

impl Connected {
    /// A request with the token and the time that is left.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request.set_timeout(self.deadline.saturating_duration_since(Instant::now()));
        request
    }

    /// Waits for an answer.
    pub(super) async fn answer<T>(&self, answering: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, GrpcError> {
        let timed_out = || GrpcError::TimedOut { address: self.address.clone(), timeout: self.timeout };
        let answered = timeout_at(self.deadline, answering).await.map_err(|_| timed_out())?;
        answered.map(Response::into_inner).map_err(|status| GrpcError::Refused(Box::new(status)))
    }
}

/// What the connection failed of; the layers above it say only that it did.
fn innermost(error: tonic::transport::Error) -> BoxError {
    let mut cause: &(dyn std::error::Error + 'static) = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<io::Error>() {
        Some(cause) => io::Error::new(cause.kind(), cause.to_string()).into(),
        None => error.into(),
    }
}

fn remedy(status: &Status) -> &'static str {
    match status.code() {
        Code::Unauthenticated => "; give a token with --token or TWINWAY_TOKEN",
        // A server that is not gRPC's answers with a page that is not there.
        Code::Unimplemented | Code::Unknown | Code::Internal => "; is this the gRPC address of a gateway?",
        _ => "",
    }
}

impl GrpcError {
    /// The error for programs: `message`, and the code and reason that the gateway gave.
    pub(super) fn document(&self, text: &str) -> Value {
        match self {
            Self::Refused(status) => {
                let details = status.get_error_details();
                let reason = details.error_info().map(|info| info.reason.clone());
                json!({ "message": status.message(), "code": i32::from(status.code()), "data": { "reason": reason } })
            }
            Self::Token | Self::Unreachable { .. } | Self::TimedOut { .. } => json!({ "message": text }),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    /// An empty text is the default: shells pass on variables that are set to nothing.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = if text.is_empty() { DEFAULT } else { text };
        let complain = |what: &str| format!("{what}; a gateway's gRPC address is named as {DEFAULT}");
        let url: HttpUrl = text.parse().map_err(|error: String| complain(&error))?;
        let url = url.as_url();
        if url.scheme() != "http" {
            return Err(complain("this command speaks to a gateway directly, without TLS"));
        }
        if url.path() != "/" || url.query().is_some() {
            return Err(complain("it has no path"));
        }
        url.as_str().parse().map(Self).map_err(|error: http::uri::InvalidUri| complain(&error.to_string()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_string().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_a_gateway_prints_is_taken_and_others_are_answered_with_one() {
        for (text, expected) in [("", DEFAULT), ("http://127.0.0.1:50051/", DEFAULT), ("http://[::1]:7", "http://[::1]:7")] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(expected.to_owned()), "{text}");
        }
        for text in ["127.0.0.1:50051", "https://gateway.example", "http://127.0.0.1:8080/mcp", "nonsense"] {
            let complaint = text.parse::<Address>().unwrap_err();

            assert!(complaint.contains(DEFAULT), "{text}: {complaint}");
        }
    }
}
