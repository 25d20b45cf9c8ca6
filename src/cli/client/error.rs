//! Why a client command has no result, and whether the tool may have run.

use std::{io, time::Duration};

use http::StatusCode;
use runtime_http::tls::TrustError;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use crate::cli::Endpoint;

/// Why there is no result.
#[derive(Debug, Error)]
pub(in crate::cli) enum ClientError {
    #[error("the token holds characters that cannot stand in a header")]
    Token,
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("certificate authorities are for https, and the gateway's address is {0}")]
    CaWithoutTls(Endpoint),
    #[error("the request cannot be written")]
    Request(#[source] http::Error),
    /// Nothing was sent.
    #[error("the gateway at {endpoint} cannot be reached")]
    Unreachable {
        endpoint: Endpoint,
        #[source]
        source: io::Error,
    },
    #[error("the gateway at {endpoint} did not answer within {}{}", humantime::format_duration(*.timeout), doubt(*.may_have_run))]
    TimedOut { endpoint: Endpoint, timeout: Duration, may_have_run: bool },
    #[error("the connection to the gateway at {endpoint} ended before the answer{}", doubt(*.may_have_run))]
    Broken {
        endpoint: Endpoint,
        #[source]
        source: hyper::Error,
        may_have_run: bool,
    },
    #[error("the gateway refused the request with status {status}: {}{}", .fault.message, remedy(*.status))]
    Refused { status: StatusCode, fault: Fault },
    #[error("{}{}", .0.message, .0.code())]
    Answered(Fault),
    #[error("upstream answered with an error: {}{}", .0.message, .0.code())]
    Upstream(Fault),
    #[error("the answer is not one of MCP")]
    NotMcp(#[source] serde_json::Error),
}

/// An error of JSON-RPC, or what stands in a body that holds none.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Fault {
    pub(super) code: Option<i64>,
    pub(super) message: String,
    pub(super) data: Option<Value>,
}

impl Fault {
    /// Each error that the gateway makes of a call says whose fault it was and what became of the call.
    pub(super) fn is_of_the_gateway(&self) -> bool {
        let has = |key: &str| self.data.as_ref().and_then(|data| data.get(key)).is_some_and(Value::is_string);
        has("origin") && has("delivery")
    }

    fn code(&self) -> String {
        self.code.map(|code| format!(" (code {code})")).unwrap_or_default()
    }
}

impl ClientError {
    /// The error for programs: `message`, and what is known of `code` and `data`.
    pub(in crate::cli) fn document(&self, text: &str) -> Value {
        let delivery = match self {
            Self::Refused { fault, .. } | Self::Answered(fault) | Self::Upstream(fault) => return fault.document(),
            Self::Token | Self::Trust(_) | Self::CaWithoutTls(_) | Self::Request(_) | Self::Unreachable { .. } => "not_sent",
            Self::TimedOut { .. } | Self::Broken { .. } => "unknown",
            Self::NotMcp(_) => "answered",
        };
        json!({ "message": text, "data": { "delivery": delivery } })
    }
}

impl Fault {
    fn document(&self) -> Value {
        let mut document = json!({ "message": self.message });
        if let Some(code) = self.code {
            document["code"] = code.into();
        }
        if let Some(data) = &self.data {
            document["data"] = data.clone();
        }
        document
    }
}

const fn doubt(may_have_run: bool) -> &'static str {
    if may_have_run { "; the tool may have run" } else { "" }
}

fn remedy(status: StatusCode) -> &'static str {
    if status == StatusCode::UNAUTHORIZED { "; give a token with --token or TWINWAY_TOKEN" } else { "" }
}
