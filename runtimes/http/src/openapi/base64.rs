//! Base64 as it is needed in requests and results.

use ::base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose},
};

/// Models forget the padding; nothing is ambiguous without it.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// Decodes base64 of either alphabet, with or without padding, also as a `data:` URL. `None` when it is none.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let text = match text.strip_prefix("data:") {
        Some(url) => url.split_once(";base64,")?.1,
        None => text,
    };
    let alphabet = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
    GeneralPurpose::new(&alphabet, LENIENT).decode(text.trim_ascii()).ok()
}

/// Standard alphabet, padded: what MCP calls base64.
pub(crate) fn encode(bytes: &[u8]) -> String {
    general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_read_as_people_and_models_write_it() {
        let cases =
            [("AP/+", Some(3)), ("AP_-", Some(3)), ("aGk=", Some(2)), ("aGk", Some(2)), ("data:text/plain;base64,aGk=", Some(2))];
        for (text, length) in cases {
            assert_eq!(decode(text).map(|bytes| bytes.len()), length, "{text}");
        }
        for text in ["a", "/etc/passwd!", "data:text/plain,hi", "aGk=aGk="] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded_to_the_same(bytes: Vec<u8>) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
    }
}
