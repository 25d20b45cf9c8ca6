//! Messages as lines: each is one line of JSON in UTF-8, without a line break in it.

use std::io;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio_util::codec::{Decoder, Encoder};
use twinway_proto::rope::Rope;

/// Cuts lines out of what a process prints, and writes messages as lines.
#[derive(Debug)]
pub(crate) struct Lines {
    bytes_max: usize,
    /// Up to here there is no line break.
    searched: usize,
}

/// A line cannot be taken.
#[derive(Debug, Error)]
pub(crate) enum LinesError {
    #[error("a line is longer than {bytes_max} bytes")]
    TooLong { bytes_max: usize },
    #[error("the pipe broke")]
    Io(#[from] io::Error),
}

impl Lines {
    /// Lines of at most so many bytes.
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self { bytes_max, searched: 0 }
    }

    /// The next line that says something.
    fn cut(&mut self, read: &mut BytesMut) -> Result<Option<Bytes>, LinesError> {
        while let Some(end) = memchr::memchr(b'\n', &read[self.searched..]) {
            let mut line = read.split_to(self.searched + end + 1);
            self.searched = 0;
            line.truncate(line.len() - 1);
            if line.len() > self.bytes_max {
                return Err(LinesError::TooLong { bytes_max: self.bytes_max });
            }
            if line.last() == Some(&b'\r') {
                line.truncate(line.len() - 1);
            }
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line.freeze()));
            }
        }
        self.searched = read.len();
        if read.len() > self.bytes_max {
            return Err(LinesError::TooLong { bytes_max: self.bytes_max });
        }
        Ok(None)
    }
}

impl Decoder for Lines {
    type Item = Bytes;
    type Error = LinesError;

    fn decode(&mut self, read: &mut BytesMut) -> Result<Option<Bytes>, LinesError> {
        self.cut(read)
    }

    /// A last line without its end is no message: the process was cut off in it.
    fn decode_eof(&mut self, read: &mut BytesMut) -> Result<Option<Bytes>, LinesError> {
        let line = self.cut(read)?;
        if line.is_none() {
            read.clear();
        }
        Ok(line)
    }
}

impl Encoder<Rope> for Lines {
    type Error = LinesError;

    fn encode(&mut self, message: Rope, out: &mut BytesMut) -> Result<(), LinesError> {
        let begin = out.len();
        out.reserve(message.len() + 1);
        message.parts().for_each(|part| out.extend_from_slice(part));
        // Between the parts of JSON a line break means nothing, and within a string there is none.
        let line = &mut out[begin..];
        if memchr::memchr2(b'\n', b'\r', line).is_some() {
            line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        }
        out.extend_from_slice(b"\n");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(chunks: &[&[u8]], bytes_max: usize) -> Result<Vec<String>, LinesError> {
        let (mut lines, mut read, mut found) = (Lines::new(bytes_max), BytesMut::new(), Vec::new());
        for chunk in chunks {
            read.extend_from_slice(chunk);
            while let Some(line) = lines.decode(&mut read)? {
                found.push(String::from_utf8(line.to_vec()).expect("UTF-8"));
            }
        }
        while let Some(line) = lines.decode_eof(&mut read)? {
            found.push(String::from_utf8(line.to_vec()).expect("UTF-8"));
        }
        Ok(found)
    }

    #[test]
    fn lines_end_in_either_way_and_empty_ones_and_a_last_piece_are_none() {
        let found = decoded(&[b"{}\r\n\n  \r\n{\"a\":1}\nhalf"], 100).expect("short lines");

        assert_eq!(found, ["{}", "{\"a\":1}"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_an_error_wherever_its_end_is() {
        for text in [&b"123456789\n"[..], b"123456789"] {
            assert!(matches!(decoded(&[text], 8), Err(LinesError::TooLong { bytes_max: 8 })));
        }
        assert_eq!(decoded(&[b"12345678\n"], 8).expect("it fits"), ["12345678"]);
    }

    #[test]
    fn a_message_is_one_line() {
        let mut out = BytesMut::new();

        Lines::new(100).encode(Rope::from(b"{\n\"a\":\r\n1}".to_vec()), &mut out).expect("memory");

        assert_eq!(&out[..], b"{ \"a\":  1}\n");
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_the_pipe_cuts_them(texts in prop::collection::vec("[a-zäöü€😀]{1,20}", 0..8), step in 1_usize..7) {
            let whole = texts.iter().map(|text| format!("{text}\n")).collect::<String>();
            let chunks: Vec<_> = whole.as_bytes().chunks(step).collect();

            prop_assert_eq!(decoded(&chunks, 1000).expect("short lines"), texts);
        }
    }
}
