//! Names in the paths of requests.

use std::borrow::Cow;

/// A name as one segment of a path (RFC 3986, section 3.3): whatever is not unreserved is percent-encoded, so that no name
/// can reach another path.
pub(crate) fn segment(name: &str) -> Cow<'_, str> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if name.bytes().all(is_unreserved) {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len() + 16);
    for byte in name.bytes() {
        if is_unreserved(byte) {
            out.push(char::from(byte));
        } else {
            out.extend(['%', char::from(HEX[usize::from(byte >> 4)]), char::from(HEX[usize::from(byte & 15)])]);
        }
    }
    Cow::Owned(out)
}

/// Whether a name can be a segment at all: some mean another path however they are encoded (RFC 3986, section 5.2.4).
pub(crate) fn fits(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_its_segment() {
        let cases =
            [("echo-1.a_b~", "echo-1.a_b~"), ("a/b?c#d", "a%2Fb%3Fc%23d"), ("50% ü", "50%25%20%C3%BC"), ("a\r\nb", "a%0D%0Ab")];
        for (name, expected) in cases {
            assert_eq!(segment(name), expected);
        }
        assert!(fits("...") && !fits("..") && !fits(""));
    }
}
