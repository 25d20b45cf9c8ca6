//! Durations as people write them: `"30s"`, `"1m 30s"`, `"250ms"`.

use std::{fmt, time::Duration};

use serde::{
    Deserializer, Serializer,
    de::{Error, Visitor},
};

pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

/// Zero is refused: each of our durations bounds a wait, and none of them can be waited zero long.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_str(Text)
}

/// Reads the text; a bare number is answered with what was probably meant.
struct Text;

impl Visitor<'_> for Text {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"30s\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        match humantime::parse_duration(text) {
            Ok(duration) if duration.is_zero() => Err(E::custom("must be longer than 0 s")),
            Ok(duration) => Ok(duration),
            Err(error) => Err(E::custom(format_args!("`{text}` is not a duration such as `30s` or `1m 30s`: {error}"))),
        }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Duration, E> {
        Err(E::custom(format_args!("`{number}` has no unit; write \"{number}s\" for seconds")))
    }
}

/// The same for a value that may be absent.
pub(super) mod option {
    use super::{Deserializer, Duration, Serializer};

    // serde's `with` asks for exactly this signature.
    #[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
    pub(in crate::config) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        super::deserialize(deserializer).map(Some)
    }
}
