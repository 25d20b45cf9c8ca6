//! What must hold for any bytes from the wire. The fuzz targets and the bounded run in the tests share these functions.
//!
//! Each one panics when its property is broken; `serde_json` is the oracle where it reads the same language.

use std::{fmt, mem};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use twinway_proto::{
    envelope::{self, EnvelopeError, Message},
    frame, headers, jcs, json,
    meta::{self, RequestMeta},
    rope::Rope,
    sse,
};

/// Small, so that short inputs reach it.
const LIMIT_BYTES: usize = 512;

/// The scanner accepts exactly what `serde_json` accepts, up to its depth, and finds the same members.
///
/// `serde_json` skips values without looking at their UTF-8, their depth or the meaning of their escapes. So UTF-8 and
/// depth are judged apart, and escapes of lone surrogates pass on both sides.
pub(crate) fn scanner(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).ok();
    let grammatical = text.is_some_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    let expected = grammatical && depth(bytes) <= json::DEPTH_MAX;
    assert_eq!(json::check(bytes).is_ok(), expected, "{}", bytes.escape_ascii());

    let (Some(text), true) = (text, expected) else { return };
    let Ok(Pairs(pairs)) = serde_json::from_str::<Pairs<'_>>(text) else { return };
    let members: Vec<_> = json::members(text).map(|member| member.expect("the text was checked")).collect();
    assert_eq!(members.len(), pairs.len());
    for (member, (key, value)) in members.iter().zip(&pairs) {
        assert!(member.key.is(key), "{key}");
        assert_eq!((&*member.key.text(), member.value), (key.as_str(), value.get()));
        assert_eq!(&text[member.range.clone()], member.value);
    }
}

/// Only JSON has a canonical form, which is JSON and its own canonical form.
pub(crate) fn canonical(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(form) = jcs::canonical(text) else { return };
    assert_eq!(json::check(bytes), Ok(()), "{text}");
    let form = String::from_utf8(form).expect("a canonical form is UTF-8");
    assert_eq!(jcs::canonical(&form).map(String::from_utf8), Ok(Ok(form.clone())), "{text}");
}

/// The envelope parser and `serde_json` find the same members; what it accepts can be written and read again.
pub(crate) fn envelope(bytes: &[u8]) {
    let parsed = envelope::parse(bytes);
    assert_eq!(matches!(parsed, Err(EnvelopeError::Json(_))), json::check(bytes).is_err(), "{}", bytes.escape_ascii());

    let Ok(message) = parsed else { return };
    let text = std::str::from_utf8(bytes).expect("an accepted message is UTF-8");
    let Ok(pairs) = serde_json::from_str::<Pairs<'_>>(text) else { return };
    assert_eq!(pairs.only("jsonrpc"), Some("\"2.0\""));
    match message {
        Message::Request(request) => {
            assert_eq!(pairs.only("id"), Some(request.id));
            asking(text, &pairs, &request.method, request.params.as_ref());
        }
        Message::Notification(notification) => {
            assert_eq!(pairs.only("id"), None);
            asking(text, &pairs, &notification.method, notification.params.as_ref());
        }
        Message::Response(response) => {
            assert_eq!(pairs.only("id"), Some(response.id));
            assert_eq!(pairs.only("result"), Some(&text[response.result.range.clone()]));
            assert_eq!((pairs.only("method"), pairs.only("error")), (None, None));
            let result = Bytes::copy_from_slice(text[response.result.range].as_bytes());
            let written = envelope::response(response.id, Rope::from(result)).into_bytes();
            assert!(matches!(envelope::parse(&written), Ok(Message::Response(_))));
        }
        Message::Failure(failure) => {
            assert_eq!(pairs.only("id").filter(|id| *id != "null"), failure.id);
            assert_eq!(pairs.only("error"), Some(&text[failure.error]));
            assert_eq!(pairs.only("method"), None);
        }
    }
}

fn asking(text: &str, pairs: &Pairs<'_>, method: &str, params: Option<&envelope::ParamsIndex>) {
    assert_eq!(pairs.only("method").and_then(|raw| serde_json::from_str::<String>(raw).ok()).as_deref(), Some(method));
    assert_eq!((pairs.only("result"), pairs.only("error")), (None, None));
    let raw = params.map(|params| &text[params.range.clone()]);
    assert_eq!(pairs.only("params"), raw);

    if let (Some(params), Some(raw)) = (params, raw)
        && let Ok(inner) = serde_json::from_str::<Pairs<'_>>(raw)
    {
        let part = |range: &Option<std::ops::Range<usize>>| range.clone().map(|range| &raw[range]);
        assert_eq!(inner.only("name"), part(&params.name));
        assert_eq!(inner.only("uri"), part(&params.uri));
        assert_eq!(inner.only("arguments"), part(&params.arguments));
        assert_eq!(inner.only("_meta"), part(&params.meta));
    }

    let rope = raw.map(|raw| Rope::from(Bytes::copy_from_slice(raw.as_bytes())));
    let written = envelope::request(7, method, rope).into_bytes();
    match envelope::parse(&written) {
        Ok(Message::Request(request)) => {
            assert_eq!((request.id, &*request.method), ("7", method));
            assert_eq!(request.params.map(|params| &written[params.range]), raw.map(str::as_bytes));
        }
        other => panic!("{other:?}"),
    }
}

/// `_meta` is read like by a full parser, and a rewrite that keeps all keeps each member as it was spelled.
pub(crate) fn request_meta(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = RequestMeta::read(text);
    let is_object = json::check(bytes).is_ok() && text.trim_ascii_start().starts_with('{');
    assert_eq!(read.is_ok(), is_object, "{}", bytes.escape_ascii());

    let rewritten = meta::rewrite(Some(text), |_| true, &[]);
    assert_eq!(rewritten.is_ok(), is_object);
    let (Ok(read), Ok(rewritten)) = (read, rewritten) else { return };
    let rewritten = String::from_utf8(rewritten).expect("members of a text are text");
    assert_eq!(RequestMeta::read(&rewritten), Ok(read));
    let (Ok(before), Ok(after)) = (serde_json::from_str::<Pairs<'_>>(text), serde_json::from_str::<Pairs<'_>>(&rewritten)) else {
        return;
    };
    let spelled = |pairs: &Pairs<'_>| pairs.0.iter().map(|(key, raw)| (key.clone(), raw.get().to_owned())).collect::<Vec<_>>();
    assert_eq!(spelled(&before), spelled(&after));
    assert_eq!(before.last("progressToken"), read.progress_token);
    assert_eq!(before.last("twinway/explain"), read.explain);
}

/// However a stream is cut, it has the same events; and any text comes back from an event, with its line ends as LF.
pub(crate) fn event_stream(bytes: &[u8], cuts: &[u8]) {
    let whole = decode_stream([Bytes::copy_from_slice(bytes)]);
    let cut = decode_stream(cut_up(bytes, cuts));
    assert_eq!(whole, cut, "{}", bytes.escape_ascii());

    let data: Rope = {
        let mut builder = twinway_proto::rope::Builder::default();
        cut_up(bytes, cuts).into_iter().for_each(|part| {
            builder.push_bytes(part);
        });
        builder.finish()
    };
    let mut decoder = sse::Decoder::new(usize::MAX);
    decoder.push(sse::write_event(&data).into_bytes());
    let event = decoder.next_event().expect("no limit").expect("one event");
    assert_eq!(event.data, lines_as_lf(bytes));
    assert_eq!(decoder.next_event(), Ok(None));
}

type Decoded = (Vec<sse::Event>, Option<sse::SseError>, String);

fn decode_stream(chunks: impl IntoIterator<Item = Bytes>) -> Decoded {
    let mut decoder = sse::Decoder::new(LIMIT_BYTES);
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.push(chunk);
        loop {
            match decoder.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Some(error), String::new()),
            }
        }
    }
    let id = decoder.last_event_id().to_owned();
    (events, decoder.finish().err(), id)
}

fn lines_as_lf(bytes: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter().peekable();
    while let Some(&byte) = rest.next() {
        if byte == b'\r' {
            rest.next_if(|next| **next == b'\n');
        }
        lines.push(if byte == b'\r' { b'\n' } else { byte });
    }
    lines
}

/// Any text survives a mirrored header; any header is decoded or refused; what we send for arguments passes our own check.
pub(crate) fn mirrored_headers(bytes: &[u8]) {
    if let Ok(field) = HeaderValue::from_bytes(bytes)
        && let Ok(text) = headers::decode_value(&field)
    {
        assert_eq!(headers::decode_value(&headers::encode_value(&text)).as_deref(), Ok(&*text));
    }

    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let field = headers::encode_value(text);
    assert_eq!(headers::decode_value(&field).as_deref(), Ok(text));
    let quoted = serde_json::to_string(text).expect("a string always serializes");
    assert_eq!(headers::matches(&field, &quoted), Ok(true), "{quoted}");

    let found = headers::ParamHeaders::from_schema(text);
    assert!(found.is_err() || found.is_ok_and(|found| found.iter().count() <= headers::PARAM_HEADERS_MAX));
    let schema = r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},
        "b":{"properties":{"c":{"type":"integer","x-mcp-header":"C"}}}}}"#;
    let declared = headers::ParamHeaders::from_schema(schema).expect("a good schema");
    if let Ok(fields) = declared.from_arguments(text) {
        let sent: HeaderMap = fields.into_iter().collect();
        assert_eq!(declared.check(&sent, text), Ok(()), "{text}");
    }
}

/// However a stream is cut, it has the same frames, which encode to what came in; the buffer follows what has arrived.
pub(crate) fn frames(bytes: &[u8], cuts: &[u8]) {
    let whole = decode_frames([Bytes::copy_from_slice(bytes)]);
    let cut = decode_frames(cut_up(bytes, cuts));
    assert_eq!(whole, cut, "{}", bytes.escape_ascii());

    let mut written = Vec::new();
    for payload in &whole.0 {
        let frame = frame::encode(Rope::from(payload.clone()), LIMIT_BYTES).expect("it was within the limit");
        written.extend_from_slice(&frame.into_bytes());
        let checked = frame::check_payload(payload);
        let is_object = json::check(payload).is_ok() && payload.trim_ascii_start().starts_with(b"{");
        assert_eq!(checked.is_ok(), is_object);
    }
    assert!(bytes.starts_with(&written));
}

fn decode_frames(chunks: impl IntoIterator<Item = Bytes>) -> (Vec<Bytes>, Option<&'static str>) {
    let decoder = frame::Decoder::new(LIMIT_BYTES);
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for chunk in chunks {
        buffer.extend_from_slice(&chunk);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error.reason())),
            }
        }
    }
    (frames, decoder.finish(&buffer).err().map(|error| error.reason()))
}

/// Cuts `bytes` into pieces whose lengths `cuts` gives in turn.
fn cut_up(bytes: &[u8], cuts: &[u8]) -> Vec<Bytes> {
    let mut rest = Bytes::copy_from_slice(bytes);
    let mut pieces = Vec::new();
    for &length in cuts.iter().cycle().take(if cuts.is_empty() { 0 } else { bytes.len() }) {
        if rest.is_empty() {
            break;
        }
        pieces.push(rest.split_to(usize::from(length).clamp(1, rest.len())));
    }
    pieces.extend(Some(mem::take(&mut rest)).filter(|rest| !rest.is_empty()));
    pieces
}

/// How deep a grammatical text is nested.
fn depth(bytes: &[u8]) -> usize {
    let (mut deepest, mut now, mut in_string, mut escaped) = (0, 0_usize, false, false);
    for &byte in bytes {
        match byte {
            _ if mem::take(&mut escaped) => {}
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => now += 1,
            b'}' | b']' if !in_string => now = now.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(now);
    }
    deepest
}

/// The members of an object as `serde_json` sees them, duplicates included.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl Pairs<'_> {
    /// The value of a member that is there at most once.
    fn only(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(key, _)| key == name);
        let first = found.next();
        assert!(found.next().is_none(), "`{name}` was accepted twice");
        first.map(|(_, raw)| raw.get())
    }

    fn last(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, raw)| raw.get())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }

        deserializer.deserialize_map(InOrder).map(Pairs)
    }
}
