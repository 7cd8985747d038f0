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
mod failures;
mod headers;
mod messages;
mod metrics;
mod transport;

use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, anyhow};
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::{
    runtime::{Builder, Handle},
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use weir_api::TelemetryStats;
use weir_types::{
    Clock,
    trace::{Tail, Tracing},
};

use super::TelemetryConfig;
use batches::{Batches, Queue};
pub(super) use headers::{Wrong, of_environment, of_file};
pub(super) use messages::said;
pub(super) use transport::wrong_endpoint;
use transport::{Otlp, Signal};

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
    /// Held by what sends; the thread ends when nobody does.
    sending: mpsc::Sender<()>,
    ended: oneshot::Receiver<()>,
    flush_timeout: Duration,
}

/// Sends an empty message of each signal that `config` sends, and gives what became of it. Nothing
/// without an endpoint.
pub(crate) async fn probe(
    config: &TelemetryConfig,
    secrets: Option<&str>,
    clock: Arc<dyn Clock>,
) -> Vec<(&'static str, Result<(), String>)> {
    let signals = [(Signal::Traces, config.traces), (Signal::Metrics, config.metrics)];
    let mut asked = Vec::new();
    for (signal, _) in signals.into_iter().filter(|(_, sent)| *sent) {
        let answer = match receiver(config, secrets, &clock) {
            Ok(None) => break,
            // Without any spans or metrics, all fields are at their defaults: no bytes.
            Ok(Some(otlp)) => otlp.send(signal, &[]).await.map(drop).map_err(|problem| problem.text),
            Err(error) => Err(error.to_string()),
        };
        asked.push((signal.name(), answer));
    }
    asked
}

/// The receiver that `config` names, if it names one.
fn receiver(
    config: &TelemetryConfig,
    secrets: Option<&str>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Option<Otlp>> {
    let Some(endpoint) = config.endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()) else {
        return Ok(None);
    };
    let headers = headers::headers(config.headers_file.as_deref(), secrets)?;
    Otlp::new(config, endpoint, headers, clock.clone()).map(Some).map_err(|why| anyhow!(why))
}

impl Telemetry {
    /// Starts what sends telemetry; `None` without an endpoint. Nothing is connected to yet: a
    /// receiver that is away is no reason not to serve. `secrets` are headers that the environment
    /// gives.
    ///
    /// # Errors
    /// An endpoint, authorities or headers that cannot be used.
    pub(crate) fn start(
        config: &TelemetryConfig,
        secrets: Option<&str>,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Option<Self>> {
        let Some(otlp) = receiver(config, secrets, clock)?.map(Arc::new) else { return Ok(None) };
        let resource = messages::resource(config.service_name.as_deref(), &config.resource)
            .map_err(|why| anyhow!("`telemetry.resource`: {why}"))?;
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
        let (end, ended) = oneshot::channel();
        let (sending, mut released) = mpsc::channel(1);
        let (handle, flush_timeout) = (runtime.handle().clone(), config.flush_timeout.get());
        let (waiting, mut stopped) = (config.queue, stop.subscribe());
        let work = move || {
            runtime.block_on(async {
                let others = async {
                    // Where nobody can stop it, it is stopped.
                    let _ = stopped.wait_for(|stop| *stop).await;
                    // Nobody sends anything: nothing is there when the last one has let go.
                    let _ = timeout(flush_timeout, released.recv()).await;
                };
                tokio::join!(batches.run((waiting, flush_timeout)), others)
            });
            // Whoever waits may have given up.
            let _ = end.send(());
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("weir-telemetry".into());
        thread.spawn(work).context("no thread for telemetry")?;
        let runtime = handle;
        Ok(Some(Self { otlp, resource, runtime, stats, tracing, stop, sending, ended, flush_timeout }))
    }

    /// Sends what still waits, for as long as it may take. What was dropped in all is logged.
    pub(crate) async fn finish(self) {
        self.stop.send_replace(true);
        drop(self.sending);
        // It keeps the time itself; this is for a thread that the system does not let run.
        let _ = timeout(self.flush_timeout + GRACE, self.ended).await;
        let dropped_spans = self.stats.traces.load(Ordering::Relaxed);
        if dropped_spans > 0 {
            tracing::warn!(dropped_spans, "traces were lost: their receiver did not follow");
        }
    }
}
