//! Carries any string in a header field, and compares a field with the JSON value that it mirrors.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue};

use super::number;
use crate::json;

const SENTINEL_HEAD: &str = "=?base64?";
const SENTINEL_TAIL: &str = "?=";

/// Why a mirrored header can not be taken. On the wire each is `-32020` with HTTP status 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderFault {
    /// The field holds bytes that no mirrored header may hold.
    #[error("the value is not visible ASCII")]
    NotAscii,
    /// Between the sentinels stands no canonical base64.
    #[error("the value is marked as base64 and is not")]
    NotBase64,
    /// What was encoded is no text.
    #[error("the decoded value is not UTF-8")]
    NotUtf8,
    /// The body has a value and the header is absent.
    #[error("header `{0}` is missing")]
    Missing(HeaderName),
    /// The header is there and the body has no value.
    #[error("header `{0}` mirrors nothing in the body")]
    Unexpected(HeaderName),
    /// Readers of the first and of the last copy would disagree.
    #[error("header `{0}` is there more than once")]
    Repeated(HeaderName),
    /// Header and body differ.
    #[error("header `{0}` does not match the body")]
    Mismatch(HeaderName),
    /// The arguments are no JSON object, or a mirrored string in them is no text.
    #[error("the arguments can not be mirrored")]
    Arguments,
}

/// The header field for a string: itself when that is safe, else base64 between sentinels.
///
/// ```
/// use twinway_proto::headers::{decode_value, encode_value};
///
/// assert_eq!(encode_value("us-west1"), "us-west1");
/// assert_eq!(encode_value("世"), "=?base64?5LiW?=");
/// assert_eq!(decode_value(&encode_value("世")).unwrap(), "世");
/// ```
#[must_use]
pub fn encode_value(text: &str) -> HeaderValue {
    if is_plain(text) {
        return HeaderValue::from_str(text).expect("printable ASCII is a header value");
    }
    let mut field = String::with_capacity(SENTINEL_HEAD.len() + text.len().div_ceil(3) * 4 + SENTINEL_TAIL.len());
    field.push_str(SENTINEL_HEAD);
    STANDARD.encode_string(text, &mut field);
    field.push_str(SENTINEL_TAIL);
    HeaderValue::try_from(field).expect("base64 and the sentinels are visible ASCII")
}

/// Printable ASCII that no hop trims and no reader takes for encoded. Any case of the sentinel counts, as a lenient
/// reader may accept it.
fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let padded = bytes.first() == Some(&b' ') || bytes.last() == Some(&b' ');
    let sentinel_like = bytes.get(..SENTINEL_HEAD.len()).is_some_and(|head| head.eq_ignore_ascii_case(SENTINEL_HEAD.as_bytes()));
    !padded && !sentinel_like && bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

/// The string that a header field stands for. White space at its edges is no part of it.
///
/// # Errors
/// [`HeaderFault::NotAscii`], [`HeaderFault::NotBase64`], [`HeaderFault::NotUtf8`].
pub fn decode_value(field: &HeaderValue) -> Result<Cow<'_, str>, HeaderFault> {
    let text = field.to_str().map_err(|_| HeaderFault::NotAscii)?.trim_matches([' ', '\t']);
    let Some(encoded) = text.strip_prefix(SENTINEL_HEAD).and_then(|rest| rest.strip_suffix(SENTINEL_TAIL)) else {
        return Ok(Cow::Borrowed(text));
    };
    // The engine refuses missing padding and stray bits, so a value has one encoding only.
    let bytes = STANDARD.decode(encoded).map_err(|_| HeaderFault::NotBase64)?;
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| HeaderFault::NotUtf8)
}

/// Whether a header field mirrors the raw JSON scalar `raw`: strings byte by byte after decoding both, numbers by their
/// value, booleans by name. `null`, objects and arrays have no mirror and match nothing.
///
/// # Errors
/// As [`decode_value`].
pub fn matches(field: &HeaderValue, raw: &str) -> Result<bool, HeaderFault> {
    let text = decode_value(field)?;
    let raw = raw.trim_ascii();
    Ok(match raw.as_bytes().first() {
        Some(b'"') => json::string(raw).is_some_and(|value| value == text),
        Some(b't' | b'f') => text == raw,
        Some(b'-' | b'0'..=b'9') => text == raw || number::equal(&text, raw),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_not_travel_bare_is_encoded() {
        let cases = [
            ("", ""),
            ("tools/call", "tools/call"),
            ("two words", "two words"),
            ("a=?b", "a=?b"),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("tab\there", "=?base64?dGFiCWhlcmU=?="),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            ("=?base64?x?=", "=?base64?PT9iYXNlNjQ/eD89?="),
            ("=?BASE64?x?=", "=?base64?PT9CQVNFNjQ/eD89?="),
        ];

        for (text, field) in cases {
            assert_eq!(encode_value(text), field);
            assert_eq!(decode_value(&HeaderValue::from_static(field)).unwrap(), text);
        }
    }

    #[test]
    fn malformed_fields_are_refused() {
        let cases: [(&[u8], HeaderFault); 6] = [
            (b"caf\xE9", HeaderFault::NotAscii),
            ("世".as_bytes(), HeaderFault::NotAscii),
            (b"=?base64?%%%?=", HeaderFault::NotBase64),
            (b"=?base64?YQ?=", HeaderFault::NotBase64),
            (b"=?base64?YR==?=", HeaderFault::NotBase64),
            (b"=?base64?//79?=", HeaderFault::NotUtf8),
        ];

        for (field, fault) in cases {
            assert_eq!(decode_value(&HeaderValue::from_bytes(field).unwrap()), Err(fault), "{}", field.escape_ascii());
        }
    }

    #[test]
    fn white_space_at_the_edges_is_no_part_of_the_value() {
        assert_eq!(decode_value(&HeaderValue::from_static(" \tadd\t ")).unwrap(), "add");
    }

    #[test]
    fn a_field_is_compared_with_the_meaning_of_the_json() {
        let cases = [
            ("add", r#""add""#, true),
            ("add", r#""\u0061dd""#, true),
            ("Add", r#""add""#, false),
            ("=?base64?5LiW?=", r#""\u4e16""#, true),
            ("a", r#""\ud800""#, false),
            ("42", "42", true),
            ("42", "42.0", true),
            ("42", "4.2e1", true),
            ("42", "\"42\"", true),
            ("042", "42", false),
            ("+42", "42", false),
            ("-0", "0", true),
            ("9007199254740993", "9007199254740992", false),
            ("12345678901234567890123", "12345678901234567890123", true),
            ("1e400", "1e400", true),
            ("1e400", "1e401", false),
            ("1e99999999999999999999", "1e99999999999999999999", true),
            ("true", "true", true),
            ("True", "true", false),
            ("true", "false", false),
            ("null", "null", false),
            ("{}", "{}", false),
        ];

        for (field, raw, expected) in cases {
            assert_eq!(matches(&HeaderValue::from_static(field), raw), Ok(expected), "{field} and {raw}");
        }
    }
}
