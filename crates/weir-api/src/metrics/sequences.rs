//! How many sequences there are, for the models that keep state.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use weir_serving::{SequenceCounts, Sequences, ServedVersion};

/// Name, help, and where one counter is.
type Counter = (&'static str, &'static str, fn(&SequenceCounts) -> &AtomicU64);

const COUNTERS: [Counter; 6] = [
    ("weir_sequences_started", "Sequences whose first step was answered", |c| &c.started),
    ("weir_sequences_ended", "Sequences whose last step was answered", |c| &c.ended),
    ("weir_sequences_evicted", "Sequences forgotten because they were idle for too long", |c| &c.evicted),
    ("weir_sequences_full", "Steps refused because there are as many sequences as may be", |c| &c.full),
    ("weir_sequences_busy", "Steps refused because too many of their sequence wait", |c| &c.busy),
    ("weir_sequences_unknown", "Steps refused because their sequence is not there", |c| &c.unknown),
];

/// Name, help, and how to read one gauge.
type Gauge = (&'static str, &'static str, fn(&Sequences) -> u64);

const GAUGES: [Gauge; 2] = [
    ("weir_sequences", "Sequences that are kept", |s| s.live() as u64),
    ("weir_sequence_state_bytes", "Bytes of their state tensors", Sequences::bytes),
];

/// Writes one family a row; none where no model keeps state.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    versions: &[&Arc<ServedVersion>],
) -> Result<(), fmt::Error> {
    let known = versions.iter().filter_map(|v| Some((super::version_labels(v), v.executor.sequences()?)));
    let known: Vec<_> = known.collect();
    if known.is_empty() {
        return Ok(());
    }
    for (name, help, read) in GAUGES {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, sequences) in &known {
            let value = i64::try_from(read(sequences)).unwrap_or(i64::MAX);
            ConstGauge::new(value).encode(family.encode_family(labels)?)?;
        }
    }
    for (name, help, read) in COUNTERS {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, sequences) in &known {
            let value = read(sequences.counts()).load(Ordering::Relaxed);
            ConstCounter::new(value).encode(family.encode_family(labels)?)?;
        }
    }
    Ok(())
}
