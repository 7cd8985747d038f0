//! The body of an answer.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::Full;

use crate::grpc::Reply;

/// The body of every answer: whole, or a call's messages and trailers. Boxing any body was
/// rejected: an allocation and a virtual call for each of the many that are whole.
#[derive(Debug)]
pub(crate) enum Body {
    /// All of it at once.
    Whole(Full<Bytes>),
    /// A gRPC call's.
    Call(Reply),
}

impl Body {
    /// All of it at once.
    pub(crate) fn new(bytes: Bytes) -> Self {
        Body::Whole(Full::new(bytes))
    }
}

impl Default for Body {
    fn default() -> Self {
        Body::Whole(Full::default())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Body::Whole(body) => Pin::new(body).poll_frame(cx),
            Body::Call(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Whole(body) => body.is_end_stream(),
            Body::Call(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(body) => body.size_hint(),
            Body::Call(body) => body.size_hint(),
        }
    }
}
