//! How calls to Redis go, where the server has one.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use weir_clients::{
    BreakerState, GuardStats,
    redis::{Redis, RedisStats},
};

/// Name, help, and how to read one value of a server.
type Row = (&'static str, &'static str, fn(&GuardStats) -> u64);

/// A label's value, and how to read its counter.
type Reason = (&'static str, fn(&RedisStats) -> u64);

/// Why a call failed, and how to read how often.
const REASONS: [Reason; 4] = [
    ("unavailable", |s| s.unavailable),
    ("timeout", |s| s.timeouts),
    ("refused", |s| s.refused),
    ("garbage", |s| s.garbage),
];

const NODE_COUNTERS: [Row; 4] = [
    ("weir_redis_node_calls", "Pipelines sent to a server of Redis", |s| s.attempts),
    ("weir_redis_node_failures", "Pipelines without a usable answer", |s| s.failed),
    ("weir_redis_node_breaker_refused", "Pipelines not sent because the breaker was open", |s| s.broken),
    ("weir_redis_node_breaker_opened", "How often the breaker opened, failed probes included", |s| s.opened),
];

/// Reads the client's counters when somebody scrapes; says nothing where there is none.
#[derive(Debug)]
pub(super) struct RedisCollector(pub(super) Arc<OnceLock<Redis>>);

impl Collector for RedisCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(stats) = self.0.get().map(Redis::stats) else { return Ok(()) };
        let calls = ConstCounter::new(stats.calls);
        let text = "Calls to Redis, each for any number of keys";
        calls.encode(encoder.encode_descriptor("weir_redis_calls", text, None, MetricType::Counter)?)?;
        let took = ConstCounter::new(stats.latency.as_secs_f64());
        let (text, unit) = ("What they took in all", Some(&Unit::Seconds));
        took.encode(encoder.encode_descriptor("weir_redis_call", text, unit, MetricType::Counter)?)?;
        let text = "Calls of which some part had no answer, by why";
        let mut family = encoder.encode_descriptor("weir_redis_failures", text, None, MetricType::Counter)?;
        for (reason, read) in REASONS {
            ConstCounter::new(read(&stats)).encode(family.encode_family(&[("reason", reason)])?)?;
        }
        nodes(&mut encoder, &stats)
    }
}

fn nodes(encoder: &mut DescriptorEncoder<'_>, stats: &RedisStats) -> Result<(), fmt::Error> {
    for (name, help, read) in NODE_COUNTERS {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for node in &stats.nodes {
            let labels = [("node", node.name.as_str())];
            ConstCounter::new(read(&node.guard)).encode(family.encode_family(&labels)?)?;
        }
    }
    let text = "The breaker: 0 closed, 1 half open, 2 open";
    let mut family = encoder.encode_descriptor("weir_redis_node_breaker", text, None, MetricType::Gauge)?;
    for node in &stats.nodes {
        let state: i64 = match node.guard.breaker {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        ConstGauge::new(state).encode(family.encode_family(&[("node", node.name.as_str())])?)?;
    }
    Ok(())
}
