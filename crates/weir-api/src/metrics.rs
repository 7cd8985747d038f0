//! What is counted, in the Prometheus text format.
//!
//! Labels are the operator's routes and models, never what a caller sends, so their number
//! is bounded. Handles are looked up when a route is compiled, not for each request.

mod cache;
mod process;
mod redis;
mod reload;
mod remote;
mod sequences;
mod state;

use std::{
    fmt,
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwap;
use http::StatusCode;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet, text::encode},
    metrics::{
        MetricType, counter::ConstCounter, counter::Counter, family::Family, gauge::ConstGauge, gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};
use weir_clients::redis::Redis;
use weir_serving::{Admission, ServedVersion, ServingSnapshot, Stats};

pub(crate) use process::ProcessCollector;

use crate::{state::State, v2::core::TraceCounters};

/// Upper bounds of the latency buckets, seconds: from a tree ensemble to a deadline.
const BUCKETS: [f64; 17] = [
    25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0,
];

/// Which route, and which model behind it (empty where there is none).
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
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

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

/// Everything that is counted.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<CodeLabels, Counter>,
    duration: Histograms<RouteLabels>,
    stages: Histograms<StageLabels>,
    /// Requests being answered now.
    pub(crate) in_flight: Gauge,
    /// Connections ended for a flood of HTTP/2 frames.
    pub(crate) floods: Counter,
    /// Requests with an `Idempotency-Key`.
    pub(crate) keys: KeyMetrics,
    /// Traces of requests.
    pub(crate) traces: TraceCounters,
    /// Reloads of the configuration.
    pub(crate) reloads: reload::ReloadMetrics,
    /// The Redis that caches and state use, once it is known.
    pub(crate) redis: Arc<OnceLock<Redis>>,
}

impl Metrics {
    /// Counts requests, and reads each scrape what `snapshot` serves.
    pub(crate) fn new(snapshot: Arc<ArcSwap<ServingSnapshot>>, bodies: Admission) -> Self {
        let requests = Family::default();
        let duration = Histograms::new_with_constructor(histogram as fn() -> Histogram);
        let stages = Histograms::new_with_constructor(histogram as fn() -> Histogram);
        let in_flight = Gauge::default();
        let mut registry = Registry::default();
        registry.register("weir_requests", "Requests answered", requests.clone());
        registry.register_with_unit(
            "weir_request_duration",
            "From the request's head to its answer",
            Unit::Seconds,
            duration.clone(),
        );
        registry.register_with_unit(
            "weir_stage_duration",
            "Parts of a prediction: decode, features, queue, engine, encode",
            Unit::Seconds,
            stages.clone(),
        );
        registry.register("weir_requests_in_flight", "Requests being answered now", in_flight.clone());
        let floods = Counter::default();
        let text = "Connections closed because their HTTP/2 control frames outnumbered any work";
        registry.register("weir_http2_floods", text, floods.clone());
        let keys = KeyMetrics::default();
        let text = "Requests with an Idempotency-Key, by what was known of it";
        registry.register("weir_idempotency_keys", text, keys.0.clone());
        let traces = TraceCounters { written: Counter::default(), dropped: Counter::default() };
        registry.register("weir_traces", "Traces written to the trace file", traces.written.clone());
        let text = "Traces lost: the disk did not follow, or `trace_max` is reached";
        registry.register("weir_traces_dropped", text, traces.dropped.clone());
        registry.register_collector(Box::new(HeldCollector(bodies)));
        registry.register_collector(Box::new(ModelCollector(snapshot)));
        registry.register_collector(Box::new(ProcessCollector));
        let redis = Arc::<OnceLock<Redis>>::default();
        registry.register_collector(Box::new(redis::RedisCollector(redis.clone())));
        let reloads = reload::ReloadMetrics::new(&mut registry);
        Self { registry, requests, duration, stages, in_flight, floods, keys, traces, reloads, redis }
    }

    /// Reads each scrape what `state` has done.
    pub(crate) fn watch(&mut self, state: &State) {
        self.registry.register_collector(Box::new(state::StateCollector(state.clone())));
    }

    /// The exposition. A formatting error cannot happen with a `String`.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// The handles of one route.
    pub(crate) fn route(&self, method: &str, route: &str, version: Option<&ServedVersion>) -> RouteMetrics {
        let (model, version) = match version {
            Some(v) => (v.spec.name.to_string(), v.spec.version.to_string()),
            None => Default::default(),
        };
        let labels = RouteLabels { method: method.into(), route: route.into(), model, version };
        let code = CodeLabels {
            method: labels.method.clone(),
            route: labels.route.clone(),
            model: labels.model.clone(),
            version: labels.version.clone(),
            code: StatusCode::OK.as_u16(),
        };
        RouteMetrics {
            ok: self.requests.get_or_create_owned(&code),
            requests: self.requests.clone(),
            code,
            duration: self.duration.get_or_create_owned(&labels),
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
    duration: Histogram,
}

impl RouteMetrics {
    /// Counts one answered request.
    pub(crate) fn observe(&self, status: StatusCode, took: Duration) {
        if status == StatusCode::OK {
            self.ok.inc();
        } else {
            self.requests.get_or_create(&CodeLabels { code: status.as_u16(), ..self.code.clone() }).inc();
        }
        self.duration.observe(took.as_secs_f64());
    }
}

/// Handles of the parts of a prediction.
pub(crate) struct StageMetrics {
    pub(crate) decode: Histogram,
    pub(crate) queue: Histogram,
    pub(crate) engine: Histogram,
    pub(crate) encode: Histogram,
    /// For versions whose rows may leave features to be looked up.
    pub(crate) features: Option<Histogram>,
}

/// Reads how many bytes of bodies are held.
#[derive(Debug)]
struct HeldCollector(Admission);

impl Collector for HeldCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let held = ConstGauge::new(i64::try_from(self.0.held_bytes()).unwrap_or(i64::MAX));
        let text = "Bytes of request bodies held now, of `max_body_in_flight`";
        held.encode(encoder.encode_descriptor("weir_held_body_bytes", text, None, held.metric_type())?)
    }
}

/// Reads the executors' counters when somebody scrapes.
#[derive(Debug)]
struct ModelCollector(Arc<ArcSwap<ServingSnapshot>>);

/// Name, help, and how to read one counter.
type Row = (&'static str, &'static str, fn(&Stats) -> u64);

const MODEL_COUNTERS: [Row; 6] = [
    ("weir_rows", "Rows that the engine answered", |s| s.rows.load(Ordering::Relaxed)),
    ("weir_executions", "Calls of the engine", |s| s.executed.load(Ordering::Relaxed)),
    ("weir_abandoned", "Requests whose caller went away before they were answered", |s| {
        s.abandoned.load(Ordering::Relaxed)
    }),
    ("weir_expired", "Requests whose deadline passed before they were answered", |s| {
        s.expired.load(Ordering::Relaxed)
    }),
    ("weir_refused", "Requests refused because too much waited for the model already", |s| {
        s.refused.load(Ordering::Relaxed)
    }),
    ("weir_retried", "Executions that failed for several requests and were tried again in halves", |s| {
        s.retried.load(Ordering::Relaxed)
    }),
];

/// Upper bounds of the rows of an execution.
const BATCH_BUCKETS: [f64; 11] = [1., 2., 4., 8., 16., 32., 64., 128., 256., 512., 1024.];
/// The labels of everything that is known of one version.
fn version_labels(version: &ServedVersion) -> [(&'static str, String); 2] {
    [("model", version.spec.name.to_string()), ("version", version.spec.version.to_string())]
}

impl Collector for ModelCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let snapshot = self.0.load();
        let versions: Vec<_> = snapshot.models().flat_map(|(_, model)| model.versions()).collect();
        let labels = version_labels;
        for (name, help, read) in MODEL_COUNTERS {
            let counter = ConstCounter::new(0u64);
            let mut family = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            for version in &versions {
                let counter = ConstCounter::new(read(version.executor.stats()));
                counter.encode(family.encode_family(&labels(version))?)?;
            }
        }
        let waiting = ConstGauge::new(0i64).metric_type();
        let text = "Requests that wait for the model, in whole or in part";
        let mut family = encoder.encode_descriptor("weir_queue_length", text, None, waiting)?;
        for version in &versions {
            let gauge = ConstGauge::new(i64::try_from(version.executor.waiting()).unwrap_or(i64::MAX));
            gauge.encode(family.encode_family(&labels(version))?)?;
        }
        let text = "Rows of an execution";
        let mut family = encoder.encode_descriptor("weir_batch_rows", text, None, MetricType::Histogram)?;
        for version in &versions {
            let (sum, count, buckets) = batch_rows(version.executor.stats());
            family
                .encode_family(&labels(version))?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        let known = versions.iter().filter_map(|v| Some((v, v.executor.resident_bytes()?)));
        let held: Vec<_> = known.collect();
        if !held.is_empty() {
            let text = "Memory that a model under the budget holds; 0 while it sleeps";
            let gauge = ConstGauge::new(0i64).metric_type();
            let mut family = encoder.encode_descriptor("weir_model_resident_bytes", text, None, gauge)?;
            for (version, bytes) in held {
                let gauge = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
                gauge.encode(family.encode_family(&labels(version))?)?;
            }
        }
        cache::encode(&mut encoder, &versions)?;
        remote::encode(&mut encoder, &versions)?;
        sequences::encode(&mut encoder, &versions)?;
        state::encode(&mut encoder, &versions)?;
        let failed = ConstGauge::new(snapshot.failures().len() as i64);
        let text = "Versions that could not be loaded the last time it was tried";
        failed.encode(encoder.encode_descriptor("weir_load_failures", text, None, failed.metric_type())?)
    }
}

/// The histogram of rows an execution: sum, count, and `(upper bound, count)` of each bucket.
fn batch_rows(stats: &Stats) -> (f64, u64, Vec<(f64, u64)>) {
    let mut buckets: Vec<(f64, u64)> = BATCH_BUCKETS.iter().map(|&bound| (bound, 0)).collect();
    buckets.push((f64::MAX, 0));
    let (mut sum, mut count) = (0.0, 0);
    for (rows, executions, _) in stats.batches.sizes() {
        (sum, count) = (sum + rows as f64 * executions as f64, count + executions);
        let bucket = buckets.iter_mut().find(|(bound, _)| rows as f64 <= *bound);
        bucket.into_iter().for_each(|(_, n)| *n += executions);
    }
    (sum, count, buckets)
}
