//! Percent-encoding (RFC 3986, section 2) of what goes into the address of a request.

use std::borrow::Cow;

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
pub(crate) fn encode(out: &mut String, text: &str, keep: Keep) {
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
pub(crate) fn decode(text: &str) -> String {
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

/// A name as one segment of a path (section 3.3): no name can reach another path.
pub(crate) fn segment(name: &str) -> Cow<'_, str> {
    if name.bytes().all(|byte| Keep::Unreserved.keeps(byte)) {
        return name.into();
    }
    let mut out = String::with_capacity(name.len() + 16);
    encode(&mut out, name, Keep::Unreserved);
    out.into()
}

/// Whether a name can be a segment at all: some mean another path however they are encoded (section 5.2.4).
pub(crate) fn is_segment(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(text: &str, keep: Keep) -> String {
        let mut out = String::new();
        encode(&mut out, text, keep);
        out
    }

    #[test]
    fn what_could_divide_is_encoded() {
        assert_eq!(encoded("a/b?c#d&e=f %ü", Keep::Unreserved), "a%2Fb%3Fc%23d%26e%3Df%20%25%C3%BC");
        assert_eq!(encoded("a/b:c#d&e", Keep::Reserved), "a/b:c%23d%26e");
        assert_eq!(encoded("/a b/{x}", Keep::Path), "/a%20b/%7Bx%7D");
    }

    #[test]
    fn no_name_leaves_its_segment() {
        let cases =
            [("echo-1.a_b~", "echo-1.a_b~"), ("a/b?c#d", "a%2Fb%3Fc%23d"), ("50% ü", "50%25%20%C3%BC"), ("a\r\nb", "a%0D%0Ab")];
        for (name, expected) in cases {
            assert_eq!(segment(name), expected);
        }
        assert!(is_segment("...") && !is_segment("..") && !is_segment(""));
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded_to_the_same(text in "\\PC*") {
            prop_assert_eq!(decode(&encoded(&text, Keep::Unreserved)), text.as_str());
        }

        #[test]
        fn an_encoded_value_never_divides(text in "\\PC*") {
            let value = segment(&text);
            prop_assert!(value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)));
        }
    }
}
