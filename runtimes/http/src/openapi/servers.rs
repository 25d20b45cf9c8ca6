//! `servers`: only a path of the configured origin is taken from it.

use serde_json::Value;
use url::Url;

use super::document::{Document, Unusable};

/// Where operations are.
#[derive(Debug)]
pub(crate) struct Servers<'d> {
    /// The upstream as it is configured.
    base: &'d Url,
    /// What relative addresses of the document are relative to.
    document: &'d Url,
    root: Option<Box<str>>,
}

impl<'d> Servers<'d> {
    /// A path in the configured address wins over what the document says; a foreign address in the document counts for nothing.
    pub(crate) fn new(base: &'d Url, address: &'d Url, document: &Document) -> Self {
        let mut servers = Self { base, document: address, root: None };
        servers.root = match base.path() {
            "" | "/" => servers.own_path(&document.root["servers"]),
            path => Some(path.into()),
        };
        servers
    }

    /// The path before the one of an operation.
    pub(crate) fn prefix(&self, item: &Value, operation: &Value) -> Result<Box<str>, Unusable> {
        for servers in [&operation["servers"], &item["servers"]] {
            let Some(listed) = servers.as_array().filter(|listed| !listed.is_empty()) else { continue };
            // What the document sends elsewhere is not there at the configured origin.
            return self.own_path(servers).ok_or_else(|| {
                let url = listed[0]["url"].as_str().unwrap_or_default();
                Unusable::Other(format!("its server `{url}` is not of the upstream's origin, and no other is called").into())
            });
        }
        Ok(self.root.clone().unwrap_or_default())
    }

    /// The path of the first server that is of the configured origin.
    fn own_path(&self, servers: &Value) -> Option<Box<str>> {
        let urls = servers.as_array().into_iter().flatten().filter_map(filled);
        let mut resolved = urls.filter_map(|url| self.document.join(&url).ok());
        let own = resolved.find(|url| url.origin() == self.base.origin())?;
        Some(own.path().into())
    }
}

/// The address of a server, its variables replaced by their defaults.
fn filled(server: &Value) -> Option<String> {
    let mut url = server["url"].as_str()?.to_owned();
    for (name, variable) in server["variables"].as_object().into_iter().flatten() {
        url = url.replace(&format!("{{{name}}}"), variable["default"].as_str().unwrap_or_default());
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_path_of_the_configured_origin_is_taken() {
        let cases = [
            ("http://a:80/", json!([]), ""),
            ("http://a/", json!([{"url": "/api/v1"}]), "/api/v1"),
            ("http://a/", json!([{"url": "v2"}]), "/docs/v2"),
            ("http://a/", json!([{"url": "https://evil.example/v1"}, {"url": "http://a:80/v3/"}]), "/v3/"),
            ("http://a/", json!([{"url": "https://evil.example/v1"}]), ""),
            ("http://a/", json!([{"url": "//evil.example/v1"}]), ""),
            ("http://a/base", json!([{"url": "/api/v1"}]), "/base"),
            ("http://a/", json!([{"url": "/{v}", "variables": {"v": {"default": "v9"}}}]), "/v9"),
        ];
        for (base, servers, expected) in cases {
            let (base, address) = (Url::parse(base).unwrap(), Url::parse("http://a/docs/openapi.json").unwrap());
            let root = json!({"openapi": "3.1.0", "servers": servers}).to_string();
            let document = Document::read(root.as_bytes()).unwrap();

            let prefix = Servers::new(&base, &address, &document).prefix(&json!({}), &json!({})).unwrap();

            assert_eq!(&*prefix, expected, "{servers}");
        }
    }

    #[test]
    fn an_operation_of_another_origin_is_refused() {
        let url = Url::parse("http://a/").unwrap();
        let document = Document::read(br#"{"openapi":"3.1.0"}"#).unwrap();
        let servers = Servers::new(&url, &url, &document);

        let refused = servers.prefix(&json!({}), &json!({"servers": [{"url": "http://evil.example"}]})).unwrap_err();

        assert!(refused.to_string().contains("http://evil.example"), "{refused}");
        assert_eq!(&*servers.prefix(&json!({"servers": [{"url": "/x"}]}), &json!({})).unwrap(), "/x");
    }
}
