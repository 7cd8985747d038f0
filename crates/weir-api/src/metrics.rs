//! What is counted, in the Prometheus text format.
//!
//! Labels are the operator's routes and models, never what a caller sends, so their number
//! is bounded. Handles are looked up when a route is compiled, not for each request.

mod cache;
mod durations;
mod format;
mod latency;
mod listeners;
mod models;
mod process;
mod readiness;
mod redis;
mod reload;
mod remote;
mod runtime;
mod sequences;
mod state;
mod telemetry;
#[cfg(test)]
mod tests;
mod write;

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use http::StatusCode;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, prometheus_text, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};
use tokio::runtime::RuntimeMetrics;
use weir_clients::redis::Redis;
use weir_serving::{Admission, ModelTime, ServedVersion, ServingSnapshot, Took};
use weir_types::trace::TraceContext;

use durations::{DurationFamily, Durations};
pub(crate) use format::Format;
use latency::Latencies;
pub(crate) use listeners::{Connections, ListenerMetrics};
use models::{ModelCollector, version_labels};
pub(crate) use readiness::Readiness;

use telemetry::TelemetryCollector;
pub use telemetry::TelemetryStats;

use crate::{state::State, v2::core::TraceCounters};

/// The labels of `weir_build_info`.
const BUILD: [(&str, &str); 4] = [
    ("version", env!("CARGO_PKG_VERSION")),
    ("os", std::env::consts::OS),
    ("arch", std::env::consts::ARCH),
    ("profile", if cfg!(debug_assertions) { "debug" } else { "release" }),
];

/// Which route, and which model behind it (empty where there is none).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct RouteLabels {
    method: String,
    route: String,
    model: String,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    method: String,
    route: String,
    model: String,
    version: String,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    stage: &'static str,
    model: String,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyLabels {
    known: &'static str,
}

/// Counts requests with an `Idempotency-Key`.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyMetrics(Family<KeyLabels, Counter>);

impl KeyMetrics {
    /// One more, of whose key this was known.
    pub(crate) fn count(&self, known: &'static str) {
        self.0.get_or_create(&KeyLabels { known }).inc();
    }
}

/// A request that is sampled, and when it ended.
pub(crate) type Sampled = (TraceContext, SystemTime);

/// Everything that is counted.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<CodeLabels, Counter>,
    duration: DurationFamily,
    stages: Family<StageLabels, Latencies>,
    /// Requests being answered now.
    pub(crate) in_flight: Gauge,
    /// Connections, and those that were ended.
    pub(crate) listeners: ListenerMetrics,
    /// Requests with an `Idempotency-Key`.
    pub(crate) keys: KeyMetrics,
    /// Traces of requests.
    pub(crate) traces: TraceCounters,
    /// Reloads of the configuration.
    pub(crate) reloads: reload::ReloadMetrics,
    /// The Redis that caches and state use, once it is known.
    pub(crate) redis: Arc<OnceLock<Redis>>,
    /// The runtime that serves, once it is known.
    pub(crate) runtime: Arc<OnceLock<RuntimeMetrics>>,
    /// Whether the server is ready.
    pub(crate) readiness: Readiness,
    /// Bytes of memory that the process may take, once it is known that there is a limit.
    pub(crate) memory_limit: Arc<OnceLock<u64>>,
    /// What telemetry lost, once it is known that any is sent.
    pub(crate) telemetry: TelemetryCollector,
}

impl Metrics {
    /// Counts requests, and reads each scrape what `snapshot` serves.
    pub(crate) fn new(snapshot: Arc<ArcSwap<ServingSnapshot>>, bodies: Admission) -> Self {
        let requests = Family::default();
        let stages = Family::default();
        let in_flight = Gauge::default();
        let mut registry = Registry::default();
        registry.register("weir_requests", "Requests answered", requests.clone());
        registry.register_with_unit(
            "weir_stage_duration",
            "Parts of a prediction: decode, features, queue, engine, cache, encode; each of requests that went through it",
            Unit::Seconds,
            stages.clone(),
        );
        registry.register("weir_requests_in_flight", "Requests being answered now", in_flight.clone());
        let listeners = ListenerMetrics::register(&mut registry);
        let keys = KeyMetrics::default();
        let text = "Requests with an Idempotency-Key, by what was known of it";
        registry.register("weir_idempotency_keys", text, keys.0.clone());
        let traces = TraceCounters { written: Counter::default(), dropped: Counter::default() };
        registry.register("weir_traces", "Traces written to the trace file", traces.written.clone());
        let text = "Traces lost: the disk did not follow, or `trace_max` is reached";
        registry.register("weir_traces_dropped", text, traces.dropped.clone());
        registry.register("weir_build", "What is running", Info::new(BUILD));
        let readiness = Readiness::new(snapshot.clone());
        registry.register_collector(Box::new(readiness.clone()));
        registry.register_collector(Box::new(HeldCollector(bodies)));
        registry.register_collector(Box::new(ModelCollector(snapshot)));
        registry.register_collector(Box::new(process::ProcessCollector));
        let redis = Arc::<OnceLock<Redis>>::default();
        registry.register_collector(Box::new(redis::RedisCollector(redis.clone())));
        let reloads = reload::ReloadMetrics::new(&mut registry);
        let runtime = Arc::<OnceLock<RuntimeMetrics>>::default();
        registry.register_collector(Box::new(runtime::RuntimeCollector(runtime.clone())));
        let memory_limit = Arc::<OnceLock<u64>>::default();
        registry.register_collector(Box::new(process::MemoryLimit(memory_limit.clone())));
        let telemetry = TelemetryCollector::default();
        registry.register_collector(Box::new(telemetry.clone()));
        Self {
            telemetry,
            registry,
            requests,
            duration: DurationFamily::default(),
            stages,
            in_flight,
            listeners,
            keys,
            traces,
            reloads,
            redis,
            runtime,
            memory_limit,
            readiness,
        }
    }

    /// Reads each scrape what `state` has done.
    pub(crate) fn watch(&mut self, state: &State) {
        self.registry.register_collector(Box::new(state::StateCollector(state.clone())));
    }

    /// The exposition. A formatting error cannot happen with a `String`.
    pub(crate) fn render(&self, format: Format) -> String {
        let mut written = String::new();
        let _ = match format {
            Format::OpenMetrics => text::encode_registry(&mut written, &self.registry),
            Format::Text => prometheus_text::encode(&mut written, &self.registry),
        };
        let _ = self.duration.write(&mut written, format);
        if format == Format::OpenMetrics {
            let _ = text::encode_eof(&mut written);
        }
        written
    }

    /// The handles of one route.
    pub(crate) fn route(&self, method: &str, route: &str, version: Option<&ServedVersion>) -> RouteMetrics {
        let (model, version) = match version {
            Some(v) => (v.spec.name.to_string(), v.spec.version.to_string()),
            None => Default::default(),
        };
        let labels = RouteLabels { method: method.into(), route: route.into(), model, version };
        let RouteLabels { method, route, model, version } = labels.clone();
        let code = CodeLabels { method, route, model, version, code: StatusCode::OK.as_u16() };
        RouteMetrics {
            ok: self.requests.get_or_create_owned(&code),
            requests: self.requests.clone(),
            code,
            duration: self.duration.of(labels),
        }
    }

    /// The handles of one version's stages.
    pub(crate) fn stages(&self, version: &ServedVersion) -> StageMetrics {
        let of = |stage| {
            let (model, version) = (version.spec.name.to_string(), version.spec.version.to_string());
            self.stages.get_or_create_owned(&StageLabels { stage, model, version })
        };
        StageMetrics {
            decode: of("decode"),
            queue: of("queue"),
            engine: of("engine"),
            cache: version.executor.cached().map(|_| of("cache")),
            encode: of("encode"),
            features: version.lookup.as_ref().map(|_| of("features")),
        }
    }
}

/// Counts a request out again, also when its caller goes away.
pub(crate) struct InFlight(Gauge);

impl InFlight {
    pub(crate) fn enter(metrics: &Metrics) -> Self {
        metrics.in_flight.inc();
        Self(metrics.in_flight.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Handles of one route.
pub(crate) struct RouteMetrics {
    ok: Counter,
    requests: Family<CodeLabels, Counter>,
    code: CodeLabels,
    duration: Durations,
}

impl RouteMetrics {
    /// Counts one answered request; one that is sampled becomes its bucket's exemplar.
    pub(crate) fn observe(&self, status: StatusCode, took: Duration, sampled: Option<Sampled>) {
        if status == StatusCode::OK {
            self.ok.inc();
        } else {
            self.requests.get_or_create(&CodeLabels { code: status.as_u16(), ..self.code.clone() }).inc();
        }
        self.duration.observe(took, sampled);
    }
}

/// Handles of the parts of a prediction.
pub(crate) struct StageMetrics {
    pub(crate) decode: Latencies,
    queue: Latencies,
    engine: Latencies,
    /// For versions that have one.
    cache: Option<Latencies>,
    pub(crate) encode: Latencies,
    /// For versions whose rows may leave features to be looked up.
    pub(crate) features: Option<Latencies>,
}

impl StageMetrics {
    /// Counts what executing a request took: the stages that it went through, and no others. A request whose
    /// rows were all stored would else be counted as the fastest run of the engine that there was.
    pub(crate) fn executed(&self, took: Took) {
        if let Some(ModelTime { queued, ran }) = took.model {
            self.queue.observe(queued);
            self.engine.observe(ran);
        }
        if let Some((stage, took)) = self.cache.as_ref().zip(took.cache) {
            stage.observe(took);
        }
    }
}

/// Reads how many bytes of bodies are held.
#[derive(Debug)]
struct HeldCollector(Admission);

impl Collector for HeldCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let text = "Bytes of request bodies held now, of `max_body_in_flight`";
        let held = i64::try_from(self.0.held_bytes()).unwrap_or(i64::MAX);
        write::gauge(&mut encoder, "weir_held_body_bytes", text, held)
    }
}
