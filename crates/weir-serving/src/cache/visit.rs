//! What one request has found so far.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use weir_types::Outputs;

use super::{
    CacheOutcome,
    identity::Identities,
    memory::{Entry, Freshness, Times},
    record::Stitch,
    shared::millis,
};

/// The entries of one request.
pub(super) struct Visit {
    pub(super) identities: Identities,
    /// Where each is found in memory.
    pub(super) keys: Vec<u128>,
    found: Vec<Option<Arc<Entry>>>,
    missing: usize,
    /// Rows of an entry.
    rows: usize,
    /// When the request came to the cache.
    pub(super) came: Instant,
    /// Purges that there had been when it came.
    pub(super) generation: u64,
    /// The same for the shared tier; `None` where it is not used.
    pub(super) epoch: Option<u64>,
    /// Milliseconds that a stored answer may be old; `None` where it does not matter.
    max_age: Option<i64>,
    hits: usize,
    /// When the oldest hit was computed.
    oldest: Option<i64>,
    /// Hits that should be computed anew.
    pub(super) stale: Vec<usize>,
    pub(super) coalesced: usize,
}

/// An answer that was put together.
pub(super) struct Assembled {
    pub(super) outputs: Outputs,
    pub(super) tokens: Option<Vec<u32>>,
    /// Nanoseconds of the model that all of it took, whenever that was.
    pub(super) ns: u64,
}

impl Visit {
    pub(super) fn new(
        identities: Identities,
        keys: Vec<u128>,
        (rows, came): (usize, Instant),
        (generation, epoch): (u64, Option<u64>),
    ) -> Self {
        let missing = identities.len();
        let found = vec![None; missing];
        let (hits, oldest, stale, coalesced) = (0, None, Vec::new(), 0);
        let max_age = None;
        Self {
            identities,
            keys,
            found,
            missing,
            rows,
            came,
            generation,
            epoch,
            max_age,
            hits,
            oldest,
            stale,
            coalesced,
        }
    }

    /// Takes no stored answer that is older.
    pub(super) fn no_older_than(&mut self, max_age: Option<Duration>) {
        self.max_age = max_age.map(millis);
    }

    /// Whether an answer of `times` is good enough at `now`.
    pub(super) fn takes(&self, times: Times, now: i64) -> bool {
        let young = self.max_age.is_none_or(|most| now.saturating_sub(times.computed) <= most);
        young && times.at(now) != Freshness::Expired
    }

    pub(super) fn entries(&self) -> usize {
        self.found.len()
    }

    /// Rows of so many entries.
    pub(super) fn rows_of(&self, entries: usize) -> usize {
        entries * self.rows
    }

    pub(super) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    pub(super) fn missing_entries(&self) -> usize {
        self.missing
    }

    pub(super) fn is_missing(&self, entry: usize) -> bool {
        self.found.get(entry).is_some_and(Option::is_none)
    }

    pub(super) fn missing(&self) -> Vec<usize> {
        (0..self.found.len()).filter(|entry| self.is_missing(*entry)).collect()
    }

    /// Entry `entry` was stored, and is good at `now`.
    pub(super) fn hit(&mut self, entry: usize, stored: Arc<Entry>, now: i64) {
        if stored.times.at(now) == Freshness::Stale {
            self.stale.push(entry);
        }
        let computed = stored.times.computed;
        self.oldest = Some(self.oldest.map_or(computed, |oldest| oldest.min(computed)));
        self.hits += 1;
        self.resolve(entry, stored);
    }

    /// Somebody else computed entry `entry` just now.
    pub(super) fn join(&mut self, entry: usize, computed: Arc<Entry>) {
        self.coalesced += usize::from(self.is_missing(entry));
        self.resolve(entry, computed);
    }

    /// Entry `entry` was computed now.
    pub(super) fn resolve(&mut self, entry: usize, stored: Arc<Entry>) {
        if let Some(place @ None) = self.found.get_mut(entry) {
            *place = Some(stored);
            self.missing -= 1;
        }
    }

    pub(super) fn outcome(&self, now: i64) -> CacheOutcome {
        let age = |computed: i64| Duration::from_millis(now.saturating_sub(computed).max(0) as u64);
        let (hits, rows) = (self.hits * self.rows, self.found.len() * self.rows);
        CacheOutcome { hits, rows, age: self.oldest.map(age) }
    }

    /// The whole answer; `None` where its parts do not fit together.
    pub(super) fn assemble(&self) -> Option<Assembled> {
        let mut whole = Stitch::expecting(self.found.len());
        for entry in &self.found {
            whole.push(entry.as_ref()?.answer())?;
        }
        let ns = whole.ns();
        let (outputs, tokens) = whole.finish()?;
        Some(Assembled { outputs, tokens, ns })
    }
}
