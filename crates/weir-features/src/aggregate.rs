//! Streaming aggregates: what is kept of the events of one pane, merged at read.

use crate::{config::AggregateKind, value::MAX_STRING_BYTES, view::Aggregate};

/// Most bytes that the panes of `aggregate` may come to, for one entity. One pane beyond the
/// window is kept for replicas whose clocks differ, one lies ahead.
pub(crate) fn most_bytes(aggregate: &Aggregate) -> usize {
    let pane = match aggregate.kind {
        AggregateKind::Count => 8,
        AggregateKind::Sum => 352,
        AggregateKind::Mean => 360,
        AggregateKind::Min | AggregateKind::Max => 9,
        AggregateKind::Last => 16 + MAX_STRING_BYTES,
        AggregateKind::Distinct => 4096,
    };
    (pane + 12) * (usize::try_from(aggregate.panes).unwrap_or(usize::MAX) + 2)
}
