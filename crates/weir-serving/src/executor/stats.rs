//! What an executor counts; read by `/metrics` and by the statistics of the V2 protocol.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use weir_types::{Clock, Deadline, Error, ErrorCode};

use super::Timing;

/// Counters of one executor.
#[derive(Debug, Default)]
pub struct Stats {
    /// Rows that the engine answered.
    pub rows: AtomicU64,
    /// Calls of the engine.
    pub executed: AtomicU64,
    /// Jobs whose caller went away before they were answered.
    pub abandoned: AtomicU64,
    /// Jobs whose deadline passed before they were answered.
    pub expired: AtomicU64,
    /// Jobs refused because too much waited before them.
    pub refused: AtomicU64,
    /// Executions that failed for several jobs and were tried again in halves.
    pub retried: AtomicU64,
    /// Jobs answered: queue and engine, and what a face adds for its own work.
    pub answered: Timing,
    /// Jobs that the engine failed to answer.
    pub failed: Timing,
    /// Waiting for a thread.
    pub queued: Timing,
    /// In the engine.
    pub ran: Timing,
    /// Executions by how many rows they had.
    pub batches: Batches,
    /// Decoding requests; told by the faces.
    pub decoded: Timing,
    /// Encoding answers; told by the faces.
    pub encoded: Timing,
    /// When the last job was answered, milliseconds since 1970; 0 before the first.
    pub last_answer_ms: AtomicU64,
}

impl Stats {
    /// Counts one of `counter`.
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a job that nobody waits for any more: because it is `late`, or because its
    /// caller went away.
    pub(crate) fn gave_up(&self, late: bool) {
        Self::count(if late { &self.expired } else { &self.abandoned });
    }

    /// Counts a job that ran, as `result` came of it at `now`. What others refused, or had no
    /// time for, is no failure of this model.
    pub(crate) fn finished<T>(
        &self,
        result: &Result<T, Error>,
        (queued, ran): (Duration, Duration),
        now: SystemTime,
    ) {
        match result.as_ref().map_err(|error| error.code) {
            Err(ErrorCode::Overloaded) => return Self::count(&self.refused),
            Err(ErrorCode::DeadlineExceeded) => return Self::count(&self.expired),
            Err(_) => return self.failed.record(queued + ran),
            Ok(_) => {}
        }
        self.answered.record(queued + ran);
        self.queued.record(queued);
        self.ran.record(ran);
        self.answered_at(now);
    }

    fn answered_at(&self, now: SystemTime) {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // Milliseconds since 1970 fit for half a billion years.
        self.last_answer_ms.fetch_max(since.as_millis() as u64, Ordering::Relaxed);
    }

    /// Counts a job that was answered without the engine.
    pub(crate) fn hit(&self, now: SystemTime) {
        self.answered.record(Duration::ZERO);
        self.answered_at(now);
    }

    /// Counts an execution that answered `rows` rows.
    pub(super) fn answered_rows(&self, rows: usize, took: Duration) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.batches.record(rows, took);
    }

    /// Adds what a face spent on an answered job besides the model.
    pub fn face(&self, decoding: Duration, encoding: Duration) {
        self.decoded.record(decoding);
        self.encoded.record(encoding);
        self.answered.extend(decoding + encoding);
    }
}

/// A job that somebody waits for. Dropped before it [ended](Self::ended), it counts as given up.
pub(crate) struct Pending<'a> {
    stats: &'a Stats,
    clock: &'a dyn Clock,
    deadline: Deadline,
    ended: bool,
}

impl<'a> Pending<'a> {
    /// A job that starts now.
    pub(crate) fn new(stats: &'a Stats, clock: &'a dyn Clock, deadline: Deadline) -> Self {
        Self { stats, clock, deadline, ended: false }
    }

    /// It was answered, or an error was.
    pub(crate) fn ended(mut self) {
        self.ended = true;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.stats.gave_up(self.deadline.is_past(self.clock.now()));
        }
    }
}

/// Sizes that are counted without a lock: what runs inline has few rows.
const SMALL: usize = 32;

/// Most larger sizes that are told apart.
const MAX_LARGE: usize = 1_024;

/// How many executions had how many rows, and how long they took.
#[derive(Debug, Default)]
pub struct Batches {
    small: [Timing; SMALL],
    large: Mutex<BTreeMap<usize, Timing>>,
}

impl Batches {
    /// Counts an execution of `rows` rows. One without rows is none.
    fn record(&self, rows: usize, took: Duration) {
        if let Some(timing) = rows.checked_sub(1).and_then(|at| self.small.get(at)) {
            return timing.record(took);
        }
        let mut large = self.large.lock().unwrap_or_else(PoisonError::into_inner);
        if rows > 0 && (large.len() < MAX_LARGE || large.contains_key(&rows)) {
            large.entry(rows).or_default().record(took);
        }
    }

    /// `(rows, executions, nanoseconds in all)` of each size that there was, ascending.
    pub fn sizes(&self) -> Vec<(usize, u64, u64)> {
        let small = self.small.iter().enumerate().map(|(i, t)| (i + 1, t.count(), t.ns()));
        let mut sizes: Vec<_> = small.filter(|(_, count, _)| *count > 0).collect();
        let large = self.large.lock().unwrap_or_else(PoisonError::into_inner);
        sizes.extend(large.iter().map(|(rows, t)| (*rows, t.count(), t.ns())));
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_are_counted_by_their_size_in_bounded_memory() {
        let batches = Batches::default();
        for rows in [1, 1, 32, 33, 0] {
            batches.record(rows, Duration::from_nanos(7));
        }
        assert_eq!(batches.sizes(), [(1, 2, 14), (32, 1, 7), (33, 1, 7)]);
        (0..2_000).for_each(|n| batches.record(100 + n, Duration::ZERO));
        assert_eq!(batches.sizes().len(), 2 + MAX_LARGE);
    }
}
