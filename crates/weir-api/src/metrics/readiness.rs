//! Whether the server is ready: what `/readyz` says and `weir_ready` counts.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use weir_serving::ServingSnapshot;

use super::write;

/// Handles of one state.
#[derive(Debug, Clone)]
pub(crate) struct Readiness {
    snapshot: Arc<ArcSwap<ServingSnapshot>>,
    draining: Arc<AtomicBool>,
}

impl Readiness {
    pub(super) fn new(snapshot: Arc<ArcSwap<ServingSnapshot>>) -> Self {
        Self { snapshot, draining: Arc::default() }
    }

    /// From now on the server is not ready.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

impl Collector for Readiness {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let ready = !self.is_draining() && self.snapshot.load().can_answer();
        let text = "Whether the server is ready: every model answers, and it is not draining";
        write::gauge(&mut encoder, "weir_ready", text, i64::from(ready))
    }
}
