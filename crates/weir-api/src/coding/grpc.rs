//! Codings of gRPC messages
//! (<https://github.com/grpc/grpc/blob/master/doc/compression.md>).

use http::{HeaderMap, HeaderName, HeaderValue};
use weir_types::{Error, ErrorCode};

use super::{Carrier, Coding};

/// How the messages of a call are compressed.
pub(crate) const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// Which codings the other side reads.
pub(crate) const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// Ours.
pub(crate) const ACCEPTED: HeaderValue = HeaderValue::from_static("identity,deflate,gzip");

/// Answers shorter than this are not compressed: they fit one packet anyway.
const MIN_BYTES: usize = 1 << 10;

const MESSAGE: Carrier = Carrier { noun: "message", header: "grpc-encoding" };

impl Coding {
    /// The coding of a request's messages.
    ///
    /// # Errors
    /// `Unsupported` for one that we do not undo.
    pub(crate) fn of_request(headers: &HeaderMap) -> Result<Option<Self>, Error> {
        match headers.get(ENCODING).map(|v| v.to_str().unwrap_or("?")) {
            None | Some("identity") => Ok(None),
            Some(name) => Self::named(name).map(Some).ok_or_else(|| {
                let name: String = name.chars().take(32).collect();
                let text = format!("grpc-encoding {name:?} is not supported: use gzip, deflate or identity");
                Error::new(ErrorCode::Unsupported, text)
            }),
        }
    }

    /// The coding of the answers: the request's own, where the client reads it. A client that
    /// saves bandwidth says so by compressing; one that does not is not made to wait.
    pub(crate) fn of_answers(headers: &HeaderMap, request: Option<Self>) -> Option<Self> {
        let request = request?;
        let mut accepted = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
        accepted.any(|list| list.split(',').any(|word| word.trim() == request.name())).then_some(request)
    }

    /// A message as it was before it was compressed.
    ///
    /// # Errors
    /// `InvalidArgument`, `TooLarge` beyond `most` bytes, and what `hold` says.
    pub(crate) fn unpack_message(
        self,
        message: &[u8],
        most: u64,
        hold: impl FnMut(u64) -> Result<(), Error>,
    ) -> Result<Vec<u8>, Error> {
        self.undo(message, most, MESSAGE, hold)
    }

    /// Compresses a message; `None` where that is not worth it.
    pub(crate) fn pack_message(self, message: &[u8]) -> Option<Vec<u8>> {
        if message.len() < MIN_BYTES { None } else { self.compress(message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_are_agreed_by_header() {
        let headers = |pairs: &[(HeaderName, &'static str)]| -> HeaderMap {
            pairs.iter().map(|(n, v)| (n.clone(), HeaderValue::from_static(v))).collect()
        };
        assert_eq!(Coding::of_request(&headers(&[])), Ok(None));
        assert_eq!(Coding::of_request(&headers(&[(ENCODING, "identity")])), Ok(None));
        assert_eq!(Coding::of_request(&headers(&[(ENCODING, "gzip")])), Ok(Some(Coding::Gzip)));
        let error = Coding::of_request(&headers(&[(ENCODING, "snappy")])).unwrap_err();
        assert_eq!(error.code, ErrorCode::Unsupported);
        let all = headers(&[(ACCEPT_ENCODING, "identity, deflate, gzip")]);
        assert_eq!(Coding::of_answers(&all, Some(Coding::Gzip)), Some(Coding::Gzip));
        assert_eq!(Coding::of_answers(&all, None), None);
        assert_eq!(Coding::of_answers(&headers(&[(ACCEPT_ENCODING, "gzip")]), Some(Coding::Deflate)), None);
    }
}
