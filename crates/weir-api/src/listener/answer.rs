//! The body of an answer.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::Full;

use super::untaken::Untaken;
use crate::grpc::Reply;

/// The body of every answer: whole, or a call's messages and trailers. Boxing any body was
/// rejected: an allocation and a virtual call for each of the many that are whole.
#[derive(Debug)]
pub(crate) enum Body {
    /// All of it at once.
    Whole(Full<Bytes>),
    /// A gRPC call's.
    Call(Reply),
    /// Either, in pieces that are counted until an HTTP/2 client takes them.
    Counted(Box<Counted>),
}

/// A body and what is left of its current frame.
#[derive(Debug)]
pub(crate) struct Counted {
    body: Body,
    rest: Bytes,
    untaken: Untaken,
}

impl Body {
    /// All of it at once.
    pub(crate) fn new(bytes: Bytes) -> Self {
        Body::Whole(Full::new(bytes))
    }

    /// The same, counted in `untaken`.
    pub(crate) fn counted(self, untaken: Untaken) -> Self {
        Body::Counted(Box::new(Counted { body: self, rest: Bytes::new(), untaken }))
    }
}

impl Counted {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(self.untaken.next_piece(&mut self.rest)))))
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower() + rest);
        hint.upper().into_iter().for_each(|upper| whole.set_upper(upper + rest));
        whole
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
            Body::Counted(counted) => counted.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Whole(body) => body.is_end_stream(),
            Body::Call(body) => body.is_end_stream(),
            Body::Counted(counted) => counted.rest.is_empty() && counted.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(body) => body.size_hint(),
            Body::Call(body) => body.size_hint(),
            Body::Counted(counted) => counted.size_hint(),
        }
    }
}
