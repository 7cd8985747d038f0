//! What is counted of the calls to a server.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use super::{Breaker, BreakerState, Limiter};

/// What happened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardStats {
    /// Calls made, repeats and hedges included.
    pub attempts: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Calls that were repeats.
    pub retries: u64,
    /// Calls that were hedges.
    pub hedges: u64,
    /// Repeats and hedges that the budget did not allow.
    pub over_budget: u64,
    /// Calls not made because the breaker was open.
    pub broken: u64,
    /// Calls not made because the limit was reached.
    pub limited: u64,
    /// How often the breaker has opened.
    pub opened: u64,
    /// The breaker now.
    pub breaker: BreakerState,
    /// Calls at once, now.
    pub limit: u32,
    /// Calls under way.
    pub in_flight: u32,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) attempts: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) hedges: AtomicU64,
    pub(super) over_budget: AtomicU64,
    pub(super) broken: AtomicU64,
    pub(super) limited: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counts {
    /// The same as they are now, with what `breaker` and `limiter` know.
    pub(super) fn stats(&self, breaker: &Breaker, limiter: &Limiter) -> GuardStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        GuardStats {
            attempts: read(&self.attempts),
            failed: read(&self.failed),
            retries: read(&self.retries),
            hedges: read(&self.hedges),
            over_budget: read(&self.over_budget),
            broken: read(&self.broken),
            limited: read(&self.limited),
            opened: breaker.opened(),
            breaker: breaker.state(Instant::now().into_std()),
            limit: limiter.limit(),
            in_flight: limiter.in_flight(),
        }
    }
}
