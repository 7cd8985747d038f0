//! A small HTTP/2 server.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, sync::Notify};
use weir_testbed::TlsAcceptor;

/// A request as it came.
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What is said to it; nothing for as long as the caller waits.
pub(crate) type Said = Option<(HeaderMap, Bytes, HeaderMap)>;

/// Answers each call by `answer`. Tells `left` of every call that ended unanswered.
pub(crate) async fn serve(answer: fn(Asked) -> Said, left: Arc<Notify>) -> SocketAddr {
    listen(answer, left, None).await
}

/// The same over TLS.
pub(crate) async fn serve_securely(answer: fn(Asked) -> Said, tls: TlsAcceptor) -> SocketAddr {
    listen(answer, Arc::default(), Some(tls)).await
}

async fn listen(answer: fn(Asked) -> Said, left: Arc<Notify>, tls: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (left, tls) = (left.clone(), tls.clone());
            let service = service_fn(move |request| call(request, answer, left.clone()));
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(async move {
                let Some(tls) = tls else {
                    return drop(server.serve_connection(TokioIo::new(stream), service).await);
                };
                // Who does not trust the certificate has gone.
                let Ok(stream) = tls.accept(stream).await else { return };
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                drop(server.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    address
}

/// Tells when a call that waits is dropped.
struct Waiting(Arc<Notify>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

type Frames = StreamBody<tokio_stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

async fn call(
    request: Request<Incoming>,
    answer: fn(Asked) -> Said,
    left: Arc<Notify>,
) -> Result<Response<Frames>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let Some((headers, body, trailers)) =
        answer(Asked { path: head.uri.path().to_owned(), headers: head.headers, body })
    else {
        let _waiting = Waiting(left);
        return std::future::pending().await;
    };
    let frames = vec![Ok(Frame::data(body)), Ok(Frame::trailers(trailers))];
    let mut response = Response::new(StreamBody::new(tokio_stream::iter(frames)));
    *response.headers_mut() = headers;
    Ok(response)
}
