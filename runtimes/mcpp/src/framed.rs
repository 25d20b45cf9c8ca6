//! A libp2p stream as messages: frames in, frames out.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{AsyncRead, AsyncWrite, Sink, Stream as MessageStream};
use libp2p::Stream;
use parking_lot::Mutex;
use thiserror::Error;
use twinway_proto::{
    frame::{Decoder, FrameError},
    rope::Rope,
};

use crate::refusals::Refusal;

/// 16 KiB: yamux cuts what is sent into parts of this size, so a read never brings more at once.
const READ_BYTES_MAX: usize = 16 * 1024;

/// 60 KiB: py-libp2p before 0.8 cannot take more than 65,535 bytes in one go, so larger frames are flushed in parts.
const FLUSH_BYTES_MAX: usize = 60 * 1024;

/// 4 KiB: shorter parts of a message are copied together; longer ones are written from where they lie.
const COPY_BYTES_MAX: usize = 4 * 1024;

/// Why no further frame can be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FramedError {
    /// The stream broke.
    #[error("the stream broke")]
    Io(#[from] io::Error),
    /// A frame that the transport does not allow.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl FramedError {
    /// The reason to count, when a frame was refused.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Io(_) => None,
            Self::Frame(error) => refusal(error),
        }
    }
}

/// The reason under which a refused frame is counted.
#[must_use]
pub fn refusal(error: &FrameError) -> Option<Refusal> {
    match error {
        FrameError::IncompletePrefix { .. } => Some(Refusal::IncompletePrefix),
        FrameError::DeclaredFrameTooLarge { .. } => Some(Refusal::FrameTooLarge),
        FrameError::IncompleteBody { .. } => Some(Refusal::IncompleteBody),
        FrameError::InvalidUtf8 { .. } => Some(Refusal::InvalidUtf8),
        FrameError::Empty => Some(Refusal::FrameEmpty),
        FrameError::InvalidJson(_) => Some(Refusal::InvalidJson),
        FrameError::PayloadNotObject => Some(Refusal::NotAMessage),
        _ => None,
    }
}

/// Splits a stream into a reader and a writer of frames of at most `frame_bytes_max`. The stream is reset when both are
/// dropped, and closed properly by closing the writer.
#[must_use]
pub fn framed(stream: Stream, frame_bytes_max: usize) -> (FrameReader<Half>, FrameWriter<Half>) {
    let stream = Arc::new(Mutex::new(stream));
    let reader = FrameReader::new(Half(Arc::clone(&stream)), frame_bytes_max);
    (reader, FrameWriter::new(Half(stream), frame_bytes_max))
}

/// One direction of a stream. The lock is held for one poll, which copies at most 16 KiB.
#[derive(Debug)]
pub struct Half(Arc<Mutex<Stream>>);

impl AsyncRead for Half {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.lock()).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Half {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.lock()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_close(cx)
    }
}

/// Reads frames: a stream of payloads that have not been looked into. Nothing is read before it is polled.
#[derive(Debug)]
pub struct FrameReader<R> {
    source: R,
    decoder: Decoder,
    /// What arrived of frames that are not complete.
    arrived: BytesMut,
    /// Filled by one read; kept because clearing memory for each read costs more than copying small frames out.
    chunk: Box<[u8]>,
    ended: bool,
}

impl<R> FrameReader<R> {
    /// A reader that refuses payloads above `frame_bytes_max` before making room for them.
    #[must_use]
    pub fn new(source: R, frame_bytes_max: usize) -> Self {
        let chunk = vec![0; READ_BYTES_MAX].into_boxed_slice();
        Self { source, decoder: Decoder::new(frame_bytes_max), arrived: BytesMut::new(), chunk, ended: false }
    }
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, FramedError>> {
        loop {
            if let Some(payload) = self.next_arrived()? {
                return Poll::Ready(Ok(Some(payload)));
            }
            match ready!(Pin::new(&mut self.source).poll_read(cx, &mut self.chunk))? {
                0 => {
                    self.decoder.finish(&self.arrived)?;
                    return Poll::Ready(Ok(None));
                }
                count => self.arrived.extend_from_slice(&self.chunk[..count]),
            }
        }
    }

    fn next_arrived(&mut self) -> Result<Option<Bytes>, FrameError> {
        if self.arrived.is_empty() {
            return Ok(None);
        }
        self.decoder.decode(&mut self.arrived)
    }
}

impl<R: AsyncRead + Unpin> MessageStream for FrameReader<R> {
    type Item = Result<Bytes, FramedError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(self.poll_frame(cx)).transpose();
        self.ended = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }
}

/// Writes frames: a sink of payloads. A small frame is one write; a large one is flushed every 60 KiB.
#[derive(Debug)]
pub struct FrameWriter<W> {
    sink: W,
    frame_bytes_max: usize,
    /// Prefix and short parts, to be written before `rest`.
    head: BytesMut,
    rest: Rope,
    unflushed_bytes: usize,
}

impl<W> FrameWriter<W> {
    /// A writer that refuses payloads above `frame_bytes_max`.
    #[must_use]
    pub fn new(sink: W, frame_bytes_max: usize) -> Self {
        Self { sink, frame_bytes_max, head: BytesMut::new(), rest: Rope::default(), unflushed_bytes: 0 }
    }

    /// Moves the short parts at the front of `rest` behind `head`.
    fn gather(&mut self) {
        while self.rest.has_remaining() {
            let part = self.rest.chunk();
            if part.len() > COPY_BYTES_MAX || self.head.len() + part.len() > FLUSH_BYTES_MAX {
                return;
            }
            let count = part.len();
            self.head.extend_from_slice(part);
            self.rest.advance(count);
        }
    }
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    fn poll_write_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.unflushed_bytes >= FLUSH_BYTES_MAX {
                ready!(self.poll_flush_sink(cx))?;
            }
            if self.head.is_empty() {
                self.gather();
            }
            let room = FLUSH_BYTES_MAX - self.unflushed_bytes;
            let from_head = !self.head.is_empty();
            let bytes: &[u8] = if from_head { &self.head } else { self.rest.chunk() };
            if bytes.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let count = ready!(Pin::new(&mut self.sink).poll_write(cx, &bytes[..bytes.len().min(room)]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed_bytes += count;
            if from_head { self.head.advance(count) } else { self.rest.advance(count) }
        }
    }

    fn poll_flush_sink(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.sink).poll_flush(cx))?;
        self.unflushed_bytes = 0;
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> Sink<Rope> for FrameWriter<W> {
    type Error = FramedError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), FramedError>> {
        self.poll_write_all(cx).map_err(Into::into)
    }

    fn start_send(mut self: Pin<&mut Self>, payload: Rope) -> Result<(), FramedError> {
        let this = &mut *self;
        let prefix = check(payload.len(), this.frame_bytes_max)?;
        this.head.extend_from_slice(&prefix);
        this.rest = payload;
        this.gather();
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), FramedError>> {
        ready!(self.poll_write_all(cx))?;
        self.poll_flush_sink(cx).map_err(Into::into)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), FramedError>> {
        ready!(self.poll_write_all(cx))?;
        Pin::new(&mut self.sink).poll_close(cx).map_err(Into::into)
    }
}

/// The length prefix of a payload that may be sent.
fn check(declared_bytes: usize, frame_bytes_max: usize) -> Result<[u8; 4], FrameError> {
    if declared_bytes == 0 {
        return Err(FrameError::Empty);
    }
    let too_large = FrameError::DeclaredFrameTooLarge { declared_bytes, frame_bytes_max };
    if declared_bytes > frame_bytes_max {
        return Err(too_large);
    }
    u32::try_from(declared_bytes).map(u32::to_be_bytes).map_err(|_| too_large)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::{SinkExt as _, StreamExt as _};
    use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};
    use twinway_proto::rope::Builder;

    use super::*;

    const FRAME_BYTES_MAX: usize = 1 << 20;

    fn reader(bytes: &[u8]) -> FrameReader<&[u8]> {
        FrameReader::new(bytes, FRAME_BYTES_MAX)
    }

    fn frame(declared_bytes: u32, payload: &[u8]) -> Vec<u8> {
        [&declared_bytes.to_be_bytes(), payload].concat()
    }

    #[tokio::test]
    async fn each_bad_frame_is_refused_with_its_reason_and_ends_the_stream() {
        let cases = [
            (frame(0, b""), Refusal::FrameEmpty),
            (frame(FRAME_BYTES_MAX as u32 + 1, b"{}"), Refusal::FrameTooLarge),
            (frame(u32::MAX, b"{}"), Refusal::FrameTooLarge),
            (frame(3, b"{}"), Refusal::IncompleteBody),
            (b"\0\0".to_vec(), Refusal::IncompletePrefix),
        ];
        for (bytes, expected) in cases {
            let stream = [frame(2, b"{}"), bytes].concat();
            let mut reader = reader(&stream);

            assert_eq!(reader.next().await.unwrap().unwrap(), "{}");
            assert_eq!(reader.next().await.unwrap().unwrap_err().refusal(), Some(expected));
            assert!(reader.next().await.is_none());
        }
    }

    #[tokio::test]
    async fn what_is_written_is_read_whatever_its_size_and_cut() {
        let (near, far) = tokio::io::duplex(5_000);
        let mut writer = FrameWriter::new(near.compat_write(), FRAME_BYTES_MAX);
        let mut reader = FrameReader::new(far.compat(), FRAME_BYTES_MAX);
        let sizes = [1, 4095, 4096, 4097, 60 * 1024 - 4, 60 * 1024, 200_000, FRAME_BYTES_MAX];
        let payload = |size: usize| {
            let mut rope = Builder::default();
            let body = Bytes::from_iter((0..size).map(|at| (at % 251) as u8));
            let cut = size / 3;
            rope.push_bytes(body.slice(..cut)).push_bytes(body.slice(cut..));
            (rope.finish(), body)
        };

        let writing = async {
            for size in sizes {
                writer.send(payload(size).0).await.unwrap();
            }
            writer.close().await.unwrap();
        };
        let reading = async {
            for size in sizes {
                assert_eq!(reader.next().await.unwrap().unwrap(), payload(size).1, "{size} bytes");
            }
            assert!(reader.next().await.is_none());
        };
        tokio::join!(writing, reading);
    }

    #[tokio::test]
    async fn a_small_frame_is_one_write() {
        let mut written = Writes::default();
        let mut writer = FrameWriter::new(&mut written, FRAME_BYTES_MAX);
        writer.send(Bytes::from_static(b"{}").into()).await.unwrap();
        writer.send(vec![b' '; 130_000].into()).await.unwrap();

        let expected = [6, 4, 60 * 1024 - 4, 60 * 1024, 130_000 - 2 * 60 * 1024 + 4];
        assert_eq!(written.0, expected);
    }

    #[tokio::test]
    async fn too_large_a_payload_never_reaches_the_stream() {
        let mut written = Writes::default();
        let mut writer = FrameWriter::new(&mut written, 8);

        let refused = writer.send(vec![b' '; 9].into()).await.unwrap_err();

        assert_eq!(refused.refusal(), Some(Refusal::FrameTooLarge));
        assert!(written.0.is_empty());
    }

    /// The lengths of the writes, flushes left out.
    #[derive(Default)]
    struct Writes(Vec<usize>);

    impl AsyncWrite for &mut Writes {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.0.push(bytes.len());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
}
