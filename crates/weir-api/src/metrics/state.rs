//! What feature views, event streams and the state store have done.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use weir_features::ViewStats;
use weir_serving::ServedVersion;

use super::version_labels;
use crate::state::State;

/// Name, help, and how to read one counter.
type Row = (&'static str, &'static str, fn(&ViewStats) -> u64);

const COUNTERS: [Row; 8] = [
    ("weir_features_written", "Features written", |s| s.written),
    ("weir_features_outdated", "Features put that a value with a later event time kept out", |s| s.outdated),
    ("weir_features_looked_up", "Features looked up", |s| s.looked_up),
    ("weir_features_found", "Features looked up of which something was known", |s| s.found),
    ("weir_events_accepted", "Events counted", |s| s.accepted),
    ("weir_events_late", "Events refused as older than the lateness allows", |s| s.late),
    ("weir_events_duplicates", "Events whose id had been counted", |s| s.duplicates),
    ("weir_events_forgotten_ids", "Event ids forgotten before the lateness had passed", |s| s.forgotten_ids),
];

/// Requests of each version for which the store could not be asked; nothing where no version looks
/// anything up.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    versions: &[&Arc<ServedVersion>],
) -> Result<(), fmt::Error> {
    let looking: Vec<_> = versions.iter().filter_map(|v| Some((*v, v.lookup.as_ref()?))).collect();
    if looking.is_empty() {
        return Ok(());
    }
    let kind = ConstCounter::new(0u64).metric_type();
    let text = "Requests for which the state store could not be asked: they had defaults, or failed";
    let mut family = encoder.encode_descriptor("weir_features_without_store", text, None, kind)?;
    for (version, lookup) in looking {
        let counter = ConstCounter::new(lookup.without_store());
        counter.encode(family.encode_family(&version_labels(version))?)?;
    }
    Ok(())
}

/// Reads the counters when somebody scrapes.
pub(super) struct StateCollector(pub(super) State);

impl fmt::Debug for StateCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateCollector")
    }
}

impl Collector for StateCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stats = self.0.features.as_ref().map(weir_features::Features::stats).unwrap_or_default();
        for (name, help, read) in COUNTERS.iter().filter(|_| !stats.is_empty()) {
            let kind = ConstCounter::new(0u64).metric_type();
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for view in &stats {
                let labels = [("view", &*view.view)];
                ConstCounter::new(read(view)).encode(family.encode_family(&labels)?)?;
            }
        }
        let Some(held) = self.0.store.as_ref().and_then(|store| store.held()) else { return Ok(()) };
        let gauge = |bytes| ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
        let text = "Bytes that the state store holds, of `[state] budget` and `[idempotency] budget`";
        let kind = gauge(0).metric_type();
        let mut family = encoder.encode_descriptor("weir_state_held_bytes", text, None, kind)?;
        for (budget, bytes) in [("state", held.state), ("idempotency", held.idempotency)] {
            gauge(bytes).encode(family.encode_family(&[("budget", budget)])?)?;
        }
        Ok(())
    }
}
