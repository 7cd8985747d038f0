//! Unary gRPC calls over [`HttpPool`]
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
//!
//! What gRPC adds to HTTP/2 for one message each way is five bytes and a status; tonic's client
//! would bring its own connections, deadlines and errors beside those that are here already.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderName, HeaderValue, header};

use crate::{Answer, CallError, HttpPool, PoolOptions, Trust, plain, pool::retry_after};

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";
const DETAILS: &str = "grpc-status-details-bin";
/// Before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// Most digits of a timeout.
const MAX_DIGITS: u128 = 99_999_999;

/// Calls one gRPC server.
#[derive(Debug, Clone)]
pub struct GrpcPool {
    pool: HttpPool,
}

/// A status that is not OK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcStatus {
    /// Its number (<https://grpc.github.io/grpc/core/md_doc_statuscodes.html>).
    pub code: u32,
    /// What it says, bounded.
    pub text: String,
    /// `Retry-After`, which some servers send.
    pub retry_after: Option<Duration>,
    /// `grpc-status-details-bin`: a `google.rpc.Status`, in base64.
    pub details: Option<HeaderValue>,
}

/// Why a call has no message for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrpcError {
    /// The server said so.
    Status(GrpcStatus),
    /// There is no status: the call failed, or what answered speaks HTTP alone.
    Call(CallError),
}

impl From<CallError> for GrpcError {
    fn from(error: CallError) -> Self {
        GrpcError::Call(error)
    }
}

/// gRPC's statuses as the HTTP statuses that they stand for.
impl From<GrpcError> for CallError {
    fn from(error: GrpcError) -> Self {
        let GrpcStatus { code, text, retry_after, .. } = match error {
            GrpcError::Status(status) => status,
            GrpcError::Call(error) => return error,
        };
        let status = match code {
            1 => return CallError::Connection("it cancelled the call".into()),
            8 => return CallError::Overloaded { status: 429, retry_after, text },
            14 => return CallError::Overloaded { status: 503, retry_after, text },
            3 => 400,
            4 => 504,
            5 => 404,
            7 => 403,
            11 => 413,
            12 => 501,
            16 => 401,
            _ => 500,
        };
        CallError::Status { status, text }
    }
}

impl GrpcPool {
    /// Calls the server at `base`, of the form `grpc://host:port`: HTTP/2 over plain TCP.
    ///
    /// # Errors
    /// A sentence where `base` is something else.
    pub fn new(base: &str, options: &PoolOptions) -> Result<Self, String> {
        let rest = address(base, "grpc://")?;
        let options = PoolOptions { http2: true, ..options.clone() };
        Ok(Self { pool: HttpPool::new(&format!("http://{rest}"), &options)? })
    }

    /// The same over TLS, to `grpcs://host:port`, if one of those in `trust` vouches for the server.
    ///
    /// # Errors
    /// A sentence where `base` is something else.
    pub fn secure(base: &str, options: &PoolOptions, trust: &Trust) -> Result<Self, String> {
        let rest = address(base, "grpcs://")?;
        let options = PoolOptions { http2: true, ..options.clone() };
        Ok(Self { pool: HttpPool::secure(&format!("https://{rest}"), &options, trust)? })
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
        Ok(self.call(method, message, timeout, metadata).await?)
    }

    /// The same for who reads gRPC's statuses by a table of its own.
    ///
    /// # Errors
    /// The status that the server gave; [`HttpPool::send`]'s where there is none.
    pub async fn call(
        &self,
        method: &str,
        message: &[u8],
        timeout: Duration,
        metadata: &[(HeaderName, HeaderValue)],
    ) -> Result<Bytes, GrpcError> {
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
        let answer = self.pool.ask(method, &headers, Some(body.freeze())).await?;
        check_status(&answer)?;
        Ok(unframe(answer.body)?)
    }
}

fn address<'a>(base: &'a str, scheme: &str) -> Result<&'a str, String> {
    base.strip_prefix(scheme).ok_or_else(|| format!("{base:?} is no URL of the form {scheme}host:port"))
}

/// The largest unit that tells it within eight digits, rounded down: a server that gives up a
/// moment early is better than one that works for nobody.
fn timeout_value(timeout: Duration) -> HeaderValue {
    let units = [(timeout.as_micros(), 'u'), (timeout.as_millis(), 'm')];
    let fits = units.into_iter().find(|(n, _)| *n <= MAX_DIGITS);
    let (n, unit) = fits.unwrap_or((u128::from(timeout.as_secs()).min(MAX_DIGITS), 'S'));
    HeaderValue::try_from(format!("{n}{unit}")).unwrap_or(HeaderValue::from_static("1S"))
}

fn check_status(answer: &Answer) -> Result<(), GrpcError> {
    // A call that ends before any message has its status among the headers.
    let told = if answer.trailers.contains_key(STATUS) { &answer.trailers } else { &answer.headers };
    let code = told.get(STATUS).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    let Some(code) = code else {
        let broken = || CallError::Broken("it has no grpc-status".into());
        // A proxy's answer, say.
        return Err(if answer.is_success() { broken() } else { answer.refusal() }.into());
    };
    if code == 0 {
        return Ok(());
    }
    let text = told.get(MESSAGE).map(|value| plain(&unescape(value.as_bytes()))).unwrap_or_default();
    let (retry_after, details) = (retry_after(told), told.get(DETAILS).cloned());
    Err(GrpcError::Status(GrpcStatus { code, text, retry_after, details }))
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
    use http::HeaderMap;

    use super::*;

    #[test]
    fn timeouts_have_eight_digits_at_most() {
        let of = |timeout| timeout_value(timeout).to_str().unwrap().to_owned();
        assert_eq!(of(Duration::from_micros(1_500)), "1500u");
        assert_eq!(of(Duration::from_secs(1_000)), "1000000m");
        assert_eq!(of(Duration::from_secs(1_000_000)), "1000000S");
        assert_eq!(of(Duration::MAX), "99999999S");
    }

    fn answer<const N: usize>(status: u16, trailers: [(&'static str, &'static str); N]) -> Answer {
        let pair = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let trailers = HeaderMap::from_iter(trailers.map(pair));
        Answer { status, headers: HeaderMap::new(), body: Bytes::new(), trailers }
    }

    #[test]
    fn statuses_become_http_ones_and_messages_are_read() {
        let of = |code: &'static str| -> Result<(), CallError> {
            Ok(check_status(&answer(200, [(STATUS, code), (MESSAGE, "a%C3%A4%0Ab%")]))?)
        };
        assert_eq!(of("0"), Ok(()));
        assert_eq!(of("3"), Err(CallError::Status { status: 400, text: "aä b%".into() }));
        assert!(matches!(of("14"), Err(CallError::Overloaded { status: 503, retry_after: None, .. })));
        assert!(matches!(of("8"), Err(CallError::Overloaded { status: 429, .. })));
        assert!(matches!(of("13"), Err(CallError::Status { status: 500, .. })));
        assert!(matches!(of("no"), Err(CallError::Broken(_))));
        assert!(matches!(check_status(&answer(200, [])), Err(GrpcError::Call(CallError::Broken(_)))));
    }

    #[test]
    fn a_status_counts_before_that_of_http_and_http_s_where_there_is_none() {
        let of = |status, trailers| check_status(&answer(status, trailers)).unwrap_err();
        assert!(matches!(of(503, [(STATUS, "3")]), GrpcError::Status(GrpcStatus { code: 3, .. })));
        let proxy = check_status(&answer(502, [])).unwrap_err();
        assert_eq!(proxy, GrpcError::Call(CallError::Status { status: 502, text: String::new() }));
    }

    #[test]
    fn when_to_come_again_and_details_are_handed_on() {
        let told = check_status(&answer(200, [(STATUS, "14"), ("retry-after", "7"), (DETAILS, "CA4")]));
        let Err(GrpcError::Status(told)) = told else { panic!("{told:?}") };
        let wait = Some(Duration::from_secs(7));
        assert_eq!((told.code, told.retry_after), (14, wait));
        assert_eq!(told.details, Some(HeaderValue::from_static("CA4")));
        assert!(matches!(CallError::from(GrpcError::Status(told)),
                         CallError::Overloaded { status: 503, retry_after, .. } if retry_after == wait));
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
