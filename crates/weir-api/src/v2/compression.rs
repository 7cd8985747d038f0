//! gzip and deflate, bounded by the size of what comes out.

use std::io::{self, Read, Write};

use flate2::{
    Compression,
    read::{MultiGzDecoder, ZlibDecoder},
    write::{GzEncoder, ZlibEncoder},
};
use http::{HeaderMap, HeaderValue, header};
use weir_types::{Error, ErrorCode};

/// Bytes decoded at once, for which room is taken before the next are.
const STEP_BYTES: u64 = 64 << 10;
/// Smallest answer that is worth compressing: below, the packet is the same size.
const MIN_BYTES: usize = 1400;

/// A coding of HTTP (RFC 9110 section 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950, that is zlib.
    Deflate,
}

impl Coding {
    /// The coding's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Coding::Gzip, Coding::Deflate].into_iter().find(|c| c.name().eq_ignore_ascii_case(name))
    }

    /// The coding of a request's body.
    ///
    /// # Errors
    /// `UnsupportedMediaType` for one that we do not undo, and for several.
    pub(crate) fn of_body(headers: &HeaderMap) -> Result<Option<Self>, Error> {
        let mut named = headers.get_all(header::CONTENT_ENCODING).iter();
        let (first, more) = (named.next(), named.next());
        let text = first.map(|v| v.to_str().unwrap_or("?").trim());
        match text {
            None => Ok(None),
            Some(name) if name.eq_ignore_ascii_case("identity") && more.is_none() => Ok(None),
            Some(name) => Self::named(name).filter(|_| more.is_none()).map(Some).ok_or_else(|| {
                let name: String = name.chars().take(32).collect();
                let text = format!("Content-Encoding {name:?} is not supported: use gzip, deflate or none");
                Error::new(ErrorCode::UnsupportedMediaType, text)
            }),
        }
    }

    /// The coding that the client prefers for an answer; `None` to send it as it is.
    pub(crate) fn of_answer(headers: &HeaderMap) -> Option<Self> {
        let listed = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
        let mut best: Option<(f32, Self)> = None;
        for entry in listed.flat_map(|list| list.split(',')) {
            let mut parts = entry.split(';').map(str::trim);
            let coding = parts.next().and_then(Self::named);
            let weight = parts.find_map(|p| p.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse().ok());
            let (Some(coding), Some(weight)) = (coding, weight) else { continue };
            if weight > 0.0 && best.is_none_or(|(before, _)| weight > before) {
                best = Some((weight, coding));
            }
        }
        best.map(|(_, coding)| coding)
    }

    /// Undoes the coding. `hold` takes room for what comes out as it comes; it ends at
    /// `most` bytes, whatever the bytes say of their own size.
    ///
    /// # Errors
    /// `InvalidArgument` for bytes that are not of this coding, `TooLarge`, and what `hold`
    /// says.
    pub(crate) fn undo(
        self,
        bytes: &[u8],
        most: u64,
        hold: impl FnMut(u64) -> Result<(), Error>,
    ) -> Result<Vec<u8>, Error> {
        match self {
            Coding::Gzip => undo(&mut MultiGzDecoder::new(bytes), most, hold),
            Coding::Deflate => undo(&mut ZlibDecoder::new(bytes), most, hold),
        }
        .and_then(|out| out.ok_or_else(|| self.wrong()))
    }

    fn wrong(self) -> Error {
        Error::invalid(format!("the body is not {}, as Content-Encoding says", self.name()))
    }

    /// Compresses an answer; `None` where that gains nothing.
    pub(crate) fn compress(self, body: &[u8]) -> Option<Vec<u8>> {
        if body.len() < MIN_BYTES {
            return None;
        }
        let to = Vec::with_capacity(body.len() / 2);
        let written = match self {
            Coding::Gzip => write(GzEncoder::new(to, Compression::fast()), body, GzEncoder::finish),
            Coding::Deflate => write(ZlibEncoder::new(to, Compression::fast()), body, ZlibEncoder::finish),
        };
        // Writing into memory does not fail.
        written.ok().filter(|out| out.len() < body.len())
    }

    /// The header's value.
    pub(crate) fn value(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }
}

fn write<W: Write>(mut to: W, body: &[u8], finish: fn(W) -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    to.write_all(body)?;
    finish(to)
}

/// `None` for bytes that are not of the coding.
fn undo(
    decoder: &mut impl Read,
    most: u64,
    mut hold: impl FnMut(u64) -> Result<(), Error>,
) -> Result<Option<Vec<u8>>, Error> {
    let mut out = Vec::new();
    loop {
        let Ok(grown) = decoder.take(STEP_BYTES).read_to_end(&mut out) else { return Ok(None) };
        if grown == 0 {
            return Ok(Some(out));
        }
        if out.len() as u64 > most {
            let text = format!("the body is larger than the limit of {most} bytes when it is unpacked");
            return Err(Error::new(ErrorCode::TooLarge, text));
        }
        hold(grown as u64)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Coding; 2] = [Coding::Gzip, Coding::Deflate];

    fn headers(name: http::HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|v| (name.clone(), HeaderValue::from_static(v))).collect()
    }

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
            assert_eq!(coding.undo(&small, 7000, hold).unwrap(), body);
            assert_eq!(held, 7000);
            assert_eq!(coding.compress(b"small"), None);
        }
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        for coding in BOTH {
            let bomb = coding.compress(&vec![0; 64 << 20]).unwrap();
            let mut held = 0;
            let error = coding.undo(&bomb, 1 << 20, |n| {
                held += n;
                Ok(())
            });
            assert_eq!(error.unwrap_err().code, ErrorCode::TooLarge);
            assert!(held <= 1 << 20);
            let full = |_| Err(Error::new(ErrorCode::Overloaded, "full"));
            assert_eq!(coding.undo(&bomb, 64 << 20, full).unwrap_err().code, ErrorCode::Overloaded);
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        for coding in BOTH {
            let mut cut = coding.compress(&b"tensor ".repeat(1000)).unwrap();
            cut.truncate(cut.len() - 5);
            for bytes in [&b"no"[..], &[0; 64], &cut] {
                let error = coding.undo(bytes, 1 << 20, |_| Ok(())).unwrap_err();
                assert_eq!(error.code, ErrorCode::InvalidArgument, "{coding:?} {bytes:?}");
            }
        }
    }

    #[test]
    fn codings_are_agreed_by_header() {
        let body = |values: &[&'static str]| Coding::of_body(&headers(header::CONTENT_ENCODING, values));
        assert_eq!(body(&[]), Ok(None));
        assert_eq!(body(&["identity"]), Ok(None));
        assert_eq!(body(&["GZip"]), Ok(Some(Coding::Gzip)));
        for bad in [&["br"][..], &["gzip, deflate"], &["gzip", "gzip"], &["identity", "gzip"]] {
            assert_eq!(body(bad).unwrap_err().code, ErrorCode::UnsupportedMediaType, "{bad:?}");
        }
        let answer = |values: &[&'static str]| Coding::of_answer(&headers(header::ACCEPT_ENCODING, values));
        assert_eq!(answer(&["gzip, deflate"]), Some(Coding::Gzip));
        assert_eq!(answer(&["gzip;q=0.5, deflate"]), Some(Coding::Deflate));
        assert_eq!(answer(&["gzip;q=0"]), None);
        assert_eq!(answer(&["br", "identity"]), None);
        assert_eq!(answer(&[]), None);
    }
}
