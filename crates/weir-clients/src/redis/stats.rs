//! What metrics and operators are told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{RedisError, link::Link};
use crate::{BreakerState, GuardStats};

/// How calls of a [`Redis`](super::Redis) went so far, and how its servers are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisStats {
    /// Calls, each for any number of keys.
    pub calls: u64,
    /// Calls of which some part had no answer because a server was away or known to be.
    pub unavailable: u64,
    /// Calls of which some part had no answer in time.
    pub timeouts: u64,
    /// Calls of which some part was refused.
    pub refused: u64,
    /// Calls of which some answer could not be used.
    pub garbage: u64,
    /// How long all calls together took.
    pub latency: Duration,
    /// The servers that are known.
    pub nodes: Vec<RedisNode>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisNode {
    /// Its address; the master's name where sentinels tell it.
    pub name: String,
    /// How its calls went; a call here is a pipeline.
    pub guard: GuardStats,
    /// Why it was last found to be away, while it is.
    pub trouble: Option<String>,
}

impl RedisStats {
    /// The worst breaker of all servers.
    pub fn breaker(&self) -> BreakerState {
        let has = |state| self.nodes.iter().any(|node| node.guard.breaker == state);
        [BreakerState::Open, BreakerState::HalfOpen]
            .into_iter()
            .find(|s| has(*s))
            .unwrap_or(BreakerState::Closed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    calls: AtomicU64,
    unavailable: AtomicU64,
    timeouts: AtomicU64,
    refused: AtomicU64,
    garbage: AtomicU64,
    latency_ns: AtomicU64,
}

impl Counts {
    /// One call and its results.
    pub(crate) fn add<T>(&self, took: Duration, results: &[Result<T, RedisError>]) {
        if results.is_empty() {
            return;
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.latency_ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let mut seen: [Option<&AtomicU64>; 4] = [None; 4];
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            let (place, counter) = match error {
                RedisError::Unavailable(_) => (0, &self.unavailable),
                RedisError::Timeout => (1, &self.timeouts),
                RedisError::Refused(_) => (2, &self.refused),
                RedisError::Garbage(_) => (3, &self.garbage),
            };
            seen[place] = Some(counter);
        }
        for counter in seen.into_iter().flatten() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn stats(&self, links: &[Arc<Link>]) -> RedisStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let node = |link: &Arc<Link>| {
            let (name, guard, trouble) = link.stats();
            RedisNode { name, guard, trouble }
        };
        RedisStats {
            calls: read(&self.calls),
            unavailable: read(&self.unavailable),
            timeouts: read(&self.timeouts),
            refused: read(&self.refused),
            garbage: read(&self.garbage),
            latency: Duration::from_nanos(read(&self.latency_ns)),
            nodes: links.iter().map(node).collect(),
        }
    }
}
