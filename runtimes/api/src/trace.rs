//! The trace a call belongs to, as W3C Trace Context has it.

use bytes::Bytes;

/// Ids, flags and state of a trace: plain data, so that passing it on needs no tracing library.
///
/// Bounds: `state` and `baggage` are dropped at the entrance above 512 and 8192 bytes (W3C Trace Context 3.3.1.5,
/// W3C Baggage 3.3.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// 16 bytes; zero means that there is no trace.
    pub trace_id: u128,
    /// The span that is the parent of whatever comes next.
    pub span_id: u64,
    /// The sampled flag.
    pub sampled: bool,
    /// `tracestate`, as it came.
    pub state: Option<Bytes>,
    /// `baggage`, as it came. Goes to trusted targets only.
    pub baggage: Option<Bytes>,
}

impl TraceContext {
    /// Length of a version 00 `traceparent`.
    pub const TRACEPARENT_LEN: usize = 55;

    /// Whether there is a trace to pass on.
    #[must_use]
    pub const fn exists(&self) -> bool {
        self.trace_id != 0 && self.span_id != 0
    }

    /// Reads a `traceparent`. `None` for anything that the W3C text calls invalid.
    #[must_use]
    pub fn parse(traceparent: &[u8]) -> Option<Self> {
        if traceparent.len() < Self::TRACEPARENT_LEN {
            return None;
        }
        let (head, rest) = traceparent.split_at(Self::TRACEPARENT_LEN);
        let version = hex(&head[0..2])?;
        // A higher version may carry more after another dash; version 00 may not, and ff is forbidden.
        let tail_is_fine = rest.is_empty() || (version > 0 && rest[0] == b'-');
        if version == 0xff || !tail_is_fine || [head[2], head[35], head[52]] != [b'-'; 3] {
            return None;
        }
        let trace_id = hex(&head[3..35])?;
        let span_id = u64::try_from(hex(&head[36..52])?).ok()?;
        let flags = hex(&head[53..55])?;
        let context = Self { trace_id, span_id, sampled: flags & 1 == 1, state: None, baggage: None };
        context.exists().then_some(context)
    }

    /// Writes the `traceparent`, version 00.
    #[must_use]
    pub fn traceparent(&self) -> [u8; Self::TRACEPARENT_LEN] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&mut text[3..35], &self.trace_id.to_be_bytes());
        write_hex(&mut text[36..52], &self.span_id.to_be_bytes());
        text[54] = if self.sampled { b'1' } else { b'0' };
        text
    }
}

/// Lower-case hexadecimal only: the W3C text forbids the upper case.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |value, digit| {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(nibble))
    })
}

fn write_hex(text: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_survives_the_round_trip() {
        let context = TraceContext::parse(EXAMPLE).unwrap();

        assert!(context.sampled);
        assert_eq!(&context.traceparent(), EXAMPLE);
    }

    #[test]
    fn what_the_standard_calls_invalid_is_refused() {
        let cases: [&[u8]; 7] = [
            b"",
            b"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7_01",
        ];
        for case in cases {
            assert_eq!(TraceContext::parse(case), None, "{}", String::from_utf8_lossy(case));
        }
    }

    #[test]
    fn a_later_version_is_read_by_its_known_part() {
        let later = b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";

        assert!(TraceContext::parse(later).is_some());
    }
}
