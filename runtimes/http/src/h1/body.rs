//! Cuts a body out of what is read from a connection.

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use super::head::Framing;

/// Bytes of a line between chunks: a length of 16 digits and the extensions that nobody uses.
const CHUNK_LINE_BYTES_MAX: usize = 4096;

/// Bytes of all trailer fields.
const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// Hexadecimal digits of a chunk's length: 2^60 bytes.
const CHUNK_DIGITS_MAX: usize = 15;

/// The body is not what its head announced.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum BodyError {
    #[error("the length of a chunk cannot be read")]
    ChunkLength,
    #[error("a chunk does not end where it should")]
    ChunkEnd,
    #[error("the fields after the last chunk have more than {TRAILER_BYTES_MAX} bytes")]
    Trailer,
}

/// Where in a body the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decoder {
    /// So many bytes are missing.
    Length(u64),
    /// Before the line with a chunk's length.
    ChunkLength,
    /// Within a chunk.
    Chunk(u64),
    /// Before the line break after a chunk.
    ChunkEnd,
    /// Among the fields after the last chunk; so many bytes of them went by.
    Trailer(usize),
    /// Everything belongs to the body.
    UntilClose,
    /// The body is complete.
    Done,
}

/// What the bytes read so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A piece of the body, never empty.
    Data(Bytes),
    /// More has to be read first.
    More,
    /// The body is complete.
    Done,
}

impl Decoder {
    pub(crate) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Length(0) => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::ChunkLength,
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Bytes that are sure to come: a hint for the next read.
    pub(crate) fn announced(self) -> u64 {
        match self {
            Self::Length(left) | Self::Chunk(left) => left,
            _ => 0,
        }
    }

    /// Takes the next piece off the front of what was read.
    pub(crate) fn step(&mut self, read: &mut BytesMut) -> Result<Step, BodyError> {
        loop {
            match *self {
                Self::Done => return Ok(Step::Done),
                _ if read.is_empty() => return Ok(Step::More),
                Self::UntilClose => return Ok(Step::Data(read.split().freeze())),
                Self::Length(left) => {
                    let (data, left) = take(read, left);
                    *self = if left == 0 { Self::Done } else { Self::Length(left) };
                    return Ok(Step::Data(data));
                }
                Self::Chunk(left) => {
                    let (data, left) = take(read, left);
                    *self = if left == 0 { Self::ChunkEnd } else { Self::Chunk(left) };
                    return Ok(Step::Data(data));
                }
                Self::ChunkLength => {
                    let Some(line) = take_line(read, CHUNK_LINE_BYTES_MAX, BodyError::ChunkLength)? else {
                        return Ok(Step::More);
                    };
                    *self = match chunk_length(&line)? {
                        0 => Self::Trailer(0),
                        length => Self::Chunk(length),
                    };
                }
                Self::ChunkEnd => {
                    let Some(line) = take_line(read, 2, BodyError::ChunkEnd)? else { return Ok(Step::More) };
                    if !line.is_empty() {
                        return Err(BodyError::ChunkEnd);
                    }
                    *self = Self::ChunkLength;
                }
                Self::Trailer(before) => {
                    let left = TRAILER_BYTES_MAX.saturating_sub(before);
                    let Some(line) = take_line(read, left, BodyError::Trailer)? else { return Ok(Step::More) };
                    *self = if line.is_empty() { Self::Done } else { Self::Trailer(before + line.len() + 2) };
                }
            }
        }
    }
}

fn take(read: &mut BytesMut, left: u64) -> (Bytes, u64) {
    let length = usize::try_from(left).unwrap_or(usize::MAX).min(read.len());
    (read.split_to(length).freeze(), left - length as u64)
}

/// A line without its end, CR LF; `None` when the end was not read yet.
fn take_line(read: &mut BytesMut, bytes_max: usize, fault: BodyError) -> Result<Option<BytesMut>, BodyError> {
    match memchr::memchr(b'\n', &read[..read.len().min(bytes_max)]) {
        Some(end) => {
            let mut line = read.split_to(end + 1);
            line.truncate(end);
            if line.last() != Some(&b'\r') {
                return Err(fault);
            }
            line.truncate(end - 1);
            Ok(Some(line))
        }
        None if read.len() >= bytes_max => Err(fault),
        None => Ok(None),
    }
}

/// Digits, then perhaps extensions, which mean nothing here (RFC 9112, 7.1.1).
fn chunk_length(line: &[u8]) -> Result<u64, BodyError> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if digits.is_empty() || digits.len() > CHUNK_DIGITS_MAX || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(BodyError::ChunkLength);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| BodyError::ChunkLength)?;
    u64::from_str_radix(digits, 16).map_err(|_| BodyError::ChunkLength)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `text` in pieces cut at `cuts`; the body, what is left, and whether the body was complete.
    fn decode(framing: Framing, text: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, Vec<u8>, bool), BodyError> {
        let mut decoder = Decoder::new(framing);
        let (mut read, mut body) = (BytesMut::new(), Vec::new());
        let mut places: Vec<_> = cuts.iter().map(|cut| cut % (text.len() + 1)).chain([0, text.len()]).collect();
        places.sort_unstable();
        for piece in places.windows(2) {
            read.extend_from_slice(&text[piece[0]..piece[1]]);
            while let Step::Data(data) = decoder.step(&mut read)? {
                body.extend_from_slice(&data);
            }
        }
        Ok((body, read.to_vec(), decoder == Decoder::Done))
    }

    fn chunked(chunks: &[Vec<u8>]) -> Vec<u8> {
        let mut text = Vec::new();
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            text.extend_from_slice(format!("{:X};x=\"y\"\r\n", chunk.len()).as_bytes());
            text.extend_from_slice(chunk);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"0\r\nx-trailer: 1\r\n\r\n");
        text
    }

    proptest! {
        #[test]
        fn a_body_is_the_same_however_it_is_cut(chunks: Vec<Vec<u8>>, cuts: Vec<usize>, next in "[a-z]{0,8}") {
            let body = chunks.concat();

            let (read, left, done) = decode(Framing::Chunked, &[&chunked(&chunks), next.as_bytes()].concat(), &cuts).unwrap();
            prop_assert_eq!((&read, left.as_slice(), done), (&body, next.as_bytes(), true));

            let length = Framing::Length(body.len() as u64);
            let (read, left, done) = decode(length, &[&body, next.as_bytes()].concat(), &cuts).unwrap();
            prop_assert_eq!((&read, left.as_slice(), done), (&body, next.as_bytes(), true));
        }

        #[test]
        fn no_bytes_make_it_panic(text: Vec<u8>, cuts: Vec<usize>) {
            let whole = decode(Framing::Chunked, &text, &[]);
            prop_assert_eq!(whole.is_ok(), decode(Framing::Chunked, &text, &cuts).is_ok());
        }
    }

    #[test]
    fn a_body_that_breaks_its_form_is_refused() {
        let cases: [(&[u8], BodyError); 7] = [
            (b"x\r\n", BodyError::ChunkLength),
            (b"\r\n", BodyError::ChunkLength),
            (b"-5\r\n", BodyError::ChunkLength),
            (b"FFFFFFFFFFFFFFFFF\r\n", BodyError::ChunkLength),
            (b"1\nx\r\n", BodyError::ChunkLength),
            (b"1\r\nxy\r\n", BodyError::ChunkEnd),
            (b"1\r\nx\n", BodyError::ChunkEnd),
        ];
        for (text, expected) in cases {
            assert_eq!(decode(Framing::Chunked, text, &[]).unwrap_err(), expected, "{}", text.escape_ascii());
        }
        let endless = [&b"0\r\n"[..], &[b'x'; TRAILER_BYTES_MAX + 1]].concat();
        assert_eq!(decode(Framing::Chunked, &endless, &[]).unwrap_err(), BodyError::Trailer);
    }
}
