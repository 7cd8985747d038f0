//! What a watcher sees while a load runs.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::outcome::Outcome;

/// Counters of a load that runs, warm-up included. They may be read at any time.
#[derive(Debug, Default)]
pub struct Progress {
    due: AtomicU64,
    done: [AtomicU64; 8],
    good: AtomicU64,
    latency_us: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Glance {
    /// Requests that were due so far.
    pub due: u64,
    /// Requests that ended, by outcome.
    pub done: [u64; 8],
    /// Requests that ended well, within the deadline.
    pub good: u64,
    /// The sum of all latencies of requests that ended.
    pub latency: Duration,
}

impl Progress {
    pub(crate) fn due(&self) {
        self.due.fetch_add(1, Relaxed);
    }

    pub(crate) fn done(&self, outcome: Outcome, good: bool, latency: Duration) {
        self.done[outcome.index()].fetch_add(1, Relaxed);
        self.good.fetch_add(u64::from(good), Relaxed);
        self.latency_us.fetch_add(latency.as_micros() as u64, Relaxed);
    }

    /// The counters now.
    pub fn glance(&self) -> Glance {
        Glance {
            due: self.due.load(Relaxed),
            done: std::array::from_fn(|i| self.done[i].load(Relaxed)),
            good: self.good.load(Relaxed),
            latency: Duration::from_micros(self.latency_us.load(Relaxed)),
        }
    }
}

impl Glance {
    /// What happened since `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            due: self.due - before.due,
            done: std::array::from_fn(|i| self.done[i] - before.done[i]),
            good: self.good - before.good,
            latency: self.latency.saturating_sub(before.latency),
        }
    }

    /// Requests that ended.
    pub fn ended(&self) -> u64 {
        self.done.iter().sum()
    }

    /// Mean latency of requests that ended.
    pub fn mean(&self) -> Duration {
        self.latency.checked_div(u32::try_from(self.ended()).unwrap_or(u32::MAX)).unwrap_or_default()
    }
}
