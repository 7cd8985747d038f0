//! Unary gRPC calls over [`HttpPool`]
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
//!
//! What gRPC adds to HTTP/2 for one message each way is five bytes and a status; tonic's client
//! would bring its own connections, deadlines and errors beside those that are here already.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{Answer, CallError, HttpPool, PoolOptions, plain, pool::retry_after};

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";
/// Before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// Most digits of a timeout.
const MAX_DIGITS: u128 = 99_999_999;

/// Calls one gRPC server.
#[derive(Debug, Clone)]
pub struct GrpcPool {
    pool: HttpPool,
}

impl GrpcPool {
    /// Calls the server at `base`, of the form `grpc://host:port`: HTTP/2 over plain TCP.
    ///
    /// # Errors
    /// A sentence where `base` is something else.
    pub fn new(base: &str, options: &PoolOptions) -> Result<Self, String> {
        let rest = base.strip_prefix("grpc://");
        let rest = rest.ok_or_else(|| format!("{base:?} is no URL of the form grpc://host:port"))?;
        let options = PoolOptions { http2: true, ..options.clone() };
        Ok(Self { pool: HttpPool::new(&format!("http://{rest}"), &options)? })
    }

    /// Sends `message` to `method` (`/package.Service/Method`) and reads the one that is
    /// answered. The server is told that it has `timeout`; dropping the future resets the
    /// stream.
    ///
    /// # Errors
    /// As [`HttpPool::send`], gRPC's statuses as the HTTP statuses that they stand for.
    pub async fn unary(&self, method: &str, message: &[u8], timeout: Duration) -> Result<Bytes, CallError> {
        self.unary_with(method, message, timeout, &[]).await
    }

    /// [`unary`](Self::unary) with metadata.
    ///
    /// # Errors
    /// As `unary`.
    pub async fn unary_with(
        &self,
        method: &str,
        message: &[u8],
        timeout: Duration,
        metadata: &[(HeaderName, HeaderValue)],
    ) -> Result<Bytes, CallError> {
        let mut headers = vec![
            (header::CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
            (header::TE, HeaderValue::from_static("trailers")),
            (HeaderName::from_static("grpc-timeout"), timeout_value(timeout)),
        ];
        headers.extend_from_slice(metadata);
        let length = u32::try_from(message.len())
            .map_err(|_| CallError::Unsendable("the request is larger than gRPC carries".into()))?;
        let mut body = BytesMut::with_capacity(PREFIX_BYTES + message.len());
        body.put_u8(0);
        body.put_u32(length);
        body.put_slice(message);
        let Answer { headers, body, trailers } =
            self.pool.send(method, &headers, Some(body.freeze())).await?;
        // A call that ends before any message has its status among the headers.
        let told = if trailers.contains_key(STATUS) { &trailers } else { &headers };
        check_status(told)?;
        unframe(body)
    }
}

/// The largest unit that tells it within eight digits, rounded down: a server that gives up a
/// moment early is better than one that works for nobody.
fn timeout_value(timeout: Duration) -> HeaderValue {
    let units = [(timeout.as_micros(), 'u'), (timeout.as_millis(), 'm')];
    let fits = units.into_iter().find(|(n, _)| *n <= MAX_DIGITS);
    let (n, unit) = fits.unwrap_or((u128::from(timeout.as_secs()).min(MAX_DIGITS), 'S'));
    HeaderValue::try_from(format!("{n}{unit}")).unwrap_or(HeaderValue::from_static("1S"))
}

/// <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>
fn check_status(headers: &HeaderMap) -> Result<(), CallError> {
    let code = headers.get(STATUS).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    let code = code.ok_or_else(|| CallError::Broken("it has no grpc-status".into()))?;
    let text = headers.get(MESSAGE).map(|value| plain(&unescape(value.as_bytes()))).unwrap_or_default();
    let status = |status| Err(CallError::Status { status, text: text.clone() });
    match code {
        0 => Ok(()),
        1 => Err(CallError::Connection("it cancelled the call".into())),
        3 => status(400),
        4 => status(504),
        5 => status(404),
        7 => status(403),
        8 => Err(CallError::Overloaded { status: 429, retry_after: retry_after(headers), text }),
        11 => status(413),
        12 => status(501),
        14 => Err(CallError::Overloaded { status: 503, retry_after: retry_after(headers), text }),
        16 => status(401),
        _ => status(500),
    }
}

/// `grpc-message` is percent-encoded; what is not stays as it is.
fn unescape(text: &[u8]) -> String {
    let hex = |b: Option<&u8>| (*b? as char).to_digit(16);
    let (mut out, mut i) = (Vec::new(), 0);
    while let Some(&byte) = text.get(i) {
        match (byte, hex(text.get(i + 1)), hex(text.get(i + 2))) {
            (b'%', Some(high), Some(low)) => {
                // Two hexadecimal digits are a byte.
                out.push((high * 16 + low) as u8);
                i += 3;
            }
            _ => {
                out.push(byte);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The one message of a body.
fn unframe(mut body: Bytes) -> Result<Bytes, CallError> {
    let broken = |why: &str| CallError::Broken(why.to_owned());
    let Some((prefix, rest)) = body.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(broken("it has no message"));
    };
    let [compressed, length @ ..] = *prefix;
    if compressed != 0 {
        return Err(broken("its message is compressed, which was not asked for"));
    }
    if u32::from_be_bytes(length) as usize != rest.len() {
        return Err(broken("it is not one message"));
    }
    Ok(body.split_off(PREFIX_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_eight_digits_at_most() {
        let of = |timeout| timeout_value(timeout).to_str().unwrap().to_owned();
        assert_eq!(of(Duration::from_micros(1_500)), "1500u");
        assert_eq!(of(Duration::from_secs(1_000)), "1000000m");
        assert_eq!(of(Duration::from_secs(1_000_000)), "1000000S");
        assert_eq!(of(Duration::MAX), "99999999S");
    }

    #[test]
    fn statuses_become_http_ones_and_messages_are_read() {
        let of = |code: &'static str| {
            let headers = [
                (HeaderName::from_static(STATUS), HeaderValue::from_static(code)),
                (HeaderName::from_static(MESSAGE), HeaderValue::from_static("a%C3%A4%0Ab%")),
            ];
            check_status(&HeaderMap::from_iter(headers))
        };
        assert_eq!(of("0"), Ok(()));
        assert_eq!(of("3"), Err(CallError::Status { status: 400, text: "aä b%".into() }));
        assert!(matches!(of("14"), Err(CallError::Overloaded { status: 503, retry_after: None, .. })));
        let after = [(header::RETRY_AFTER, "7"), (HeaderName::from_static(STATUS), "14")];
        let after = after.map(|(name, value)| (name, HeaderValue::from_static(value)));
        let wait = Some(Duration::from_secs(7));
        assert!(matches!(check_status(&HeaderMap::from_iter(after)),
                         Err(CallError::Overloaded { retry_after, .. }) if retry_after == wait));
        assert!(matches!(of("8"), Err(CallError::Overloaded { status: 429, .. })));
        assert!(matches!(of("13"), Err(CallError::Status { status: 500, .. })));
        assert!(matches!(of("no"), Err(CallError::Broken(_))));
        assert!(matches!(check_status(&HeaderMap::new()), Err(CallError::Broken(_))));
    }

    #[test]
    fn a_body_is_one_message() {
        let of = |body: &'static [u8]| unframe(Bytes::from_static(body));
        assert_eq!(of(b"\0\0\0\0\x02ab"), Ok(Bytes::from_static(b"ab")));
        for bad in [&b""[..], b"\0\0\0", b"\0\0\0\0\x03ab", b"\0\0\0\0\x01ab", b"\x01\0\0\0\x02ab"] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }
}
