//! The server: state that requests share, and what can be done with it.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::{runtime::RuntimeMetrics, sync::watch};
use tokio_util::sync::CancellationToken;
use weir_clients::redis::Redis;
use weir_serving::{Admission, Cache, ModelControl, Predictor, ServingSnapshot};
use weir_types::{Authorizer, Clock, trace::Tracing};

use crate::{
    admin::Admin,
    body::BodyLimits,
    bound::{Bound, Listeners},
    config::{ModelControlMode, RouteConfig, ServerConfig},
    declare::RouteProblem,
    face::Face,
    grpc,
    listener::{Bounds, Listener},
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
    pub(crate) body_limits: BodyLimits,
    pub(crate) request_timeout: Duration,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) grpc: grpc::Methods,
    closing: CancellationToken,
    /// Told when what is served changes, or whether.
    changes: watch::Sender<()>,
    reload_problem: ArcSwapOption<String>,
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
            body_limits: BodyLimits { max_bytes: config.max_body.0, pause: config.body_timeout.0 },
            request_timeout: config.request_timeout.0,
            access_log: AccessLog::new(&config),
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

    /// Gives clients the control of what is logged, if the configuration says that they have
    /// control.
    pub fn offer_log_control(&self, control: Arc<dyn LogControl>) {
        if self.config.model_control == ModelControlMode::Explicit {
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
        let snapshot = Arc::new(snapshot);
        match Face::build(
            &self.routes,
            snapshot.clone(),
            &self.shared.state,
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
        let bind = async |name, address| {
            let connections = self.shared.metrics.listeners.listener(name, bounds.max_connections);
            Listener::bind(address, bounds, connections).await.map_err(|error| (address, error))
        };
        let public = bind("public", self.config.listen).await?;
        let maybe = async |name, address: Option<SocketAddr>| match address {
            Some(address) => bind(name, address).await.map(Some),
            None => Ok(None),
        };
        let metrics = maybe("metrics", self.config.metrics_listen).await?;
        let grpc = maybe("grpc", self.config.grpc_listen).await?;
        let admin = maybe("admin", self.config.admin_listen).await?;
        Ok(Bound::new(self.shared, &self.config, Listeners { public, grpc, metrics, admin }))
    }
}
