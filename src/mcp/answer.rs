//! What goes back to a client, in either era.

use std::{error::Error, ops::Range};

use bytes::Bytes;
use runtime_api::{CallError, Delivery, Era, ErrorCode, Origin, Reply};
use twinway_proto::{
    envelope::{self, EnvelopeError, Message},
    json::members,
    meta::rewrite,
    rope::Rope,
};

use super::Running;

/// `HeaderMismatch` (2026-07-28).
pub(super) const HEADER_MISMATCH: i32 = -32020;
/// `UnsupportedProtocolVersion` (2026-07-28).
pub(super) const UNSUPPORTED_VERSION: i32 = -32022;

/// What a transport does with a message.
#[derive(Debug)]
pub enum Answer {
    /// It was a notification or an answer; nothing is said.
    Accepted,
    /// One message at once.
    Message(Outgoing),
    /// The client may not call this tool, and is told that there is none.
    Denied(Outgoing),
    /// It could not be read; the message says so.
    Unreadable(EnvelopeError, Outgoing),
    /// A call that has begun. Whoever holds it drives it.
    Running(Box<Running>),
}

/// A message to the client.
#[derive(Debug)]
pub struct Outgoing {
    /// The HTTP status; other transports ignore it.
    pub status: u16,
    /// The message.
    pub message: Rope,
    /// The handle of a session that was just opened.
    pub session: Option<String>,
    /// Seconds after which to come back.
    pub retry_after_s: Option<u64>,
}

impl Outgoing {
    pub(super) const fn new(status: u16, message: Rope) -> Self {
        Self { status, message, session: None, retry_after_s: None }
    }

    /// The same answer to another request.
    pub(super) fn with_id(self, id: &str) -> Self {
        let message = self.message.into_bytes();
        let message = match envelope::parse(&message) {
            Ok(Message::Response(response)) => envelope::response(id, message.slice(response.result.range).into()),
            Ok(Message::Failure(failure)) => envelope::failure(Some(id), message.slice(failure.error)),
            _ => message.into(),
        };
        Self { message, ..self }
    }
}

/// An answer with a result.
pub(super) fn result(id: &str, result: Rope) -> Answer {
    Answer::Message(Outgoing::new(200, envelope::response(id, result)))
}

/// An answer with an error.
pub(super) fn error(status: u16, id: Option<&str>, code: i32, message: &str, data: Option<&[u8]>) -> Answer {
    let error = envelope::error_object(code, message, data);
    Answer::Message(Outgoing::new(status, envelope::failure(id, error)))
}

/// The reply with one more member in its `_meta`, instead of one that has that name. Everything else stays as it came.
pub(super) fn with_meta(reply: Reply, name: &str, value: &[u8]) -> Reply {
    let text = |range: Range<usize>| std::str::from_utf8(&reply.result[range]).unwrap_or_default();
    let raw = reply.meta.clone().map(text);
    let Ok(meta) = rewrite(raw, |key| !key.is(name), &[(name, value)]) else { return reply };
    let whole = text(0..reply.result.len());
    let Ok(result) = rewrite(Some(whole), |key| !key.is("_meta"), &[("_meta", &meta)]) else { return reply };
    let result = Bytes::from(result);
    let whole = std::str::from_utf8(&result).unwrap_or_default();
    let place = |name| members(whole).flatten().find(|member| member.key.is(name)).map(|member| member.range);
    let (result_type, meta) = (place("resultType"), place("_meta"));
    Reply { result_type, meta, result, ..reply }
}

/// An answer that the way back cannot carry. Whatever was asked has been done.
pub(super) fn too_large(bytes_max: usize) -> CallError {
    let message = format!("the answer is larger than the {bytes_max} bytes that this connection carries");
    CallError::runtime(ErrorCode::TooLarge, Delivery::Answered, message)
}

/// A tool that this client may not call. It learns no more than of a tool that does not exist.
pub(super) fn denied(id: &str, name: &str) -> Answer {
    let error = envelope::error_object(-32602, &no_tool(name), None);
    Answer::Denied(Outgoing::new(200, envelope::failure(Some(id), error)))
}

/// What is said of a tool that is not there.
pub(super) fn no_tool(name: &str) -> String {
    format!("there is no tool `{name}`")
}

/// A message that could not be read.
pub(super) fn unreadable(fault: EnvelopeError) -> Answer {
    let (code, id) = match &fault {
        EnvelopeError::Json(_) => (ErrorCode::Parse, None),
        EnvelopeError::Invalid { id, .. } => (ErrorCode::InvalidRequest, id.as_deref()),
        _ => (ErrorCode::InvalidRequest, None),
    };
    let error = envelope::error_object(code.row().json_rpc, &fault.to_string(), None);
    let outgoing = Outgoing::new(400, envelope::failure(id, error));
    Answer::Unreadable(fault, outgoing)
}

/// A method that is not offered. A legacy client would read 404 as "session gone".
pub(super) fn unknown_method(id: &str, method: &str, era: Era) -> Answer {
    let status = if era == Era::Modern { 404 } else { 200 };
    error(status, Some(id), -32601, &format!("the method `{method}` is not offered"), None)
}

/// A call that got no reply: the target's own error as it is, or ours from the table.
pub(super) fn failed(id: &str, failure: &CallError, era: Era) -> Outgoing {
    let row = failure.code().row();
    let error = failure.answer().cloned().unwrap_or_else(|| {
        let data = error_data(row.name, failure.origin(), failure.delivery(), failure);
        envelope::error_object(row.json_rpc, &with_causes(failure), Some(data.as_bytes()))
    });
    let mut outgoing = Outgoing::new(status(failure, &error, era), envelope::failure(Some(id), error));
    outgoing.retry_after_s = retry_after_s(failure);
    outgoing
}

/// The hint of an error when to come back, in whole seconds as HTTP has it.
pub(super) fn retry_after_s(failure: &CallError) -> Option<u64> {
    failure.retry_after().map(|after| after.as_secs().max(1))
}

/// A refusal of a REST client's request, before it is a call.
#[must_use]
pub fn rest_refusal(error: &CallError) -> Outgoing {
    super::rest::failed(error)
}

/// An error answer of a call is a JSON-RPC message and no fault of HTTP, but for what the modern revision maps.
fn status(failure: &CallError, error: &Bytes, era: Era) -> u16 {
    if failure.answer().is_some() { status_of(error, era) } else { 200 }
}

/// The same of the error object of a target.
pub(super) fn status_of(error: &Bytes, era: Era) -> u16 {
    match (era, runtime_mcp::era::error_code(error)) {
        (Era::Modern, Some(-32601)) => 404,
        (Era::Modern, Some(-32022..=-32020)) => 400,
        (Era::Modern | Era::Legacy, _) => 200,
    }
}

/// What is known of an error beside its text, as JSON.
pub(super) fn error_data(name: &str, origin: Origin, delivery: Delivery, failure: &CallError) -> String {
    let after = failure.retry_after().map(|after| format!(r#","retryAfterMs":{}"#, after.as_millis())).unwrap_or_default();
    format!(r#"{{"code":"{name}","origin":"{}","delivery":"{}"{after}}}"#, origin.as_str(), delivery.as_str())
}

/// The message and its causes, because a person or a model reads it and has nothing else.
pub(super) fn with_causes(error: &CallError) -> String {
    let mut text = error.to_string();
    if error.delivery() == Delivery::Unknown {
        text.push_str("; the tool may have run");
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
