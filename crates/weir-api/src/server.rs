//! The server: state that requests share, and the life of one request.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use hyper::{
    body::{Body as _, Incoming},
    service::Service,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_serving::{Admission, ModelControl, Predictor, ServingSnapshot};
use weir_types::{Authorizer, Clock, Error};

use crate::{
    body::{self, BodyLimits},
    bound::{Bound, Listeners},
    builtin,
    config::{ModelControlMode, RouteConfig, ServerConfig},
    declare::RouteProblem,
    face::{Face, Found, Handler, Route},
    grpc, head,
    listener::{Body, Bounds, Listener, Untaken},
    metrics::{InFlight, Metrics, RouteMetrics},
    predict, respond,
    v2::{core::ModelView, rest},
};

/// What every request reads.
pub(crate) struct Shared {
    face: ArcSwap<Face>,
    serving: Arc<ArcSwap<ServingSnapshot>>,
    pub(crate) predictor: Predictor,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) metrics: Metrics,
    pub(crate) body_limits: BodyLimits,
    pub(crate) request_timeout: Duration,
    pub(crate) access_log: bool,
    pub(crate) grpc: grpc::Methods,
    draining: AtomicBool,
    closing: CancellationToken,
    /// Told when what is served changes, or whether.
    changes: watch::Sender<()>,
    reload_problem: ArcSwapOption<String>,
    control: OnceLock<ModelControl>,
}

impl Shared {
    /// What requests are matched against now.
    pub(crate) fn face(&self) -> Arc<Face> {
        self.face.load_full()
    }

    /// From now on the server is not ready.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.changes.send_replace(());
    }

    /// From now on streams end behind the answers they owe.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    /// Completes when streams shall end.
    pub(crate) fn closing(&self) -> impl Future<Output = ()> + Send {
        self.closing.cancelled()
    }

    /// Sees a change whenever what is served changes, or whether.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Loads and unloads models, where clients may.
    pub(crate) fn control(&self) -> Option<&ModelControl> {
        self.control.get()
    }

    pub(crate) fn reload_problem(&self) -> Option<Arc<String>> {
        self.reload_problem.load_full()
    }
}

/// A server that is configured and has models, but no socket yet. Cheap to clone: clones
/// are handles of one server.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
    routes: Arc<[RouteConfig]>,
    config: Arc<ServerConfig>,
}

impl Server {
    /// Configures a server that serves `snapshot` under `routes`.
    ///
    /// # Errors
    /// Every problem of every route.
    pub fn new(
        config: ServerConfig,
        routes: Vec<RouteConfig>,
        snapshot: ServingSnapshot,
        authorizer: Arc<dyn Authorizer>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Vec<RouteProblem>> {
        let snapshot = Arc::new(snapshot);
        let serving = Arc::new(ArcSwap::new(snapshot.clone()));
        let metrics = Metrics::new(serving.clone());
        let face = Face::build(&routes, snapshot, &metrics, config.metrics_listen.is_none())?;
        let shared = Shared {
            face: ArcSwap::from_pointee(face),
            serving,
            predictor: Predictor::new(Admission::new(config.max_body_in_flight.0), clock),
            authorizer,
            grpc: grpc::Methods::new(&metrics),
            metrics,
            body_limits: BodyLimits { max_bytes: config.max_body.0, pause: config.body_timeout.0 },
            request_timeout: config.request_timeout.0,
            access_log: config.access_log,
            draining: AtomicBool::new(false),
            closing: CancellationToken::new(),
            changes: watch::Sender::new(()),
            reload_problem: ArcSwapOption::empty(),
            control: OnceLock::new(),
        };
        Ok(Self { shared: Arc::new(shared), routes: routes.into(), config: Arc::new(config) })
    }

    /// Gives clients the control of models, if the configuration says that they have it. The
    /// control publishes through [`swap`](Self::swap), so it can only be made afterwards.
    pub fn offer_control(&self, control: &ModelControl) {
        if self.config.model_control == ModelControlMode::Explicit {
            // Offered twice, the first one counts: both give orders to one keeper.
            let _ = self.shared.control.set(control.clone());
        }
    }

    /// What is served now.
    pub fn snapshot(&self) -> Arc<ServingSnapshot> {
        self.shared.serving.load_full()
    }

    /// Swaps what is served. Requests in flight keep the version they were routed to; not
    /// one fails.
    ///
    /// # Errors
    /// Every problem of every route; what served before goes on serving, and `/readyz`
    /// says what is wrong.
    pub fn swap(&self, snapshot: ServingSnapshot) -> Result<(), Vec<RouteProblem>> {
        let snapshot = Arc::new(snapshot);
        match Face::build(
            &self.routes,
            snapshot.clone(),
            &self.shared.metrics,
            self.config.metrics_listen.is_none(),
        ) {
            Ok(face) => {
                self.shared.face.store(Arc::new(face));
                self.shared.serving.store(snapshot);
                self.shared.reload_problem.store(None);
                self.shared.changes.send_replace(());
                Ok(())
            }
            Err(problems) => {
                let told: Vec<_> = problems.iter().map(RouteProblem::to_string).collect();
                self.note_reload_problem(told.join("\n"));
                Err(problems)
            }
        }
    }

    /// Lets `/readyz` say why the last reload changed nothing.
    fn note_reload_problem(&self, problem: String) {
        self.shared.reload_problem.store(Some(Arc::new(problem)));
    }

    /// Binds the configured addresses.
    ///
    /// # Errors
    /// The address and what the system says, for example `AddrInUse`.
    pub async fn bind(self) -> Result<Bound, (SocketAddr, io::Error)> {
        let bounds = Bounds {
            max_connections: self.config.max_connections,
            header_timeout: self.config.header_timeout.0,
            write_timeout: self.config.write_timeout.0,
        };
        let floods = &self.shared.metrics.floods;
        let bind = async |address| {
            Listener::bind(address, bounds, floods.clone()).await.map_err(|error| (address, error))
        };
        let public = bind(self.config.listen).await?;
        let maybe = async |address: Option<SocketAddr>| match address {
            Some(address) => bind(address).await.map(Some),
            None => Ok(None),
        };
        let metrics = maybe(self.config.metrics_listen).await?;
        let grpc = maybe(self.config.grpc_listen).await?;
        Ok(Bound::new(self.shared, &self.config, Listeners { public, grpc, metrics }))
    }
}

/// What one listener answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Faces {
    /// Everything.
    All,
    /// Everything but gRPC, which has a listener of its own.
    Http,
    /// gRPC.
    Grpc,
    /// `/metrics`.
    Metrics,
}

/// The hyper service.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) shared: Arc<Shared>,
    pub(crate) faces: Faces,
    /// The other end of the connection.
    pub(crate) peer: IpAddr,
}

impl Service<Request<Incoming>> for Api {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let Self { shared, faces, peer } = self.clone();
        Box::pin(async move {
            let grpc = grpc::is_grpc(request.headers());
            let untaken = request.extensions_mut().remove::<Untaken>();
            let response = match faces {
                Faces::Metrics if request.uri().path() == "/metrics" => builtin::metrics(&shared),
                Faces::All | Faces::Grpc if grpc => grpc::handle(shared, peer, request).await,
                Faces::Http if grpc => grpc::elsewhere(),
                Faces::All | Faces::Http => handle(&shared, peer, request).await,
                Faces::Grpc | Faces::Metrics => respond::not_found(),
            };
            Ok(match untaken {
                Some(untaken) => response.map(|body| body.counted(untaken)),
                None => response,
            })
        })
    }
}

/// The life of one request, from its head to its answer.
async fn handle(shared: &Shared, peer: IpAddr, request: Request<Incoming>) -> Response<Body> {
    let start = shared.predictor.clock().now();
    let _in_flight = InFlight::enter(&shared.metrics);
    let (head, mut body) = request.into_parts();
    let id = head::request_id(&head.headers);
    let face = shared.face.load_full();
    let v2 = rest::is_ours(head.uri.path());
    let found = match head::ambiguity(&head) {
        Some(problem) => Err(respond::detail(StatusCode::BAD_REQUEST, problem)),
        None => Ok(face.find(&head.method, head.uri.path())),
    };
    let (mut response, route) = match found {
        Ok(Found::Route(route, parameters)) => {
            let asked = (&*route, &*parameters, &head);
            (dispatch(shared, &face, peer, asked, &mut body, &id).await, Some(route))
        }
        Ok(Found::MethodNotAllowed(allow)) if v2 => (rest::method_not_allowed(allow), None),
        Ok(Found::Nothing) if v2 => (rest::not_found(), None),
        Ok(Found::MethodNotAllowed(allow)) => (respond::method_not_allowed(allow), None),
        Ok(Found::Redirect(path)) => (redirect(&head, &path), None),
        Ok(Found::Nothing) => (respond::not_found(), None),
        // Two readers may see two requests here: nothing more is read.
        Err(mut response) => {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            (response, None)
        }
    };
    // hyper closes behind an answer that comes before its request was read: the client must
    // be told, or it loses the next one.
    if shared.is_draining() || !body::is_over(&mut body, &head.headers) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    finish(&head, &mut response, id);
    // One route serves all models of the protocol; each model counts for itself.
    let view = response.extensions_mut().remove::<Arc<ModelView>>();
    let metrics = route.as_ref().map_or(&face.unmatched, |r| &r.metrics);
    let metrics = view.as_ref().map_or(metrics, |v| &v.metrics);
    observe(shared, &head, &response, route.as_deref(), metrics, start);
    response
}

async fn dispatch(
    shared: &Shared,
    face: &Face,
    peer: IpAddr,
    (route, parameters, head): (&Route, &[(String, String)], &Parts),
    body: &mut Incoming,
    id: &HeaderValue,
) -> Response<Body> {
    match &route.handler {
        Handler::Predict(handler) => match predict::answer(shared, face, handler, (peer, head), body).await {
            Ok(response) => response,
            Err(refusal) => refusal.response(id),
        },
        Handler::Template(template) => {
            let read = read_and_drop(shared, head, body).await;
            read.map_or_else(|e| respond::error(&e, id), |()| template.answer(head, parameters))
        }
        Handler::Builtin(builtin) => builtin::answer(shared, face, *builtin, &head.headers),
        Handler::V2(endpoint) => rest::answer(shared, face, *endpoint, parameters, (peer, head), body).await,
        Handler::Asset => builtin::asset(head.uri.path(), &head.headers),
        Handler::Unavailable(error) => respond::error(error, id),
    }
}

/// Reads a body that the answer does not depend on, within the usual bounds, so that the
/// connection can carry the next request.
async fn read_and_drop(shared: &Shared, head: &Parts, body: &mut Incoming) -> Result<(), Error> {
    body::check_head(&head.headers, shared.body_limits)?;
    let timeout = head::timeout(&head.headers, shared.request_timeout).map_err(Error::invalid)?;
    body::skip(body, shared.body_limits, timeout).await
}

/// A relative reference (RFC 9110 section 10.2.2): FastAPI's absolute one names the wrong
/// scheme behind a proxy that ends TLS.
fn redirect(head: &Parts, path: &str) -> Response<Body> {
    let query = head.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    respond::redirect(&format!("{path}{query}"))
}

fn finish(head: &Parts, response: &mut Response<Body>, id: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(head::REQUEST_ID, id);
    // HTTP/2 has no such header (RFC 9113 section 8.2.2).
    if head.version >= Version::HTTP_2 {
        headers.remove(header::CONNECTION);
    }
    // HTTP/1 leaves the body of an answer to HEAD away; over HTTP/2 hyper would send it,
    // which is a protocol error.
    if head.method == Method::HEAD {
        let body = std::mem::take(response.body_mut());
        let length = body.size_hint().exact().unwrap_or(0);
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
}

fn observe(
    shared: &Shared,
    head: &Parts,
    response: &Response<Body>,
    route: Option<&Route>,
    metrics: &RouteMetrics,
    start: Instant,
) {
    let took = shared.predictor.clock().now() - start;
    metrics.observe(response.status(), took);
    if shared.access_log {
        let text = |name| response.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok());
        tracing::info!(
            target: "weir::access",
            method = head.method.as_str(),
            // The pattern, not the path as sent: paths may hold what should not be logged.
            route = route.map_or("unmatched", |r| &r.path),
            status = response.status().as_u16(),
            duration_ms = took.as_secs_f64() * 1e3,
            request_id = text(head::REQUEST_ID),
            trace_id = head::trace_id(&head.headers),
            model = text(respond::MODEL),
            "request"
        );
    }
}
