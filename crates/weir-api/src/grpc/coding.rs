//! Compressed messages.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::{
    Compression,
    read::{GzDecoder, ZlibDecoder},
    write::{GzEncoder, ZlibEncoder},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use weir_serving::Room;
use weir_types::{Error, ErrorCode};

/// How the messages of a call are compressed.
pub(super) const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// Which codings the other side reads.
pub(super) const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// Ours.
pub(super) const ACCEPTED: HeaderValue = HeaderValue::from_static("identity,deflate,gzip");

/// Bytes inflated at once, for which room is taken before the next are.
const STEP_BYTES: usize = 64 << 10;

/// A coding by its name in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950, that is zlib: what HTTP calls deflate and gRPC means by it.
    Deflate,
}

impl Coding {
    /// The name in the headers.
    pub(super) fn name(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
        })
    }

    /// The coding of a request's messages.
    ///
    /// # Errors
    /// `Unsupported` for one that we do not undo.
    pub(super) fn of_request(headers: &HeaderMap) -> Result<Option<Self>, Error> {
        match headers.get(ENCODING).map(HeaderValue::as_bytes) {
            None | Some(b"identity") => Ok(None),
            Some(b"gzip") => Ok(Some(Coding::Gzip)),
            Some(b"deflate") => Ok(Some(Coding::Deflate)),
            Some(other) => {
                let name: String = String::from_utf8_lossy(other).chars().take(32).collect();
                let text = format!("grpc-encoding {name:?} is not supported: use gzip, deflate or identity");
                Err(Error::new(ErrorCode::Unsupported, text))
            }
        }
    }

    /// The coding of the answers: the request's own, where the client reads it. A client that
    /// saves bandwidth says so by compressing; one that does not is not made to wait.
    pub(super) fn of_answers(headers: &HeaderMap, request: Option<Self>) -> Option<Self> {
        let request = request?;
        let mut accepted = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
        let name = request.name();
        accepted
            .any(|list| list.split(',').any(|word| word.trim().as_bytes() == name.as_bytes()))
            .then_some(request)
    }

    /// Undoes the coding; what comes out takes room as it does, and ends at `most` bytes.
    ///
    /// # Errors
    /// `InvalidArgument` for bytes that are not of this coding, `TooLarge`, `Overloaded`.
    pub(super) fn inflate(self, message: &[u8], most: u64, room: &mut Room) -> Result<Bytes, Error> {
        match self {
            Coding::Gzip => inflate(&mut GzDecoder::new(message), most, room),
            Coding::Deflate => inflate(&mut ZlibDecoder::new(message), most, room),
        }
    }

    /// Compresses an answer; `None` where it does not get smaller.
    pub(super) fn deflate(self, message: &[u8]) -> Option<Vec<u8>> {
        let to = Vec::with_capacity(message.len() / 2);
        let written = match self {
            Coding::Gzip => write(GzEncoder::new(to, Compression::fast()), message, GzEncoder::finish),
            Coding::Deflate => write(ZlibEncoder::new(to, Compression::fast()), message, ZlibEncoder::finish),
        };
        // Writing into memory does not fail.
        written.ok().filter(|out| out.len() < message.len())
    }
}

fn write<W: Write>(
    mut encoder: W,
    message: &[u8],
    finish: impl FnOnce(W) -> io::Result<Vec<u8>>,
) -> io::Result<Vec<u8>> {
    encoder.write_all(message)?;
    finish(encoder)
}

fn inflate(decoder: &mut impl Read, most: u64, room: &mut Room) -> Result<Bytes, Error> {
    let mut out = Vec::new();
    loop {
        let before = out.len();
        // The caller's word on the size (gzip has one) is not asked for.
        let step = decoder.by_ref().take(STEP_BYTES as u64).read_to_end(&mut out);
        step.map_err(|_| Error::invalid("the message is not compressed as grpc-encoding says"))?;
        let grown = out.len() - before;
        if grown == 0 {
            return Ok(out.into());
        }
        if out.len() as u64 > most {
            return Err(too_large(most));
        }
        room.hold(grown as u64)?;
    }
}

/// The error for a message beyond the limit.
pub(super) fn too_large(most: u64) -> Error {
    Error::new(ErrorCode::TooLarge, format!("the message is larger than the limit of {most} bytes"))
}

#[cfg(test)]
mod tests {
    use weir_serving::Admission;

    use super::*;

    const BOTH: [Coding; 2] = [Coding::Gzip, Coding::Deflate];

    #[test]
    fn what_is_deflated_is_inflated() {
        let message = b"tensor ".repeat(1000);
        for coding in BOTH {
            let admission = Admission::new(1 << 20);
            let mut room = admission.room();
            let small = coding.deflate(&message).unwrap();
            assert!(small.len() < 200, "{}", small.len());
            assert_eq!(coding.inflate(&small, 7000, &mut room).unwrap(), message);
            assert_eq!(admission.held_bytes(), 7000);
            assert_eq!(coding.deflate(b"a"), None);
        }
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        for coding in BOTH {
            let bomb = coding.deflate(&vec![0; 64 << 20]).unwrap();
            assert!(bomb.len() < 400 << 10);
            let admission = Admission::new(8 << 20);
            let mut room = admission.room();
            assert_eq!(coding.inflate(&bomb, 1 << 20, &mut room).unwrap_err().code, ErrorCode::TooLarge);
            assert!(admission.held_bytes() <= 1 << 20);
            let error = coding.inflate(&bomb, 64 << 20, &mut room).unwrap_err();
            assert_eq!(error.code, ErrorCode::Overloaded, "all callers together are bounded too");
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        for coding in BOTH {
            let mut cut = coding.deflate(&b"tensor ".repeat(100)).unwrap();
            cut.truncate(cut.len() - 5);
            for bytes in [&b"no"[..], &[0; 64], &cut] {
                let error = coding.inflate(bytes, 1 << 20, &mut Admission::new(1 << 20).room()).unwrap_err();
                assert_eq!(error.code, ErrorCode::InvalidArgument);
            }
        }
    }

    #[test]
    fn codings_are_agreed_by_header() {
        let headers = |pairs: &[(HeaderName, &'static str)]| -> HeaderMap {
            pairs.iter().map(|(n, v)| (n.clone(), HeaderValue::from_static(v))).collect()
        };
        assert_eq!(Coding::of_request(&headers(&[])), Ok(None));
        assert_eq!(Coding::of_request(&headers(&[(ENCODING, "gzip")])), Ok(Some(Coding::Gzip)));
        let error = Coding::of_request(&headers(&[(ENCODING, "snappy")])).unwrap_err();
        assert_eq!(error.code, ErrorCode::Unsupported);
        let all = headers(&[(ACCEPT_ENCODING, "identity, deflate, gzip")]);
        assert_eq!(Coding::of_answers(&all, Some(Coding::Gzip)), Some(Coding::Gzip));
        assert_eq!(Coding::of_answers(&all, None), None);
        assert_eq!(Coding::of_answers(&headers(&[(ACCEPT_ENCODING, "gzip")]), Some(Coding::Deflate)), None);
    }
}
