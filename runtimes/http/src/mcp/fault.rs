//! Why an MCP server gave no result.

use bytes::Bytes;
use http::StatusCode;
use runtime_api::{CallError, ErrorCode};
use runtime_mcp::{era::error_code, handshake};
use twinway_proto::envelope::{self, Message};

use crate::exchange::refused;

/// `HeaderMismatch` (2026-07-28).
const HEADER_MISMATCH: i64 = -32020;

/// No answer.
pub(super) enum AskError {
    /// The upstream does not know the session (any more). The request was not executed.
    Expired,
    Failed(CallError),
}

impl From<CallError> for AskError {
    fn from(error: CallError) -> Self {
        Self::Failed(error)
    }
}

impl AskError {
    /// For whoever cannot open another session.
    pub(super) fn finally(self) -> CallError {
        match self {
            Self::Failed(error) => error,
            Self::Expired => refused(StatusCode::NOT_FOUND),
        }
    }
}

/// A 4xx with a JSON body: an expired session, or the error that the upstream answers with. `refusal` is what its head says.
pub(super) fn client_error(refusal: CallError, status: StatusCode, body: &Bytes, in_session: bool) -> AskError {
    let failure = match envelope::parse(body) {
        Ok(Message::Failure(failure)) => body.slice(failure.error),
        _ if status == StatusCode::NOT_FOUND && in_session => return AskError::Expired,
        _ => return refusal.into(),
    };
    if in_session && (status == StatusCode::NOT_FOUND || refuses_session(status, &failure)) {
        return AskError::Expired;
    }
    CallError::answered(failure).into()
}

/// Servers built on the TypeScript SDK refuse a session that they do not know with 400 and such a message, unseen. The
/// code alone does not say so: -32000 is any server's error, and a call that may have run must not be made again.
fn refuses_session(status: StatusCode, failure: &Bytes) -> bool {
    let message = handshake::part(failure, "message").map(|raw| raw.to_ascii_lowercase()).unwrap_or_default();
    let says = |what: &[u8]| message.windows(what.len()).any(|part| part == what);
    status == StatusCode::BAD_REQUEST
        && matches!(error_code(failure), Some(-32001 | -32000))
        && (says(b"session") || says(b"not initialized"))
}

/// Whether an upstream has answered that it does not serve `initialize`, as against not being able to just now.
pub(super) fn refuses_sessions(error: &CallError) -> bool {
    matches!(error.code(), ErrorCode::Upstream | ErrorCode::Protocol)
}

/// Whether the upstream refused a call because it is another server, of another era, than it was.
pub(super) fn of_another_era(error: &CallError) -> bool {
    error.answer().and_then(|answer| error_code(answer)).is_some_and(|code| (-32022..=-32020).contains(&code))
}

/// Whether the upstream refused a call unseen, because its headers do not say what its body says (2026-07-28, Streamable HTTP).
pub(super) fn mismatches_headers(error: &CallError) -> bool {
    error.answer().and_then(|answer| error_code(answer)) == Some(HEADER_MISMATCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_session_that_the_upstream_refused_unseen_is_opened_anew() {
        let error = |code: i32, message: &str| {
            Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":null,"error":{{"code":{code},"message":"{message}"}}}}"#))
        };
        let cases = [
            (404, error(-32600, "Session not found"), true, true),
            (404, Bytes::from_static(b"gone"), true, true),
            (404, error(-32601, "Method not found"), false, false),
            (400, error(-32000, "Bad Request: No valid session ID provided"), true, true),
            (400, error(-32000, "Bad Request: Server not initialized"), true, true),
            // Without a session id nothing can have expired.
            (400, error(-32000, "Bad Request: No valid session ID provided"), false, false),
            // Any server's error: the tool may have run.
            (400, error(-32000, "write failed half way"), true, false),
            (400, error(-32602, "no such session"), true, false),
        ];
        for (status, body, in_session, expected) in cases {
            let status = StatusCode::from_u16(status).expect("a status");
            let expired = matches!(client_error(refused(status), status, &body, in_session), AskError::Expired);

            assert_eq!(expired, expected, "{status} {} in_session: {in_session}", String::from_utf8_lossy(&body));
        }
    }
}
