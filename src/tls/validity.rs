//! Between which dates a certificate is valid: the one part of it that a server has to read itself.
//!
//! RFC 5280, section 4.1: `Certificate { TBSCertificate { [0] version, serial, algorithm, issuer, Validity, … }, … }`.

use std::time::{Duration, SystemTime};

/// Both ends count as valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Reads the dates of a certificate in DER; `None` when it is not one, or is of before 1970.
pub(super) fn of(certificate: &[u8]) -> Option<Validity> {
    let (SEQUENCE, outer, _) = element(certificate)? else { return None };
    let (SEQUENCE, mut fields, _) = element(outer)? else { return None };
    if let (VERSION, _, rest) = element(fields)? {
        fields = rest;
    }
    let after_serial = element(fields)?.2;
    let after_algorithm = element(after_serial)?.2;
    let after_issuer = element(after_algorithm)?.2;
    let (SEQUENCE, dates, _) = element(after_issuer)? else { return None };
    let (tag, from, rest) = element(dates)?;
    let (until_tag, until, _) = element(rest)?;
    Some(Validity { not_before: time(tag, from)?, not_after: time(until_tag, until)? })
}

/// Tag, contents, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], mut rest) = bytes.split_first_chunk()?;
    let mut length = usize::from(first & 0x7f);
    if first & 0x80 != 0 {
        // The long form: the low bits count the bytes of the length. Four are 4 GiB.
        let (digits, after) = rest.split_at_checked(length).filter(|(digits, _)| digits.len() <= 4)?;
        length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
        rest = after;
    }
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`; two digits from 50 on are of the last century.
fn time(tag: u8, text: &[u8]) -> Option<SystemTime> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => (text.get(..2)?.parse::<u64>().ok()?, text.get(2..)?),
        GENERALIZED_TIME => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    let year = match tag {
        UTC_TIME if year >= 50 => 1900 + year,
        UTC_TIME => 2000 + year,
        _ => year,
    };
    let two = |at: usize| rest.get(at..at + 2)?.parse::<u64>().ok();
    let text = format!("{year:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", two(0)?, two(2)?, two(4)?, two(6)?, two(8)?);
    // Not later than what the parser knows: "no expiry" is written as 99991231235959Z.
    let known = humantime::parse_rfc3339(&text).ok()?;
    (known >= SystemTime::UNIX_EPOCH + Duration::ZERO).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_write_a_date_are_read() {
        let cases: [(u8, &[u8], Option<&str>); 6] = [
            (UTC_TIME, b"261123235959Z", Some("2026-11-23T23:59:59Z")),
            (UTC_TIME, b"700101000000Z", Some("1970-01-01T00:00:00Z")),
            (GENERALIZED_TIME, b"20500101000000Z", Some("2050-01-01T00:00:00Z")),
            (GENERALIZED_TIME, b"99991231235959Z", Some("9999-12-31T23:59:59Z")),
            (UTC_TIME, b"261123", None),
            (SEQUENCE, b"261123235959Z", None),
        ];
        for (tag, text, expected) in cases {
            let read = time(tag, text).map(|read| humantime::format_rfc3339_seconds(read).to_string());

            assert_eq!(read.as_deref(), expected, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_dates() {
        for bytes in [&b""[..], b"0", b"\x30\x84\xff\xff\xff\xff", b"\x30\x89", b"\x30\x02\x30\x00", b"hello"] {
            assert_eq!(of(bytes), None, "{bytes:?}");
        }
    }
}
