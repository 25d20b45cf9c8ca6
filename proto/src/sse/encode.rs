//! Writes events: messages, keep-alive comments and priming events.

use bytes::{Buf, Bytes};
use memchr::memchr2;

use crate::rope::{Builder, Rope};

/// The head of an event that carries a message of MCP (transports, Streamable HTTP).
const MESSAGE_HEAD: &[u8] = b"event: message\ndata: ";
const NEXT_LINE: &[u8] = b"\ndata: ";
const EVENT_END: &[u8] = b"\n\n";

/// 4 KiB: room made at once for an event. The rope shares longer parts instead of copying them.
const SMALL_EVENT_BYTES: usize = 4 * 1024;

/// Room made at once for the line of an id.
const ID_BYTES: usize = 64;

/// An event id that would break out of its line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an event id holds a line end or NUL: {0:?}")]
pub struct InvalidEventId(Box<str>);

/// Wraps one JSON text as a `message` event. Its bytes are not copied.
///
/// JSON strings can not hold a raw line end, but there may be some between the tokens of a client's or server's text.
/// Each becomes a further `data:` line, and so LF for the reader: another space between the same tokens.
#[must_use]
pub fn write_event(data: &Rope) -> Rope {
    event(&[], data)
}

/// The same with an id by which a reader can resume the stream after it (MCP 2025-11-25, Streamable HTTP, resumability).
///
/// # Errors
/// [`InvalidEventId`] when the id holds CR, LF or NUL.
pub fn write_event_with_id(id: &str, data: &Rope) -> Result<Rope, InvalidEventId> {
    check(id)?;
    Ok(event(&[b"id: ", id.as_bytes(), b"\n"], data))
}

fn event(id: &[&[u8]], data: &Rope) -> Rope {
    let mut event = Builder::with_capacity(ID_BYTES + MESSAGE_HEAD.len() + data.len().min(SMALL_EVENT_BYTES) + EVENT_END.len());
    for piece in id {
        event.push_slice(piece);
    }
    event.push_slice(MESSAGE_HEAD);
    let mut after_carriage_return = false;
    for part in data.parts() {
        push_lines(&mut event, part.clone(), &mut after_carriage_return);
    }
    event.push_slice(EVENT_END);
    event.finish()
}

/// Appends one part of the data, each line end as the head of a further `data:` line. CRLF is one line end, also when
/// its halves are in two parts.
fn push_lines(event: &mut Builder, mut part: Bytes, after_carriage_return: &mut bool) {
    while !part.is_empty() {
        if std::mem::take(after_carriage_return) && part[0] == b'\n' {
            part.advance(1);
            continue;
        }
        let Some(line_bytes) = memchr2(b'\r', b'\n', &part) else {
            event.push_bytes(part);
            return;
        };
        event.push_bytes(part.split_to(line_bytes));
        *after_carriage_return = part[0] == b'\r';
        part.advance(1);
        event.push_slice(NEXT_LINE);
    }
}

/// A comment, which readers ignore: keeps proxies from closing a silent stream. `text` is one line.
#[must_use]
pub fn comment(text: &'static str) -> Bytes {
    debug_assert!(memchr2(b'\r', b'\n', text.as_bytes()).is_none(), "a comment is one line");
    Bytes::from([": ", text, "\n\n"].concat())
}

/// An event with an id and empty data, so that a reader can resume a stream that has not said anything yet
/// (MCP 2025-11-25, Streamable HTTP, resumability), and with the time to wait before that.
///
/// # Errors
/// [`InvalidEventId`] when the id holds CR, LF or NUL.
pub fn write_priming(id: &str, retry_ms: Option<u64>) -> Result<Bytes, InvalidEventId> {
    check(id)?;
    let retry = retry_ms.map(|ms| format!("retry: {ms}\n")).unwrap_or_default();
    Ok(Bytes::from(format!("id: {id}\n{retry}data: \n\n")))
}

fn check(id: &str) -> Result<(), InvalidEventId> {
    let breaks_out = id.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
    if breaks_out { Err(InvalidEventId(id.into())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(pieces: &[&'static str]) -> String {
        let mut data = Builder::default();
        for piece in pieces {
            data.push_bytes(Bytes::from_static(piece.as_bytes()));
        }
        String::from_utf8(write_event(&data.finish()).into_bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_message_is_one_event_of_one_line() {
        assert_eq!(written(&["{\"id\":1}"]), "event: message\ndata: {\"id\":1}\n\n");
    }

    #[test]
    fn an_id_stands_before_the_message() {
        let event = write_event_with_id("s1-7", &Bytes::from_static(b"{}").into()).unwrap();

        assert_eq!(event.into_bytes(), "id: s1-7\nevent: message\ndata: {}\n\n");
    }

    #[test]
    fn a_large_message_is_not_copied() {
        let data = Bytes::from(vec![b'x'; 100_000]);

        let event = write_event(&Rope::from(data.clone()));

        assert!(event.parts().any(|part| part.as_ptr() == data.as_ptr()));
    }

    #[test]
    fn raw_line_ends_become_data_lines() {
        let cases: [(&[&'static str], &str); 5] = [
            (&["{\n}"], "{\ndata: }"),
            (&["{\r\n}"], "{\ndata: }"),
            (&["{\r", "\n}"], "{\ndata: }"),
            (&["{\r\r}"], "{\ndata: \ndata: }"),
            (&["\n{}\n"], "\ndata: {}\ndata: "),
        ];

        for (pieces, data) in cases {
            assert_eq!(written(pieces), format!("event: message\ndata: {data}\n\n"), "{pieces:?}");
        }
    }

    #[test]
    fn a_priming_event_has_an_id_and_empty_data() {
        assert_eq!(write_priming("s1-0", Some(500)).unwrap(), "id: s1-0\nretry: 500\ndata: \n\n");
        assert_eq!(write_priming("s1-0", None).unwrap(), "id: s1-0\ndata: \n\n");
    }

    #[test]
    fn an_id_can_not_inject_fields() {
        for id in ["a\nb", "a\rb", "a\0b"] {
            assert!(write_priming(id, None).is_err());
            assert!(write_event_with_id(id, &Rope::default()).is_err());
        }
    }

    #[test]
    fn a_comment_is_ignored_by_readers() {
        assert_eq!(comment("keep-alive"), ": keep-alive\n\n");
    }
}
