//! gRPC over a few shared HTTP/2 connections.
//!
//! On the h2 crate itself: a gRPC library would encode the same message anew for each call, and
//! spend more on its layers than the server does on the answer.

use std::{cell::RefCell, io, net::SocketAddr, rc::Rc, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, client::SendRequest};
use http::{HeaderMap, HeaderValue, Method, Version};
use tokio::{net::TcpStream, time::Instant};

use super::{Reply, STREAMS, Transport, patience::Patience};
use crate::{outcome::Outcome, plan::Request};

/// Flow control windows, bytes: large enough never to be what limits.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Largest answer, bytes.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// The gRPC status of an answer that has none.
const UNKNOWN: u16 = 2;

/// The connections of one thread. Each is opened with its first call, and again once it broke.
pub(crate) struct Channels {
    address: SocketAddr,
    call: http::Request<()>,
    open: Vec<tokio::sync::Mutex<Option<SendRequest<Bytes>>>>,
}

impl Channels {
    /// For `calls` calls at once of the method at `path`.
    ///
    /// # Errors
    /// Where host and path make no address.
    pub(crate) fn new(
        address: SocketAddr,
        host: &str,
        path: &str,
        calls: usize,
    ) -> Result<Rc<Self>, http::Error> {
        let call = http::Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(format!("http://{host}{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let open = (0..calls.div_ceil(STREAMS)).map(|_| tokio::sync::Mutex::new(None)).collect();
        Ok(Rc::new(Self { address, call, open }))
    }

    /// A handle on connection `at`. Others wait while one opens it.
    async fn channel(&self, at: usize) -> io::Result<SendRequest<Bytes>> {
        let Some(place) = self.open.get(at) else { return Err(io::Error::other("no such connection")) };
        let mut open = place.lock().await;
        if let Some(channel) = &*open {
            return Ok(channel.clone());
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (channel, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(io::Error::other)?;
        tokio::task::spawn_local(async move {
            // Calls in flight are told what ended it.
            let _ = connection.await;
        });
        *open = Some(channel.clone());
        Ok(channel)
    }

    async fn forget(&self, at: usize) {
        if let Some(place) = self.open.get(at) {
            *place.lock().await = None;
        }
    }
}

/// One call at a time over connection `at` of `channels`.
pub(crate) struct Grpc {
    channels: Rc<Channels>,
    at: usize,
    patience: Patience,
    body: Rc<RefCell<Vec<u8>>>,
    message: Vec<u8>,
    reason: String,
}

impl Grpc {
    /// The call with this number of those that share `channels`.
    pub(crate) fn new(channels: Rc<Channels>, number: usize) -> Self {
        let at = number % channels.open.len().max(1);
        Self {
            channels,
            at,
            patience: Patience::new(),
            body: Rc::default(),
            message: Vec::new(),
            reason: String::new(),
        }
    }

    async fn exchange(
        channels: &Channels,
        at: usize,
        request: &Request,
        left: Option<Duration>,
        body: &RefCell<Vec<u8>>,
    ) -> Result<HeaderMap, Broken> {
        let channel = channels.channel(at).await?;
        let mut channel = channel.ready().await?;
        let mut call = channels.call.clone();
        if let Some(left) = left {
            call.headers_mut().insert("grpc-timeout", timeout(left));
        }
        let (response, mut send) = channel.send_request(call, false)?;
        send.send_data(request.wire.clone(), true)?;
        let (head, stream) = response.await?.into_parts();
        if head.status != http::StatusCode::OK {
            return Ok(plain_http(head.status));
        }
        let trailers = read(stream, body).await?;
        // An error without a message has its status in the head ("trailers only").
        Ok(trailers.unwrap_or(head.headers))
    }
}

/// What an answer says that is none of gRPC's: by the status map of
/// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>.
fn plain_http(status: http::StatusCode) -> HeaderMap {
    let code = match status.as_u16() {
        429 | 502 | 503 | 504 => "14",
        404 => "12",
        _ => "2",
    };
    HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static(code))])
}

async fn read(mut stream: RecvStream, body: &RefCell<Vec<u8>>) -> Result<Option<HeaderMap>, h2::Error> {
    body.borrow_mut().clear();
    while let Some(part) = stream.data().await {
        let part = part?;
        stream.flow_control().release_capacity(part.len())?;
        let mut body = body.borrow_mut();
        body.extend_from_slice(&part);
        if body.len() > MAX_ANSWER_BYTES {
            return Err(h2::Error::from(h2::Reason::ENHANCE_YOUR_CALM));
        }
    }
    stream.trailers().await
}

/// `grpc-timeout`: up to 8 digits and a unit.
fn timeout(left: Duration) -> HeaderValue {
    let micros = left.as_micros().max(1);
    let text = if micros < 100_000_000 {
        format!("{micros}u")
    } else {
        format!("{}m", left.as_millis().min(99_999_999))
    };
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("1m"))
}

impl Transport for Grpc {
    async fn call(&mut self, request: &Request, left: Option<Duration>, give_up: Instant) -> Reply {
        let body = self.body.clone();
        let work = Self::exchange(&self.channels, self.at, request, left, &body);
        let done = self.patience.within(give_up, work).await;
        self.message.clear();
        match done {
            Ok(Ok(trailers)) => self.finish(&trailers),
            Ok(Err(broken)) => {
                self.reason = broken.to_string();
                if broken.connection_is_gone() {
                    self.channels.forget(self.at).await;
                }
                Reply { outcome: broken.outcome(), status: 0, retry_after: false }
            }
            Err(_) => {
                self.reason = "no answer in time".to_owned();
                Reply { outcome: Outcome::Timeout, status: 0, retry_after: false }
            }
        }
    }

    fn answer(&self) -> (&[u8], Option<usize>) {
        (&self.message, None)
    }

    fn reason(&self) -> &str {
        &self.reason
    }
}

/// What can break.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Connect(#[from] io::Error),
    #[error("{0}")]
    Http2(#[from] h2::Error),
}

impl Broken {
    /// A reset costs one call; anything else took the connection with it.
    fn connection_is_gone(&self) -> bool {
        matches!(self, Self::Http2(error) if !error.is_reset())
    }

    /// A stream that the server would not take is a refusal by HTTP/2 itself.
    fn outcome(&self) -> Outcome {
        match self {
            Self::Http2(error) if error.reason() == Some(h2::Reason::REFUSED_STREAM) => Outcome::Refused,
            _ => Outcome::Transport,
        }
    }
}

impl Grpc {
    fn finish(&mut self, trailers: &HeaderMap) -> Reply {
        let text = |name: &str| trailers.get(name).and_then(|v| v.to_str().ok());
        let status = text("grpc-status").and_then(|s| s.parse().ok()).unwrap_or(UNKNOWN);
        let mut outcome = Outcome::of_grpc(status);
        self.reason = text("grpc-message").unwrap_or_default().to_owned();
        let body = self.body.borrow();
        match body.get(5..) {
            // A message behind its prefix: not compressed, and as long as it says.
            Some(message) if outcome == Outcome::Ok && prefix(&body) == Some(message.len()) => {
                self.message.extend_from_slice(message);
            }
            _ if outcome == Outcome::Ok => {
                outcome = Outcome::Transport;
                self.reason = "the answer is no gRPC message".to_owned();
            }
            _ => {}
        }
        // gRPC's word for it is the pushback of its retry specification (gRFC A6).
        let retry_after = trailers.contains_key("retry-after") || text("grpc-retry-pushback-ms").is_some();
        Reply { outcome, status, retry_after }
    }
}

fn prefix(body: &[u8]) -> Option<usize> {
    let (flag, length) = body.get(..5)?.split_first()?;
    let length: [u8; 4] = length.try_into().ok()?;
    (*flag == 0).then_some(u32::from_be_bytes(length) as usize)
}

#[cfg(test)]
mod tests;
