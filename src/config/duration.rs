//! Durations as people write them: `"30s"`, `"1m 30s"`, `"250ms"`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

/// Zero is refused: each of our durations bounds a wait, and none of them can be waited zero long.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    match humantime::parse_duration(&text) {
        Ok(duration) if duration.is_zero() => Err(D::Error::custom("must be longer than 0 s")),
        Ok(duration) => Ok(duration),
        Err(error) => Err(D::Error::custom(format_args!("`{text}` is not a duration such as `30s` or `1m 30s`: {error}"))),
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
