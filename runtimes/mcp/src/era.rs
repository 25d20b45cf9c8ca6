//! Tells from the answer to a first `server/discover` which era a server speaks (2026-07-28, versioning).

use bytes::Bytes;
use runtime_api::{CallError, Delivery, ErrorCode};
use twinway_proto::{
    envelope::{self, Message},
    json::members,
};

use crate::{
    Incoming,
    handshake::{self, ServerFacts},
};

/// What the answer means.
#[derive(Debug)]
pub enum Verdict {
    /// It speaks the modern revision.
    Modern(ServerFacts),
    /// It does not: try `initialize`.
    Legacy,
}

/// `HeaderMismatch`, `MissingRequiredClientCapability`, `UnsupportedProtocolVersion`: only a modern server has these.
const MODERN_CODES: std::ops::RangeInclusive<i64> = -32022..=-32020;

/// Judges an answer to the probe with this id. `status` is the HTTP status, `None` on other transports.
///
/// # Errors
/// `Protocol` when the server is modern but has no revision in common with us.
pub fn judge(status: Option<u16>, body: Bytes, id: u64) -> Result<Verdict, CallError> {
    let code = match envelope::parse(&body) {
        Ok(Message::Response(_)) => {
            // A legacy server may answer anything to a method it does not know; only a real result counts.
            let discovered = Incoming::read(body, id).and_then(|answer| handshake::read_discovered(&answer));
            return Ok(discovered.map_or(Verdict::Legacy, Verdict::Modern));
        }
        Ok(Message::Failure(failure)) => error_code(&body[failure.error]),
        _ => None,
    };
    match (status, code) {
        (_, Some(code)) if MODERN_CODES.contains(&code) => Err(no_common_revision()),
        (Some(404), Some(-32601)) => Err(no_common_revision()),
        _ => Ok(Verdict::Legacy),
    }
}

/// The `code` of a raw error object.
#[must_use]
pub fn error_code(error: &[u8]) -> Option<i64> {
    let raw = std::str::from_utf8(error).ok()?;
    members(raw).flatten().find(|member| member.key.is("code"))?.value.parse().ok()
}

fn no_common_revision() -> CallError {
    let what = "the server speaks a modern revision, but not 2026-07-28";
    CallError::runtime(ErrorCode::Protocol, Delivery::NotSent, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_known_answer_is_judged() {
        let discovered = r#"{"jsonrpc":"2.0","id":1,"result":{"supportedVersions":["2026-07-28"],"capabilities":{}}}"#;
        let error = |code: i32| format!(r#"{{"jsonrpc":"2.0","id":null,"error":{{"code":{code},"message":"m"}}}}"#);
        let cases = [
            (Some(200), discovered.to_owned(), "modern"),
            (None, discovered.to_owned(), "modern"),
            (Some(400), error(-32022), "error"),
            (Some(404), error(-32601), "error"),
            (None, error(-32601), "legacy"),
            // @modelcontextprotocol/server-everything 2026.8.31 answers so.
            (Some(400), error(-32000), "legacy"),
            (Some(404), String::new(), "legacy"),
            (Some(200), r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.to_owned(), "legacy"),
        ];
        for (status, body, expected) in cases {
            let found = match judge(status, Bytes::from(body.clone()), 1) {
                Ok(Verdict::Modern(_)) => "modern",
                Ok(Verdict::Legacy) => "legacy",
                Err(_) => "error",
            };

            assert_eq!(found, expected, "{status:?} {body}");
        }
    }
}
