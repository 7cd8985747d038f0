//! What is counted of each view, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Written;
use crate::view::View;

/// Counters of one view since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewStats {
    /// The view's name.
    pub view: Box<str>,
    /// Features written.
    pub written: u64,
    /// Features that were put and not written, because a newer value was there.
    pub outdated: u64,
    /// Features looked up.
    pub looked_up: u64,
    /// Of those, features of which something was known.
    pub found: u64,
    /// Events counted.
    pub accepted: u64,
    /// Events refused as late.
    pub late: u64,
    /// Events whose id had been counted before.
    pub duplicates: u64,
    /// Event ids forgotten before the lateness had passed, as one entity had more than are kept.
    pub forgotten_ids: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Tally {
    written: AtomicU64,
    outdated: AtomicU64,
    looked_up: AtomicU64,
    found: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) forgotten: AtomicU64,
}

impl Tally {
    pub(super) fn put(&self, rows: &[Written]) {
        let sum = |count: fn(&Written) -> usize| rows.iter().map(count).sum::<usize>() as u64;
        self.written.fetch_add(sum(|row| row.written), Ordering::Relaxed);
        self.outdated.fetch_add(sum(|row| row.outdated), Ordering::Relaxed);
    }

    pub(super) fn looked_up(&self, asked: usize, found: usize) {
        self.looked_up.fetch_add(asked as u64, Ordering::Relaxed);
        self.found.fetch_add(found as u64, Ordering::Relaxed);
    }

    pub(super) fn stats(&self, view: &View) -> ViewStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ViewStats {
            view: view.name.clone(),
            written: load(&self.written),
            outdated: load(&self.outdated),
            looked_up: load(&self.looked_up),
            found: load(&self.found),
            accepted: load(&self.accepted),
            late: load(&self.late),
            duplicates: load(&self.duplicates),
            forgotten_ids: load(&self.forgotten),
        }
    }
}
