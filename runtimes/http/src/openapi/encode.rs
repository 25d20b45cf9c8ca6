//! Percent-encoding (RFC 3986, section 2) and base64 as they are needed in requests.

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// Which characters stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Letters, digits and `-._~`: nothing that could end or divide what it stands in.
    Unreserved,
    /// `allowReserved`: also what divides nothing in a query (all of RFC 3986's reserved but `#&+=?`).
    Reserved,
    /// What may stand in a path that the document writes, `/` included.
    Path,
}

impl Keep {
    const fn keeps(self, byte: u8) -> bool {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            return true;
        }
        match self {
            Self::Unreserved => false,
            Self::Reserved => matches!(byte, b':' | b'/' | b'@' | b'!' | b'$' | b'\'' | b'(' | b')' | b'*' | b',' | b';'),
            Self::Path => {
                matches!(byte, b'/' | b':' | b'@' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
            }
        }
    }
}

/// Appends `text`, encoding what is not kept.
pub(crate) fn percent(out: &mut String, text: &str, keep: Keep) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if keep.keeps(byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

/// Resolves `%XX`. What is no such triple, or no UTF-8 afterwards, stays or is replaced: the text is only looked up.
pub(crate) fn decode_percent(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let pair = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.filter(|_| byte == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(value) => {
                decoded.push(value);
                rest = &tail[2..];
            }
            None => {
                decoded.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Models forget the padding; nothing is ambiguous without it.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// Decodes base64 of either alphabet, with or without padding, also as a `data:` URL. `None` when it is none.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let text = match text.strip_prefix("data:") {
        Some(url) => url.split_once(";base64,")?.1,
        None => text,
    };
    let alphabet = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
    GeneralPurpose::new(&alphabet, LENIENT).decode(text.trim_ascii()).ok()
}

/// Standard alphabet, padded: what MCP calls base64.
pub(crate) fn encode_base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(text: &str, keep: Keep) -> String {
        let mut out = String::new();
        percent(&mut out, text, keep);
        out
    }

    #[test]
    fn what_could_divide_is_encoded() {
        assert_eq!(encoded("a/b?c#d&e=f %ü", Keep::Unreserved), "a%2Fb%3Fc%23d%26e%3Df%20%25%C3%BC");
        assert_eq!(encoded("a/b:c#d&e", Keep::Reserved), "a/b:c%23d%26e");
        assert_eq!(encoded("/a b/{x}", Keep::Path), "/a%20b/%7Bx%7D");
    }

    #[test]
    fn base64_is_read_as_people_and_models_write_it() {
        let cases =
            [("AP/+", Some(3)), ("AP_-", Some(3)), ("aGk=", Some(2)), ("aGk", Some(2)), ("data:text/plain;base64,aGk=", Some(2))];
        for (text, length) in cases {
            assert_eq!(decode_base64(text).map(|bytes| bytes.len()), length, "{text}");
        }
        for text in ["a", "/etc/passwd!", "data:text/plain,hi", "aGk=aGk="] {
            assert_eq!(decode_base64(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded_to_the_same(text in "\\PC*") {
            prop_assert_eq!(decode_percent(&encoded(&text, Keep::Unreserved)), text.as_str());
            prop_assert_eq!(decode_base64(&encode_base64(text.as_bytes())), Some(text.into_bytes()));
        }

        #[test]
        fn an_encoded_value_never_divides(text in "\\PC*") {
            let value = encoded(&text, Keep::Unreserved);
            prop_assert!(value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)));
        }
    }
}
