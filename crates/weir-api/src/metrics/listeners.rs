//! Connections of each listener.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabels {
    listener: &'static str,
}

/// What is counted of all listeners.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListenerMetrics {
    open: Family<ListenerLabels, Gauge>,
    limit: Family<ListenerLabels, Gauge>,
    refused: Family<ListenerLabels, Counter>,
    floods: Counter,
}

/// The handles of one listener.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connections {
    /// Open now.
    pub(crate) open: Gauge,
    /// Refused because there were as many as may be.
    pub(crate) refused: Counter,
    /// Ended for a flood of HTTP/2 frames, on any listener.
    pub(crate) floods: Counter,
}

impl ListenerMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("weir_connections", "Connections that are open", metrics.open.clone());
        let text = "Connections that may be open at once, `max_connections`";
        registry.register("weir_connections_limit", text, metrics.limit.clone());
        let text = "Connections refused because as many were open as may be";
        registry.register("weir_connections_refused", text, metrics.refused.clone());
        let text = "Connections closed because their HTTP/2 control frames outnumbered any work";
        registry.register("weir_http2_floods", text, metrics.floods.clone());
        metrics
    }

    /// The handles of the listener of this name, which lets in `limit` connections at once.
    pub(crate) fn listener(&self, listener: &'static str, limit: usize) -> Connections {
        let labels = ListenerLabels { listener };
        self.limit.get_or_create(&labels).set(i64::try_from(limit).unwrap_or(i64::MAX));
        Connections {
            open: self.open.get_or_create_owned(&labels),
            refused: self.refused.get_or_create_owned(&labels),
            floods: self.floods.clone(),
        }
    }
}

/// Counts a connection out again when it is over, however it ends.
pub(crate) struct Open(Gauge);

impl Connections {
    /// One more is open, until what is returned is dropped.
    pub(crate) fn enter(&self) -> Open {
        self.open.inc();
        Open(self.open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
