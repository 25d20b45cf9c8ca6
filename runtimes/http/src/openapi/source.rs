//! Where the document comes from, and whether it is another one than before.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use runtime_api::{CallError, Delivery, ErrorCode};
use url::Url;

use super::{answer::Answer, document::DOCUMENT_BYTES_MAX};
use crate::{h1::RequestHead, pool::broken, site::Site};

/// Where FastAPI puts it.
const DEFAULT: &str = "openapi.json";

/// What is remembered of a document, to ask whether it changed (RFC 9110, section 13.1).
#[derive(Debug, Default, Clone)]
pub(crate) struct Source {
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
    /// For servers that give neither.
    bytes: Bytes,
}

/// What asking for the document brought.
#[derive(Debug)]
pub(crate) enum Read {
    Unchanged,
    New(Bytes, Source),
}

/// The address of an upstream's OpenAPI document, which is of the upstream's origin; `openapi.json` when none is given.
///
/// # Errors
/// Why it cannot be used.
pub fn address(base: &Url, document: Option<&str>) -> Result<Url, Box<str>> {
    let mut folder = base.clone();
    if !folder.path().ends_with('/') {
        folder.set_path(&format!("{}/", base.path()));
    }
    folder.set_query(None);
    let address = folder.join(document.unwrap_or(DEFAULT)).map_err(|error| format!("`document` is no address: {error}"))?;
    if address.origin() != base.origin() {
        return Err(format!("`document` leads to {address}, which is not of the upstream's origin").into());
    }
    Ok(address)
}

/// Asks for the document, unless it is the one that is known.
pub(crate) async fn read(site: &Site, headers: &HeaderMap, address: &Url, known: &Source) -> Result<Read, CallError> {
    let path = address.query().map_or_else(|| address.path().to_owned(), |query| format!("{}?{query}", address.path()));
    let mut head = RequestHead::new(&Method::GET, &path, headers);
    head.add(&header::ACCEPT, &HeaderValue::from_static("application/json, */*;q=0.5"));
    for (name, value) in [(header::IF_NONE_MATCH, &known.etag), (header::IF_MODIFIED_SINCE, &known.last_modified)] {
        if let Some(value) = value {
            head.add(&name, value);
        }
    }
    let mut exchange = site.endpoint.pool.send(head.with(Bytes::new().into())).await?;
    let validator = |name: &HeaderName| exchange.head.get(name.as_str()).and_then(|value| HeaderValue::from_bytes(value).ok());
    let (etag, last_modified) = (validator(&header::ETAG), validator(&header::LAST_MODIFIED));
    let answer = Answer::begin(&exchange.head);
    let Some(bytes) = exchange.whole(DOCUMENT_BYTES_MAX).await.map_err(broken)? else {
        let message = format!("the OpenAPI document is larger than {DOCUMENT_BYTES_MAX} bytes");
        return Err(CallError::runtime(ErrorCode::TooLarge, Delivery::Answered, message));
    };
    site.endpoint.pool.give_back(exchange);
    match answer.status.as_u16() {
        304 => Ok(Read::Unchanged),
        200 if answer.is_compressed => Err(unusable("is compressed, which was not asked for")),
        200 if bytes == known.bytes => Ok(Read::Unchanged),
        200 => Ok(Read::New(bytes.clone(), Source { etag, last_modified, bytes })),
        300..=399 => {
            let place = answer.location.as_deref().unwrap_or("nowhere");
            Err(unusable(&format!("is at {place} (HTTP {}), and redirects are not followed", answer.status)))
        }
        _ => Err(unusable(&format!("cannot be had: {address} answers with HTTP status {}", answer.status))),
    }
}

fn unusable(what: &str) -> CallError {
    CallError::runtime(ErrorCode::Protocol, Delivery::Answered, format!("the OpenAPI document {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_of_the_upstream_s_origin() {
        let cases = [
            ("http://a:8000", None, Ok("http://a:8000/openapi.json")),
            ("http://a/api?x=1", None, Ok("http://a/api/openapi.json")),
            ("http://a/api", Some("/v3/docs.json?full=1"), Ok("http://a/v3/docs.json?full=1")),
            ("http://a/api/", Some("spec.json"), Ok("http://a/api/spec.json")),
            ("http://a", Some("http://a:80/x"), Ok("http://a/x")),
            ("http://a", Some("http://evil.example/x"), Err(())),
            ("http://a", Some("//evil.example/x"), Err(())),
            ("http://a", Some("https://a/x"), Err(())),
        ];
        for (base, document, expected) in cases {
            let address = address(&Url::parse(base).unwrap(), document);

            assert_eq!(address.map(String::from).map_err(|_| ()), expected.map(String::from), "{base} {document:?}");
        }
    }
}
