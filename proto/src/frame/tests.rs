//! What the frame codec must hold to, as tables.

use super::*;

fn framed(payload: &[u8]) -> Vec<u8> {
    let prefix = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&prefix[..], payload].concat()
}

#[test]
fn small_and_large_payloads_come_back_as_they_were() {
    for payload_bytes in [2, SMALL_FRAME_BYTES, SMALL_FRAME_BYTES + 1, 100_000] {
        let payload = Bytes::from(vec![b'x'; payload_bytes]);

        let frame = encode(Rope::from(payload.clone()), FRAME_BYTES_MAX).unwrap();
        let mut buffer = BytesMut::from(&frame.into_bytes()[..]);

        assert_eq!(Decoder::new(FRAME_BYTES_MAX).decode(&mut buffer).unwrap().unwrap(), payload);
        assert!(buffer.is_empty());
    }
}

#[test]
fn a_small_frame_is_one_buffer() {
    let mut payload = Builder::default();
    payload.push_bytes(Bytes::from_static(b"{\"a\":"));
    payload.push_bytes(Bytes::from_static(b"1}"));

    let frame = encode(payload.finish(), FRAME_BYTES_MAX).unwrap();

    assert_eq!(frame.chunk(), b"\0\0\0\x07{\"a\":1}");
}

#[test]
fn a_large_payload_is_not_copied() {
    let payload = Bytes::from(vec![b'x'; 100_000]);

    let mut frame = encode(Rope::from(payload.clone()), FRAME_BYTES_MAX).unwrap();
    frame.advance(PREFIX_BYTES);

    assert_eq!(frame.chunk().as_ptr(), payload.as_ptr());
}

#[test]
fn a_bad_length_is_refused_before_anything_is_allocated() {
    let cases: [(u32, &str); 4] = [
        (0, "invalid_json"),
        (1025, "declared_frame_too_large"),
        (FRAME_BYTES_MAX as u32, "declared_frame_too_large"),
        (u32::MAX, "declared_frame_too_large"),
    ];

    for (declared, reason) in cases {
        let mut buffer = BytesMut::from(&declared.to_be_bytes()[..]);
        let capacity = buffer.capacity();

        let error = Decoder::new(1024).decode(&mut buffer).unwrap_err();

        assert_eq!(error.reason(), reason);
        assert_eq!(buffer.capacity(), capacity);
        assert_eq!(Decoder::new(1024).decode(&mut buffer).unwrap_err(), error, "the error repeats");
    }
}

#[test]
fn a_declared_length_reserves_no_more_than_one_step() {
    let mut buffer = BytesMut::from(&(FRAME_BYTES_MAX as u32).to_be_bytes()[..]);

    assert_eq!(Decoder::new(FRAME_BYTES_MAX).decode(&mut buffer), Ok(None));

    assert!(buffer.capacity() <= RESERVE_BYTES_MAX + 1024, "{}", buffer.capacity());
}

#[test]
fn the_buffer_grows_with_what_has_arrived() {
    let decoder = Decoder::new(FRAME_BYTES_MAX);
    let payload = vec![b' '; 3 * 1024 * 1024];
    let stream = framed(&payload);
    let mut buffer = BytesMut::new();

    for chunk in stream.chunks(10_000) {
        assert_eq!(decoder.decode(&mut buffer), Ok(None));
        assert!(buffer.capacity() <= 2 * buffer.len() + 2 * RESERVE_BYTES_MAX, "{} of {}", buffer.capacity(), buffer.len());
        buffer.extend_from_slice(chunk);
    }

    assert_eq!(decoder.decode(&mut buffer).unwrap().unwrap().len(), payload.len());
}

#[test]
fn a_stream_that_ends_inside_a_frame_says_where() {
    let cases: [(&[u8], Option<&str>); 5] = [
        (b"", None),
        (b"\0\0\0", Some("incomplete_prefix")),
        (b"\0\0\0\x02", Some("incomplete_body")),
        (b"\0\0\0\x02{", Some("incomplete_body")),
        (b"\xFF\xFF\xFF\xFF", Some("declared_frame_too_large")),
    ];

    for (left, reason) in cases {
        let answer = Decoder::new(1024).finish(left);
        assert_eq!(answer.err().map(|error| error.reason()), reason, "{}", left.escape_ascii());
    }
}

#[test]
fn a_payload_is_one_object_of_strict_utf8_json() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let cases: [(&[u8], Option<&str>); 9] = [
        (b"{\"jsonrpc\":\"2.0\"}", None),
        (b" \r\n{}", None),
        (b"", Some("invalid_json")),
        (b"{", Some("invalid_json")),
        (b"{}{}", Some("invalid_json")),
        (b"{\"a\":\"\xC0\xAF\"}", Some("invalid_utf8")),
        (b"[{}]", Some("payload_not_object")),
        (b"\"{\"", Some("payload_not_object")),
        (deep.as_bytes(), Some("invalid_json")),
    ];

    for (payload, reason) in cases {
        let answer = check_payload(&Bytes::copy_from_slice(payload));
        assert_eq!(answer.err().map(|error| error.reason()), reason, "{}", payload.escape_ascii());
    }
}

#[test]
fn a_payload_beyond_the_limit_is_not_sent() {
    let error = encode(Rope::from(Bytes::from(vec![b'x'; 1025])), 1024).unwrap_err();

    assert_eq!(error.reason(), "declared_frame_too_large");
    assert!(error.to_string().contains("1024"));
    assert_eq!(encode(Rope::from(Bytes::new()), 1024).unwrap_err(), FrameError::Empty);
}
