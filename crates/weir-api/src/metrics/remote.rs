//! How calls to other servers go, for the models that those run.

use std::{fmt, sync::Arc};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use weir_clients::{BreakerState, GuardStats};
use weir_serving::ServedVersion;

/// Name, help, and how to read one value.
type Row<T> = (&'static str, &'static str, fn(&GuardStats) -> T);

const COUNTERS: [Row<u64>; 8] = [
    ("weir_remote_calls", "Calls to the model's server, repeats and hedges included", |s| s.attempts),
    ("weir_remote_failures", "Calls to the model's server without a usable answer", |s| s.failed),
    ("weir_remote_retries", "Calls that were repeats", |s| s.retries),
    ("weir_remote_hedges", "Calls that were hedges", |s| s.hedges),
    ("weir_remote_over_budget", "Repeats and hedges that the budget did not allow", |s| s.over_budget),
    ("weir_remote_breaker_refused", "Requests refused because the breaker was open", |s| s.broken),
    ("weir_remote_limit_refused", "Requests refused because the limit of calls was reached", |s| s.limited),
    ("weir_remote_breaker_opened", "How often the breaker opened, failed probes included", |s| s.opened),
];

const GAUGES: [Row<i64>; 3] = [
    ("weir_remote_breaker", "The breaker: 0 closed, 1 half open, 2 open", |s| match s.breaker {
        BreakerState::Closed => 0,
        BreakerState::HalfOpen => 1,
        BreakerState::Open => 2,
    }),
    ("weir_remote_limit", "Calls to the model's server that may be under way at once", |s| s.limit.into()),
    ("weir_remote_in_flight", "Calls to the model's server under way", |s| s.in_flight.into()),
];

/// Writes one family a row; none where no model is on another server.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    versions: &[&Arc<ServedVersion>],
) -> Result<(), fmt::Error> {
    let known = versions.iter().filter_map(|v| Some((super::version_labels(v), v.executor.remote()?)));
    let known: Vec<_> = known.collect();
    if known.is_empty() {
        return Ok(());
    }
    for (name, help, read) in COUNTERS {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, stats) in &known {
            ConstCounter::new(read(stats)).encode(family.encode_family(labels)?)?;
        }
    }
    for (name, help, read) in GAUGES {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, stats) in &known {
            ConstGauge::new(read(stats)).encode(family.encode_family(labels)?)?;
        }
    }
    Ok(())
}
