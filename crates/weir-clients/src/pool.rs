//! An asynchronous HTTP client: connections are kept, answers are bounded, a dropped call
//! closes its connection.

use std::{
    error::Error,
    io,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connect, HttpConnector},
    },
    rt::{TokioExecutor, TokioTimer},
};
use rustls::Error as TlsError;

use crate::{CallError, Trust};

/// Longest part of an error's text that is kept, bytes.
const MAX_ERROR_BYTES: usize = 16 * 1024;
/// An unused connection is closed after this long: servers close theirs after a minute or so,
/// and a call on a connection that is just being closed is lost.
const IDLE: Duration = Duration::from_secs(20);

/// What an HTTP/2 server may send of one answer before we have read it; the protocol's own 64 KiB
/// would make a large answer wait for many round trips.
const WINDOW_BYTES: u32 = 1 << 20;
/// A connection on which calls wait is asked after so long whether it lives, and given up when
/// it does not say so within the same time: all calls share it.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How connections are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolOptions {
    /// Time for a connection to be made.
    pub connect_timeout: Duration,
    /// Connections that are kept while nobody uses them.
    pub max_idle: usize,
    /// Largest answer, bytes.
    pub max_answer_bytes: usize,
    /// HTTP/2 from the first byte ("prior knowledge", RFC 9113 section 3.3), over TLS as ALPN's `h2`,
    /// all calls on one connection; else HTTP/1.1.
    pub http2: bool,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            max_idle: 64,
            max_answer_bytes: 64 << 20,
            http2: false,
        }
    }
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// What came behind the body (gRPC's status does).
    pub trailers: HeaderMap,
}

/// Calls one server. Runs on the tokio runtime that awaits it; the connections end with that.
#[derive(Debug, Clone)]
pub struct HttpPool {
    wire: Wire,
    base: String,
    max_answer_bytes: usize,
}

/// What the bytes go over. Two clients rather than one that can do both: calls over plain TCP are on the
/// way of predictions, and pay nothing for TLS.
#[derive(Debug, Clone)]
enum Wire {
    Plain(Client<HttpConnector, Full<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl HttpPool {
    /// Calls the server at `base`, for example `http://10.0.0.7:8000`. Connects when it is
    /// first called.
    ///
    /// # Errors
    /// A sentence where `base` is no plain `http` address.
    pub fn new(base: &str, options: &PoolOptions) -> Result<Self, String> {
        let base = address(base, "http")?;
        let wire = Wire::Plain(client(tcp(options), options));
        Ok(Self { wire, base, max_answer_bytes: options.max_answer_bytes })
    }

    /// Calls the server at `base`, for example `https://collector:4318`, if one of those in `trust`
    /// vouches for it. Connects when it is first called.
    ///
    /// # Errors
    /// A sentence where `base` is no `https` address.
    pub fn secure(base: &str, options: &PoolOptions, trust: &Trust) -> Result<Self, String> {
        let base = address(base, "https")?;
        let (mut tls, mut tcp) = (trust.config()?, tcp(options));
        tls.alpn_protocols = vec![if options.http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        tcp.enforce_http(false);
        let wire = Wire::Tls(client(HttpsConnector::from((tcp, Arc::new(tls))), options));
        Ok(Self { wire, base, max_answer_bytes: options.max_answer_bytes })
    }

    /// Sends `body` (a `GET` where there is none) to `path` and reads the whole answer.
    /// Give it a deadline by dropping the future.
    ///
    /// # Errors
    /// As [`ask`](Self::ask); [`CallError::Overloaded`] for 429 and 503, [`CallError::Status`] for
    /// everything else that is no success.
    pub async fn send(
        &self,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Option<Bytes>,
    ) -> Result<Answer, CallError> {
        let answer = self.ask(path, headers, body).await?;
        if answer.is_success() { Ok(answer) } else { Err(answer.refusal()) }
    }

    /// The same for who reads statuses by a table of its own: an answer is one whatever its status. Of
    /// one that is no success, the body is kept to 16 KiB, or not at all.
    ///
    /// # Errors
    /// [`CallError::Connection`], [`CallError::Untrusted`]; [`CallError::Broken`] for an answer beyond the bound.
    pub async fn ask(
        &self,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Option<Bytes>,
    ) -> Result<Answer, CallError> {
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let mut request = Request::new(Full::new(body.unwrap_or_default()));
        *request.method_mut() = method;
        *request.uri_mut() =
            format!("{}{path}", self.base).parse().map_err(|e| CallError::Broken(format!("{path}: {e}")))?;
        request.headers_mut().extend(headers.iter().cloned());
        let response = match &self.wire {
            Wire::Plain(client) => client.request(request).await,
            Wire::Tls(client) => client.request(request).await,
        };
        let response = response.map_err(|e| connection(&e))?;
        let (head, incoming) = response.into_parts();
        let (status, success) = (head.status.as_u16(), head.status.is_success());
        let (body, trailers) = if !success {
            read(incoming, MAX_ERROR_BYTES).await.unwrap_or_default()
        } else if head.headers.contains_key(header::CONTENT_ENCODING) {
            return Err(CallError::Broken("it is compressed, which was not asked for".into()));
        } else {
            read(incoming, self.max_answer_bytes).await?
        };
        Ok(Answer { status, headers: head.headers, body, trailers })
    }
}

impl Answer {
    /// Whether the status is a success.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// What the body of an error says, as a log may repeat it.
    pub fn said(&self) -> String {
        message(&self.body)
    }

    /// `Retry-After` in either of its forms (RFC 9110 section 10.2.3), from `now` on; an hour at most.
    pub fn retry_after(&self, now: SystemTime) -> Option<Duration> {
        retry_after(&self.headers).or_else(|| retry_date(&self.headers, now))
    }

    pub(crate) fn refusal(&self) -> CallError {
        let (status, text) = (self.status, self.said());
        match status {
            429 | 503 => CallError::Overloaded { status, retry_after: retry_after(&self.headers), text },
            _ => CallError::Status { status, text },
        }
    }
}

/// `base` without the slash behind it, where it is an address of this scheme.
fn address(base: &str, scheme: &str) -> Result<String, String> {
    let uri: Uri = base.parse().map_err(|e| format!("{base:?} is no URL: {e}"))?;
    if uri.scheme_str() != Some(scheme) || uri.host().is_none_or(str::is_empty) || uri.query().is_some() {
        return Err(format!("{base:?} is no URL of the form {scheme}://host:port"));
    }
    Ok(base.trim_end_matches('/').to_owned())
}

fn tcp(options: &PoolOptions) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(options.connect_timeout));
    connector
}

fn client<C: Connect + Clone>(connector: C, options: &PoolOptions) -> Client<C, Full<Bytes>> {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(options.max_idle)
        .http2_only(options.http2)
        .http2_initial_stream_window_size(WINDOW_BYTES)
        .http2_initial_connection_window_size(4 * WINDOW_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(KEEP_ALIVE)
        .build(connector)
}

/// All of a body of at most `most` bytes; memory is taken as it comes, not as it is declared.
async fn read(mut body: Incoming, most: usize) -> Result<(Bytes, HeaderMap), CallError> {
    use hyper::body::Body;
    let too_large = || CallError::Broken(format!("it has more than {most} bytes"));
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    let (mut whole, mut trailers) = (BytesMut::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| connection(&e))?;
        match frame.into_data() {
            Ok(data) if whole.len() + data.len() > most => return Err(too_large()),
            Ok(data) => whole.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    Ok((whole.freeze(), trailers))
}

/// A certificate that nobody trusts, or else the whole chain of causes.
pub(crate) fn connection(error: &(dyn Error + 'static)) -> CallError {
    match tls(error) {
        Some(TlsError::InvalidCertificate(why)) => CallError::Untrusted(why.to_string()),
        _ => CallError::Connection(chain(error)),
    }
}

/// The whole chain of causes: the first one alone says "client error (Connect)".
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The error of TLS that is the cause. An `io::Error` is no link of the chain that it holds: it is asked apart.
pub(crate) fn tls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// Longest wait that another server is believed to mean.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// Seconds only: a date needs the wall clock, and nobody's inference server sends one.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

/// The other form, a date; one that is over is "at once".
fn retry_date(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let date = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let date = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(date.as_second()).ok()?))?;
    Some(at.duration_since(now).unwrap_or_default().min(LONGEST_WAIT))
}

/// What an error's body says: V2's `error`, FastAPI's `detail`, else the body itself.
fn message(body: &[u8]) -> String {
    let said = serde_json::from_slice::<serde_json::Value>(body).ok().and_then(|json| {
        let text = json.get("error").or_else(|| json.get("detail"))?;
        Some(text.as_str().map_or_else(|| text.to_string(), str::to_owned))
    });
    plain(&said.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned()))
}

/// Somebody else's words as a log or an answer may repeat them: 256 characters, none that
/// moves the cursor or breaks a line.
pub fn plain(text: &str) -> String {
    const MOST: usize = 256;
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    // Bounded before it is cleaned: the text may be megabytes.
    let kept: String = text.chars().take(MOST).map(clean).collect();
    let more = if text.chars().nth(MOST).is_some() { "…" } else { "" };
    format!("{}{more}", kept.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_addresses_are_taken() {
        for good in ["http://localhost:8000", "http://10.0.0.1/prefix/", "http://[::1]:80"] {
            assert!(HttpPool::new(good, &PoolOptions::default()).is_ok(), "{good}");
        }
        for bad in ["localhost:8000", "https://a", "http://", "grpc://a:1", "http://a/?b", ""] {
            assert!(HttpPool::new(bad, &PoolOptions::default()).is_err(), "{bad}");
        }
        let trust = Trust::new(None).unwrap();
        let secure = |base| HttpPool::secure(base, &PoolOptions::default(), &trust);
        assert!(secure("https://a:4318/prefix/").is_ok());
        for bad in ["http://a", "https://", "https://a?b", "a:1"] {
            assert!(secure(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn messages_are_found_bounded_and_harmless() {
        assert_eq!(message(br#"{"error":"no such\nmodel"}"#), "no such model");
        assert_eq!(message(br#"{"detail":[1]}"#), "[1]");
        assert_eq!(message(b"\x1b[31mred\xff"), "[31mred\u{fffd}");
        assert_eq!(message("x".repeat(10_000).as_bytes()).chars().count(), 257);
    }

    #[test]
    fn retry_after_is_read_as_seconds() {
        let of = |text: &'static str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(text))]);
            retry_after(&headers)
        };
        assert_eq!(of("7"), Some(Duration::from_secs(7)));
        assert_eq!(of("Wed, 21 Oct 2015 07:28:00 GMT"), None);
        assert_eq!(of("-1"), None);
    }

    #[test]
    fn who_knows_the_time_reads_dates_too() {
        let now = UNIX_EPOCH + Duration::from_secs(1_445_412_440);
        let of = |text: &'static str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(text))]);
            let (body, trailers) = (Bytes::new(), HeaderMap::new());
            Answer { status: 503, headers, body, trailers }.retry_after(now)
        };
        assert_eq!(of("7"), Some(Duration::from_secs(7)));
        assert_eq!(of("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::from_secs(40)));
        assert_eq!(of("Wed, 21 Oct 2015 07:27:00 GMT"), Some(Duration::ZERO), "it is over");
        assert_eq!(of("Fri, 21 Oct 2095 07:28:00 GMT"), Some(LONGEST_WAIT));
        assert_eq!(of("soon"), None);
    }
}
