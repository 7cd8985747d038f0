//! The server: state that requests share, and what can be done with it.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use http::StatusCode;
use tokio::{runtime::RuntimeMetrics, sync::watch};
use tokio_util::sync::CancellationToken;
use weir_clients::redis::Redis;
use weir_serving::{Admission, Cache, ModelControl, Predictor, Reason, ServingSnapshot};
use weir_types::{
    Authorizer, Clock,
    trace::{TraceId, Tracing},
};

use crate::{
    admin::Admin,
    body::BodyLimits,
    bound::{Bound, Listeners},
    config::{ModelControlMode, RouteConfig, ServerConfig},
    declare::RouteProblem,
    face::Face,
    grpc,
    listener::Listener,
    metrics::{Format, Metrics, TelemetryStats},
    observe::AccessLog,
    state::State,
    v2::core::{LogControl, Tracer},
};

/// What every request reads.
pub(crate) struct Shared {
    face: ArcSwap<Face>,
    serving: Arc<ArcSwap<ServingSnapshot>>,
    pub(crate) predictor: Predictor,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) metrics: Metrics,
    /// What the operator wrote, as it counts now.
    pub(crate) config: Arc<ArcSwap<ServerConfig>>,
    routes: ArcSwap<Vec<RouteConfig>>,
    access_log: ArcSwapOption<AccessLog>,
    pub(crate) grpc: grpc::Methods,
    closing: CancellationToken,
    /// Told when what is served changes, or whether.
    changes: watch::Sender<()>,
    /// Why the configuration that was read last does not count.
    reload_problem: ArcSwapOption<String>,
    /// Why the models that were loaded last do not serve.
    swap_problem: ArcSwapOption<String>,
    control: OnceLock<ModelControl>,
    log_control: OnceLock<Arc<dyn LogControl>>,
    tracing: OnceLock<Arc<Tracing>>,
    admin: Option<Admin>,
    cache: OnceLock<Cache>,
    pub(crate) tracer: Tracer,
    pub(crate) state: State,
}

impl Shared {
    /// What requests are matched against now.
    pub(crate) fn face(&self) -> Arc<Face> {
        self.face.load_full()
    }

    /// What a request's body may be.
    pub(crate) fn body_limits(&self) -> BodyLimits {
        let config = self.config.load();
        BodyLimits { max_bytes: config.max_body.0, pause: config.body_timeout.0 }
    }

    /// Deadline of a request that sets none itself.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.config.load().request_timeout.0
    }

    /// Whether the access log tells of a request.
    pub(crate) fn is_logged(&self, status: StatusCode, took: Duration, trace: Option<TraceId>) -> bool {
        self.access_log.load().as_ref().is_some_and(|log| log.wants(status, took, trace))
    }

    /// From now on the server is not ready.
    pub(crate) fn drain(&self) {
        self.metrics.readiness.drain();
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
        self.metrics.readiness.is_draining()
    }

    /// Loads and unloads models, where clients may.
    pub(crate) fn control(&self) -> Option<&ModelControl> {
        self.control.get()
    }

    /// Changes what is logged, where clients may.
    pub(crate) fn log_control(&self) -> Option<&Arc<dyn LogControl>> {
        self.log_control.get()
    }

    /// What records requests, where they are traced.
    pub(crate) fn tracing(&self) -> Option<&Arc<Tracing>> {
        self.tracing.get()
    }

    /// What the admin listener answers, where there is one.
    pub(crate) fn admin(&self) -> Option<&Admin> {
        self.admin.as_ref()
    }

    /// What the models keep, where they may.
    pub(crate) fn cache(&self) -> Option<&Cache> {
        self.cache.get()
    }

    /// Why what was read or loaded last is not in force.
    pub(crate) fn reload_problem(&self) -> Option<String> {
        let problems = [&self.reload_problem, &self.swap_problem].map(ArcSwapOption::load_full);
        let lines: Vec<_> = problems.iter().flatten().map(|problem| problem.as_str()).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

/// A server that is configured and has models, but no socket yet. Cheap to clone: clones
/// are handles of one server.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
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
        Self::with_state(config, routes, snapshot, State::default(), (authorizer, clock))
    }

    /// [`new`](Self::new) with online state: feature views, event streams, idempotency keys.
    ///
    /// # Errors
    /// As `new`.
    pub fn with_state(
        config: ServerConfig,
        routes: Vec<RouteConfig>,
        snapshot: ServingSnapshot,
        state: State,
        (authorizer, clock): (Arc<dyn Authorizer>, Arc<dyn Clock>),
    ) -> Result<Self, Vec<RouteProblem>> {
        let snapshot = Arc::new(snapshot);
        let serving = Arc::new(ArcSwap::new(snapshot.clone()));
        let admission = Admission::new(config.max_body_in_flight.0);
        let mut metrics = Metrics::new(serving.clone(), admission.clone());
        metrics.watch(&state);
        metrics.reloads.started(clock.wall());
        let face = Face::build(&routes, snapshot, &state, &metrics, config.metrics_listen.is_none())?;
        let trace_file = config.trace_file.as_deref();
        let tracer = Tracer::new(trace_file, config.trace_max.0, &*clock, &metrics.traces);
        let shared = Shared {
            tracer,
            state,
            log_control: OnceLock::new(),
            tracing: OnceLock::new(),
            admin: config.admin_listen.map(|_| Admin::new(&metrics)),
            cache: OnceLock::new(),
            face: ArcSwap::from_pointee(face),
            serving,
            predictor: Predictor::new(admission, clock),
            authorizer,
            grpc: grpc::Methods::new(&metrics),
            metrics,
            access_log: ArcSwapOption::new(AccessLog::new(&config).map(Arc::new)),
            config: Arc::new(ArcSwap::from_pointee(config)),
            routes: ArcSwap::from_pointee(routes),
            closing: CancellationToken::new(),
            changes: watch::Sender::new(()),
            reload_problem: ArcSwapOption::empty(),
            swap_problem: ArcSwapOption::empty(),
            control: OnceLock::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What the operator wrote, as it counts now.
    fn config(&self) -> Arc<ServerConfig> {
        self.shared.config.load_full()
    }

    /// Gives clients the control of models, if the configuration says that they have it. The
    /// control publishes through [`swap`](Self::swap), so it can only be made afterwards.
    pub fn offer_control(&self, control: &ModelControl) {
        if self.config().model_control == ModelControlMode::Explicit {
            // Offered twice, the first one counts: both give orders to one keeper.
            let _ = self.shared.control.set(control.clone());
        }
    }

    /// Gives clients the control of what is logged, if the configuration says that they have
    /// control.
    pub fn offer_log_control(&self, control: Arc<dyn LogControl>) {
        if self.config().model_control == ModelControlMode::Explicit {
            // Offered twice, the first one counts.
            let _ = self.shared.log_control.set(control);
        }
    }

    /// Lets metrics tell what telemetry lost.
    pub fn offer_telemetry(&self, stats: Arc<TelemetryStats>) {
        // Offered twice, the first one counts: a server has one.
        let _ = self.shared.metrics.telemetry.0.set(stats);
    }

    /// Has requests traced.
    pub fn offer_tracing(&self, tracing: Arc<Tracing>) {
        // Offered twice, the first one counts: a server has one.
        let _ = self.shared.tracing.set(tracing);
    }

    /// Gives operators the cache that the models of the snapshot keep their answers in.
    pub fn offer_cache(&self, cache: Cache) {
        // Offered twice, the first one counts: a server has one.
        let _ = self.shared.cache.set(cache);
    }

    /// Lets metrics and operators see how calls to `redis` go.
    pub fn offer_redis(&self, redis: Redis) {
        // Offered twice, the first one counts: a server has one.
        let _ = self.shared.metrics.redis.set(redis);
    }

    /// Lets metrics tell how the runtime that serves is doing.
    pub fn offer_runtime(&self, runtime: RuntimeMetrics) {
        // Offered twice, the first one counts: a server has one.
        let _ = self.shared.metrics.runtime.set(runtime);
    }

    /// Lets metrics tell how many bytes of memory the process may take.
    pub fn offer_memory_limit(&self, bytes: u64) {
        // Offered twice, the first one counts.
        let _ = self.shared.metrics.memory_limit.set(bytes);
    }

    /// The metrics as OpenMetrics text, as `/metrics` gives them.
    pub fn exposition(&self) -> String {
        self.shared.metrics.render(Format::OpenMetrics)
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
        let routes = self.shared.routes.load_full();
        let swapped = self.put_in_force(&routes, snapshot);
        self.shared
            .swap_problem
            .store(swapped.as_ref().err().map(|problems| Arc::new(route_lines(problems))));
        swapped
    }

    /// Swaps what is served, under which routes and with which settings. Requests in flight keep what they
    /// have; connections that are open keep their timeouts. Not one fails.
    ///
    /// Of `config`, addresses, threads, `model_control`, the trace file and what models are loaded
    /// with stay as they were: whoever calls this knows that they did not change.
    ///
    /// # Errors
    /// As [`swap`](Self::swap); then nothing changed.
    pub fn reconfigure(
        &self,
        config: ServerConfig,
        routes: Vec<RouteConfig>,
        snapshot: ServingSnapshot,
    ) -> Result<(), Vec<RouteProblem>> {
        self.put_in_force(&routes, snapshot)?;
        self.shared.swap_problem.store(None);
        self.shared.predictor.resize(config.max_body_in_flight.0);
        self.shared.access_log.store(AccessLog::new(&config).map(Arc::new));
        self.shared.metrics.listeners.limit(config.max_connections);
        self.shared.config.store(Arc::new(config));
        self.shared.routes.store(Arc::new(routes));
        Ok(())
    }

    fn put_in_force(
        &self,
        routes: &[RouteConfig],
        snapshot: ServingSnapshot,
    ) -> Result<(), Vec<RouteProblem>> {
        let Shared { state, metrics, config, .. } = &*self.shared;
        let snapshot = Arc::new(snapshot);
        let public_metrics = config.load().metrics_listen.is_none();
        let face = Face::build(routes, snapshot.clone(), state, metrics, public_metrics)?;
        self.shared.face.store(Arc::new(face));
        self.shared.serving.store(snapshot);
        self.shared.changes.send_replace(());
        Ok(())
    }

    /// Counts a reload of the configuration, and lets `/readyz` say why one changed nothing, as far as that is
    /// anybody's.
    pub fn note_reload(&self, outcome: Result<(), &Reason>) {
        self.shared.metrics.reloads.count(outcome.is_ok(), self.shared.predictor.clock().wall());
        let public = outcome.err().map(|reason| Arc::new(reason.public().to_owned()));
        self.shared.reload_problem.store(public);
    }

    /// Binds the configured addresses.
    ///
    /// # Errors
    /// The address and what the system says, for example `AddrInUse`.
    pub async fn bind(self) -> Result<Bound, (SocketAddr, io::Error)> {
        let config = self.config();
        self.shared.metrics.listeners.limit(config.max_connections);
        let bind = async |name, address| {
            let connections = self.shared.metrics.listeners.listener(name);
            let bound = Listener::bind(address, self.shared.config.clone(), connections).await;
            bound.map_err(|error| (address, error))
        };
        let public = bind("public", config.listen).await?;
        let maybe = async |name, address: Option<SocketAddr>| match address {
            Some(address) => bind(name, address).await.map(Some),
            None => Ok(None),
        };
        let metrics = maybe("metrics", config.metrics_listen).await?;
        let grpc = maybe("grpc", config.grpc_listen).await?;
        let admin = maybe("admin", config.admin_listen).await?;
        Ok(Bound::new(self.shared, Listeners { public, grpc, metrics, admin }))
    }
}

/// Problems, one a line. Anybody may read them: routes and models are in `/openapi.json`.
pub fn route_lines(problems: &[RouteProblem]) -> String {
    problems.iter().map(RouteProblem::to_string).collect::<Vec<_>>().join("\n")
}
