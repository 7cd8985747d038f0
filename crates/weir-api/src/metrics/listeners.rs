//! Connections of each listener.

use std::sync::atomic::Ordering;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
    },
    registry::Registry,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabels {
    listener: &'static str,
}

/// One gauge for every listener: `max_connections` is one setting, and counts for each of them.
#[derive(Debug, Clone, Default)]
struct Shared(Gauge);

impl MetricConstructor<Gauge> for Shared {
    fn new_metric(&self) -> Gauge {
        self.0.clone()
    }
}

/// What is counted of all listeners.
#[derive(Debug, Clone)]
pub(crate) struct ListenerMetrics {
    open: Family<ListenerLabels, Gauge>,
    limit: Shared,
    limits: Family<ListenerLabels, Gauge, Shared>,
    refused: Family<ListenerLabels, Counter>,
    floods: Counter,
}

/// The handles of one listener.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connections {
    open: Gauge,
    refused: Counter,
    /// Ended for a flood of HTTP/2 frames, on any listener.
    pub(crate) floods: Counter,
}

impl ListenerMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let limit = Shared::default();
        let metrics = Self {
            open: Family::default(),
            limits: Family::new_with_constructor(limit.clone()),
            limit,
            refused: Family::default(),
            floods: Counter::default(),
        };
        registry.register("weir_connections", "Connections that are open", metrics.open.clone());
        let text = "Connections that may be open at once, `max_connections`";
        registry.register("weir_connections_limit", text, metrics.limits.clone());
        let text = "Connections refused because as many were open as may be";
        registry.register("weir_connections_refused", text, metrics.refused.clone());
        let text = "Connections closed because their HTTP/2 control frames outnumbered any work";
        registry.register("weir_http2_floods", text, metrics.floods.clone());
        metrics
    }

    /// The handles of the listener of this name.
    pub(crate) fn listener(&self, listener: &'static str) -> Connections {
        let labels = ListenerLabels { listener };
        // It is there from now on, and nobody but `limit` sets it.
        let _ = self.limits.get_or_create_owned(&labels);
        Connections {
            open: self.open.get_or_create_owned(&labels),
            refused: self.refused.get_or_create_owned(&labels),
            floods: self.floods.clone(),
        }
    }

    /// So many connections may be open from now on, on each listener.
    pub(crate) fn limit(&self, max_connections: usize) {
        self.limit.0.set(clamped(max_connections));
    }
}

fn clamped(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Counts a connection out again when it is over, however it ends.
#[derive(Debug)]
pub(crate) struct Open(Gauge);

impl Connections {
    /// One more is open, until what is returned is dropped, if there are fewer than `most`; else one more
    /// was refused. The gauge is what counts: a semaphore cannot be made smaller than what is taken
    /// of it, and `most` may change while it serves.
    pub(crate) fn enter(&self, most: usize) -> Option<Open> {
        let most = clamped(most);
        let more = |open| (open < most).then_some(open + 1);
        if self.open.inner().fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            self.refused.inc();
            return None;
        }
        Some(Open(self.open.clone()))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_that_of_the_setting_for_each_listener_at_once() {
        let mut registry = Registry::default();
        let metrics = ListenerMetrics::register(&mut registry);
        for name in ["public", "admin"] {
            metrics.listener(name);
        }
        for limit in [7, 3] {
            metrics.limit(limit);
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            for name in ["public", "admin"] {
                let line = format!("weir_connections_limit{{listener=\"{name}\"}} {limit}\n");
                assert!(text.contains(&line), "{text}");
            }
        }
        metrics.limit(usize::MAX);
        assert_eq!(metrics.limit.0.get(), i64::MAX);
    }

    #[test]
    fn fewer_connections_are_allowed_without_ending_any() {
        let connections = Connections::default();
        let held: Vec<_> = (0..3).map_while(|_| connections.enter(3)).collect();
        assert!(held.len() == 3 && connections.enter(3).is_none());
        assert!(connections.enter(2).is_none(), "three are open");
        assert_eq!(connections.refused.get(), 2);
        let mut held = held.into_iter();
        drop((held.next(), held.next()));
        assert!(connections.enter(2).is_some());
        drop(held);
        assert!(connections.enter(0).is_none() && connections.enter(1).is_some());
        assert_eq!(connections.open.get(), 0);
    }
}
