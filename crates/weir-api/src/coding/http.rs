//! Codings of HTTP bodies (RFC 9110 section 8.4).

use http::{HeaderMap, header};
use weir_types::{Error, ErrorCode};

use super::{Carrier, Coding};

/// Smallest answer that is worth compressing: below, the packet is the same size.
const MIN_BYTES: usize = 1400;

const BODY: Carrier = Carrier { noun: "body", header: "Content-Encoding" };

impl Coding {
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

    /// A request's body as it was before it was compressed.
    ///
    /// # Errors
    /// `InvalidArgument`, `TooLarge` beyond `most` bytes, and what `hold` says.
    pub(crate) fn unpack_body(
        self,
        body: &[u8],
        most: u64,
        hold: impl FnMut(u64) -> Result<(), Error>,
    ) -> Result<Vec<u8>, Error> {
        self.undo(body, most, BODY, hold)
    }

    /// Compresses an answer; `None` where that is not worth it.
    pub(crate) fn pack_body(self, body: &[u8]) -> Option<Vec<u8>> {
        if body.len() < MIN_BYTES { None } else { self.compress(body) }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(name: HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|v| (name.clone(), HeaderValue::from_static(v))).collect()
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

    #[test]
    fn small_answers_stay_as_they_are() {
        assert_eq!(Coding::Gzip.pack_body(&[0; MIN_BYTES - 1]), None);
        assert!(Coding::Gzip.pack_body(&[0; MIN_BYTES]).is_some());
    }
}
