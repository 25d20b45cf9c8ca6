//! Credentials of an operation: the document says how they are sent, the configuration what they are.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, header};
use serde_json::Value;

use super::{
    base64,
    document::{Document, Unusable},
    parameter::Written,
};
use crate::percent::{self, Keep};

/// A credential and the way it is sent.
#[derive(Clone)]
pub(crate) enum Credential {
    Header(HeaderName, HeaderValue),
    /// `name=value`, encoded.
    Query(Box<str>),
    Cookie(Box<str>, Box<str>),
}

impl Credential {
    /// Whether both are sent under the same name: then the first one counts.
    fn takes_the_place_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Header(one, _), Self::Header(other, _)) => one == other,
            (Self::Query(one), Self::Query(other)) => one == other,
            (Self::Cookie(one, _), Self::Cookie(other, _)) => one == other,
            _ => false,
        }
    }

    pub(crate) fn write(&self, out: &mut Written) {
        match self {
            Self::Header(name, value) => {
                out.headers.insert(name.clone(), value.clone());
            }
            Self::Query(pair) => {
                if !out.query.is_empty() {
                    out.query.push('&');
                }
                out.query.push_str(pair);
            }
            Self::Cookie(name, value) => out.push_cookie(name, value),
        }
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let way = match self {
            Self::Header(..) => "header",
            Self::Query(_) => "query",
            Self::Cookie(..) => "cookie",
        };
        f.debug_tuple("Credential").field(&way).finish()
    }
}

/// The credentials of an operation: those of each of its alternatives for which all are configured. FastAPI writes schemes that
/// it demands together as alternatives, so the first alone would not be enough. None, when nothing is configured: then the
/// upstream's own `bearer` or `headers` may do, and otherwise it says so itself.
pub(crate) fn credentials(
    document: &Document,
    operation: &Value,
    secrets: &BTreeMap<Box<str>, Box<str>>,
) -> Result<Vec<Credential>, Unusable> {
    let declared = operation.get("security").unwrap_or_else(|| &document.root["security"]);
    let mut used: Vec<Credential> = Vec::new();
    for alternative in declared.as_array().into_iter().flatten().filter_map(Value::as_object) {
        let found: Option<Vec<_>> = alternative.keys().map(|name| Some((name, secrets.get(name.as_str())?))).collect();
        for (name, secret) in found.into_iter().flatten() {
            let new = credential(document, name, secret)?;
            if !used.iter().any(|one| one.takes_the_place_of(&new)) {
                used.push(new);
            }
        }
    }
    Ok(used)
}

fn credential(document: &Document, name: &str, secret: &str) -> Result<Credential, Unusable> {
    let unusable = |what: &str| Unusable::Other(format!("the security scheme `{name}` {what}").into());
    let scheme = document.resolve(&document.root["components"]["securitySchemes"][name])?;
    let text = |key: &str| scheme[key].as_str().unwrap_or_default();
    let header_of = |name: HeaderName, text: &str| {
        let mut value = HeaderValue::from_str(text).map_err(|_| unusable("has a secret that no header can carry"))?;
        value.set_sensitive(true);
        Ok(Credential::Header(name, value))
    };
    match (text("type"), text("in"), text("scheme").to_ascii_lowercase().as_str()) {
        ("apiKey", "header", _) => {
            let header = HeaderName::try_from(text("name")).map_err(|_| unusable("names no header"))?;
            header_of(header, secret)
        }
        ("apiKey", "query", _) => {
            let mut pair = String::new();
            percent::encode(&mut pair, text("name"), Keep::Unreserved);
            pair.push('=');
            percent::encode(&mut pair, secret, Keep::Unreserved);
            Ok(Credential::Query(pair.into()))
        }
        ("apiKey", "cookie", _) if !secret.contains([';', ' ', ',', '"', '\\']) => {
            Ok(Credential::Cookie(text("name").into(), secret.into()))
        }
        ("apiKey", "cookie", _) => Err(unusable("has a secret that no cookie can carry")),
        ("http", _, "basic") => header_of(header::AUTHORIZATION, &format!("Basic {}", base64::encode(secret.as_bytes()))),
        ("http", _, "bearer") | ("oauth2" | "openIdConnect", ..) => header_of(header::AUTHORIZATION, &format!("Bearer {secret}")),
        _ => Err(unusable("is of a kind that is not known: apiKey, http bearer and basic, oauth2 and openIdConnect are")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Document {
        let schemes = json!({
            "head": {"type": "apiKey", "in": "header", "name": "X-Key"}, "query": {"type": "apiKey", "in": "query", "name": "api key"},
            "cookie": {"type": "apiKey", "in": "cookie", "name": "sid"}, "basic": {"type": "http", "scheme": "Basic"},
            "bearer": {"type": "http", "scheme": "bearer"}, "oauth": {"type": "oauth2", "flows": {}}, "digest": {"type": "http", "scheme": "digest"},
        });
        let root = json!({"openapi": "3.1.0", "security": [{"bearer": []}], "components": {"securitySchemes": schemes}});
        Document::read(root.to_string().as_bytes()).unwrap()
    }

    fn sent(operation: &Value, secrets: &[&str]) -> (Vec<String>, String, String) {
        let secrets = secrets.iter().map(|name| (Box::from(*name), Box::from("a:b c"))).collect();
        let mut out = Written::default();
        for credential in credentials(&document(), operation, &secrets).unwrap() {
            credential.write(&mut out);
        }
        let headers = out.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        (headers, out.query, out.cookies)
    }

    #[test]
    fn each_scheme_is_sent_where_the_document_says() {
        let of = |name: &str| sent(&json!({ "security": [{ name: [] }] }), &[name]);

        assert_eq!(of("head").0, ["x-key: a:b c"]);
        assert_eq!(of("query").1, "api%20key=a%3Ab%20c");
        assert_eq!(of("basic").0, ["authorization: Basic YTpiIGM="]);
        assert_eq!(of("oauth").0, ["authorization: Bearer a:b c"]);
        let secrets = BTreeMap::from([("cookie".into(), "v1".into()), ("digest".into(), "x".into())]);
        assert!(credentials(&document(), &json!({"security": [{"digest": []}]}), &secrets).is_err());
        let cookie = credentials(&document(), &json!({"security": [{"cookie": []}]}), &secrets).unwrap();
        assert!(matches!(&cookie[..], [Credential::Cookie(name, value)] if &**name == "sid" && &**value == "v1"));
    }

    #[test]
    fn each_alternative_that_is_configured_whole_is_used() {
        let both = json!({"security": [{"head": [], "query": []}, {}, {"basic": []}]});

        assert_eq!(sent(&both, &["basic", "head"]).0, ["authorization: Basic YTpiIGM="]);
        assert_eq!(sent(&both, &["basic", "head", "query"]).0, ["x-key: a:b c", "authorization: Basic YTpiIGM="]);
        let same = json!({"security": [{"bearer": []}, {"basic": []}]});
        assert_eq!(sent(&same, &["basic", "bearer"]).0, ["authorization: Bearer a:b c"]);
        assert!(sent(&both, &[]).0.is_empty());
        assert_eq!(sent(&json!({}), &["bearer"]).0, ["authorization: Bearer a:b c"]);
        assert!(sent(&json!({"security": []}), &["bearer"]).0.is_empty());
    }
}
