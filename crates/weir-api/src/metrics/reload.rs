//! How reloads of the configuration went, under the names that Prometheus has for its own.

use std::{
    sync::atomic::AtomicU64,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// Counts reloads.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReloadMetrics {
    reloads: Counter,
    failures: Counter,
    successful: Gauge,
    since: Gauge<f64, AtomicU64>,
}

impl ReloadMetrics {
    /// Metrics in `registry`.
    pub(super) fn new(registry: &mut Registry) -> Self {
        let all = Self::default();
        all.successful.set(1);
        let text = "Reloads of configuration and models that were asked for";
        registry.register("weir_config_reloads", text, all.reloads.clone());
        let text = "Reloads that changed nothing because something was wrong";
        registry.register("weir_config_reload_failures", text, all.failures.clone());
        let text = "Whether the last reload of the configuration succeeded";
        registry.register("weir_config_last_reload_successful", text, all.successful.clone());
        let text = "When the configuration was last reloaded successfully, or loaded at the start";
        let name = "weir_config_last_reload_success_timestamp_seconds";
        registry.register(name, text, all.since.clone());
        all
    }

    /// What the server started with was loaded at `now`.
    pub(crate) fn started(&self, now: SystemTime) {
        self.since.set(seconds(now));
    }

    /// One more, which ended at `now`.
    pub(crate) fn count(&self, successful: bool, now: SystemTime) {
        self.reloads.inc();
        self.successful.set(successful.into());
        match successful {
            true => self.started(now),
            false => {
                self.failures.inc();
            }
        }
    }
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
