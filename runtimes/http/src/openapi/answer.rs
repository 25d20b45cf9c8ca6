//! Turns an HTTP answer into the result of a tool.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use runtime_api::{CallError, Delivery, ErrorCode, Reply};
use serde_json::{Value, json};
use twinway_proto::json::{check, members, string};

use super::{
    base64,
    body::{essence, is_json},
    document::{Document, Unusable},
    schema::{Direction, Schemas},
    value::Types,
};
use crate::{
    h1::Head,
    tool_result::{finish, of_failure, status_line, text_content},
};

/// Definitions of one tool's result. Clients check results with them, models rarely read them; what is deeper may be anything.
const OUTPUT_DEFS_BYTES_MAX: usize = 64 * 1024;

/// What the tool's definition promises of its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Nothing: an object is structured content, whatever it holds.
    Nothing,
    /// An object.
    Object,
    /// `{"result": …}`, because clients of the legacy revisions only know objects.
    Wrapped,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// `Content-Type` without parameters, in lower case; empty when there is none.
    pub(crate) media: String,
    pub(crate) is_compressed: bool,
    /// `Location`.
    pub(crate) location: Option<String>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Bytes,
}

/// The output schema of an operation, when its one good answer is JSON, and what it promises.
pub(crate) fn output(document: &Document, operation: &Value) -> Result<Option<(Value, Promise)>, Unusable> {
    let Some(schema) = good_schema(document, operation)? else { return Ok(None) };
    let mut schemas = Schemas::new(document, Direction::Response);
    let converted = schemas.convert(schema)?;
    if converted == json!({}) || converted == json!(true) {
        return Ok(None);
    }
    let defs = schemas.defs(OUTPUT_DEFS_BYTES_MAX)?.map;
    let (mut out, promise) = match converted {
        Value::Object(mut members) if Types::of(schema, document).is_object() => {
            members.insert("type".to_owned(), "object".into());
            (Value::from(members), Promise::Object)
        }
        other => (json!({ "type": "object", "properties": { "result": other }, "required": ["result"] }), Promise::Wrapped),
    };
    if !defs.is_empty() {
        out["$defs"] = defs.into();
    }
    Ok(Some((out, promise)))
}

/// The schema that every good answer has. None, when one of them may be something else: a promise must hold.
fn good_schema<'d>(document: &'d Document, operation: &'d Value) -> Result<Option<&'d Value>, Unusable> {
    let Some(responses) = operation["responses"].as_object() else { return Ok(None) };
    let mut good: Vec<_> = responses.iter().filter(|(status, _)| status.starts_with('2')).map(|(_, response)| response).collect();
    if good.is_empty() {
        good.extend(responses.get("default"));
    }
    let mut found = None;
    for response in good {
        let Some(content) = document.resolve(response)?["content"].as_object().filter(|content| !content.is_empty()) else {
            return Ok(None);
        };
        for (media, object) in content {
            let schema = &object["schema"];
            if !is_json(media) || schema.is_null() || found.is_some_and(|other| other != schema) {
                return Ok(None);
            }
            found = Some(schema);
        }
    }
    Ok(found)
}

/// Whether any good answer is JSON: then it is asked for first.
pub(crate) fn prefers_json(document: &Document, operation: &Value) -> bool {
    let responses = operation["responses"].as_object().into_iter().flatten();
    let good = responses.filter(|(status, _)| status.starts_with('2') || *status == "default");
    let contents = good.filter_map(|(_, response)| document.resolve(response).ok()?["content"].as_object());
    let mut media = contents.flatten().map(|(media, _)| media);
    media.clone().next().is_none() || media.any(|media| is_json(media))
}

impl Answer {
    /// What the head says; the body is still to be read.
    pub(crate) fn begin(head: &Head) -> Self {
        let text = |name: &str| head.get(name).map(|value| String::from_utf8_lossy(value).into_owned());
        Self {
            status: head.status,
            media: text("content-type").map(|media| essence(&media)).unwrap_or_default(),
            is_compressed: text("content-encoding").is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")),
            location: text("location"),
            retry_after: head.retry_after(),
            body: Bytes::new(),
        }
    }

    /// The result. `uri` names what was asked, for content that has no place but a resource.
    ///
    /// # Errors
    /// A redirect is never followed. 502 to 504 come from whatever stands before the application, and then nobody knows
    /// whether it ran; 429 says that it did not.
    pub(crate) fn into_reply(self, promise: Promise, uri: &str) -> Result<Reply, CallError> {
        let status = self.status;
        if self.is_compressed {
            let message = "the upstream's answer is compressed, which was not asked for";
            return Err(CallError::runtime(ErrorCode::Protocol, Delivery::Answered, message));
        }
        match status.as_u16() {
            200..=299 => Ok(self.good(promise, uri)),
            300..=399 => {
                let place = self.location.as_deref().unwrap_or("nowhere");
                let message = format!("the upstream redirects (HTTP {status}) to {place}, and redirects are not followed");
                Err(CallError::runtime(ErrorCode::Protocol, Delivery::Answered, message))
            }
            502..=504 => Err(self.trouble(ErrorCode::Disconnected, Delivery::Unknown)),
            429 => Err(self.trouble(ErrorCode::Overloaded, Delivery::Answered)),
            _ => Ok(of_failure(&self.complaint(), Some(status))),
        }
    }

    /// Trouble that may be over later: when, if the answer says so.
    fn trouble(&self, code: ErrorCode, delivery: Delivery) -> CallError {
        let error = CallError::runtime(code, delivery, self.complaint());
        match self.retry_after {
            Some(after) => error.with_retry_after(after),
            None => error,
        }
    }

    /// The body as text, if it is.
    fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.body).ok()
    }

    fn good(&self, promise: Promise, uri: &str) -> Reply {
        let media = &*self.media;
        if self.body.is_empty() {
            let mut result = text_content(&status_line(self.status));
            if promise == Promise::Wrapped {
                result.extend_from_slice(br#","structuredContent":{"result":null}"#);
            }
            return finish(result);
        }
        let is_text = media.is_empty() || media.starts_with("text/") || is_textual(media);
        match self.text().filter(|_| is_text) {
            Some(text) => finish(self.structured(text, media, promise)),
            None => finish(self.blob(media, uri)),
        }
    }

    fn structured(&self, text: &str, media: &str, promise: Promise) -> Vec<u8> {
        let mut result = text_content(text);
        if !is_json(media) || check(text.as_bytes()).is_err() {
            return result;
        }
        let raw = text.trim_ascii();
        let (before, after) = match promise {
            Promise::Wrapped => (r#","structuredContent":{"result":"#, "}"),
            Promise::Object | Promise::Nothing if raw.starts_with('{') => (r#","structuredContent":"#, ""),
            Promise::Object | Promise::Nothing => return result,
        };
        result.extend_from_slice(before.as_bytes());
        result.extend_from_slice(raw.as_bytes());
        result.extend_from_slice(after.as_bytes());
        result
    }

    fn blob(&self, media: &str, uri: &str) -> Vec<u8> {
        let data = base64::encode(&self.body);
        let media = if media.is_empty() { "application/octet-stream" } else { media };
        let kind = media.split('/').next().unwrap_or_default();
        let content = match kind {
            "image" | "audio" => json!({ "type": kind, "data": data, "mimeType": media }),
            _ => json!({ "type": "resource", "resource": { "uri": uri, "mimeType": media, "blob": data } }),
        };
        format!(r#"{{"content":[{content}]"#).into_bytes()
    }

    /// `HTTP 404 Not Found: Item not found`.
    fn complaint(&self) -> String {
        let status = status_line(self.status);
        let Some(text) = self.text().map(str::trim).filter(|text| !text.is_empty()) else { return status };
        let detail = is_json(&self.media).then(|| detail(text)).flatten();
        format!("{status}: {}", detail.as_deref().unwrap_or(text))
    }
}

/// What FastAPI (`{"detail": …}`) and RFC 9457 put into an error: a text, or whatever stands there.
fn detail(text: &str) -> Option<String> {
    let members: Vec<_> = members(text).collect::<Result<_, _>>().ok()?;
    let found = members.iter().find(|member| member.key.is("detail"))?;
    Some(string(found.value).map_or_else(|| found.value.to_owned(), std::borrow::Cow::into_owned))
}

/// Whether a media type beside `text/…` is text.
fn is_textual(media: &str) -> bool {
    const TEXTUAL: [&str; 9] =
        ["json", "xml", "yaml", "javascript", "x-www-form-urlencoded", "x-ndjson", "graphql", "toml", "sql"];
    let subtype = media.split('/').nth(1).unwrap_or_default();
    let suffix = subtype.rsplit('+').next().unwrap_or_default();
    !media.starts_with("image/") && TEXTUAL.contains(&suffix)
}

#[cfg(test)]
mod tests;
