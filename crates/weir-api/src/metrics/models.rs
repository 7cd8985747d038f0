//! What is known of each version of a model: what it is, whether it answers, and what its
//! executor counted.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, atomic::Ordering},
};

use arc_swap::ArcSwap;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use weir_serving::{ServedVersion, ServingSnapshot, Stats};

use super::{cache, remote, sequences, state, write};

/// Reads the executors' counters when somebody scrapes.
#[derive(Debug)]
pub(super) struct ModelCollector(pub(super) Arc<ArcSwap<ServingSnapshot>>);

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

/// Digits of a version's digest that are told: enough to tell versions apart, 48 bits.
const DIGEST_DIGITS: usize = 12;

/// The labels of everything that is known of one version.
pub(super) fn version_labels(version: &ServedVersion) -> [(&'static str, String); 2] {
    [("model", version.spec.name.to_string()), ("version", version.spec.version.to_string())]
}

impl Collector for ModelCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let snapshot = self.0.load();
        let versions: Vec<_> = snapshot.models().flat_map(|(_, model)| model.versions()).collect();
        infos(&mut encoder, &versions)?;
        ready(&mut encoder, &snapshot)?;
        counters(&mut encoder, &versions)?;
        queues(&mut encoder, &versions)?;
        batches(&mut encoder, &versions)?;
        resident(&mut encoder, &versions)?;
        cache::encode(&mut encoder, &versions)?;
        remote::encode(&mut encoder, &versions)?;
        sequences::encode(&mut encoder, &versions)?;
        state::encode(&mut encoder, &versions)?;
        let failures = snapshot.missing_count();
        let text =
            "Versions that could not be loaded the last time it was tried, and archives that are not here";
        write::gauge(&mut encoder, "weir_load_failures", text, write::count(failures))
    }
}

type Versions<'a> = [&'a Arc<ServedVersion>];

/// What each version is. Replicas that serve the same model differ in nothing here.
fn infos(encoder: &mut DescriptorEncoder<'_>, versions: &Versions<'_>) -> fmt::Result {
    let text = "The versions that are served: their digest, and what runs them";
    let mut family = encoder.encode_descriptor("weir_model", text, None, MetricType::Info)?;
    for version in versions {
        let [model, number] = version_labels(version);
        let digest = version.spec.digest.chars().take(DIGEST_DIGITS).collect();
        let engine = ("engine", version.engine.name.to_owned());
        let engine_version = ("engine_version", version.engine.version.clone());
        family.encode_info(&[model, number, ("digest", digest), engine, engine_version])?;
    }
    Ok(())
}

/// Whether each model answers: 0 where nothing of it could be loaded. A model that was told to
/// unload is not there at all.
fn ready(encoder: &mut DescriptorEncoder<'_>, snapshot: &ServingSnapshot) -> fmt::Result {
    let text = "Whether the model has a version that answers";
    let mut family = encoder.encode_descriptor("weir_model_ready", text, None, MetricType::Gauge)?;
    let serving = snapshot.models().map(|(name, _)| (name.as_str(), 1i64));
    let away: BTreeSet<_> = snapshot.unavailable().map(|failure| failure.model.as_str()).collect();
    for (model, ready) in serving.chain(away.into_iter().map(|model| (model, 0))) {
        ConstGauge::new(ready).encode(family.encode_family(&[("model", model)])?)?;
    }
    Ok(())
}

fn counters(encoder: &mut DescriptorEncoder<'_>, versions: &Versions<'_>) -> fmt::Result {
    for (name, help, read) in MODEL_COUNTERS {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for version in versions {
            let counter = ConstCounter::new(read(version.executor.stats()));
            counter.encode(family.encode_family(&version_labels(version))?)?;
        }
    }
    Ok(())
}

fn queues(encoder: &mut DescriptorEncoder<'_>, versions: &Versions<'_>) -> fmt::Result {
    let text = "Requests that wait for the model, in whole or in part";
    let mut family = encoder.encode_descriptor("weir_queue_length", text, None, MetricType::Gauge)?;
    for version in versions {
        let gauge = ConstGauge::new(write::count(version.executor.waiting()));
        gauge.encode(family.encode_family(&version_labels(version))?)?;
    }
    Ok(())
}

fn batches(encoder: &mut DescriptorEncoder<'_>, versions: &Versions<'_>) -> fmt::Result {
    let text = "Rows of an execution";
    let mut family = encoder.encode_descriptor("weir_batch_rows", text, None, MetricType::Histogram)?;
    for version in versions {
        let (sum, count, buckets) = batch_rows(version.executor.stats());
        let labels = version_labels(version);
        let mut series = family.encode_family(&labels)?;
        series.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
    }
    Ok(())
}

/// Nothing where no model is under a memory budget.
fn resident(encoder: &mut DescriptorEncoder<'_>, versions: &Versions<'_>) -> fmt::Result {
    let held: Vec<_> = versions.iter().filter_map(|v| Some((v, v.executor.resident_bytes()?))).collect();
    if held.is_empty() {
        return Ok(());
    }
    let text = "Memory that a model under the budget holds; 0 while it sleeps";
    let mut family = encoder.encode_descriptor("weir_model_resident_bytes", text, None, MetricType::Gauge)?;
    for (version, bytes) in held {
        let gauge = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
        gauge.encode(family.encode_family(&version_labels(version))?)?;
    }
    Ok(())
}

/// The histogram of rows an execution: sum, count, and `(upper bound, count)` of each bucket.
fn batch_rows(stats: &Stats) -> (f64, u64, Vec<(f64, u64)>) {
    let mut buckets: Vec<(f64, u64)> = BATCH_BUCKETS.iter().map(|&bound| (bound, 0)).collect();
    buckets.push((f64::INFINITY, 0));
    let (mut sum, mut count) = (0.0, 0);
    for (rows, executions, _) in stats.batches.sizes() {
        (sum, count) = (sum + rows as f64 * executions as f64, count + executions);
        let bucket = buckets.iter_mut().find(|(bound, _)| rows as f64 <= *bound);
        bucket.into_iter().for_each(|(_, n)| *n += executions);
    }
    (sum, count, buckets)
}
