//! Refuses requests that a browser was tricked into sending (DNS rebinding, cross-site requests).

use std::net::SocketAddr;

use http::{HeaderValue, Request, header};

use crate::config;

/// Which hosts and origins may be named.
#[derive(Debug)]
pub(super) struct Guard {
    hosts: Vec<String>,
    origins: Vec<String>,
}

/// A request that names another place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stranger {
    /// For metrics.
    pub(super) reason: &'static str,
    /// For the client.
    pub(super) message: String,
}

impl Guard {
    pub(super) fn new(config: &config::Http, address: SocketAddr) -> Self {
        let own = [address.ip().to_string(), format!("[{}]", address.ip())];
        let local = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        let configured = config.allowed_hosts.iter().cloned();
        let origins = config.allowed_origins.iter().map(|origin| origin.trim_end_matches('/').to_owned());
        Self { hosts: local.into_iter().chain(own).chain(configured).collect(), origins: origins.collect() }
    }

    /// Looks at Host (or `:authority`) and Origin.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), Stranger> {
        let host = match request.uri().authority() {
            Some(authority) => authority.as_str().as_bytes(),
            None => request.headers().get(header::HOST).map_or(&b""[..], HeaderValue::as_bytes),
        };
        if !self.knows(host) {
            let host = String::from_utf8_lossy(host);
            let message = format!("the host `{host}` is not one of ours; `http.allowed_hosts` can name it");
            return Err(Stranger { reason: "bad_host", message });
        }
        let mut origins = request.headers().get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else { return Ok(()) };
        // Two origins are a trick: a proxy and we could look at different ones.
        if origins.next().is_none() && self.trusts(origin.as_bytes()) {
            return Ok(());
        }
        let origin = String::from_utf8_lossy(origin.as_bytes());
        let message = format!("the origin `{origin}` is not allowed; `http.allowed_origins` can name it");
        Err(Stranger { reason: "bad_origin", message })
    }

    /// With or without the port.
    fn knows(&self, host: &[u8]) -> bool {
        let colon = host.iter().rposition(|byte| *byte == b':').filter(|colon| !host[*colon..].contains(&b']'));
        let bare = colon.map_or(host, |colon| &host[..colon]);
        self.hosts.iter().any(|known| same(known, host) || same(known, bare))
    }

    fn trusts(&self, origin: &[u8]) -> bool {
        let after = |scheme: &str| {
            let (head, rest) = origin.split_at_checked(scheme.len())?;
            same(scheme, head).then_some(rest)
        };
        let host = after("http://").or_else(|| after("https://"));
        self.origins.iter().any(|known| same(known, origin)) || host.is_some_and(|host| self.knows(host))
    }
}

fn same(known: &str, given: &[u8]) -> bool {
    known.as_bytes().eq_ignore_ascii_case(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(host: &str, origins: &[&str]) -> Option<&'static str> {
        let config = config::Http {
            allowed_hosts: vec!["tools.example".to_owned()],
            allowed_origins: vec!["https://app.example".to_owned()],
            ..config::Http::default()
        };
        let guard = Guard::new(&config, SocketAddr::from(([192, 0, 2, 1], 8080)));
        let mut request = Request::builder().uri("/mcp").header(header::HOST, host);
        for origin in origins {
            request = request.header(header::ORIGIN, *origin);
        }
        guard.check(&request.body(()).expect("a request")).err().map(|stranger| stranger.reason)
    }

    #[test]
    fn only_known_hosts_and_origins_pass() {
        let cases: [(&str, &[&str], Option<&str>); 11] = [
            ("127.0.0.1:8080", &[], None),
            ("LOCALHOST", &[], None),
            ("[::1]:8080", &[], None),
            ("192.0.2.1:8080", &[], None),
            ("tools.example", &[], None),
            ("evil.example", &[], Some("bad_host")),
            ("", &[], Some("bad_host")),
            ("localhost", &["http://localhost:3000"], None),
            ("localhost", &["https://app.example"], None),
            ("localhost", &["https://evil.example"], Some("bad_origin")),
            ("localhost", &["http://localhost", "http://localhost"], Some("bad_origin")),
        ];
        for (host, origins, expected) in cases {
            assert_eq!(reason(host, origins), expected, "{host} {origins:?}");
        }
        assert_eq!(reason("localhost", &["null"]), Some("bad_origin"));
    }
}
