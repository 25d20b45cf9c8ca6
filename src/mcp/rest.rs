//! A call in the REST shape: arguments come in, `{tool, status, result}` goes out, errors are `{detail}`.
//!
//! The arguments are put into a request of MCP, so that everything behind it is the way of every other call.

use std::sync::Arc;

use bytes::Bytes;
use runtime_api::{CallError, ErrorCode, Method, Reply};
use runtime_mcp::handshake::{own_meta, part};
use twinway_proto::{
    envelope::{self, Message},
    json::{self, elements},
    rope::{Builder, Rope},
};

use super::{
    Answer, Inbound, Outgoing, Server,
    answer::{self, error_data, with_causes},
    call::{Form, Found, is_unfinished, unfinished},
    era::Spoken,
    find::{Named, withheld},
};
use crate::{catalog::Entry, pipeline::Answered};

impl Server {
    /// Calls a tool by its public name. The message of `inbound` is the tool's arguments: one JSON object, or nothing for none.
    /// Whatever comes back is in the REST shape, with the status that the table of errors gives.
    #[must_use]
    pub fn execute(&self, inbound: &Inbound<'_>, tool: &str) -> Answer {
        self.begun(inbound, tool).unwrap_or_else(|error| Answer::Message(failed(&error)))
    }

    fn begun(&self, inbound: &Inbound<'_>, tool: &str) -> Result<Answer, CallError> {
        let snapshot = self.shared.catalog.load();
        let view = snapshot.view(inbound.view);
        let entry = view.and_then(|view| view.tools.get(tool)).filter(|entry| inbound.scope.allows(entry)).cloned();
        let entry = entry.ok_or_else(|| {
            let withheld = view.and_then(|view| withheld(view, tool, &inbound.scope));
            withheld.unwrap_or_else(|| CallError::caller(ErrorCode::UnknownName, answer::no_tool(tool)))
        })?;
        drop(snapshot);
        let message = request(tool, &inbound.message)?;
        let inbound = Inbound { message: message.clone(), ..inbound.clone() };
        let broken = |error| CallError::caller(ErrorCode::InvalidParams, "these arguments cannot be taken").with_source(error);
        let Message::Request(request) = envelope::parse_within(&message, self.shared.depth_max).map_err(broken)? else {
            return Err(CallError::gateway(ErrorCode::Internal, "the request that was made of a call is none"));
        };
        let index = request.params.clone().unwrap_or_default();
        let raw = message.slice(index.range.clone());
        let form = Form::Rest(entry.clone());
        Ok(self.begin(
            &Found {
                inbound: &inbound,
                request: &request,
                spoken: &Spoken::Modern,
                method: Method::ToolsCall,
                named: Named { name: Arc::clone(&entry.chosen().name), entry, others: Vec::new() },
                place: index.name.clone(),
                index: &index,
                raw,
            },
            form,
        ))
    }
}

/// A request of MCP with these arguments, byte for byte.
fn request(tool: &str, arguments: &[u8]) -> Result<Bytes, CallError> {
    let arguments = arguments.trim_ascii();
    let arguments = if arguments.is_empty() { b"{}" } else { arguments };
    // Looked at alone: it must not be able to say more in the request than what stands in its place.
    json::check(arguments).map_err(|error| CallError::caller(ErrorCode::Parse, "the body is not JSON").with_source(error))?;
    if arguments.first() != Some(&b'{') {
        return Err(CallError::caller(ErrorCode::InvalidParams, "the body is the tool's arguments, a JSON object"));
    }
    let meta = own_meta();
    let mut out = Vec::with_capacity(128 + tool.len() + arguments.len() + meta.len());
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":0,"method":"tools/call","params":{"name":"#);
    json::write_string(&mut out, tool);
    out.extend_from_slice(b",\"arguments\":");
    out.extend_from_slice(arguments);
    out.extend_from_slice(b",\"_meta\":");
    out.extend_from_slice(meta.as_bytes());
    out.extend_from_slice(b"}}");
    Ok(out.into())
}

/// The end of a call for a REST client.
pub(super) fn write(entry: &Entry, answered: Result<Answered, CallError>) -> Outgoing {
    match answered {
        Ok(answered) if is_unfinished(&answered.reply) => failed(&unfinished()),
        Ok(Answered { reply, .. }) if reply.is_error => Outgoing::new(500, detail(said(&reply), None)),
        Ok(Answered { reply, .. }) => Outgoing::new(200, success(&entry.public, value(&reply))),
        Err(error) => failed(&error),
    }
}

/// An error without a reply: its text as `detail`, and what MCP clients find in `data`.
pub(super) fn failed(error: &CallError) -> Outgoing {
    let row = error.code().row();
    let says = error.answer().and_then(|answer| part(answer, "message")).unwrap_or_else(|| {
        let mut text = Vec::new();
        json::write_string(&mut text, &with_causes(error));
        text.into()
    });
    let data = error_data(row.name, error.origin(), error.delivery(), error);
    let mut outgoing = Outgoing::new(row.http, detail(says, Some(&data)));
    outgoing.retry_after_s = answer::retry_after_s(error);
    outgoing
}

fn success(tool: &str, value: Bytes) -> Rope {
    let mut head = br#"{"tool":"#.to_vec();
    json::write_string(&mut head, tool);
    head.extend_from_slice(br#","status":"success","result":"#);
    let mut out = Builder::with_capacity(head.len() + value.len().min(4096) + 1);
    out.push_slice(&head).push_bytes(value).push_slice(b"}");
    out.finish()
}

fn detail(says: Bytes, data: Option<&str>) -> Rope {
    let mut out = Builder::with_capacity(128 + says.len().min(4096));
    out.push_slice(b"{\"detail\":").push_bytes(says);
    if let Some(data) = data {
        out.push_slice(b",\"data\":").push_slice(data.as_bytes());
    }
    out.push_slice(b"}");
    out.finish()
}

/// What a tool answered, as one JSON value: its structured content, else what it said.
fn value(reply: &Reply) -> Bytes {
    let structured = part(&reply.result, "structuredContent").filter(|raw| &raw[..] != b"null");
    structured.unwrap_or_else(|| said(reply))
}

/// The text of a reply that has one piece of content and that is text, else all pieces; `null` without any.
fn said(reply: &Reply) -> Bytes {
    let Some(content) = part(&reply.result, "content") else { return Bytes::from_static(b"null") };
    let text = std::str::from_utf8(&content).unwrap_or_default();
    let mut pieces = elements(text).flatten();
    let only = pieces.next().filter(|_| pieces.next().is_none()).map(|range| content.slice(range));
    let is_text = |piece: &Bytes| part(piece, "type").is_some_and(|kind| &kind[..] == b"\"text\"");
    only.filter(is_text).and_then(|piece| part(&piece, "text")).unwrap_or(content)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use runtime_api::Delivery;

    use super::*;

    fn reply(result: &'static str) -> Reply {
        Reply::new(Bytes::from_static(result.as_bytes()))
    }

    #[test]
    fn the_value_of_a_reply_keeps_its_bytes() {
        let cases = [
            (r#"{"content":[],"structuredContent":{ "b":1.50,"a":1e400 }}"#, r#"{ "b":1.50,"a":1e400 }"#),
            (r#"{"content":[{"type":"text","text":"a\u00fc"}]}"#, r#""a\u00fc""#),
            (r#"{"content":[{"text":"x","type":"text"}],"structuredContent":null}"#, r#""x""#),
            (
                r#"{"content":[{"type":"text","text":"a"}, {"type":"text","text":"b"}]}"#,
                r#"[{"type":"text","text":"a"}, {"type":"text","text":"b"}]"#,
            ),
            (r#"{"content":[{"type":"image","data":"AA=="}]}"#, r#"[{"type":"image","data":"AA=="}]"#),
            (r#"{"content":[]}"#, "[]"),
            ("{}", "null"),
        ];
        for (result, expected) in cases {
            assert_eq!(value(&reply(result)), expected, "{result}");
        }
    }

    #[test]
    fn arguments_cannot_leave_their_place() {
        let made = request("a\"b", b" {\"x\":1.0} ").expect("a request");
        assert!(made.starts_with(
            br#"{"jsonrpc":"2.0","id":0,"method":"tools/call","params":{"name":"a\"b","arguments":{"x":1.0},"_meta":{"#
        ));
        json::check(&made).expect("JSON");
        json::check(&request("a", b"").expect("a request")).expect("JSON");

        for (body, code) in [
            (r#"{},"name":"other""#, ErrorCode::Parse),
            (r#"{}}"#, ErrorCode::Parse),
            ("[]", ErrorCode::InvalidParams),
            ("7", ErrorCode::InvalidParams),
        ] {
            let refused = request("a", body.as_bytes()).map_err(|error| error.code());
            assert_eq!(refused.err(), Some(code), "{body}");
        }
    }

    #[test]
    fn an_error_has_the_status_of_the_table_and_says_whether_the_tool_ran() {
        let error =
            CallError::runtime(ErrorCode::Overloaded, Delivery::NotSent, "full").with_retry_after(Duration::from_millis(1500));

        let outgoing = failed(&error);

        assert_eq!((outgoing.status, outgoing.retry_after_s), (503, Some(1)));
        let expected =
            r#"{"detail":"full","data":{"code":"overloaded","origin":"runtime","delivery":"not_sent","retryAfterMs":1500}}"#;
        assert_eq!(outgoing.message.into_bytes(), expected);

        let own = failed(&CallError::answered(Bytes::from_static(br#"{"code":-32602,"message":"no \u00fc"}"#)));
        assert_eq!(own.status, 502);
        let expected = r#"{"detail":"no \u00fc","data":{"code":"upstream_error","origin":"runtime","delivery":"answered"}}"#;
        assert_eq!(own.message.into_bytes(), expected);
    }
}
