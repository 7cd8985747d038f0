//! What the models' caches did, for the models that have one.

use std::{fmt, sync::Arc};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use weir_serving::{CacheStats, ServedVersion, TierStats};

/// Name, help, and how to read one value.
type Row<S> = (&'static str, &'static str, fn(&S) -> u64);

/// A label's value, and how to read its counter.
type Outcome = (&'static str, fn(&CacheStats) -> u64);

/// How an answer came to be, as the label `outcome` has it.
const OUTCOMES: [Outcome; 4] =
    [("hit", |s| s.hit), ("partial", |s| s.partial), ("miss", |s| s.miss), ("bypassed", |s| s.bypassed)];

const COUNTERS: [Row<CacheStats>; 2] = [
    ("weir_cache_coalesced", "Rows that another request was computing already", |s| s.coalesced),
    ("weir_cache_stale", "Rows given after their ttl while they were computed anew", |s| s.stale),
];

const TIER_COUNTERS: [Row<TierStats>; 8] = [
    ("weir_cache_hits", "Rows that the tier had", |s| s.hits),
    ("weir_cache_misses", "Rows that the tier had not, or had too long ago", |s| s.misses),
    ("weir_cache_expired", "Of the misses, those whose entry was no longer fresh", |s| s.expired),
    ("weir_cache_corrupt", "Of the misses, those whose entry was another row's or damaged", |s| s.corrupt),
    ("weir_cache_filled", "Entries written", |s| s.filled),
    ("weir_cache_dropped", "Entries that were to be written and were not", |s| s.dropped),
    ("weir_cache_evicted", "Entries that made room for others", |s| s.evicted),
    ("weir_cache_lookups", "Look-ups, each of all rows that a request still needs", |s| s.lookups),
];

/// Of the tier in memory alone: what Redis holds, Redis tells.
const MEMORY_GAUGES: [Row<TierStats>; 2] = [
    ("weir_cache_entries", "Entries in memory", |s| s.entries),
    ("weir_cache_bytes", "Bytes that the entries in memory take", |s| s.bytes),
];

/// The labels of a version.
type Labels = [(&'static str, String); 2];
/// A version's labels and counters.
type Known = (Labels, CacheStats);
/// The same of one tier, and the tier's name.
type OfTier<'a> = (&'a Labels, &'static str, &'a TierStats);

/// Writes one family a row; none where no model has a cache.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    versions: &[&Arc<ServedVersion>],
) -> Result<(), fmt::Error> {
    let known =
        versions.iter().filter_map(|v| Some((super::version_labels(v), v.executor.cached()?.stats())));
    let known: Vec<Known> = known.collect();
    if known.is_empty() {
        return Ok(());
    }
    let text = "Requests of models with a cache, by what it had of them";
    let mut family = encoder.encode_descriptor("weir_cache_answers", text, None, MetricType::Counter)?;
    for (labels, stats) in &known {
        for (outcome, read) in OUTCOMES {
            let labels = with(labels, "outcome", outcome);
            ConstCounter::new(read(stats)).encode(family.encode_family(&labels)?)?;
        }
    }
    for (name, help, read) in COUNTERS {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, stats) in &known {
            ConstCounter::new(read(stats)).encode(family.encode_family(labels)?)?;
        }
    }
    let text = "Time of the model that stored and coalesced rows saved";
    let unit = Some(&Unit::Seconds);
    let mut family = encoder.encode_descriptor("weir_cache_saved", text, unit, MetricType::Counter)?;
    for (labels, stats) in &known {
        ConstCounter::new(stats.saved_ns as f64 / 1e9).encode(family.encode_family(labels)?)?;
    }
    tiers(encoder, &known)
}

fn tiers(encoder: &mut DescriptorEncoder<'_>, known: &[Known]) -> Result<(), fmt::Error> {
    for (name, help, read) in TIER_COUNTERS {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, tier, stats) in known.iter().flat_map(of_tiers) {
            let labels = with(labels, "tier", tier);
            ConstCounter::new(read(stats)).encode(family.encode_family(&labels)?)?;
        }
    }
    let (text, unit) = ("What the look-ups took in all", Some(&Unit::Seconds));
    let mut family = encoder.encode_descriptor("weir_cache_lookup", text, unit, MetricType::Counter)?;
    for (labels, tier, stats) in known.iter().flat_map(of_tiers) {
        let labels = with(labels, "tier", tier);
        ConstCounter::new(stats.lookup_ns as f64 / 1e9).encode(family.encode_family(&labels)?)?;
    }
    for (name, help, read) in MEMORY_GAUGES {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, stats) in known {
            let value = i64::try_from(read(&stats.memory)).unwrap_or(i64::MAX);
            ConstGauge::new(value).encode(family.encode_family(labels)?)?;
        }
    }
    Ok(())
}

fn of_tiers((labels, stats): &Known) -> [OfTier<'_>; 2] {
    [(labels, "memory", &stats.memory), (labels, "redis", &stats.redis)]
}

fn with(labels: &Labels, name: &'static str, value: &str) -> [(&'static str, String); 3] {
    let [model, version] = labels.clone();
    [model, version, (name, value.to_owned())]
}
