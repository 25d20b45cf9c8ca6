//! The head of an answer: its status, its fields, and what they say about the body and the connection.

use std::{
    mem::MaybeUninit,
    ops::Range,
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use thiserror::Error;

/// Header fields of one answer. Servers send some ten; hyper's client takes a hundred too.
const FIELDS_MAX: usize = 100;

/// Bytes of a head: whoever needs more for one answer sends something else than an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Longest wait that an answer can ask for. No call waits longer, and a clock that is wrong by years must not be told on.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Not the head of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum HeadError {
    #[error("not the head of an HTTP/1 answer: {0}")]
    Malformed(#[from] httparse::Error),
    #[error("the head of the answer has more than {HEAD_BYTES_MAX} bytes")]
    TooLong,
    #[error("the status {0} is none that an answer can have")]
    Status(u16),
    #[error("the answer says twice, and differently, how long its body is")]
    TwoLengths,
    #[error("the length of the body is not a number")]
    Length,
    #[error("the answer changes the protocol, which nobody asked for")]
    Switching,
}

/// How the end of a body is found (RFC 9112, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks, each with its length.
    Chunked,
    /// Everything until the connection is closed.
    UntilClose,
}

/// The head of an answer. Fields are looked up in the bytes they came as.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) framing: Framing,
    /// The connection may be used again after the body.
    pub(crate) keeps_alive: bool,
    bytes: Bytes,
    fields: Vec<Field>,
}

#[derive(Debug)]
struct Field {
    name: Range<u32>,
    value: Range<u32>,
}

impl Head {
    /// Takes a head off the front of what was read; `None` when it is not complete. Interim answers (1xx) are passed over.
    pub(crate) fn take(read: &mut BytesMut, to_head_request: bool) -> Result<Option<Self>, HeadError> {
        loop {
            let Some(head) = Self::parse(read, to_head_request)? else {
                return if read.len() > HEAD_BYTES_MAX { Err(HeadError::TooLong) } else { Ok(None) };
            };
            match head.status.as_u16() {
                101 => return Err(HeadError::Switching),
                100..=199 => {}
                _ => return Ok(Some(head)),
            }
        }
    }

    fn parse(read: &mut BytesMut, to_head_request: bool) -> Result<Option<Self>, HeadError> {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let status = config.parse_response_with_uninit_headers(&mut parsed, read, &mut fields)?;
        let httparse::Status::Complete(length) = status else { return Ok(None) };
        if length > HEAD_BYTES_MAX {
            return Err(HeadError::TooLong);
        }
        let code = parsed.code.unwrap_or_default();
        let status = StatusCode::from_u16(code).map_err(|_| HeadError::Status(code))?;
        let range_of = |part: &[u8]| {
            // Every part was cut out of `read`, and a head is shorter than `u32` can count.
            #[expect(clippy::cast_possible_truncation, reason = "a head has 64 KiB at most")]
            let start = (part.as_ptr().addr() - read.as_ptr().addr()) as u32;
            start..start + part.len() as u32
        };
        let is_newer = parsed.version == Some(1);
        let fields = parsed.headers.iter();
        let fields = fields.map(|field| Field { name: range_of(field.name.as_bytes()), value: range_of(field.value) }).collect();
        let bytes = read.split_to(length).freeze();
        let mut head = Self { status, framing: Framing::UntilClose, keeps_alive: is_newer, bytes, fields };
        head.read_framing(to_head_request)?;
        Ok(Some(head))
    }

    /// RFC 9112, 6.3 and 9.3.
    fn read_framing(&mut self, to_head_request: bool) -> Result<(), HeadError> {
        let (mut length, mut coding) = (None, None);
        for field in &self.fields {
            let (name, value) = (self.part(&field.name), self.part(&field.value));
            if name.eq_ignore_ascii_case(b"content-length") {
                let found = parse_length(value)?;
                if length.replace(found).is_some_and(|before| before != found) {
                    return Err(HeadError::TwoLengths);
                }
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                coding = Some(last_of(value).eq_ignore_ascii_case(b"chunked"));
            } else if name.eq_ignore_ascii_case(b"connection") {
                if list(value).any(|option| option.eq_ignore_ascii_case(b"close")) {
                    self.keeps_alive = false;
                } else if list(value).any(|option| option.eq_ignore_ascii_case(b"keep-alive")) {
                    self.keeps_alive = true;
                }
            }
        }
        self.framing = match (coding, length) {
            _ if to_head_request || matches!(self.status.as_u16(), 100..=199 | 204 | 304) => Framing::Length(0),
            // Who says both may mean either: one of us could take a part of this answer for the next one.
            (Some(true), Some(_)) => {
                self.keeps_alive = false;
                Framing::Chunked
            }
            (Some(true), None) => Framing::Chunked,
            (Some(false), _) | (None, None) => {
                self.keeps_alive = false;
                Framing::UntilClose
            }
            (None, Some(length)) => Framing::Length(length),
        };
        Ok(())
    }

    /// The first field of that name, which is in lower case.
    pub(crate) fn get(&self, name: &str) -> Option<&[u8]> {
        let mut named = self.fields.iter().filter(|field| self.part(&field.name).eq_ignore_ascii_case(name.as_bytes()));
        named.next().map(|field| self.part(&field.value))
    }

    /// `Retry-After`, seconds or a date (RFC 9110, section 10.2.3): how long from now, at most [`RETRY_AFTER_MAX`].
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let text = std::str::from_utf8(self.get("retry-after")?).ok()?;
        let after = match text.parse() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).unwrap_or_default(),
        };
        Some(after.min(RETRY_AFTER_MAX))
    }

    fn part(&self, range: &Range<u32>) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }
}

fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn last_of(value: &[u8]) -> &[u8] {
    list(value).last().unwrap_or_default()
}

/// Digits only; `5, 5` is one length said twice (RFC 9112, 6.3).
fn parse_length(value: &[u8]) -> Result<u64, HeadError> {
    let mut lengths = list(value).map(|text| match std::str::from_utf8(text) {
        Ok(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().map_err(|_| HeadError::Length),
        _ => Err(HeadError::Length),
    });
    let first = lengths.next().unwrap_or(Err(HeadError::Length))?;
    lengths.try_fold(first, |first, next| if next? == first { Ok(first) } else { Err(HeadError::TwoLengths) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str) -> Result<Option<Head>, HeadError> {
        Head::take(&mut BytesMut::from(text), false)
    }

    #[test]
    fn a_time_to_try_again_is_read_in_both_forms_and_bounded() {
        let after = |value: &str| {
            let head = take(&format!("HTTP/1.1 503 Busy\r\nretry-after: {value}\r\n\r\n")).unwrap().unwrap();
            head.retry_after()
        };
        let date = |ahead: u64| httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(ahead));

        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert!((55..=60).contains(&after(&date(60)).unwrap().as_secs()));
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(after("99999999999"), Some(RETRY_AFTER_MAX));
        for nonsense in ["soon", "-1", "1.5", ""] {
            assert_eq!(after(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn the_head_says_where_its_body_ends_and_whether_the_connection_stays() {
        let cases = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", Framing::Length(5), true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\ncontent-length: 5\r\n", Framing::Length(5), true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nConnection: Close\r\n", Framing::Length(5), false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 5\r\n", Framing::Length(5), false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n", Framing::Length(5), true),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n", Framing::Chunked, true),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n", Framing::Chunked, true),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n", Framing::Chunked, false),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n", Framing::UntilClose, false),
            ("HTTP/1.1 200 OK\r\n", Framing::UntilClose, false),
            ("HTTP/1.1 204 No Content\r\n", Framing::Length(0), true),
            ("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n", Framing::Length(0), true),
            ("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 202 \r\ncontent-length: 0\r\n", Framing::Length(0), true),
        ];
        for (text, framing, keeps_alive) in cases {
            let head = take(&format!("{text}\r\n")).expect(text).expect(text);

            assert_eq!((head.framing, head.keeps_alive), (framing, keeps_alive), "{text}");
            assert!(matches!(take(text), Ok(None)), "not complete: {text}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let cases = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", HeadError::TwoLengths),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5, 6\r\n\r\n", HeadError::TwoLengths),
            ("HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n", HeadError::Length),
            ("HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n", HeadError::Length),
            ("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n", HeadError::Length),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", HeadError::Switching),
            ("SSH-2.0-OpenSSH_9.2\r\n", HeadError::Malformed(httparse::Error::Version)),
        ];
        for (text, expected) in cases {
            assert_eq!(take(text).unwrap_err(), expected, "{text}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(HEAD_BYTES_MAX));
        assert_eq!(take(&endless).unwrap_err(), HeadError::TooLong);
    }

    #[test]
    fn the_answer_to_a_head_request_has_no_body() {
        let mut read = BytesMut::from("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");

        let head = Head::take(&mut read, true).expect("a head").expect("complete");

        assert_eq!(head.framing, Framing::Length(0));
    }

    #[test]
    fn fields_are_found_whatever_their_case_and_what_follows_stays() {
        let mut read = BytesMut::from("HTTP/1.1 200 OK\r\nMCP-Session-Id: a\r\nX: 1\r\nx: 2\r\ncontent-length: 2\r\n\r\n{}");

        let head = Head::take(&mut read, false).expect("a head").expect("complete");

        assert_eq!(head.get("mcp-session-id"), Some(&b"a"[..]));
        assert_eq!(head.get("y"), None);
        assert_eq!(head.get("x"), Some(&b"1"[..]));
        assert_eq!(&read[..], b"{}");
    }
}
