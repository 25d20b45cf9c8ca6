//! Where a client command finds its gateway.

use std::{collections::BTreeMap, fmt, str::FromStr};

use http::Uri;
use url::{Position, Url, form_urlencoded};

use crate::{admin::PREFIX, config::HttpUrl};

/// What a gateway with every default prints at its start.
const DEFAULT: &str = "http://127.0.0.1:8080";

/// The address of a gateway's MCP endpoint: all tools at `/mcp`, or those of one upstream at `/mcp/{upstream}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint(Url);

impl Endpoint {
    /// Host and port, as they are in a `Host` header.
    pub(super) fn authority(&self) -> &str {
        &self.0[Position::BeforeHost..Position::AfterPort]
    }

    pub(super) fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default().trim_matches(['[', ']'])
    }

    pub(super) fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(80)
    }

    pub(super) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    pub(super) fn path(&self) -> &str {
        self.0.path()
    }

    /// Path and query of the endpoint as a person wants it: with every tool, whatever agents are shown.
    pub(super) fn whole(&self) -> String {
        format!("{}?exposure=full&categories=", self.path())
    }
}

impl Endpoint {
    /// The path of a page that stands beside `/mcp`.
    pub(super) fn beside(&self, path: &str) -> String {
        format!("{}{path}", self.root_and_view().0)
    }

    /// What stands before `/mcp`, and which upstream behind it.
    fn root_and_view(&self) -> (&str, Option<&str>) {
        let whole = self.path();
        match whole.strip_suffix("/mcp") {
            Some(root) => (root, None),
            None => whole.rsplit_once("/mcp/").map_or((whole, None), |(root, view)| (root, Some(view))),
        }
    }

    /// Path and query of a document of the admin API, which stands beside `/mcp`. An endpoint of one upstream asks about its
    /// view.
    pub(super) fn admin(&self, path: &str, query: &BTreeMap<&str, &str>) -> String {
        let (root, view) = self.root_and_view();
        let view = view.map(|view| ("view", view));
        let query = query.iter().map(|(key, value)| (*key, *value)).chain(view);
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{root}{PREFIX}{path}{mark}{query}")
    }
}

impl FromStr for Endpoint {
    type Err = String;

    /// An empty text is the default: shells pass on variables that are set to nothing.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = if text.is_empty() { DEFAULT } else { text };
        let complain = |what: &str| format!("{what}; a gateway is named as {DEFAULT}, with or without /mcp or /mcp/UPSTREAM");
        let url: HttpUrl = text.parse().map_err(|error: String| complain(&error))?;
        let mut url = url.as_url().clone();
        if url.query().is_some() {
            return Err(complain("a gateway's address has no `?` part"));
        }
        let path = url.path().trim_end_matches('/');
        let mut from_the_end = path.rsplit('/');
        let is_whole = [from_the_end.next(), from_the_end.next()].contains(&Some("mcp"));
        let path = if is_whole { path.to_owned() } else { format!("{path}/mcp") };
        // What the address parser lets through in a path may still be no part of a request line.
        path.parse::<Uri>().map_err(|error| complain(&error.to_string()))?;
        url.set_path(&path);
        Ok(Self(url))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_that_a_gateway_prints_is_an_endpoint() {
        let cases = [
            ("", "http://127.0.0.1:8080/mcp"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/mcp"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/mcp"),
            ("http://127.0.0.1:8080/mcp", "http://127.0.0.1:8080/mcp"),
            ("http://127.0.0.1:8080/mcp/", "http://127.0.0.1:8080/mcp"),
            ("http://[::1]:8080/mcp/weather", "http://[::1]:8080/mcp/weather"),
            ("http://proxy.example/tools", "http://proxy.example/tools/mcp"),
            ("http://proxy.example/tools/mcp/weather", "http://proxy.example/tools/mcp/weather"),
            ("https://gateway.example", "https://gateway.example/mcp"),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Endpoint>().map(|endpoint| endpoint.to_string()), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn the_admin_api_stands_beside_the_endpoint() {
        let cases = [
            ("", "/admin/api/tools?limit=1"),
            ("http://[::1]:8080/mcp/weather", "/admin/api/tools?limit=1&view=weather"),
            ("http://proxy.example/tools", "/tools/admin/api/tools?limit=1"),
            ("http://proxy.example/mcp/mcp", "/mcp/admin/api/tools?limit=1"),
        ];
        for (text, expected) in cases {
            let endpoint: Endpoint = text.parse().expect("an endpoint");

            assert_eq!(endpoint.admin("tools", &BTreeMap::from([("limit", "1")])), expected, "{text}");
            let health = expected.split("/admin").next().expect("a root").to_owned() + "/health/ready";
            assert_eq!(endpoint.beside("/health/ready"), health, "{text}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_answered_with_one_that_is() {
        for text in ["127.0.0.1:8080", "localhost:8080", "ftp://a", "http://a/mcp?x=1", "nonsense"] {
            let complaint = text.parse::<Endpoint>().unwrap_err();

            assert!(complaint.contains("http://127.0.0.1:8080"), "{text}: {complaint}");
        }
    }
}
