//! One connection and what passes over it: a request, the head of its answer, the body.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use tokio_util::io::{poll_read_buf, poll_write_buf};

use super::{
    body::{BodyError, Decoder, Step},
    head::{Head, HeadError},
    request::Request,
};

/// Room for one read. Most answers to calls fit, head and body.
const READ_BYTES: usize = 4 * 1024;

/// Room for one read when the head has announced more: large enough that a system call costs nothing beside its copy, and
/// not more than is worth reserving on the word of a server.
const LARGE_READ_BYTES: usize = 256 * 1024;

/// The bytes of a connection, secured or not.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    // Boxed: most upstreams are near and plain, and should not pay for the size of a TLS session when they move.
    Tls(Box<TlsStream<TcpStream>>),
}

/// An exchange that did not come to the head of an answer.
#[derive(Debug, Error)]
pub(crate) enum SendError {
    /// The connection was not usable. Nothing was sent.
    #[error("the connection was closed before the request")]
    Unsent(#[source] io::Error),
    /// The request, or a part of it, had left, and nothing came back.
    #[error("the connection was closed without an answer")]
    Unanswered(#[source] io::Error),
    /// A part of an answer had come.
    #[error("the connection broke within the head of the answer")]
    Broken(#[source] io::Error),
    /// What came is not an answer.
    #[error("the upstream does not speak HTTP/1.1")]
    Head(#[source] HeadError),
}

/// The body of an answer broke off.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    /// With the connection.
    #[error("the connection broke within the answer")]
    Io(#[from] io::Error),
    /// By its own form.
    #[error(transparent)]
    Body(#[from] BodyError),
}

/// A connection between two exchanges.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    read: BytesMut,
}

/// An exchange whose answer has begun. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) head: Head,
    body: Decoder,
    connection: Connection,
    /// The whole request was written.
    request_is_out: bool,
}

impl Connection {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, read: BytesMut::new() }
    }

    /// Whether the upstream has neither closed the connection nor sent something unasked, as far as is known here.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.read.is_empty() && self.poll_fill(1, &mut cx).is_pending()
    }

    /// Sends a request and waits for the head of the answer. An answer that comes before the request has left ends the
    /// sending: nobody reads the rest. After [`SendError::Unsent`] the request is as it was.
    pub(crate) async fn exchange(mut self, request: &mut Request) -> Result<Exchange, SendError> {
        let head = poll_fn(|cx| self.poll_exchange(request, cx)).await?;
        let body = Decoder::new(head.framing);
        Ok(Exchange { head, body, connection: self, request_is_out: request.is_out() })
    }

    fn poll_exchange(&mut self, request: &mut Request, cx: &mut Context<'_>) -> Poll<Result<Head, SendError>> {
        let mut write_fault = match self.poll_send(request, cx) {
            Poll::Ready(Err(error)) if request.is_untouched() => return Poll::Ready(Err(SendError::Unsent(error))),
            Poll::Ready(Err(error)) => Some(error),
            Poll::Ready(Ok(())) | Poll::Pending => None,
        };
        loop {
            if let Some(head) = Head::take(&mut self.read, request.asks_for_head_only).map_err(SendError::Head)? {
                return Poll::Ready(Ok(head));
            }
            // A server that refuses a request closes the connection under it, and yet its answer may have come.
            match (self.poll_fill(READ_BYTES, cx), write_fault.take()) {
                (Poll::Ready(Ok(())), fault) => write_fault = fault,
                (Poll::Ready(Err(error)), fault) => return Poll::Ready(Err(self.broken(fault.unwrap_or(error)))),
                (Poll::Pending, Some(fault)) => return Poll::Ready(Err(self.broken(fault))),
                (Poll::Pending, None) => return Poll::Pending,
            }
        }
    }

    fn broken(&self, error: io::Error) -> SendError {
        if self.read.is_empty() { SendError::Unanswered(error) } else { SendError::Broken(error) }
    }

    fn poll_send(&mut self, request: &mut Request, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !request.is_out() {
            if ready!(poll_write_buf(Pin::new(&mut self.stream), cx, &mut request.bytes))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Reads what is there, at least one byte; the end of the stream is an error.
    fn poll_fill(&mut self, room: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.read.reserve(room);
        match ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.read)) {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            read => Poll::Ready(read.map(|_| ())),
        }
    }
}

impl Exchange {
    /// The next piece of the body; `None` at its end. Cancel-safe: what was read stays.
    pub(crate) async fn next_data(&mut self) -> Result<Option<Bytes>, ReadError> {
        poll_fn(|cx| self.poll_data(cx)).await
    }

    /// Reads the whole body; `None` when it is longer than `bytes_max`. A body of known length is not copied.
    pub(crate) async fn whole(&mut self, bytes_max: usize) -> Result<Option<Bytes>, ReadError> {
        if let Decoder::Length(length) = self.body {
            let Some(length) = usize::try_from(length).ok().filter(|length| *length <= bytes_max) else { return Ok(None) };
            poll_fn(|cx| self.poll_until(length, cx)).await?;
        }
        let Some(first) = self.next_data().await? else { return Ok(Some(Bytes::new())) };
        if first.len() > bytes_max {
            return Ok(None);
        }
        let Some(second) = self.next_data().await? else { return Ok(Some(first)) };
        let mut whole = BytesMut::with_capacity(first.len() + second.len());
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&second);
        while let Some(next) = self.next_data().await? {
            if whole.len() + next.len() > bytes_max {
                return Ok(None);
            }
            whole.extend_from_slice(&next);
        }
        Ok((whole.len() <= bytes_max).then(|| whole.freeze()))
    }

    /// The connection, if it can be used again: the body was read to its end, and nothing follows it.
    ///
    /// Not after a 500: uvicorn answers so when the application raised, and closes the connection without having said it
    /// would. The next request would meet that close on its way.
    pub(crate) fn into_connection(self) -> Option<Connection> {
        let will_stay = self.head.keeps_alive && self.head.status != 500;
        let reusable = self.body == Decoder::Done && will_stay && self.request_is_out && self.connection.read.is_empty();
        reusable.then_some(self.connection)
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>> {
        loop {
            match self.body.step(&mut self.connection.read)? {
                Step::Data(data) => return Poll::Ready(Ok(Some(data))),
                Step::Done => return Poll::Ready(Ok(None)),
                Step::More => {}
            }
            let announced = usize::try_from(self.body.announced()).unwrap_or(usize::MAX);
            let room = announced.clamp(READ_BYTES, LARGE_READ_BYTES);
            match ready!(self.connection.poll_fill(room, cx)) {
                Ok(()) => {}
                Err(error) if self.body == Decoder::UntilClose && error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.body = Decoder::Done;
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Reads until so many bytes are there, in one piece of memory.
    fn poll_until(&mut self, length: usize, cx: &mut Context<'_>) -> Poll<Result<(), ReadError>> {
        while self.connection.read.len() < length {
            let missing = length - self.connection.read.len();
            ready!(self.connection.poll_fill(missing.clamp(1, LARGE_READ_BYTES), cx))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // A socket holds nothing back.
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::{super::RequestHead, *};

    fn post(length: usize) -> Request {
        RequestHead::new(&Method::POST, "/mcp", &HeaderMap::new()).with(vec![b'x'; length].into())
    }

    async fn send(connection: Connection, length: usize) -> Result<Exchange, SendError> {
        connection.exchange(&mut post(length)).await
    }

    /// A connection and the upstream's end of it.
    async fn pair() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (stream, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (Connection::new(Stream::Plain(stream.unwrap())), accepted.unwrap().0)
    }

    /// Reads a request whose body has `length` bytes.
    async fn read_request(upstream: &mut TcpStream, length: usize) {
        let mut read = Vec::new();
        while !read.windows(4).any(|end| end == b"\r\n\r\n") {
            upstream.read_buf(&mut read).await.unwrap();
        }
        let head = read.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        let mut left = vec![0; length - (read.len() - head)];
        upstream.read_exact(&mut left).await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_is_used_again_after_an_answer_that_was_read() {
        let (mut connection, mut upstream) = pair().await;
        for body in ["{}", "[1]"] {
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let serve = async {
                read_request(&mut upstream, 300).await;
                upstream.write_all(answer.as_bytes()).await.unwrap();
            };
            let (exchange, ()) = tokio::join!(send(connection, 300), serve);
            let mut exchange = exchange.unwrap();

            assert_eq!(exchange.whole(10).await.unwrap().unwrap(), body);
            connection = exchange.into_connection().expect("it stays open");
            assert!(connection.is_quiet());
        }
    }

    #[tokio::test]
    async fn an_answer_before_the_whole_request_is_read_and_ends_the_connection() {
        let (connection, mut upstream) = pair().await;
        // More than the buffers of both sockets take: the upstream answers and never reads it.
        let refuse = async {
            upstream.read_u8().await.unwrap();
            upstream.write_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        };
        let (exchange, ()) = tokio::join!(send(connection, 64 * 1024 * 1024), refuse);
        let mut exchange = exchange.unwrap();

        assert_eq!(exchange.head.status, 413);
        assert_eq!(exchange.whole(10).await.unwrap().unwrap(), "");
        assert!(exchange.into_connection().is_none());
    }

    #[tokio::test]
    async fn a_closed_or_talking_connection_is_not_quiet() {
        for talk in [&b""[..], b"HTTP/1.1 408 Request Timeout\r\n\r\n"] {
            let (mut connection, mut upstream) = pair().await;
            upstream.write_all(talk).await.unwrap();
            drop(upstream);
            poll_fn(|cx| match &connection.stream {
                Stream::Plain(stream) => stream.poll_read_ready(cx),
                Stream::Tls(_) => unreachable!("the pair is plain"),
            })
            .await
            .unwrap();

            assert!(!connection.is_quiet());
        }
    }

    #[tokio::test]
    async fn a_body_above_the_limit_or_broken_off_is_no_body() {
        let cases = [
            ("content-length: 11\r\n\r\n", true),
            ("transfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n7\r\nefghijk\r\n0\r\n\r\n", true),
            ("\r\nabcdefghijk", true),
            ("content-length: 5\r\n\r\nabcd", false),
            ("transfer-encoding: chunked\r\n\r\n4\r\nabc", false),
        ];
        for (answer, too_long) in cases {
            let (connection, mut upstream) = pair().await;
            let serve = async {
                read_request(&mut upstream, 1).await;
                upstream.write_all(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes()).await.unwrap();
                drop(upstream);
            };
            let (exchange, ()) = tokio::join!(send(connection, 1), serve);
            let read = exchange.unwrap().whole(10).await;

            assert_eq!(matches!(read, Ok(None)), too_long, "{answer}: {read:?}");
            assert_eq!(read.is_err(), !too_long, "{answer}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_ends_under_a_request_is_broken_and_not_unsent() {
        let (connection, upstream) = pair().await;
        let close = async {
            let mut upstream = upstream;
            upstream.read_u8().await.unwrap();
        };
        let (exchange, ()) = tokio::join!(send(connection, 300), close);

        assert!(matches!(exchange, Err(SendError::Unanswered(_))), "{exchange:?}");
    }
}
