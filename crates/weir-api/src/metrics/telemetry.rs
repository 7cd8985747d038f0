//! What telemetry lost on its way to its receiver.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
};

/// What was dropped, by signal: the receiver did not follow, or did not take it, or a request had more
/// spans than it may have.
#[derive(Debug, Default)]
pub struct TelemetryStats {
    /// Spans.
    pub traces: AtomicU64,
    /// Messages of metrics.
    pub metrics: AtomicU64,
}

/// Reads them when somebody scrapes; nothing is dropped where nothing is sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct TelemetryCollector(pub(crate) Arc<OnceLock<Arc<TelemetryStats>>>);

impl Collector for TelemetryCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(stats) = self.0.get() else { return Ok(()) };
        let text = "Spans, and messages of metrics, that were lost: no room, not taken, or more spans than a request may have";
        let mut family =
            encoder.encode_descriptor("weir_telemetry_dropped", text, None, MetricType::Counter)?;
        for (signal, dropped) in [("traces", &stats.traces), ("metrics", &stats.metrics)] {
            let counter = ConstCounter::new(dropped.load(Ordering::Relaxed));
            counter.encode(family.encode_family(&[("signal", signal)])?)?;
        }
        Ok(())
    }
}
