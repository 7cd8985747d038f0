//! Reading a request's body within its bounds.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, timeout_at};
use weir_serving::{Admitted, Room};
use weir_types::{Deadline, Error, ErrorCode};

use crate::head;

/// What a body may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    /// Most bytes.
    pub(crate) max_bytes: u64,
    /// Longest pause between two parts.
    pub(crate) pause: Duration,
}

/// Refuses by the head alone, before a byte is read: a client that asks with
/// `Expect: 100-continue` then never sends the body.
///
/// # Errors
/// `TooLarge` or `UnsupportedMediaType`.
pub(crate) fn check_head(headers: &HeaderMap, limits: BodyLimits) -> Result<u64, Error> {
    if let Some(coding) = head::content_encoding(headers) {
        let name: String = String::from_utf8_lossy(coding.as_bytes()).chars().take(32).collect();
        let text = format!("Content-Encoding {name:?} is not supported: send the body as it is");
        return Err(Error::new(ErrorCode::UnsupportedMediaType, text));
    }
    check_length(headers, limits)
}

/// [`check_head`] for a face that undoes codings itself.
///
/// # Errors
/// `TooLarge`.
pub(crate) fn check_length(headers: &HeaderMap, limits: BodyLimits) -> Result<u64, Error> {
    let declared = head::content_length(headers).unwrap_or(0);
    if declared > limits.max_bytes { Err(too_large(limits)) } else { Ok(declared) }
}

fn too_large(limits: BodyLimits) -> Error {
    Error::new(
        ErrorCode::TooLarge,
        format!("the body is larger than the limit of {} bytes", limits.max_bytes),
    )
}

/// Reads the body whole; `admitted` holds room for each part as it comes.
///
/// # Errors
/// `TooLarge`, `RequestTimeout` when it stalls, `DeadlineExceeded`, `Overloaded`, and
/// `InvalidArgument` when the client ends it early.
pub(crate) async fn read(
    body: &mut Incoming,
    admitted: &mut Admitted,
    limits: BodyLimits,
) -> Result<Bytes, Error> {
    let deadline = admitted.deadline();
    read_into(body, admitted.room(), deadline, limits).await
}

/// [`read`] for a face that learns from the body whom it asks for.
///
/// # Errors
/// As [`read`].
pub(crate) async fn read_into(
    body: &mut Incoming,
    room: &mut Room,
    deadline: Deadline,
    limits: BodyLimits,
) -> Result<Bytes, Error> {
    let mut parts = Parts { body, limits, length: 0, deadline: deadline.instant().into() };
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(part) = parts.next().await? {
        room.hold(part.len() as u64)?;
        // Nearly every body is one part, which needs no copy.
        if first.is_empty() {
            first = part;
            continue;
        }
        if rest.is_empty() {
            rest.extend_from_slice(&first);
        }
        rest.extend_from_slice(&part);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// Reads the body and throws it away, within the same bounds.
///
/// # Errors
/// As [`read`], but for `Overloaded`: nothing is held.
pub(crate) async fn skip(body: &mut Incoming, limits: BodyLimits, timeout: Duration) -> Result<(), Error> {
    let mut parts = Parts { body, limits, length: 0, deadline: Instant::now() + timeout };
    while parts.next().await?.is_some() {}
    Ok(())
}

/// Whether nothing of the body is left to come.
pub(crate) fn is_over(body: &mut Incoming, headers: &HeaderMap) -> bool {
    if body.is_end_stream() {
        return true;
    }
    // A chunked body that was read to its end says so only when it is asked once more. One
    // whose sender waits for "100 Continue" must not be asked: that would send it.
    let waits = headers.contains_key(header::EXPECT);
    let mut context = Context::from_waker(Waker::noop());
    !waits && matches!(Pin::new(body).poll_frame(&mut context), Poll::Ready(None))
}

/// A body in parts, each within the bounds.
struct Parts<'a> {
    body: &'a mut Incoming,
    limits: BodyLimits,
    length: u64,
    deadline: Instant,
}

impl Parts<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let stall = Instant::now() + self.limits.pause;
            let frame = match timeout_at(stall.min(self.deadline), self.body.frame()).await {
                Ok(frame) => frame,
                Err(_) if self.deadline < stall => return Err(late()),
                Err(_) => {
                    return Err(Error::new(ErrorCode::RequestTimeout, "the request body stopped coming"));
                }
            };
            let Some(frame) = frame else { return Ok(None) };
            let frame =
                frame.map_err(|_| Error::invalid("the request body is not as long as its head says"))?;
            // Trailers are not part of the body.
            let Ok(part) = frame.into_data() else { continue };
            self.length += part.len() as u64;
            return if self.length > self.limits.max_bytes {
                Err(too_large(self.limits))
            } else {
                Ok(Some(part))
            };
        }
    }
}

fn late() -> Error {
    Error::new(ErrorCode::DeadlineExceeded, "the deadline passed before the body was read")
}
