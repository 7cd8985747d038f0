//! A server with its sockets: serving and draining.

use std::{future::Future, io, net::SocketAddr, sync::Arc};

use crate::{
    exchange::{Api, Faces},
    listener::Listener,
    server::Shared,
};

/// The sockets of a server.
pub(crate) struct Listeners {
    pub(crate) public: Listener,
    /// gRPC, where it is not on the public one.
    pub(crate) grpc: Option<Listener>,
    /// The metrics, likewise.
    pub(crate) metrics: Option<Listener>,
    /// What operators ask and order.
    pub(crate) admin: Option<Listener>,
}

/// A server with its sockets.
pub struct Bound {
    shared: Arc<Shared>,
    listeners: Listeners,
}

impl Bound {
    pub(crate) fn new(shared: Arc<Shared>, listeners: Listeners) -> Self {
        Self { shared, listeners }
    }

    /// The public address really bound (the port, where 0 was configured).
    ///
    /// # Errors
    /// As the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listeners.public.address()
    }

    /// The address of gRPC alone, where it has one.
    ///
    /// # Errors
    /// As the system says.
    pub fn grpc_address(&self) -> io::Result<Option<SocketAddr>> {
        self.listeners.grpc.as_ref().map(Listener::address).transpose()
    }

    /// The address of the admin API, where it has one.
    ///
    /// # Errors
    /// As the system says.
    pub fn admin_address(&self) -> io::Result<Option<SocketAddr>> {
        self.listeners.admin.as_ref().map(Listener::address).transpose()
    }

    /// Serves until `stop` completes, then drains: not ready, a delay for load balancers to
    /// notice, no new connections, requests in flight finish within the configured time.
    /// Returns how many connections were cut off.
    pub async fn run(self, stop: impl Future<Output = ()>) -> usize {
        let Self { shared, listeners: Listeners { public, grpc, metrics, admin } } = self;
        let api = |faces| {
            let shared = &shared;
            move |peer| Api { shared: shared.clone(), faces, peer }
        };
        let faces = if grpc.is_some() { Faces::Http } else { Faces::All };
        // When the delay is over, the listeners stop.
        let leave = async {
            stop.await;
            shared.drain();
            tokio::time::sleep(shared.config.load().drain_delay.0).await;
            shared.close();
        };
        let serve_public = async { tokio::join!(leave, public.serve(api(faces), shared.closing())) };
        let serve = async |listener: &Option<Listener>, faces| {
            if let Some(listener) = listener {
                listener.serve(api(faces), shared.closing()).await;
            }
        };
        let (serve_grpc, serve_admin) = (serve(&grpc, Faces::Grpc), serve(&admin, Faces::Admin));
        // The metrics stay readable while the others drain their delay.
        let serve_metrics = async {
            match &metrics {
                Some(metrics) => metrics.serve(api(Faces::Metrics), std::future::pending()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = async { tokio::join!(serve_public, serve_grpc, serve_admin) } => {}
            () = serve_metrics => {}
        }
        let drain_timeout = shared.config.load().drain_timeout.0;
        let drain = async |listener: Option<Listener>| match listener {
            Some(listener) => listener.drain(drain_timeout).await,
            None => 0,
        };
        let (public, grpc, admin) = tokio::join!(public.drain(drain_timeout), drain(grpc), drain(admin));
        // A disk that hangs holds up the exit no longer than a client that does.
        let _ = tokio::time::timeout(drain_timeout, shared.tracer.close()).await;
        public + grpc + admin
    }
}
