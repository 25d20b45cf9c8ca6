//! Addresses of HTTP servers.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// An absolute `http` or `https` address without credentials and without fragment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct HttpUrl(#[schemars(with = "String", url)] Url);

impl HttpUrl {
    /// The address.
    #[must_use]
    pub fn as_url(&self) -> &Url {
        &self.0
    }
}

impl std::str::FromStr for HttpUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Without it, `localhost:9100` would be read as an address of the scheme `localhost`.
        if !text.contains("://") {
            return Err("an address must begin with http:// or https://, such as http://127.0.0.1:9100/mcp".to_owned());
        }
        let url = Url::parse(text).map_err(|error| format!("not an address such as `http://127.0.0.1:9100/mcp`: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("the scheme `{}` is not `http` or `https`", url.scheme()));
        }
        // An address is printed in logs and spans, so it must hold no secret.
        if !url.username().is_empty() || url.password().is_some() {
            return Err("credentials do not belong in an address; use `bearer` or `headers`".to_owned());
        }
        if url.fragment().is_some() {
            return Err("an address to send requests to has no `#` part".to_owned());
        }
        Ok(Self(url))
    }
}

impl TryFrom<String> for HttpUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<HttpUrl> for String {
    fn from(address: HttpUrl) -> Self {
        address.0.into()
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
