//! gzip and deflate, both ways, for every face.
//!
//! What comes out of a body is bounded by its own size as it comes: the sender's word on it
//! (gzip has one) is not asked for. How two sides agree on a coding differs between HTTP
//! ([`http`]) and gRPC ([`grpc`]); what it does to the bytes does not.

pub(crate) mod grpc;
pub(crate) mod http;

use std::io::{self, Read, Write};

use ::http::HeaderValue;
use flate2::{
    Compression,
    read::{MultiGzDecoder, ZlibDecoder},
    write::{GzEncoder, ZlibEncoder},
};
use weir_types::{Error, ErrorCode};

/// Bytes undone at once, for which room is taken before the next are.
const STEP_BYTES: u64 = 64 << 10;

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950, that is zlib: what HTTP calls deflate, and gRPC means by it.
    Deflate,
}

/// What is compressed, as an error calls it, and the header that says how.
#[derive(Debug, Clone, Copy)]
struct Carrier {
    noun: &'static str,
    header: &'static str,
}

impl Coding {
    /// The name in headers.
    fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Coding::Gzip, Coding::Deflate].into_iter().find(|c| c.name().eq_ignore_ascii_case(name))
    }

    /// The name as a header's value.
    pub(crate) fn value(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }

    /// Undoes the coding. `hold` takes room for what comes out as it comes; it ends at
    /// `most` bytes.
    ///
    /// # Errors
    /// `InvalidArgument` for bytes that are not of this coding, `TooLarge`, and what `hold`
    /// says.
    fn undo(
        self,
        bytes: &[u8],
        most: u64,
        carrier: Carrier,
        hold: impl FnMut(u64) -> Result<(), Error>,
    ) -> Result<Vec<u8>, Error> {
        match self {
            Coding::Gzip => read(&mut MultiGzDecoder::new(bytes), most, carrier, hold),
            Coding::Deflate => read(&mut ZlibDecoder::new(bytes), most, carrier, hold),
        }?
        .ok_or_else(|| {
            let Carrier { noun, header } = carrier;
            Error::invalid(format!("the {noun} is not {}, as {header} says", self.name()))
        })
    }

    /// Compresses `bytes`; `None` where that gains nothing.
    fn compress(self, bytes: &[u8]) -> Option<Vec<u8>> {
        let to = Vec::with_capacity(bytes.len() / 2);
        let written = match self {
            Coding::Gzip => write(GzEncoder::new(to, Compression::fast()), bytes, GzEncoder::finish),
            Coding::Deflate => write(ZlibEncoder::new(to, Compression::fast()), bytes, ZlibEncoder::finish),
        };
        // Writing into memory does not fail.
        written.ok().filter(|out| out.len() < bytes.len())
    }
}

fn write<W: Write>(mut to: W, bytes: &[u8], finish: fn(W) -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    to.write_all(bytes)?;
    finish(to)
}

/// `None` for bytes that are not of the coding.
fn read(
    decoder: &mut impl Read,
    most: u64,
    carrier: Carrier,
    mut hold: impl FnMut(u64) -> Result<(), Error>,
) -> Result<Option<Vec<u8>>, Error> {
    let mut out = Vec::new();
    loop {
        let Ok(grown) = decoder.take(STEP_BYTES).read_to_end(&mut out) else { return Ok(None) };
        if grown == 0 {
            return Ok(Some(out));
        }
        if out.len() as u64 > most {
            let noun = carrier.noun;
            let text = format!("the {noun} is larger than the limit of {most} bytes when it is unpacked");
            return Err(Error::new(ErrorCode::TooLarge, text));
        }
        hold(grown as u64)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Coding; 2] = [Coding::Gzip, Coding::Deflate];
    const BODY: Carrier = Carrier { noun: "body", header: "Content-Encoding" };

    #[test]
    fn what_is_compressed_comes_back() {
        let body = b"tensor ".repeat(1000);
        for coding in BOTH {
            let small = coding.compress(&body).unwrap();
            assert!(small.len() < 200, "{}", small.len());
            let mut held = 0;
            let hold = |n| {
                held += n;
                Ok(())
            };
            assert_eq!(coding.undo(&small, 7000, BODY, hold).unwrap(), body);
            assert_eq!(held, 7000);
            assert_eq!(coding.compress(b"a"), None);
        }
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        for coding in BOTH {
            let bomb = coding.compress(&vec![0; 64 << 20]).unwrap();
            assert!(bomb.len() < 400 << 10);
            let mut held = 0;
            let error = coding.undo(&bomb, 1 << 20, BODY, |n| {
                held += n;
                Ok(())
            });
            assert_eq!(error.unwrap_err().code, ErrorCode::TooLarge);
            assert!(held <= 1 << 20);
            let full = |_| Err(Error::new(ErrorCode::Overloaded, "full"));
            let error = coding.undo(&bomb, 64 << 20, BODY, full).unwrap_err();
            assert_eq!(error.code, ErrorCode::Overloaded, "all callers together are bounded too");
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        for coding in BOTH {
            let mut cut = coding.compress(&b"tensor ".repeat(1000)).unwrap();
            cut.truncate(cut.len() - 5);
            for bytes in [&b"no"[..], &[0; 64], &cut] {
                let error = coding.undo(bytes, 1 << 20, BODY, |_| Ok(())).unwrap_err();
                assert_eq!(error.code, ErrorCode::InvalidArgument, "{coding:?} {bytes:?}");
                assert!(error.message.contains("as Content-Encoding says"));
            }
        }
    }
}
