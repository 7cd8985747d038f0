//! One version's cache: what it holds, how it looks in memory, how it keeps an answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use weir_artifact::{CacheTable, ModelSpec};
use weir_types::{Batch, Outputs};

use super::{
    CacheVerdict,
    flight::Flights,
    identity::{Identities, ServingDigest},
    memory::{Entry, Memory, Times},
    purge::{Scopes, scopes},
    record::write_answer,
    remote::Leases,
    shared::{Shared, millis},
    stats::{Counters, add},
    visit::Visit,
};
use crate::{Caller, Done, Executor, ModelTime, ServedVersion, Took};

pub(super) struct Core {
    pub(super) shared: Arc<Shared>,
    pub(super) spec: Arc<ModelSpec>,
    pub(super) digest: ServingDigest,
    pub(super) table: CacheTable,
    /// What its entries are forgotten by.
    pub(super) scopes: Arc<Scopes>,
    pub(super) inner: Arc<dyn Executor>,
    /// Whether each row has an entry; else a request has one as a whole.
    pub(super) by_row: bool,
    memory: Option<Arc<Memory>>,
    pub(super) counters: Arc<Counters>,
    pub(super) flights: Arc<Flights>,
    pub(super) leases: Leases,
    /// The version's epoch in the shared tier; 0 before it was seen.
    epoch: AtomicU64,
    pace: Pace,
}

/// How long the model takes for a row, from what was computed so far.
#[derive(Default)]
struct Pace {
    rows: AtomicU64,
    ns: AtomicU64,
}

/// An answer of the model to be kept.
pub(super) struct Computed<'a> {
    pub(super) outputs: &'a Outputs,
    pub(super) tokens: Option<&'a [u32]>,
    /// Nanoseconds an entry.
    pub(super) ns: u64,
}

impl Core {
    pub(super) fn new(
        shared: &Arc<Shared>,
        spec: Arc<ModelSpec>,
        members: &[Arc<ServedVersion>],
        digest: ServingDigest,
        table: CacheTable,
        inner: Arc<dyn Executor>,
    ) -> Arc<Self> {
        let scopes = Arc::new(scopes(&spec, members));
        let core = Arc::new(Self {
            memory: shared.memory(&spec.name, &table),
            counters: shared.counters(&spec, &scopes),
            by_row: inner.by_row(),
            shared: shared.clone(),
            spec,
            digest,
            table,
            scopes,
            inner,
            flights: Arc::default(),
            leases: Leases::default(),
            epoch: AtomicU64::new(0),
            pace: Pace::default(),
        });
        shared.join(&core);
        core
    }

    /// A request that came at `came` and has found nothing yet; `None` where its rows cannot be told apart.
    pub(super) fn visit(&self, caller: &Caller, batch: &Batch, came: Instant) -> Option<Visit> {
        let identities = Identities::new(&self.digest, caller, batch, self.by_row)?;
        let keys = (0..identities.len()).map(|i| self.shared.hash.of(identities.get(i))).collect();
        let rows = if self.by_row { 1 } else { batch.rows };
        Some(Visit::new(identities, keys, (rows, came), (self.counters.generation(), self.epoch())))
    }

    /// Looks in memory for all entries of a request.
    pub(super) fn look(&self, visit: &mut Visit) {
        let Some(memory) = &self.memory else { return };
        let start = visit.came;
        let counters = &self.counters.memory;
        let (now, entries) = (self.shared.millis_at(start), visit.entries());
        for entry in 0..entries {
            if let Some(found) = self.find(memory, visit, entry, now) {
                visit.hit(entry, found, now);
            }
        }
        let hits = (entries - visit.missing_entries()) as u64;
        add(&counters.hits, hits);
        add(&counters.misses, entries as u64 - hits);
        add(&counters.lookups, 1);
        add(&counters.lookup_ns, nanos(self.shared.clock.now() - start));
    }

    /// What has come into memory since [`look`](Self::look): somebody else computed it.
    pub(super) fn look_again(&self, visit: &Visit, entry: usize) -> Option<Arc<Entry>> {
        let memory = self.memory.as_ref()?;
        let found = memory.get(*visit.keys.get(entry)?)?;
        let good = visit.takes(found.times, self.shared.now());
        (good && found.generation == visit.generation && found.identity() == visit.identities.get(entry))
            .then_some(found)
    }

    fn find(&self, memory: &Memory, visit: &Visit, entry: usize, now: i64) -> Option<Arc<Entry>> {
        let found = memory.get(*visit.keys.get(entry)?)?;
        let counters = &self.counters.memory;
        if found.identity() != visit.identities.get(entry) {
            add(&counters.corrupt, 1);
            return None;
        }
        if found.generation != visit.generation {
            return None;
        }
        if !visit.takes(found.times, now) {
            add(&counters.expired, 1);
            return None;
        }
        Some(found)
    }

    /// Keeps one entry of what was computed: here at once, in Redis by and by. `row` is its row
    /// of the outputs, or all of them are its.
    pub(super) fn keep(
        &self,
        visit: &Visit,
        entry: usize,
        row: Option<usize>,
        computed: &Computed<'_>,
    ) -> Arc<Entry> {
        let tokens = match row {
            Some(row) => computed.tokens.and_then(|tokens| tokens.get(row..=row)),
            None => computed.tokens,
        };
        let mut answer = Vec::new();
        write_answer(&mut answer, computed.outputs, row, tokens, computed.ns);
        let identity = visit.identities.get(entry);
        let kept = Entry::new((identity, &answer), self.times(), visit.generation, &self.counters);
        self.remember(visit, entry, &kept);
        self.fill(visit, entry, &kept);
        kept
    }

    /// Keeps an entry in memory, unless it was purged while it was on its way.
    pub(super) fn remember(&self, visit: &Visit, entry: usize, kept: &Arc<Entry>) {
        if let (Some(memory), Some(key)) = (&self.memory, visit.keys.get(entry))
            && self.counters.generation() == visit.generation
        {
            memory.insert(*key, kept.clone());
        }
    }

    /// What was purged so far, as keys in the shared tier name it; `None` where that is not used,
    /// or did not yet say.
    pub(super) fn epoch(&self) -> Option<u64> {
        let epoch = self.epoch.load(Ordering::Acquire);
        self.tier().filter(|_| epoch != 0).map(|_| epoch)
    }

    /// Notes the epoch. Whether what is in memory is of another one: a version that was loaded
    /// again takes over what its predecessor held.
    pub(super) fn set_epoch(&self, epoch: u64) -> bool {
        let epoch = epoch.max(1);
        self.epoch.swap(epoch, Ordering::AcqRel) != epoch && self.counters.set_epoch(epoch)
    }

    fn times(&self) -> Times {
        let computed = self.shared.now();
        let ttl = self.table.ttl.get();
        let fresh = ttl.mul_f64(1.0 - self.table.jitter.clamp(0.0, 1.0) * self.shared.chance());
        let fresh_until = computed.saturating_add(millis(fresh));
        Times {
            computed,
            fresh_until,
            stale_until: fresh_until.saturating_add(millis(self.table.stale.get())),
        }
    }

    /// Counts `rows` rows that the model answered in `ran`.
    pub(super) fn paced(&self, rows: usize, ran: Duration) {
        add(&self.pace.rows, rows as u64);
        add(&self.pace.ns, nanos(ran));
    }

    /// About how long the model takes for `rows` rows; `None` before the first.
    pub(super) fn time_of(&self, rows: usize) -> Option<Duration> {
        let each =
            self.pace.ns.load(Ordering::Relaxed).checked_div(self.pace.rows.load(Ordering::Relaxed))?;
        Some(Duration::from_nanos(each.saturating_mul(rows as u64)))
    }

    /// The answer to a request all of whose entries were found; `None` where they do not fit
    /// together.
    pub(super) fn assemble(&self, visit: &Visit, model: Option<ModelTime>, ran_ns: u64) -> Option<Done> {
        let whole = visit.assemble()?;
        add(&self.counters.saved_ns, whole.ns.saturating_sub(ran_ns));
        Some(self.done(visit, whole.outputs, whole.tokens, model))
    }

    /// Counts an answer, for which `model` was asked or not.
    pub(super) fn done(
        &self,
        visit: &Visit,
        outputs: Outputs,
        tokens: Option<Vec<u32>>,
        model: Option<ModelTime>,
    ) -> Done {
        let now = self.shared.clock.now();
        let outcome = visit.outcome(self.shared.millis_at(now));
        let counter = match outcome.verdict() {
            CacheVerdict::Hit => &self.counters.hit,
            CacheVerdict::Partial => &self.counters.partial,
            CacheVerdict::Miss => &self.counters.miss,
        };
        add(counter, 1);
        if !visit.stale.is_empty() {
            add(&self.counters.stale, visit.stale.len() as u64);
        }
        if visit.coalesced > 0 {
            add(&self.counters.coalesced, visit.coalesced as u64);
        }
        if model.is_none() {
            // The model did not count this one.
            self.inner.stats().hit(self.shared.clock.wall());
        }
        let asked = model.unwrap_or_default();
        let own = now.saturating_duration_since(visit.came).saturating_sub(asked.queued + asked.ran);
        Done { outputs, tokens, cache: Some(outcome), state: None, took: Took { model, cache: Some(own) } }
    }
}

/// Nanoseconds, which fit for 584 years.
pub(super) fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}
