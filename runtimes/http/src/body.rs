//! A request body that is a rope.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use twinway_proto::rope::Rope;

/// Gives the whole rope as one frame, so that head and body leave in one vectored write.
#[derive(Debug)]
pub(crate) struct RopeBody(Option<Rope>);

impl RopeBody {
    pub(crate) fn new(rope: Rope) -> Self {
        Self(Some(rope).filter(|rope| !rope.is_empty()))
    }
}

impl Body for RopeBody {
    type Data = Rope;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Rope>, Infallible>>> {
        Poll::Ready(self.0.take().map(|rope| Ok(Frame::data(rope))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |rope| rope.len() as u64))
    }
}
