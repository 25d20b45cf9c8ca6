//! The JSON-RPC envelope: read in one shallow pass, written by splicing.
//!
//! The pass goes one level into `params` and `result`, because that is where a gateway finds the name, `_meta` and
//! `isError`. A member that decides something and stands there twice is refused: two readers could take different ones.

use std::{borrow::Cow, ops::Range};

use bytes::Bytes;
use thiserror::Error;

use crate::{
    json::{self, DEPTH_MAX, JsonError, Key, Scanner},
    meta::RequestMeta,
    rope::{Builder, Rope},
};

/// Longest id in bytes. A UUID has 38; an id travels back in every answer and is kept while the call runs.
pub const ID_BYTES_MAX: usize = 1024;

/// One message. Ranges are offsets into the bytes given to [`parse`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// Wants an answer.
    Request(Request<'a>),
    /// Wants none.
    Notification(Notification<'a>),
    /// An answer.
    Response(Response<'a>),
    /// An answer that says what went wrong.
    Failure(Failure<'a>),
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// Raw: a string with its quotes, or an integer.
    pub id: &'a str,
    /// The method.
    pub method: Cow<'a, str>,
    /// The parameters, always an object in MCP.
    pub params: Option<ParamsIndex>,
    /// What `params._meta` says; nothing when it is missing or not an object.
    pub meta: RequestMeta<'a>,
}

/// A notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification<'a> {
    /// The method.
    pub method: Cow<'a, str>,
    /// The parameters.
    pub params: Option<ParamsIndex>,
}

/// An answer with a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response<'a> {
    /// Raw id of the request.
    pub id: &'a str,
    /// The result, always an object in MCP.
    pub result: ResultIndex,
}

/// An answer with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure<'a> {
    /// Raw id of the request; `None` when it was null or is missing.
    pub id: Option<&'a str>,
    /// Where the `error` object lies.
    pub error: Range<usize>,
}

/// Where the parts of `params` lie. `range` counts from the message, the others from the start of `params`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "each field is the member of the same name")]
pub struct ParamsIndex {
    pub range: Range<usize>,
    pub name: Option<Range<usize>>,
    pub uri: Option<Range<usize>>,
    pub arguments: Option<Range<usize>>,
    pub meta: Option<Range<usize>>,
    pub request_id: Option<Range<usize>>,
    pub progress_token: Option<Range<usize>>,
    pub cursor: Option<Range<usize>>,
    pub request_state: Option<Range<usize>>,
    pub input_responses: Option<Range<usize>>,
    pub task: Option<Range<usize>>,
    pub task_id: Option<Range<usize>>,
}

/// Where the parts of `result` lie. `range` counts from the message, the others from the start of `result`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResultIndex {
    /// The whole result.
    pub range: Range<usize>,
    /// `isError` is `true`.
    pub is_error: bool,
    /// Value of `resultType`.
    pub result_type: Option<Range<usize>>,
    /// Value of `_meta`.
    pub meta: Option<Range<usize>>,
    /// There is a `ttlMs` or a `cacheScope`.
    pub has_cache_hint: bool,
}

/// Not a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Not JSON.
    #[error("not JSON: {0}")]
    Json(#[from] JsonError),
    /// A JSON array.
    #[error("a batch, which this revision does not have")]
    Batch,
    /// JSON, but no JSON-RPC 2.0 message. Holds the raw id when it was read, so that the answer can carry it.
    #[error("not a JSON-RPC 2.0 message: {what}")]
    Invalid {
        /// What is wrong.
        what: &'static str,
        /// Raw id of the request.
        id: Option<Box<str>>,
    },
}

/// Reads one message at most [`DEPTH_MAX`] deep.
///
/// # Errors
/// [`EnvelopeError`] says what is wrong and where.
pub fn parse(bytes: &[u8]) -> Result<Message<'_>, EnvelopeError> {
    parse_within(bytes, DEPTH_MAX)
}

/// Reads one message at most `depth_max` deep (and never more than [`DEPTH_MAX`]).
///
/// # Errors
/// [`EnvelopeError`] says what is wrong and where.
pub fn parse_within(bytes: &[u8], depth_max: usize) -> Result<Message<'_>, EnvelopeError> {
    let text = json::utf8(bytes)?;
    let mut scanner = Scanner::new(text, depth_max);
    match scanner.peek()? {
        b'{' => {}
        b'[' => {
            json::check(bytes)?;
            return Err(EnvelopeError::Batch);
        }
        _ => {
            json::check(bytes)?;
            return Err(EnvelopeError::Invalid { what: "not an object", id: None });
        }
    }
    let parts = Parts::read(&mut scanner)?;
    scanner.end()?;
    parts.message(text)
}

/// The members of an envelope as they were found.
#[derive(Default)]
struct Parts<'a> {
    version: Option<Range<usize>>,
    id: Option<Range<usize>>,
    method: Option<Range<usize>>,
    params: Option<ParamsIndex>,
    meta: RequestMeta<'a>,
    params_malformed: bool,
    result: Option<ResultIndex>,
    result_malformed: bool,
    error: Option<Range<usize>>,
    twice: Option<&'static str>,
}

impl<'a> Parts<'a> {
    fn read(scanner: &mut Scanner<'a>) -> Result<Self, JsonError> {
        let mut parts = Self::default();
        scanner.open_object()?;
        let mut first = true;
        while let Some(key) = scanner.next_key(first)? {
            first = false;
            parts.member(&key, scanner)?;
        }
        Ok(parts)
    }

    fn member(&mut self, key: &Key<'_>, scanner: &mut Scanner<'a>) -> Result<(), JsonError> {
        let name = key.text();
        match &*name {
            "jsonrpc" => self.version = self.once("jsonrpc", self.version.is_some(), scanner.value()?),
            "id" => self.id = self.once("id", self.id.is_some(), scanner.value()?),
            "method" => self.method = self.once("method", self.method.is_some(), scanner.value()?),
            "error" => self.error = self.once("error", self.error.is_some(), scanner.value()?),
            "params" if scanner.peek()? == b'{' => {
                let params = read_params(scanner, &mut self.meta, &mut self.twice)?;
                self.params = self.once("params", self.params.is_some(), params);
            }
            "result" if scanner.peek()? == b'{' => {
                let result = read_result(scanner)?;
                self.result = self.once("result", self.result.is_some(), result);
            }
            other => {
                self.params_malformed |= other == "params";
                self.result_malformed |= other == "result";
                scanner.value()?;
            }
        }
        Ok(())
    }

    fn once<T>(&mut self, name: &'static str, seen: bool, value: T) -> Option<T> {
        if seen {
            self.twice = Some(name);
        }
        Some(value)
    }

    fn message(self, text: &'a str) -> Result<Message<'a>, EnvelopeError> {
        let raw_id = self.id.clone().map(|range| &text[range]);
        let usable_id = raw_id.filter(|id| is_id(id));
        let invalid = |what| EnvelopeError::Invalid { what, id: usable_id.map(Box::from) };
        if self.version.is_none_or(|range| &text[range] != "\"2.0\"") {
            return Err(invalid("`jsonrpc` is not \"2.0\""));
        }
        if let Some(name) = self.twice {
            return Err(invalid(twice(name)));
        }
        if raw_id.is_some_and(|id| id != "null" && !is_id(id)) {
            return Err(invalid("`id` is neither a string nor an integer of at most 1024 bytes"));
        }
        if self.result_malformed {
            return Err(invalid("`result` is not an object"));
        }
        match (self.method, self.result, self.error) {
            (Some(method), None, None) => {
                let method = json::string(&text[method]).ok_or_else(|| invalid("`method` is not a string"))?;
                if self.params_malformed {
                    return Err(invalid("`params` is not an object"));
                }
                match (raw_id, usable_id) {
                    (None, _) => Ok(Message::Notification(Notification { method, params: self.params })),
                    (Some(_), Some(id)) => Ok(Message::Request(Request { id, method, params: self.params, meta: self.meta })),
                    (Some(_), None) => Err(invalid("`id` of a request is null")),
                }
            }
            (None, Some(result), None) => {
                let id = usable_id.ok_or_else(|| invalid("a response without `id`"))?;
                Ok(Message::Response(Response { id, result }))
            }
            (None, None, Some(error)) => Ok(Message::Failure(Failure { id: usable_id, error })),
            (None, None, None) => Err(invalid("neither `method`, `result` nor `error`")),
            _ => Err(invalid("more than one of `method`, `result` and `error`")),
        }
    }
}

fn twice(name: &'static str) -> &'static str {
    match name {
        "jsonrpc" => "`jsonrpc` stands there twice",
        "id" => "`id` stands there twice",
        "method" => "`method` stands there twice",
        "params" => "`params` stands there twice",
        "result" => "`result` stands there twice",
        "error" => "`error` stands there twice",
        _ => "a member of `params` that decides something stands there twice",
    }
}

fn is_id(raw: &str) -> bool {
    let integer = |raw: &str| raw.strip_prefix('-').unwrap_or(raw).bytes().all(|byte| byte.is_ascii_digit());
    raw.len() <= ID_BYTES_MAX && (raw.starts_with('"') || integer(raw))
}

fn read_params<'a>(
    scanner: &mut Scanner<'a>,
    meta: &mut RequestMeta<'a>,
    twice: &mut Option<&'static str>,
) -> Result<ParamsIndex, JsonError> {
    let mut index = ParamsIndex::default();
    let start = scanner.position();
    scanner.open_object()?;
    let mut first = true;
    while let Some(key) = scanner.next_key(first)? {
        first = false;
        let name = key.text();
        let value = if &*name == "_meta" && scanner.peek()? == b'{' {
            let from = scanner.position();
            *meta = RequestMeta::take(scanner)?;
            from..scanner.position()
        } else {
            scanner.value()?
        };
        let part = match &*name {
            "name" => &mut index.name,
            "uri" => &mut index.uri,
            "arguments" => &mut index.arguments,
            "_meta" => &mut index.meta,
            "requestId" => &mut index.request_id,
            "progressToken" => &mut index.progress_token,
            "cursor" => &mut index.cursor,
            "requestState" => &mut index.request_state,
            "inputResponses" => &mut index.input_responses,
            "task" => &mut index.task,
            "taskId" => &mut index.task_id,
            _ => continue,
        };
        if part.replace(value.start - start..value.end - start).is_some() {
            *twice = Some("a member of params");
        }
    }
    index.range = start..scanner.position();
    Ok(index)
}

fn read_result(scanner: &mut Scanner<'_>) -> Result<ResultIndex, JsonError> {
    let mut index = ResultIndex::default();
    let start = scanner.position();
    scanner.open_object()?;
    let mut first = true;
    while let Some(key) = scanner.next_key(first)? {
        first = false;
        let value = scanner.value()?;
        let relative = value.start - start..value.end - start;
        let name = key.text();
        match &*name {
            "isError" => index.is_error = scanner.slice(value) == "true",
            "resultType" => index.result_type = Some(relative),
            "_meta" => index.meta = Some(relative),
            "ttlMs" | "cacheScope" => index.has_cache_hint = true,
            _ => {}
        }
    }
    index.range = start..scanner.position();
    Ok(index)
}

/// A request with our own id.
#[must_use]
pub fn request(id: u64, method: &str, params: Option<Rope>) -> Rope {
    let mut out = Builder::with_capacity(96 + params.as_ref().map_or(0, |params| params.len().min(4096)));
    out.push_slice(b"{\"jsonrpc\":\"2.0\",\"id\":").push_number(id);
    finish_asking(out, method, params)
}

/// A notification.
#[must_use]
pub fn notification(method: &str, params: Option<Rope>) -> Rope {
    let mut out = Builder::with_capacity(96 + params.as_ref().map_or(0, |params| params.len().min(4096)));
    out.push_slice(b"{\"jsonrpc\":\"2.0\"");
    finish_asking(out, method, params)
}

fn finish_asking(mut out: Builder, method: &str, params: Option<Rope>) -> Rope {
    let mut quoted = Vec::with_capacity(method.len() + 2);
    json::write_string(&mut quoted, method);
    out.push_slice(b",\"method\":").push_slice(&quoted);
    if let Some(params) = params {
        out.push_slice(b",\"params\":").push_rope(params);
    }
    out.push_slice(b"}");
    out.finish()
}

/// An answer with a result. `id` is raw.
#[must_use]
pub fn response(id: &str, result: Rope) -> Rope {
    let mut out = Builder::with_capacity(48 + id.len() + result.len().min(4096));
    out.push_slice(b"{\"jsonrpc\":\"2.0\",\"id\":").push_slice(id.as_bytes()).push_slice(b",\"result\":").push_rope(result);
    out.push_slice(b"}");
    out.finish()
}

/// An answer with a raw error object. `id` is raw; without one it is null.
#[must_use]
pub fn failure(id: Option<&str>, error: Bytes) -> Rope {
    let mut out = Builder::with_capacity(48 + error.len());
    let id = id.unwrap_or("null");
    out.push_slice(b"{\"jsonrpc\":\"2.0\",\"id\":").push_slice(id.as_bytes()).push_slice(b",\"error\":").push_bytes(error);
    out.push_slice(b"}");
    out.finish()
}

/// An error object. `data` is raw JSON.
#[must_use]
pub fn error_object(code: i32, message: &str, data: Option<&[u8]>) -> Bytes {
    let mut out = Vec::with_capacity(32 + message.len() + data.map_or(0, <[u8]>::len));
    out.extend_from_slice(format!("{{\"code\":{code},\"message\":").as_bytes());
    json::write_string(&mut out, message);
    if let Some(data) = data {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data);
    }
    out.push(b'}');
    out.into()
}

/// Parts of a text to replace, in ascending order and apart from each other. An empty range inserts.
pub type Edit<'a> = (Range<usize>, &'a [u8]);

/// Copies `raw` with some parts replaced; long parts in between are shared.
pub fn splice(raw: &Bytes, edits: &[Edit<'_>], out: &mut Builder) {
    let mut at = 0;
    for (range, replacement) in edits {
        out.push_bytes(raw.slice(at..range.start)).push_slice(replacement);
        at = range.end;
    }
    out.push_bytes(raw.slice(at..));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request_of(text: &str) -> Request<'_> {
        match parse(text.as_bytes()) {
            Ok(Message::Request(request)) => request,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn an_id_that_comes_last_is_found() {
        let text = r#"{"method":"tools/call","params":{"arguments":{"a":[1,2]},"name":"t"},"jsonrpc":"2.0","id":"x"}"#;

        let request = request_of(text);

        let params = request.params.unwrap();
        let raw = &text[params.range.clone()];
        assert_eq!(request.id, "\"x\"");
        assert_eq!(&raw[params.name.unwrap()], "\"t\"");
        assert_eq!(&raw[params.arguments.unwrap()], r#"{"a":[1,2]}"#);
    }

    #[test]
    fn escaped_keys_count_and_duplicates_are_refused() {
        assert_eq!(request_of(r#"{"jsonrpc":"2.0","\u0069d":1,"method":"ping"}"#).id, "1");
        for text in [
            r#"{"jsonrpc":"2.0","\u0069d":1,"id":2,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","n\u0061me":"b"}}"#,
        ] {
            assert!(matches!(parse(text.as_bytes()), Err(EnvelopeError::Invalid { .. })), "{text}");
        }
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_id() {
        let cases = [
            (r#"{"id":7,"method":"ping"}"#, Some("7")),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, None),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, None),
            (r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":[]}"#, Some("7")),
            (r#"{"jsonrpc":"2.0","id":7,"method":5}"#, Some("7")),
            (r#"{"jsonrpc":"2.0","id":7}"#, Some("7")),
            (r#"{"jsonrpc":"2.0","id":7,"result":{},"error":{}}"#, Some("7")),
            (r#"{"jsonrpc":"2.0","result":{}}"#, None),
            ("5", None),
        ];
        for (text, expected) in cases {
            match parse(text.as_bytes()) {
                Err(EnvelopeError::Invalid { id, .. }) => assert_eq!(id.as_deref(), expected, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert_eq!(parse(b"[]"), Err(EnvelopeError::Batch));
    }

    #[test]
    fn a_result_is_indexed() {
        let text = r#"{"result":{"content":[{"isError":false}],"isError":true,"resultType":"complete","_meta":{}},"jsonrpc":"2.0","id":3}"#;

        let Ok(Message::Response(response)) = parse(text.as_bytes()) else { panic!("a response") };

        let raw = &text[response.result.range.clone()];
        assert!(response.result.is_error && !response.result.has_cache_hint);
        assert_eq!(response.result.result_type.map(|range| &raw[range]), Some("\"complete\""));
    }

    #[test]
    fn splicing_replaces_only_what_it_is_told() {
        let raw = Bytes::from_static(br#"{"name":"a","arguments":{"n":12345678901234567890123}}"#);
        let mut out = Builder::default();

        splice(&raw, &[(8..11, b"\"b\""), (raw.len() - 1..raw.len() - 1, b",\"_meta\":{}")], &mut out);

        let expected: &[u8] = br#"{"name":"b","arguments":{"n":12345678901234567890123},"_meta":{}}"#;
        assert_eq!(out.finish().into_bytes(), expected);
    }
}
