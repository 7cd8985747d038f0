//! How often something happened and how long it took.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A number of events and the time that they took in all.
#[derive(Debug, Default)]
pub struct Timing {
    count: AtomicU64,
    ns: AtomicU64,
}

impl Timing {
    /// Counts one event of `duration`.
    pub fn record(&self, duration: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.extend(duration);
    }

    /// Adds time to events that were counted already.
    pub fn extend(&self, duration: Duration) {
        // Nanoseconds fit for 584 years of work.
        self.ns.fetch_add(duration.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Events so far.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Nanoseconds in all.
    pub fn ns(&self) -> u64 {
        self.ns.load(Ordering::Relaxed)
    }
}
