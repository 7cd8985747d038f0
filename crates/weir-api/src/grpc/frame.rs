//! Length-prefixed messages
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>): one byte that says
//! whether the message is compressed, four with its length, the message.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prost::Message;
use tokio::time::{Instant, timeout_at};
use weir_serving::Room;
use weir_types::{Error, ErrorCode};

use crate::{body::BodyLimits, coding::Coding};

/// Bytes before each message.
const PREFIX_BYTES: usize = 5;
/// Room made at once for a message whose prefix says that it is large; more as it comes.
const FIRST_BYTES: usize = 64 << 10;

/// The messages of one request body, each within the bounds.
pub(super) struct Messages {
    body: Incoming,
    /// What came of the body and was not taken yet.
    rest: Bytes,
    coding: Option<Coding>,
    limits: BodyLimits,
    deadline: Option<Instant>,
}

impl Messages {
    /// Reads `body`, all of it before `deadline`.
    pub(super) fn new(
        body: Incoming,
        coding: Option<Coding>,
        limits: BodyLimits,
        deadline: Option<Instant>,
    ) -> Self {
        Self { body, rest: Bytes::new(), coding, limits, deadline }
    }

    /// The only message of a call that is not a stream.
    ///
    /// # Errors
    /// As [`next`](Self::next), and `InvalidArgument` where there is none or more than one.
    pub(super) async fn only(mut self, room: &mut Room) -> Result<Bytes, Error> {
        let message = self.next(room, Some(self.limits.pause)).await?;
        let message = message.ok_or_else(|| Error::invalid("the call has no message"))?;
        match self.take(1, Some(self.limits.pause)).await? {
            None => Ok(message),
            Some(_) => Err(Error::invalid("the call has more than one message")),
        }
    }

    /// The next message; `None` after the last one. A message may let `idle` pass before it
    /// begins; `None` for any time. Once begun, it may not pause longer than any body.
    ///
    /// # Errors
    /// `TooLarge`, `Overloaded`, `RequestTimeout`, `DeadlineExceeded`, `InvalidArgument` for
    /// what is no message.
    pub(super) async fn next(
        &mut self,
        room: &mut Room,
        idle: Option<Duration>,
    ) -> Result<Option<Bytes>, Error> {
        let Some(prefix) = self.take(PREFIX_BYTES, idle).await? else { return Ok(None) };
        let (flag, length) = (prefix[0], u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]));
        if u64::from(length) > self.limits.max_bytes {
            return Err(too_large(self.limits.max_bytes));
        }
        room.hold(length.into())?;
        let message = self.take(length as usize, Some(self.limits.pause)).await?;
        let message = message.ok_or_else(cut_short)?;
        match (flag, self.coding) {
            (0, _) => Ok(Some(message)),
            (1, Some(coding)) => {
                let most = self.limits.max_bytes;
                Ok(Some(coding.unpack_message(&message, most, |n| room.hold(n))?.into()))
            }
            (1, None) => Err(Error::invalid("the message is compressed, and grpc-encoding does not say how")),
            _ => Err(Error::invalid("the byte before the message's length is 0 or 1")),
        }
    }

    /// The next `want` bytes; `None` where the body ended before the first.
    async fn take(&mut self, want: usize, idle: Option<Duration>) -> Result<Option<Bytes>, Error> {
        // Nearly every message is in one part, which needs no copy.
        if self.rest.len() >= want {
            return Ok(Some(self.rest.split_to(want)));
        }
        let mut gathered = BytesMut::with_capacity(want.min(FIRST_BYTES));
        loop {
            let part = self.rest.split_to(self.rest.len().min(want - gathered.len()));
            gathered.extend_from_slice(&part);
            if gathered.len() == want {
                return Ok(Some(gathered.freeze()));
            }
            let pause = if gathered.is_empty() { idle } else { Some(self.limits.pause) };
            self.rest = match self.part(pause).await? {
                Some(part) => part,
                None if gathered.is_empty() => return Ok(None),
                None => return Err(cut_short()),
            };
        }
    }

    async fn part(&mut self, pause: Option<Duration>) -> Result<Option<Bytes>, Error> {
        let stall = pause.map(|pause| Instant::now() + pause);
        loop {
            let frame = match (stall, self.deadline) {
                (None, None) => self.body.frame().await,
                (stall, deadline) => {
                    let end = stall.into_iter().chain(deadline).min().unwrap_or_else(Instant::now);
                    timeout_at(end, self.body.frame()).await.map_err(|_| late(stall != Some(end)))?
                }
            };
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|_| cut_short())?;
            // Trailers of a request are not part of any message.
            let Ok(part) = frame.into_data() else { continue };
            if !part.is_empty() {
                return Ok(Some(part));
            }
        }
    }
}

fn too_large(most: u64) -> Error {
    Error::new(ErrorCode::TooLarge, format!("the message is larger than the limit of {most} bytes"))
}

fn cut_short() -> Error {
    Error::invalid("the call ended within a message")
}

fn late(deadline: bool) -> Error {
    if deadline {
        Error::new(ErrorCode::DeadlineExceeded, "the deadline passed before the message was read")
    } else {
        Error::new(ErrorCode::RequestTimeout, "the message stopped coming")
    }
}

/// Reads a message that came.
///
/// # Errors
/// `InvalidArgument` where the bytes are no such message.
pub(super) fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, Error> {
    M::decode(bytes).map_err(|e| Error::invalid(format!("the message cannot be read: {e}")))
}

/// A message as it is sent.
///
/// # Errors
/// `TooLarge` beyond what four bytes can say.
pub(super) fn encode(message: &impl Message, coding: Option<Coding>) -> Result<Bytes, Error> {
    let mut out = BytesMut::with_capacity(PREFIX_BYTES + message.encoded_len());
    out.put_bytes(0, PREFIX_BYTES);
    message.encode(&mut out).map_err(|_| Error::internal("the answer could not be written"))?;
    finish(out, coding)
}

/// The same for one that is written already.
///
/// # Errors
/// As [`encode`].
pub(super) fn wrap(message: &[u8], coding: Option<Coding>) -> Result<Bytes, Error> {
    let mut out = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    out.put_bytes(0, PREFIX_BYTES);
    out.extend_from_slice(message);
    finish(out, coding)
}

/// Fills in the prefix that `out` has room for.
fn finish(mut out: BytesMut, coding: Option<Coding>) -> Result<Bytes, Error> {
    let small = coding.and_then(|c| c.pack_message(&out[PREFIX_BYTES..]));
    if let Some(small) = &small {
        out.truncate(PREFIX_BYTES);
        out.extend_from_slice(small);
    }
    let length = u32::try_from(out.len() - PREFIX_BYTES)
        .map_err(|_| Error::new(ErrorCode::TooLarge, "the answer is larger than a message can be (4 GiB)"))?;
    out[0] = u8::from(small.is_some());
    out[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::{super::generated::inference::ServerMetadataResponse, *};

    #[test]
    fn a_message_has_its_length_and_whether_it_is_compressed() {
        let message = ServerMetadataResponse { name: "weir".into(), ..Default::default() };
        assert_eq!(encode(&message, Some(Coding::Gzip)).unwrap()[..], *b"\0\0\0\0\x06\x0a\x04weir");
        let long = ServerMetadataResponse { name: "weir".repeat(1000), ..Default::default() };
        let bytes = encode(&long, Some(Coding::Deflate)).unwrap();
        assert_eq!(bytes[0], 1);
        assert_eq!(bytes[1..5], ((bytes.len() - 5) as u32).to_be_bytes());
        assert!(bytes.len() < 200);
        assert_eq!(decode::<ServerMetadataResponse>(encode(&long, None).unwrap().slice(5..)), Ok(long));
    }

    #[test]
    fn what_is_no_message_is_the_callers_mistake() {
        let error = decode::<ServerMetadataResponse>(Bytes::from_static(b"\x0a\x09short")).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        let not_utf8 = decode::<ServerMetadataResponse>(Bytes::from_static(b"\x0a\x01\xff")).unwrap_err();
        assert_eq!(not_utf8.code, ErrorCode::InvalidArgument);
    }
}
