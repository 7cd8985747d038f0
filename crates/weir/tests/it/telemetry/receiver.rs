//! An OTLP receiver that keeps what it is sent, or misbehaves.

use std::{
    convert::Infallible,
    io::Read,
    net::SocketAddr,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    runtime::Runtime,
};
use weir_testbed::{Certificates, TlsAcceptor};

use crate::server::PATIENCE;

/// What it does with a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Takes it.
    Takes,
    /// Answers 503, or UNAVAILABLE.
    Refuses,
    /// Answers this status, HTTP's or gRPC's, and when to come again: by Retry-After, or by RetryInfo.
    Says(u16, Option<Duration>),
    /// Never answers.
    Hangs,
}

#[derive(Default)]
struct Got {
    spans: Mutex<Vec<Span>>,
    resources: Mutex<Vec<Vec<KeyValue>>>,
    headers: Mutex<Vec<HeaderMap>>,
    messages: AtomicUsize,
    metrics: AtomicUsize,
    changed: Condvar,
}

/// A receiver that runs until it is dropped.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    got: Arc<Got>,
    manner: Arc<Mutex<Manner>>,
    _runtime: Runtime,
}

impl Receiver {
    /// One that speaks gRPC, or HTTP/1.1.
    pub(crate) fn start(grpc: bool, manner: Manner) -> Self {
        Self::listen(grpc, manner, None)
    }

    /// The same over TLS.
    pub(crate) fn secure(grpc: bool, certificates: &Certificates) -> Self {
        let acceptor = certificates.acceptor(if grpc { "h2" } else { "http/1.1" });
        Self::listen(grpc, Manner::Takes, Some(acceptor))
    }

    fn listen(grpc: bool, manner: Manner, tls: Option<TlsAcceptor>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::<Got>::default();
        let manner = Arc::new(Mutex::new(manner));
        let (kept, held) = (got.clone(), manner.clone());
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (kept, held, tls) = (kept.clone(), held.clone(), tls.clone());
                tokio::spawn(async move {
                    let Some(tls) = tls else { return serve(grpc, stream, kept, held).await };
                    // Who does not trust the certificate has gone.
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(grpc, stream, kept, held).await;
                    }
                });
            }
        });
        Self { address, got, manner, _runtime: runtime }
    }

    /// Waits until so many spans are there of which `of` is true, and gives all there are.
    pub(crate) fn spans(&self, number: usize, of: impl Fn(&Span) -> bool) -> Vec<Span> {
        let deadline = Instant::now() + PATIENCE;
        let mut spans = self.got.spans.lock().unwrap();
        while spans.iter().filter(|span| of(span)).count() < number {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} spans, none of those that are waited for", spans.len());
            spans = self.got.changed.wait_timeout(spans, left).unwrap().0;
        }
        spans.clone()
    }

    /// Does otherwise from now on.
    pub(crate) fn turn(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// Messages of metrics so far.
    pub(crate) fn metrics(&self) -> usize {
        self.got.metrics.load(Ordering::SeqCst)
    }

    /// Messages of any signal so far.
    pub(crate) fn messages(&self) -> usize {
        self.got.messages.load(Ordering::SeqCst)
    }

    /// All spans so far.
    pub(crate) fn all(&self) -> Vec<Span> {
        self.got.spans.lock().unwrap().clone()
    }

    /// Waits until it was sent so many messages.
    pub(crate) fn asked(&self, messages: usize) {
        let deadline = Instant::now() + PATIENCE;
        let mut spans = self.got.spans.lock().unwrap();
        while self.got.messages.load(Ordering::SeqCst) < messages {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "nothing was sent");
            spans = self.got.changed.wait_timeout(spans, left).unwrap().0;
        }
    }

    /// What the last message said of its sender.
    pub(crate) fn resource(&self, name: &str) -> Option<String> {
        let resources = self.got.resources.lock().unwrap();
        resources.last().and_then(|attributes| text(attributes, name))
    }

    /// A header of the last message.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let headers = self.got.headers.lock().unwrap();
        Some(headers.last()?.get(name)?.to_str().unwrap().to_owned())
    }
}

async fn serve<S>(grpc: bool, stream: S, got: Arc<Got>, manner: Arc<Mutex<Manner>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| {
        let manner = *manner.lock().unwrap();
        answer(got.clone(), manner, request)
    });
    let stream = TokioIo::new(stream);
    // Connections end with their process.
    let _ = match grpc {
        true => http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await,
        false => http1::Builder::new().serve_connection(stream, service).await,
    };
}

async fn answer(
    got: Arc<Got>,
    manner: Manner,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let grpc = head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/grpc");
    let path = head.uri.path().to_owned();
    if manner == Manner::Takes && path.contains("race") {
        let message = if grpc { body.slice(5..) } else { plain(&head.headers, body) };
        keep(&got, head.headers, ExportTraceServiceRequest::decode(message).unwrap());
    }
    {
        let _spans = got.spans.lock().unwrap();
        got.messages.fetch_add(1, Ordering::SeqCst);
        got.metrics.fetch_add(usize::from(path.contains("etrics")), Ordering::SeqCst);
    }
    got.changed.notify_all();
    if manner == Manner::Hangs {
        std::future::pending::<()>().await;
    }
    Ok(if grpc { of_grpc(manner) } else { of_http(manner) })
}

/// rotel compresses whatever it is told.
fn plain(headers: &HeaderMap, body: Bytes) -> Bytes {
    if headers.get(header::CONTENT_ENCODING).is_none_or(|coding| coding != "gzip") {
        return body;
    }
    let mut plain = Vec::new();
    GzDecoder::new(&*body).read_to_end(&mut plain).unwrap();
    plain.into()
}

fn of_http(manner: Manner) -> Response<BoxBody<Bytes, Infallible>> {
    let (status, again) = match manner {
        Manner::Says(status, again) => (status, again),
        Manner::Refuses => (503, None),
        Manner::Takes | Manner::Hangs => (200, None),
    };
    let mut response =
        Response::builder().status(status).header(header::CONTENT_TYPE, "application/x-protobuf");
    if let Some(again) = again {
        response = response.header(header::RETRY_AFTER, again.as_secs());
    }
    response.body(Full::default().boxed()).unwrap()
}

fn of_grpc(manner: Manner) -> Response<BoxBody<Bytes, Infallible>> {
    let (status, again) = match manner {
        Manner::Says(status, again) => (status, again),
        Manner::Refuses => (14, None),
        Manner::Takes | Manner::Hangs => (0, None),
    };
    let name = http::HeaderName::from_static("grpc-status");
    let mut trailers = HeaderMap::from_iter([(name, status.into())]);
    let info = again.and_then(|again| weir_codec::retry_info(status.into(), "", again));
    let details = http::HeaderName::from_static(weir_codec::STATUS_DETAILS);
    trailers.extend(info.map(|info| (details, info.parse().unwrap())));
    // A status other than OK comes without a message.
    let message = (status == 0).then(|| Ok(Frame::data(Bytes::from_static(&[0; 5]))));
    let frames: Vec<_> = message.into_iter().chain([Ok(Frame::trailers(trailers))]).collect();
    let body = StreamBody::new(tokio_stream::iter(frames));
    Response::builder().header(header::CONTENT_TYPE, "application/grpc").body(body.boxed()).unwrap()
}

fn keep(got: &Got, headers: HeaderMap, request: ExportTraceServiceRequest) {
    got.headers.lock().unwrap().push(headers);
    for part in request.resource_spans {
        got.resources.lock().unwrap().push(part.resource.unwrap().attributes);
        let spans = part.scope_spans.into_iter().flat_map(|scope| scope.spans);
        got.spans.lock().unwrap().extend(spans);
    }
}

/// A text among attributes.
pub(crate) fn text(attributes: &[KeyValue], name: &str) -> Option<String> {
    let value = attributes.iter().find(|pair| pair.key == name)?.value.clone()?.value?;
    Some(match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}
