//! What tokio tells of the runtime that serves. Of its figures those alone that it promises to
//! keep: the others (`tokio_unstable`) need every build to be told, and may change in any release.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
    registry::Unit,
};
use tokio::runtime::RuntimeMetrics;

use super::write;

/// Reads the runtime when somebody scrapes; says nothing until it is known.
#[derive(Debug)]
pub(super) struct RuntimeCollector(pub(super) Arc<OnceLock<RuntimeMetrics>>);

impl Collector for RuntimeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(runtime) = self.0.get() else { return Ok(()) };
        let gauges = [
            ("weir_runtime_workers", "Threads that serve requests", runtime.num_workers()),
            (
                "weir_runtime_alive_tasks",
                "Tasks that are not done: connections above all",
                runtime.num_alive_tasks(),
            ),
            (
                "weir_runtime_global_queue_depth",
                "Tasks that wait for a thread and have none yet",
                runtime.global_queue_depth(),
            ),
        ];
        for (name, help, value) in gauges {
            write::gauge(&mut encoder, name, help, write::count(value))?;
        }
        workers(&mut encoder, runtime)
    }
}

/// One series a thread: one that is blocked hides in the sum of all.
fn workers(encoder: &mut DescriptorEncoder<'_>, runtime: &RuntimeMetrics) -> fmt::Result {
    let (text, unit) = ("Time that the thread was at work", Some(&Unit::Seconds));
    let mut family = encoder.encode_descriptor("weir_runtime_busy", text, unit, MetricType::Counter)?;
    for worker in 0..runtime.num_workers() {
        let busy = ConstCounter::new(runtime.worker_total_busy_duration(worker).as_secs_f64());
        busy.encode(family.encode_family(&[("worker", worker)])?)?;
    }
    let text = "How often the thread went to sleep for want of work";
    let mut family = encoder.encode_descriptor("weir_runtime_parks", text, None, MetricType::Counter)?;
    for worker in 0..runtime.num_workers() {
        let parks = ConstCounter::new(runtime.worker_park_count(worker));
        parks.encode(family.encode_family(&[("worker", worker)])?)?;
    }
    Ok(())
}
