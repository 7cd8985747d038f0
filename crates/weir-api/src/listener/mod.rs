//! The accept loop: connection cap, protocol detection, timeouts, drain.
//!
//! `axum::serve` was rejected: it has no cap on connections, no timeout for the head (nor
//! any timer while it sniffs the protocol), and closes idle connections on shutdown while
//! their next request is on its way.

mod answer;
mod frames;
mod guarded;
mod heads;
mod turn;
mod untaken;
mod watch;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{Request, Response, Version};
use hyper::{body::Incoming, service::Service};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use answer::Body;
pub(crate) use frames::Frames;
use guarded::Guarded;
pub(crate) use heads::{Heads, LINE_BYTES, TwoFramings};
pub(crate) use untaken::Untaken;
use watch::Watch;

use crate::{config::ServerConfig, metrics::Connections};

/// Largest request head, bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Most header fields in a request.
const MAX_HEADERS: usize = 100;
/// Most concurrent HTTP/2 streams a connection.
const MAX_STREAMS: u32 = 256;
/// A silent HTTP/2 peer is pinged this often and given up this long after.
const H2_PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// Pause after the system refused a connection, for example for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// While draining: how long kept connections may bring one more request, which is
/// answered with `Connection: close`, before idle ones are closed.
const CLOSE_GRACE: Duration = Duration::from_millis(300);
/// Most connections beyond the cap that are told so patiently at once; one more may see its
/// connection reset before it reads the answer.
const MAX_REFUSALS: usize = 256;
/// How long that may take.
const REFUSAL: Duration = Duration::from_secs(1);

/// One bound address and the connections it accepted.
pub(crate) struct Listener {
    socket: TcpListener,
    /// Read for each connection: limits may change while it serves.
    config: Arc<ArcSwap<ServerConfig>>,
    tracker: TaskTracker,
    closing: CancellationToken,
    refusals: Arc<Semaphore>,
    connections: Connections,
}

/// A request head that two readers could read differently: it has two framings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ambiguous;

impl Listener {
    /// Binds `address`; what happens to connections is counted in `connections`.
    ///
    /// # Errors
    /// As the system says, for example `AddrInUse`.
    pub(crate) async fn bind(
        address: SocketAddr,
        config: Arc<ArcSwap<ServerConfig>>,
        connections: Connections,
    ) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let (tracker, closing) = (TaskTracker::new(), CancellationToken::new());
        let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
        Ok(Self { socket, config, tracker, closing, refusals, connections })
    }

    /// The address really bound (the port, where 0 was asked for).
    ///
    /// # Errors
    /// As the system says.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts and serves until `stop` completes; [`drain`](Self::drain) ends what is open.
    /// `service` is asked for one a connection, which it is told the other end of.
    pub(crate) async fn serve<S>(&self, service: impl Fn(IpAddr) -> S, stop: impl Future<Output = ()>)
    where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
    {
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = &mut stop => break,
            };
            match accepted {
                Ok((stream, peer)) => self.spawn(stream, service(peer.ip())),
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // Closing the socket resets what waits in the system's queue: those callers were
        // let in already, so they are served.
        while let Some((stream, peer)) = self.waiting().await {
            self.spawn(stream, service(peer.ip()));
        }
    }

    /// A connection that waits to be accepted, if there is one now.
    async fn waiting(&self) -> Option<(TcpStream, SocketAddr)> {
        poll_fn(|cx| match self.socket.poll_accept(cx) {
            Poll::Ready(Ok(accepted)) => Poll::Ready(Some(accepted)),
            _ => Poll::Ready(None),
        })
        .await
    }

    fn spawn<S>(&self, stream: TcpStream, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
    {
        // Without it the kernel holds small answers back until the last one is acknowledged.
        let _ = stream.set_nodelay(true);
        let (framings, untaken) = (TwoFramings::default(), Untaken::default());
        let config = self.config.load();
        let (header_timeout, write_timeout) = (config.header_timeout.0, config.write_timeout.0);
        let watch = Watch::new(framings.clone());
        let io = Guarded::new(stream, header_timeout, write_timeout, watch, self.connections.floods.clone());
        let Some(open) = self.connections.enter(config.max_connections) else {
            let patience = self.refusals.clone().try_acquire_owned().ok();
            self.tracker.spawn(refuse(io, patience));
            return;
        };
        let service = Marking { service, framings, heads: AtomicU64::new(0), untaken: untaken.clone() };
        let serving = connection(builder(header_timeout), TokioIo::new(io), service, self.closing.clone());
        self.tracker.spawn(async move {
            let _open = open;
            tokio::select! {
                () = serving => {}
                () = untaken.stalled(write_timeout) => tracing::debug!("the client takes no answer"),
            }
        });
    }

    /// Lets the connections finish: kept ones get a moment to bring one more request, then
    /// idle ones close and busy ones close behind their answer. Gives up after `timeout`
    /// and returns how many connections were still busy then.
    pub(crate) async fn drain(self, timeout: Duration) -> usize {
        // Closed first, so that the system refuses new connections from here on.
        drop(self.socket);
        self.tracker.close();
        let deadline = tokio::time::Instant::now() + timeout;
        if tokio::time::timeout(CLOSE_GRACE.min(timeout), self.tracker.wait()).await.is_err() {
            self.closing.cancel();
            let _ = tokio::time::timeout_at(deadline, self.tracker.wait()).await;
        }
        self.tracker.len()
    }
}

fn builder(header_timeout: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .keep_alive_interval(H2_PING.0)
        .keep_alive_timeout(H2_PING.1);
    builder
}

/// Serves one connection until it ends or `closing` asks it to.
async fn connection<S>(
    builder: Builder<TokioExecutor>,
    io: TokioIo<Guarded<TcpStream>>,
    service: S,
    closing: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
{
    let connection = builder.serve_connection(io, service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(error = %error, "a connection ended early");
    }
}

/// Hands each request what it must know of its connection.
struct Marking<S> {
    service: S,
    framings: TwoFramings,
    /// Heads that came so far.
    heads: AtomicU64,
    untaken: Untaken,
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for Marking<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: Request<Incoming>) -> S::Future {
        let number = self.heads.fetch_add(1, Ordering::Relaxed) + 1;
        if self.framings.has(number) {
            request.extensions_mut().insert(Ambiguous);
        }
        if request.version() == Version::HTTP_2 {
            request.extensions_mut().insert(self.untaken.clone());
        }
        self.service.call(request)
    }
}

/// Tells a client that there is no room, without reading what it sends. With `patience`, what
/// it sends is thrown away until it has read the answer: closing right away would reset the
/// connection, and the answer with it.
async fn refuse(mut io: Guarded<TcpStream>, patience: Option<OwnedSemaphorePermit>) {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let _ = tokio::time::timeout(REFUSAL, async {
        io.write_all(ANSWER).await?;
        match patience {
            Some(_) => io.shutdown().await,
            None => Ok(()),
        }
    })
    .await;
}
