//! What the decoder must hold to, as tables.

use bytes::Bytes;

use super::{Decoder, Event, SseError};

fn decode_all(chunks: &[&'static [u8]]) -> Vec<Event> {
    let mut decoder = Decoder::new(1024);
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.push(Bytes::from_static(chunk));
        while let Some(event) = decoder.next_event().unwrap() {
            events.push(event);
        }
    }
    events
}

fn data_of(stream: &'static [u8]) -> Vec<String> {
    decode_all(&[stream]).into_iter().map(|event| String::from_utf8(event.data.to_vec()).unwrap()).collect()
}

#[test]
fn every_line_end_of_the_standard_ends_a_line() {
    let cases: [(&[u8], &[&str]); 14] = [
        (b"data: a\n\n", &["a"]),
        (b"data: a\r\n\r\n", &["a"]),
        (b"data: a\r\r", &["a"]),
        (b"data: a\r\n\n", &["a"]),
        (b"data: a\n\r\n", &["a"]),
        (b"data:a\n\n", &["a"]),
        (b"data:  a\n\n", &[" a"]),
        (b"data: a\ndata: b\n\n", &["a\nb"]),
        (b"data\n\n", &[""]),
        (b"data\ndata\n\n", &["\n"]),
        (b"data:\n\ndata: b\n\n", &["", "b"]),
        (b":comment\n\ndata: a\n\n", &["a"]),
        (b"unknown: x\ndata: a\n\n", &["a"]),
        (b"data: a\n", &[]),
    ];

    for (stream, expected) in cases {
        assert_eq!(data_of(stream), expected, "{}", stream.escape_ascii());
    }
}

#[test]
fn a_line_end_split_over_two_chunks_is_one_line_end() {
    let events = decode_all(&[b"data: a\r", b"\ndata: b\r", b"\n\r", b"\ndata: c\n\n"]);

    let data: Vec<&[u8]> = events.iter().map(|event| &event.data[..]).collect();
    assert_eq!(data, [&b"a\nb"[..], b"c"]);
}

#[test]
fn a_character_split_over_two_chunks_survives() {
    let events = decode_all(&[b"data: \xE4", b"\xB8\x96", b"\n\n"]);

    assert_eq!(events[0].data, "世");
}

#[test]
fn one_byte_order_mark_is_dropped_even_in_pieces() {
    for chunks in [&[&b"\xEF\xBB\xBFdata: a\n\n"[..]][..], &[b"\xEF", b"\xBB", b"\xBFdata: a\n\n"]] {
        assert_eq!(decode_all(chunks)[0].data, "a");
    }
    assert!(decode_all(&[b"\xEF\xBB\xBF\xEF\xBB\xBFdata: a\n\n"]).is_empty(), "the second mark is part of a name");
    assert!(decode_all(&[b"\xEF", b"\xBBdata: a\n\n"]).is_empty(), "half a mark is part of a name");
}

#[test]
fn a_priming_event_carries_id_and_retry_and_empty_data() {
    let events = decode_all(&[b"id: s1-0\nretry: 500\ndata:\n\nevent: message\nid: s1-1\ndata: {}\n\n"]);

    assert_eq!(events[0], Event { id: Some("s1-0".into()), event: None, data: Bytes::new(), retry_ms: Some(500) });
    assert_eq!(
        events[1],
        Event { id: Some("s1-1".into()), event: Some("message".into()), data: Bytes::from("{}"), retry_ms: None }
    );
}

#[test]
fn a_block_without_data_is_no_event_but_its_id_and_retry_count() {
    let mut decoder = Decoder::new(1024);
    decoder.push(Bytes::from_static(b"event: lost\nid: 7\nretry: 20\n\ndata: a\n\n"));

    let event = decoder.next_event().unwrap().unwrap();

    assert_eq!(event, Event { id: None, event: None, data: Bytes::from("a"), retry_ms: None });
    assert_eq!((decoder.last_event_id(), decoder.reconnect_ms()), ("7", Some(20)));
}

#[test]
fn bad_ids_and_retries_are_ignored() {
    let mut decoder = Decoder::new(1024);
    decoder.push(Bytes::from_static(
        b"id: 1\nid: a\0b\nretry: 1\nretry: 2x\nretry:\nretry: -3\nretry: 99999999999999999999999\ndata: a\n\nid\ndata: b\n\n",
    ));

    let first = decoder.next_event().unwrap().unwrap();
    assert_eq!((first.id.as_deref(), first.retry_ms), (Some("1"), Some(1)));
    let second = decoder.next_event().unwrap().unwrap();
    assert_eq!((second.id.as_deref(), decoder.last_event_id()), (Some(""), ""));
}

#[test]
fn a_one_line_event_is_a_slice_of_its_chunk() {
    let chunk = Bytes::from(b"event: message\ndata: {\"a\":1}\n\n".to_vec());
    let mut decoder = Decoder::new(1024);
    decoder.push(chunk.clone());

    let event = decoder.next_event().unwrap().unwrap();

    assert_eq!(event.data.as_ptr(), chunk[21..].as_ptr());
}

#[test]
fn an_event_beyond_the_limit_is_refused_and_names_the_limit() {
    let streams: [&[&'static [u8]]; 5] = [
        &[b"data: 0123456789abcdef\n\n"],
        &[b"data: 0123", b"456789abcdef"],
        &[b"data: 01234\ndata: 01234\ndata: 01234\n\n"],
        &[b"data\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\n"],
        &[b": a comment that never ends "],
    ];

    for chunks in streams {
        let mut decoder = Decoder::new(16);
        let mut answer = Ok(None);
        for chunk in chunks {
            decoder.push(Bytes::from_static(chunk));
            answer = decoder.next_event();
        }
        assert_eq!(answer, Err(SseError::EventTooLarge { event_bytes_max: 16 }));
        assert_eq!(decoder.next_event(), answer, "the error is final");
        assert!(answer.unwrap_err().to_string().contains("16"));
    }
}

#[test]
fn the_limit_is_for_one_event_not_for_the_stream() {
    let mut decoder = Decoder::new(16);

    for _ in 0..100 {
        decoder.push(Bytes::from_static(b"data: 12345\n\n"));
        assert_eq!(decoder.next_event().unwrap().unwrap().data, "12345");
    }
}

#[test]
fn a_stream_that_ends_inside_an_event_says_so() {
    let cases: [(&'static [u8], bool); 6] = [
        (b"data: a\n\n", false),
        (b"data: a\n\n: bye", false),
        (b"data: a\n\nid: 4\n", false),
        (b"data: a\n", true),
        (b"data: a", true),
        (b"data: a\r\r", false),
    ];

    for (stream, truncated) in cases {
        let mut decoder = Decoder::new(1024);
        decoder.push(Bytes::from_static(stream));
        while decoder.next_event().unwrap().is_some() {}
        assert_eq!(decoder.finish().is_err(), truncated, "{}", stream.escape_ascii());
    }
}
