//! Reads the body of a request within its bounds.

use std::{future::poll_fn, pin::Pin, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::StatusCode;
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use runtime_api::ErrorCode;
use tokio::time::timeout;

use super::budget::{self, Share};

/// Longest pause within a body: who pauses longer holds a share of the byte budget for nothing.
const BODY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Pieces are joined in steps of at most this, however much a head announces.
const RESERVE_BYTES_MAX: usize = 64 * 1024;

/// A body that cannot be taken.
pub(super) enum BodyFault {
    TooLarge { bytes_max: usize },
    NoRoom,
    TooSlow,
    Broken(hyper::Error),
}

/// Reads a body; a single piece is not copied.
pub(super) async fn read(mut body: Incoming, bytes_max: usize, share: &mut Share) -> Result<Bytes, BodyFault> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > bytes_max {
        return Err(BodyFault::TooLarge { bytes_max });
    }
    let mut whole = BytesMut::new();
    let mut first = Bytes::new();
    loop {
        let Some(frame) = next_frame(&mut body).await? else { break };
        let Ok(data) = frame.map_err(BodyFault::Broken)?.into_data() else { continue };
        let length = first.len() + whole.len() + data.len();
        if length > bytes_max {
            return Err(BodyFault::TooLarge { bytes_max });
        }
        if !share.grow(length) {
            return Err(BodyFault::NoRoom);
        }
        if first.is_empty() && whole.is_empty() {
            first = data;
            if body.is_end_stream() {
                break;
            }
            continue;
        }
        if whole.is_empty() {
            whole.reserve(length.max(announced.min(RESERVE_BYTES_MAX)));
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&data);
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// The next piece. Most bodies came with their head, and need no clock.
async fn next_frame(body: &mut Incoming) -> Result<Option<Result<Frame<Bytes>, hyper::Error>>, BodyFault> {
    let mut frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
    if let Some(frame) = (&mut frame).now_or_never() {
        return Ok(frame);
    }
    timeout(BODY_PAUSE_MAX, frame).await.map_err(|_| BodyFault::TooSlow)
}

/// A fault as clients and metrics are told it.
pub(super) struct Told {
    pub(super) reason: &'static str,
    pub(super) status: StatusCode,
    pub(super) code: ErrorCode,
    pub(super) message: String,
}

impl BodyFault {
    pub(super) fn told(&self) -> Told {
        let (reason, status, code, message) = match self {
            Self::TooLarge { bytes_max } => {
                let message = format!("the body is larger than the limit of {bytes_max} bytes");
                ("body_too_large", StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::TooLarge, message)
            }
            Self::NoRoom => {
                let message = format!("request bodies of {} bytes are held already", budget::BYTES_MAX);
                ("body_budget", StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Overloaded, message)
            }
            Self::TooSlow => {
                let message = format!("nothing more of the body came within {} s", BODY_PAUSE_MAX.as_secs());
                ("body_too_slow", StatusCode::REQUEST_TIMEOUT, ErrorCode::InvalidRequest, message)
            }
            Self::Broken(error) => {
                ("body_broken", StatusCode::BAD_REQUEST, ErrorCode::InvalidRequest, format!("the body broke off: {error}"))
            }
        };
        Told { reason, status, code, message }
    }
}
