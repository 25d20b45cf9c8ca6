//! What tells two definitions apart, however they are written.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};
use twinway_proto::jcs::canonical;

/// SHA-256 of a definition's canonical form (RFC 8785); of its bytes where it has none. Written as `sha256:` and 64 digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// Says which digest it is.
const ALGORITHM: &str = "sha256:";

impl Fingerprint {
    /// Of a raw definition.
    #[must_use]
    pub fn of(definition: &[u8]) -> Self {
        let canonical = std::str::from_utf8(definition).ok().and_then(|text| canonical(text).ok());
        Self(Sha256::digest(canonical.as_deref().unwrap_or(definition)).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ALGORITHM)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let digits = text.strip_prefix(ALGORITHM).filter(|digits| digits.len() == 64 && digits.is_ascii())?;
            let mut bytes = [0; 32];
            for (place, byte) in bytes.iter_mut().enumerate() {
                *byte = u8::from_str_radix(&digits[2 * place..2 * place + 2], 16).ok()?;
            }
            Some(Self(bytes))
        };
        read().ok_or_else(|| format!("`{text}` is not a digest: `{ALGORITHM}` and 64 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_spellings_of_one_definition_have_one_fingerprint_and_two_definitions_have_two() {
        let of = |text: &str| Fingerprint::of(text.as_bytes());

        assert_eq!(of(r#"{"name":"x","n":1}"#), of(r#" { "n" : 1.0, "name" : "\u0078" } "#));
        assert_ne!(of(r#"{"name":"x"}"#), of("{\"name\":\"x\u{200b}\"}"));
        assert_ne!(of(r#"{"a":"\ud800"}"#), of(r#"{"a":"\ud801"}"#), "what has no canonical form is told apart by its bytes");
    }

    #[test]
    fn a_fingerprint_is_read_as_it_is_written() {
        let fingerprint = Fingerprint::of(b"{}");

        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        for wrong in ["", "sha256:", "44136fa3", &fingerprint.to_string()[1..], &format!("{fingerprint}0"), &"sha256:é".repeat(9)]
        {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
    }
}
