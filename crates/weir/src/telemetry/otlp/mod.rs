//! Telemetry to an OTLP receiver (<https://opentelemetry.io/docs/specs/otlp/>).
//!
//! ```text
//! requests ─▶ queue (bounded, drops and counts) ─▶ batches ─▶ messages ─▶ Otlp ─▶ receiver
//!                                                 one thread, a runtime of its own
//! ```
//!
//! OpenTelemetry's SDK is not used (ADR 0016): its batches do not tell what they dropped, and its
//! exporters bring an HTTP stack besides the one that is here.

mod batches;
mod messages;
mod metrics;
mod transport;

use std::{
    sync::{Arc, atomic::Ordering, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context, anyhow};
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::{
    runtime::{Builder, Handle},
    sync::watch,
};
use weir_api::TelemetryStats;
use weir_types::{
    Clock,
    trace::{Tail, Tracing},
};

use super::TelemetryConfig;
use batches::{Batches, Queue};
use transport::Otlp;

/// Most spans of a message.
pub(crate) const BATCH: usize = 512;
/// How much later than it should the sender may end.
const GRACE: Duration = Duration::from_secs(1);

/// What sends telemetry. [`finish`](Self::finish) it when there is nothing more to send.
pub(crate) struct Telemetry {
    /// Sends messages of any signal.
    pub(crate) otlp: Arc<Otlp>,
    /// Who this process is, for messages.
    pub(crate) resource: Resource,
    /// Where what sends them runs: a thread of its own, apart from those that serve.
    pub(crate) runtime: Handle,
    /// What was dropped.
    pub(crate) stats: Arc<TelemetryStats>,
    /// What makes traces of requests, where they are traced.
    pub(crate) tracing: Option<Arc<Tracing>>,
    stop: watch::Sender<bool>,
    ended: mpsc::Receiver<()>,
    flush_timeout: Duration,
}

impl Telemetry {
    /// Starts what sends telemetry; `None` without an endpoint. Nothing is connected to yet: a
    /// receiver that is away is no reason not to serve. `secrets` are headers that the environment
    /// gives.
    ///
    /// # Errors
    /// An endpoint or headers that cannot be used.
    pub(crate) fn start(
        config: &TelemetryConfig,
        secrets: Option<&str>,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Option<Self>> {
        let Some(endpoint) = config.endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()) else {
            return Ok(None);
        };
        let headers = transport::headers(config.headers_file.as_deref(), secrets)?;
        let otlp = Otlp::new(endpoint, config.protocol, headers, config.timeout.get());
        let otlp = Arc::new(otlp.map_err(|why| anyhow!("`telemetry.endpoint`: {why}"))?);
        let resource = messages::resource(&config.service_name, &config.resource)?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stats, (stop, stopped)) = (Arc::<TelemetryStats>::default(), watch::channel(false));
        let (queue, waiting, room) = Queue::new(config.queue, stats.clone());
        let tail = Tail { errors: config.errors, slow: config.slow.map(|slow| slow.get()) };
        let tracing = config
            .traces
            .then(|| Arc::new(Tracing::new(config.sample, tail, clock.clone(), Arc::new(queue))));
        let batches = Batches {
            waiting,
            room,
            stop: stopped,
            stats: stats.clone(),
            interval: config.interval.get(),
            otlp: otlp.clone(),
            resource: resource.clone(),
        };
        let (end, ended) = mpsc::channel();
        let (handle, flush) = (runtime.handle().clone(), (config.queue, config.flush_timeout.get()));
        let work = move || {
            runtime.block_on(batches.run(flush));
            // Whoever waits may have given up.
            let _ = end.send(());
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("weir-telemetry".into());
        thread.spawn(work).context("no thread for telemetry")?;
        let flush_timeout = config.flush_timeout.get();
        Ok(Some(Self { otlp, resource, runtime: handle, stats, tracing, stop, ended, flush_timeout }))
    }

    /// Sends what still waits, for as long as it may take; blocks. What was dropped in all is logged.
    pub(crate) fn finish(self) {
        self.stop.send_replace(true);
        // It keeps the time itself; this is for a thread that the system does not let run.
        let _ = self.ended.recv_timeout(self.flush_timeout + GRACE);
        let dropped_spans = self.stats.traces.load(Ordering::Relaxed);
        if dropped_spans > 0 {
            tracing::warn!(dropped_spans, "traces were lost: their receiver did not follow");
        }
    }
}
