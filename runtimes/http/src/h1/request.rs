//! A request as bytes: its head, spelled out, and its body.

use bytes::{Buf, Bytes, buf::Chain};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use twinway_proto::rope::Rope;

/// Room for what a call adds: four headers of MCP, two of tracing, the length.
const ROOM_BYTES: usize = 320;

/// Request line and header fields, without the length of the body and the empty line.
///
/// It is begun once for each upstream or session; a request copies it and adds what is its own. Only names and values that
/// their types have checked get in, so that no text can break out of its line.
#[derive(Debug, Clone)]
pub(crate) struct RequestHead {
    bytes: Vec<u8>,
    /// The answer will have no body, whatever its head says.
    asks_for_head_only: bool,
    /// The method is safe (RFC 9110 §9.2.1): sent twice, it does no more than sent once.
    is_safe: bool,
}

impl RequestHead {
    /// `path_and_query` comes from a checked URI.
    pub(crate) fn new(method: &Method, path_and_query: &str, headers: &HeaderMap) -> Self {
        let mut head =
            Self { bytes: Vec::with_capacity(512), asks_for_head_only: *method == Method::HEAD, is_safe: method.is_safe() };
        head.push(method.as_str().as_bytes()).push(b" ").push(path_and_query.as_bytes()).push(b" HTTP/1.1\r\n");
        for (name, value) in headers {
            head.add(name, value);
        }
        head
    }

    /// A copy to which a request adds its own.
    pub(crate) fn begin(&self) -> Self {
        let mut bytes = Vec::with_capacity(self.bytes.len() + ROOM_BYTES);
        bytes.extend_from_slice(&self.bytes);
        Self { bytes, ..*self }
    }

    /// Adds a field. Fields of one name all stand there.
    pub(crate) fn add(&mut self, name: &HeaderName, value: &HeaderValue) -> &mut Self {
        self.push(name.as_str().as_bytes()).push(b": ").push(value.as_bytes()).push(b"\r\n")
    }

    /// Ends the head: this is the body.
    pub(crate) fn with(mut self, body: Rope) -> Request {
        self.push(b"content-length: ").push(body.len().to_string().as_bytes()).push(b"\r\n\r\n");
        let head = Bytes::from(self.bytes);
        let again = self.is_safe.then(|| Box::new((head.clone(), body.clone())));
        let bytes = head.chain(body);
        Request { length: bytes.remaining(), bytes, again, asks_for_head_only: self.asks_for_head_only }
    }

    fn push(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }
}

/// A request, as far as it is still to be written.
#[derive(Debug)]
pub(crate) struct Request {
    pub(super) bytes: Chain<Bytes, Rope>,
    pub(super) asks_for_head_only: bool,
    length: usize,
    /// The whole of it, if its method is safe. Boxed: a call of MCP is a POST and should not have room for it.
    again: Option<Box<(Bytes, Rope)>>,
}

impl Request {
    /// Nothing of it has left.
    pub(super) fn is_untouched(&self) -> bool {
        self.bytes.remaining() == self.length
    }

    /// All of it has left.
    pub(super) fn is_out(&self) -> bool {
        !self.bytes.has_remaining()
    }

    /// Makes it whole again, once and only if its method is safe; tells whether it did (RFC 9110 §9.2.2).
    pub(crate) fn rewind(&mut self) -> bool {
        let Some((head, body)) = self.again.take().map(|again| *again) else { return false };
        self.bytes = head.chain(body);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(mut request: Request) -> Bytes {
        request.bytes.copy_to_bytes(request.bytes.remaining())
    }

    #[test]
    fn a_request_adds_to_what_was_begun() {
        let fixed = HeaderMap::from_iter([(http::header::HOST, HeaderValue::from_static("up:1"))]);
        let begun = RequestHead::new(&Method::POST, "/mcp?x=1", &fixed);

        let mut head = begun.begin();
        head.add(&HeaderName::from_static("mcp-name"), &HeaderValue::from_static("echo"));

        let expected = "POST /mcp?x=1 HTTP/1.1\r\nhost: up:1\r\nmcp-name: echo\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(written(head.with(Bytes::from_static(b"{}").into())), expected);
        let expected = "POST /mcp?x=1 HTTP/1.1\r\nhost: up:1\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(written(begun.with(Rope::default())), expected);
    }
}
