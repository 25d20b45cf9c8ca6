//! Why no reply came, and the one table that says so on every wire.
//!
//! Policy: a tool that answers `isError` is a reply, not an error. A [`CallError`] means that no reply came. It always
//! says whose fault that is ([`Origin`]) and whether the tool may have run ([`Delivery`]); no layer may lose either.

use std::{error::Error, fmt, time::Duration};

use bytes::Bytes;

/// A cause of any type.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// No reply came.
#[derive(Debug)]
pub struct CallError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: ErrorCode,
    origin: Origin,
    delivery: Delivery,
    message: Box<str>,
    answer: Option<Bytes>,
    retry_after: Option<Duration>,
    source: Option<BoxError>,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The client asked for something that cannot be.
    Caller,
    /// The gateway itself.
    Gateway,
    /// The target or the way to it.
    Runtime,
}

/// Whether the target may have run the call: the delivery rule rests on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// It certainly did not run; it may be tried elsewhere.
    NotSent,
    /// The target answered with an error.
    Answered,
    /// Nobody knows. Only read-only or idempotent calls may be repeated.
    Unknown,
}

/// What went wrong. [`ErrorCode::row`] is the one table to JSON-RPC, HTTP, gRPC and "may be retried".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// Not JSON.
    Parse,
    /// JSON, but not a request as the revision has it.
    InvalidRequest,
    /// The method is not offered.
    UnknownMethod,
    /// The tool, prompt or resource is not in the catalogue.
    UnknownName,
    /// The parameters are wrong.
    InvalidParams,
    /// No or unknown credentials.
    Unauthenticated,
    /// Known, but not allowed.
    Forbidden,
    /// Larger than the limit that the message names.
    TooLarge,
    /// Shed: come back later.
    Overloaded,
    /// The time given to the call is used up.
    DeadlineExceeded,
    /// The client withdrew the call.
    Cancelled,
    /// The target cannot be reached.
    Unavailable,
    /// The target or the connection to it broke while the call was out.
    Disconnected,
    /// The target answered something that its protocol does not allow.
    Protocol,
    /// The target answered with a JSON-RPC error; it is passed on as it is.
    Upstream,
    /// This combination of eras cannot carry it.
    Unsupported,
    /// A fault of the gateway.
    Internal,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Stable name, in error data, metrics (`error.type`) and logs.
    pub name: &'static str,
    /// JSON-RPC error code. The bands -32000..-32099 belong to the specification, so faults of ours are -32603.
    pub json_rpc: i32,
    /// HTTP status for REST clients.
    pub http: u16,
    /// gRPC status code.
    pub grpc: i32,
    /// Whether another try can succeed at all; whether it is *allowed* is [`CallError::may_retry`].
    pub transient: bool,
}

impl ErrorCode {
    /// The row of this code.
    #[must_use]
    pub const fn row(self) -> Row {
        const fn row(name: &'static str, json_rpc: i32, http: u16, grpc: i32, transient: bool) -> Row {
            Row { name, json_rpc, http, grpc, transient }
        }
        match self {
            //                               name                 JSON-RPC  HTTP gRPC transient
            Self::Parse => row("parse_error", -32700, 400, 3, false),
            Self::InvalidRequest => row("invalid_request", -32600, 400, 3, false),
            Self::UnknownMethod => row("unknown_method", -32601, 404, 12, false),
            Self::UnknownName => row("unknown_name", -32602, 404, 5, false),
            Self::InvalidParams => row("invalid_params", -32602, 400, 3, false),
            Self::Unauthenticated => row("unauthenticated", -32603, 401, 16, false),
            Self::Forbidden => row("forbidden", -32603, 403, 7, false),
            Self::TooLarge => row("too_large", -32600, 413, 8, false),
            Self::Overloaded => row("overloaded", -32603, 503, 8, true),
            Self::DeadlineExceeded => row("deadline_exceeded", -32603, 504, 4, true),
            Self::Cancelled => row("cancelled", -32603, 499, 1, false),
            Self::Unavailable => row("unavailable", -32603, 502, 14, true),
            Self::Disconnected => row("disconnected", -32603, 502, 14, true),
            Self::Protocol => row("protocol_error", -32603, 502, 13, false),
            Self::Upstream => row("upstream_error", -32603, 502, 2, false),
            Self::Unsupported => row("unsupported", -32603, 501, 12, false),
            Self::Internal => row("internal", -32603, 500, 13, false),
        }
    }
}

impl Origin {
    /// `caller`, `gateway` or `runtime`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Gateway => "gateway",
            Self::Runtime => "runtime",
        }
    }
}

impl Delivery {
    /// `not_sent`, `answered` or `unknown`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Answered => "answered",
            Self::Unknown => "unknown",
        }
    }
}

impl CallError {
    /// A failure of the target or of the way to it.
    #[must_use]
    pub fn runtime(code: ErrorCode, delivery: Delivery, message: impl Into<Box<str>>) -> Self {
        Self::new(code, Origin::Runtime, delivery, message)
    }

    /// A failure of the gateway; nothing was sent.
    #[must_use]
    pub fn gateway(code: ErrorCode, message: impl Into<Box<str>>) -> Self {
        Self::new(code, Origin::Gateway, Delivery::NotSent, message)
    }

    /// A mistake of the caller; nothing was sent.
    #[must_use]
    pub fn caller(code: ErrorCode, message: impl Into<Box<str>>) -> Self {
        Self::new(code, Origin::Caller, Delivery::NotSent, message)
    }

    /// The target answered with a JSON-RPC error: `answer` is the raw `error` object, passed on unchanged.
    #[must_use]
    pub fn answered(answer: Bytes) -> Self {
        let mut error = Self::runtime(ErrorCode::Upstream, Delivery::Answered, "the target answered with an error");
        error.0.answer = Some(answer);
        error
    }

    fn new(code: ErrorCode, origin: Origin, delivery: Delivery, message: impl Into<Box<str>>) -> Self {
        let message = message.into();
        Self(Box::new(Inner { code, origin, delivery, message, answer: None, retry_after: None, source: None }))
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds a hint when to come back.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.0.retry_after = Some(retry_after);
        self
    }

    /// Says anew whether the target may have run the call: for a layer that knows more than the one that failed.
    #[must_use]
    pub fn with_delivery(mut self, delivery: Delivery) -> Self {
        self.0.delivery = delivery;
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// Whose fault it is.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.0.origin
    }

    /// Whether the target may have run the call.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        self.0.delivery
    }

    /// The raw JSON-RPC `error` object of the target, when it answered with one.
    #[must_use]
    pub fn answer(&self) -> Option<&Bytes> {
        self.0.answer.as_ref()
    }

    /// When to come back.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The delivery rule: whether the call may be made once more. `repeatable` says that the tool is read-only or idempotent.
    #[must_use]
    pub fn may_retry(&self, repeatable: bool) -> bool {
        match self.0.delivery {
            Delivery::NotSent => self.0.code.row().transient,
            Delivery::Answered => false,
            Delivery::Unknown => repeatable && self.0.code.row().transient,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ErrorCode; 17] = [
        ErrorCode::Parse,
        ErrorCode::InvalidRequest,
        ErrorCode::UnknownMethod,
        ErrorCode::UnknownName,
        ErrorCode::InvalidParams,
        ErrorCode::Unauthenticated,
        ErrorCode::Forbidden,
        ErrorCode::TooLarge,
        ErrorCode::Overloaded,
        ErrorCode::DeadlineExceeded,
        ErrorCode::Cancelled,
        ErrorCode::Unavailable,
        ErrorCode::Disconnected,
        ErrorCode::Protocol,
        ErrorCode::Upstream,
        ErrorCode::Unsupported,
        ErrorCode::Internal,
    ];

    #[test]
    fn no_code_of_ours_lies_in_a_band_of_the_specification() {
        for code in ALL {
            let json_rpc = code.row().json_rpc;

            assert!(!(-32099..=-32000).contains(&json_rpc), "{code:?} uses {json_rpc}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = ALL.iter().map(|code| code.row().name).collect();
        names.sort_unstable();
        names.dedup();

        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn the_delivery_rule_as_a_table() {
        let cases = [
            (ErrorCode::Unavailable, Delivery::NotSent, false, true),
            (ErrorCode::Unavailable, Delivery::NotSent, true, true),
            (ErrorCode::InvalidParams, Delivery::NotSent, true, false),
            (ErrorCode::Disconnected, Delivery::Unknown, false, false),
            (ErrorCode::Disconnected, Delivery::Unknown, true, true),
            (ErrorCode::Upstream, Delivery::Answered, true, false),
        ];
        for (code, delivery, repeatable, expected) in cases {
            let error = CallError::runtime(code, delivery, "");

            assert_eq!(error.may_retry(repeatable), expected, "{code:?} {delivery:?} repeatable: {repeatable}");
        }
    }
}
