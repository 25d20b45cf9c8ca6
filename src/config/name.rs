//! The name of an upstream, a peer or a client.

use std::{fmt, sync::Arc};

use runtime_api::TargetId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// 32 bytes: leaves half of the 64 that clients allow for a tool's name to the tool itself.
const NAME_BYTES_MAX: usize = 32;

/// 1 to 32 letters, digits, `-` and `_`: what is safe in a tool's name, a path and a metric label alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Name(#[schemars(regex(pattern = "^[A-Za-z0-9_-]{1,32}$"))] Arc<str>);

impl Name {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_safe) {
            Ok(Self(text.into()))
        } else {
            Err(format!("`{text}` is not a name: 1 to {NAME_BYTES_MAX} letters, digits, `-` and `_`"))
        }
    }
}

impl From<&Name> for TargetId {
    fn from(name: &Name) -> Self {
        Self(Arc::clone(&name.0))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
