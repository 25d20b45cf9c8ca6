//! Frames of the MCP++ stream transport (Profile E): a big-endian `u32` length, then so many bytes of one JSON object.

use bytes::{Buf, Bytes, BytesMut};

use crate::json;
use crate::rope::{Builder, Rope};

/// 16 MiB: the default limit on a frame's payload, MCP++ transport binding, section 3.3.1. It does not count the prefix.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The length in front of each payload.
const PREFIX_BYTES: usize = 4;

/// 64 KiB: how much room is made at once for a frame that is still arriving, so that a peer which declares 16 MiB and
/// sends nothing costs 64 KiB. It is also the largest read worth a system call.
const RESERVE_BYTES_MAX: usize = 64 * 1024;

/// 8 KiB: room for the first read of a frame whose length is not known yet. Most frames fit.
const FIRST_READ_BYTES: usize = 8 * 1024;

/// 4 KiB: room made at once for a frame that is sent. The rope copies parts shorter than this behind the prefix, so that
/// a small frame is one buffer, and shares longer ones.
const SMALL_FRAME_BYTES: usize = 4 * 1024;

/// Why a frame was refused. Each one ends its stream. [`reason`](Self::reason) has the names of the specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The stream ended inside a length prefix.
    #[error("the stream ended after {arrived_bytes} of the 4 bytes of a length prefix")]
    IncompletePrefix {
        /// How much of the prefix had arrived.
        arrived_bytes: usize,
    },
    /// The declared payload is larger than the limit; nothing was allocated for it.
    #[error("a frame of {declared_bytes} bytes is larger than the limit of {frame_bytes_max} bytes")]
    DeclaredFrameTooLarge {
        /// What the prefix said, or the length of the payload to be sent.
        declared_bytes: usize,
        /// The limit in force.
        frame_bytes_max: usize,
    },
    /// The stream ended inside a payload.
    #[error("the stream ended after {arrived_bytes} of the {declared_bytes} bytes of a frame")]
    IncompleteBody {
        /// How much of the payload had arrived.
        arrived_bytes: usize,
        /// What the prefix said.
        declared_bytes: usize,
    },
    /// The payload is not UTF-8.
    #[error("a frame is not UTF-8 from byte {valid_up_to} on")]
    InvalidUtf8 {
        /// How much of the payload is UTF-8.
        valid_up_to: usize,
    },
    /// The payload is empty. The specification defines no empty frame, so it counts as invalid JSON.
    #[error("a frame is empty")]
    Empty,
    /// The payload is not one JSON text.
    #[error("a frame is not JSON")]
    InvalidJson(#[source] json::JsonError),
    /// The payload is JSON, but no object: batches are not part of the transport.
    #[error("a frame holds JSON that is not an object")]
    PayloadNotObject,
}

impl FrameError {
    /// The specification's name of this fault, for metrics and logs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::IncompletePrefix { .. } => "incomplete_prefix",
            Self::DeclaredFrameTooLarge { .. } => "declared_frame_too_large",
            Self::IncompleteBody { .. } => "incomplete_body",
            Self::InvalidUtf8 { .. } => "invalid_utf8",
            Self::Empty | Self::InvalidJson(_) => "invalid_json",
            Self::PayloadNotObject => "payload_not_object",
        }
    }
}

/// Cuts frames out of a read buffer. It keeps no state: the unfinished frame stays in the buffer.
///
/// ```
/// use bytes::BytesMut;
/// use twinway_proto::frame::{Decoder, FRAME_BYTES_MAX};
///
/// let decoder = Decoder::new(FRAME_BYTES_MAX);
/// let mut buffer = BytesMut::from(&b"\0\0\0\x02{}\0"[..]);
///
/// assert_eq!(decoder.decode(&mut buffer).unwrap().unwrap(), "{}");
/// assert_eq!(decoder.decode(&mut buffer), Ok(None));
/// assert_eq!(decoder.finish(&buffer).unwrap_err().reason(), "incomplete_prefix");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Decoder {
    frame_bytes_max: usize,
}

impl Decoder {
    /// A decoder that refuses payloads above `frame_bytes_max`.
    #[must_use]
    pub fn new(frame_bytes_max: usize) -> Self {
        Self { frame_bytes_max }
    }

    /// Takes the next payload out of `buffer`, a slice of it, or `None` when more bytes are needed. Then there is room
    /// in the buffer for the next read: what is missing, at most 64 KiB of it, or 8 KiB while the length is unknown.
    ///
    /// The payload is not looked into: that is [`check_payload`], or the parser that comes next.
    ///
    /// # Errors
    /// [`FrameError::Empty`] and [`FrameError::DeclaredFrameTooLarge`], as soon as the prefix is there. The buffer
    /// stays as it was, so the error repeats.
    pub fn decode(&self, buffer: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some(declared_bytes) = self.declared_bytes(buffer)? else {
            buffer.reserve(FIRST_READ_BYTES);
            return Ok(None);
        };
        let missing_bytes = (PREFIX_BYTES + declared_bytes).saturating_sub(buffer.len());
        if missing_bytes > 0 {
            buffer.reserve(missing_bytes.min(RESERVE_BYTES_MAX));
            return Ok(None);
        }
        buffer.advance(PREFIX_BYTES);
        Ok(Some(buffer.split_to(declared_bytes).freeze()))
    }

    /// Call at the end of the stream, after the last `decode`: says whether a frame was cut off.
    ///
    /// # Errors
    /// [`FrameError::IncompletePrefix`], [`FrameError::IncompleteBody`], or the fault of the prefix that is there.
    pub fn finish(&self, buffer: &[u8]) -> Result<(), FrameError> {
        if buffer.is_empty() {
            return Ok(());
        }
        match self.declared_bytes(buffer)? {
            None => Err(FrameError::IncompletePrefix { arrived_bytes: buffer.len() }),
            Some(declared_bytes) => {
                Err(FrameError::IncompleteBody { arrived_bytes: buffer.len() - PREFIX_BYTES, declared_bytes })
            }
        }
    }

    fn declared_bytes(&self, buffer: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(prefix) = buffer.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        // A length above the address space is above every limit, too.
        let declared_bytes = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
        check_size(declared_bytes, self.frame_bytes_max)?;
        Ok(Some(declared_bytes))
    }
}

fn check_size(declared_bytes: usize, frame_bytes_max: usize) -> Result<(), FrameError> {
    if declared_bytes == 0 {
        return Err(FrameError::Empty);
    }
    if declared_bytes > frame_bytes_max {
        return Err(FrameError::DeclaredFrameTooLarge { declared_bytes, frame_bytes_max });
    }
    Ok(())
}

/// Says whether a payload is what the transport may carry: strict UTF-8, JSON within the depth bound, one object.
///
/// # Errors
/// [`FrameError::InvalidUtf8`], [`FrameError::InvalidJson`], [`FrameError::PayloadNotObject`], [`FrameError::Empty`].
pub fn check_payload(payload: &Bytes) -> Result<(), FrameError> {
    if payload.is_empty() {
        return Err(FrameError::Empty);
    }
    if let Err(error) = std::str::from_utf8(payload) {
        return Err(FrameError::InvalidUtf8 { valid_up_to: error.valid_up_to() });
    }
    json::check(payload).map_err(FrameError::InvalidJson)?;
    if payload.trim_ascii_start().first() != Some(&b'{') {
        return Err(FrameError::PayloadNotObject);
    }
    Ok(())
}

/// Puts the prefix in front of a payload. A small frame is one buffer, a large payload is not copied.
///
/// # Errors
/// [`FrameError::Empty`], [`FrameError::DeclaredFrameTooLarge`].
pub fn encode(payload: Rope, frame_bytes_max: usize) -> Result<Rope, FrameError> {
    let payload_bytes = payload.len();
    check_size(payload_bytes, frame_bytes_max)?;
    let prefix = u32::try_from(payload_bytes)
        .map_err(|_| FrameError::DeclaredFrameTooLarge { declared_bytes: payload_bytes, frame_bytes_max })?
        .to_be_bytes();
    let mut frame = Builder::with_capacity(PREFIX_BYTES + payload_bytes.min(SMALL_FRAME_BYTES));
    frame.push_slice(&prefix).push_rope(payload);
    Ok(frame.finish())
}

#[cfg(test)]
mod tests;
