//! The stream of events: where it says that messages go, and the messages that it brings.

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{Method, StatusCode};
use runtime_api::{CallError, Delivery, ErrorCode};
use twinway_proto::{
    rope::Rope,
    sse::{Decoder, Event},
};
use url::Url;

use super::OpenError;
use crate::{
    exchange::{Content, content, events_headers, next_data, refused_by},
    h1::{Exchange, Head},
    mcp::sse_reply::unreadable,
    site::{Site, path_and_query},
};

/// Longest address that messages are sent to: what servers take in the first line of a request.
const ENDPOINT_BYTES_MAX: usize = 8 * 1024;

/// A stream that has begun.
pub(super) struct Opened {
    /// What comes on it.
    pub(super) events: Events,
    /// Path and query of where messages go.
    pub(super) endpoint: Box<str>,
}

/// Events as they come.
pub(super) struct Events {
    exchange: Exchange,
    decoder: Decoder,
}

impl Events {
    /// Opens a stream and reads its first event. The caller sets the time.
    pub(super) async fn open(site: &Site) -> Result<Opened, OpenError> {
        let endpoint = &site.endpoint;
        let exchange = endpoint.send(&Method::GET, &events_headers(&endpoint.headers), Rope::default()).await?;
        if let Some(error) = refusal(&exchange.head) {
            endpoint.body(exchange).await?;
            return Err(error);
        }
        let mut events = Self { exchange, decoder: Decoder::new(endpoint.answer_bytes_max) };
        let first = events.next().await?.ok_or_else(|| not_spoken("the stream of events ended at once"))?;
        if first.event.as_deref() != Some("endpoint") {
            return Err(not_spoken("the first event of the stream is not `endpoint`"));
        }
        let endpoint = endpoint_of(&site.settings.url, &first.data)?;
        Ok(Opened { events, endpoint: path_and_query(&endpoint) })
    }

    /// The messages that follow.
    pub(super) fn messages(self) -> impl Stream<Item = Result<Bytes, CallError>> {
        stream::try_unfold(self, |mut events| async move {
            while let Some(event) = events.next().await? {
                // Others keep the stream alive.
                if event.event.is_none_or(|name| &*name == "message") && !event.data.is_empty() {
                    return Ok(Some((event.data, events)));
                }
            }
            Ok(None)
        })
    }

    async fn next(&mut self) -> Result<Option<Event>, CallError> {
        loop {
            if let Some(event) = self.decoder.next_event().map_err(unreadable)? {
                return Ok(Some(event));
            }
            match next_data(&mut self.exchange).await? {
                Some(data) => self.decoder.push(data),
                None => return Ok(None),
            }
        }
    }
}

/// Why an answer is no stream of events, if it is none.
fn refusal(head: &Head) -> Option<OpenError> {
    if head.status == StatusCode::OK {
        let is_stream = content(head) == Content::Events;
        return (!is_stream).then(|| not_spoken("the server does not answer GET with a stream of events"));
    }
    let error = refused_by(head);
    // Whoever may not come in, or comes too early, does not know what is spoken there.
    Some(if error.code() == ErrorCode::Protocol { OpenError::NotSpoken(error) } else { OpenError::Failed(error) })
}

fn not_spoken(what: &str) -> OpenError {
    OpenError::NotSpoken(CallError::runtime(ErrorCode::Protocol, Delivery::NotSent, what))
}

/// Where messages go, as the server says on the stream at `url`. Only where the configuration has sent us: whoever could name another
/// place would have the gateway call it, with the credentials of this one.
fn endpoint_of(url: &Url, said: &[u8]) -> Result<Url, CallError> {
    let refused = |what: String| CallError::runtime(ErrorCode::Protocol, Delivery::NotSent, what);
    if said.len() > ENDPOINT_BYTES_MAX {
        return Err(refused(format!("the server's `endpoint` has more than {ENDPOINT_BYTES_MAX} bytes")));
    }
    let endpoint = std::str::from_utf8(said).ok().and_then(|said| url.join(said).ok());
    let endpoint = endpoint.ok_or_else(|| refused("the server's `endpoint` is not a URL".to_owned()))?;
    if endpoint.origin() == url.origin() {
        return Ok(endpoint);
    }
    let [theirs, ours] = [&endpoint, url].map(|url| url.origin().ascii_serialization());
    Err(refused(format!("the server's `endpoint` is at {theirs}, and only {ours} is called")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_to_the_origin_that_is_configured_and_to_no_other() {
        let cases = [
            ("/messages/?session_id=1", Ok("http://up:9000/messages/?session_id=1")),
            ("messages?id=1", Ok("http://up:9000/a/messages?id=1")),
            ("?id=1", Ok("http://up:9000/a/sse?id=1")),
            ("http://up:9000/m", Ok("http://up:9000/m")),
            ("http://UP:9000/m\r\nx", Ok("http://up:9000/mx")),
            ("http://up:9001/m", Err("http://up:9001")),
            ("https://up:9000/m", Err("https://up:9000")),
            ("//169.254.169.254/latest", Err("http://169.254.169.254")),
            ("http://up:9000@evil/m", Err("http://evil")),
            ("file:///etc/passwd", Err("null")),
            ("http://", Err("not a URL")),
        ];
        let url = Url::parse("http://up:9000/a/sse").expect("a URL");
        for (said, expected) in cases {
            match (endpoint_of(&url, said.as_bytes()), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.as_str(), expected, "{said}"),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{said}: {error}"),
                (found, _) => panic!("{said}: {found:?}"),
            }
        }
        assert!(endpoint_of(&url, &[b'a'; ENDPOINT_BYTES_MAX + 1]).is_err());
        assert!(endpoint_of(&url, b"/\xff").is_err());
    }
}
