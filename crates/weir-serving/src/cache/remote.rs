//! The tier that replicas share, as one version uses it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use weir_artifact::CacheTier;

use super::{
    core::{Core, nanos},
    fill::Fill,
    identity::hex,
    memory::{Entry, Times},
    record::{Dates, Stored},
    stats::add,
    tier::{Tier, TierEntry},
    visit::Visit,
};

/// Largest entry that is stored there.
const MAX_VALUE: usize = 1 << 20;
/// Leases that are remembered; those that come while there are so many are not.
const MAX_LEASES: usize = 10_000;

/// Leases that this replica took: a request that takes over from one that was dropped need not
/// wait for them. By key, until when in milliseconds of the cache's clock.
#[derive(Default)]
pub(super) struct Leases(Mutex<HashMap<u128, i64>>);

impl Leases {
    fn take(&self, key: u128, until: i64, now: i64) {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.len() >= MAX_LEASES {
            taken.retain(|_, until| *until > now);
        }
        if taken.len() < MAX_LEASES {
            taken.insert(key, until);
        }
    }

    fn has(&self, key: u128, now: i64) -> bool {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.get(&key).is_some_and(|until| *until > now)
    }
}

/// Why the tier is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// A request came.
    First,
    /// It waits for another replica: what is not there yet is no second miss.
    Again,
}

/// What came of a look.
#[derive(Default)]
pub(super) struct Looked {
    pub(super) found: Vec<(usize, Arc<Entry>)>,
    /// Whether the tier was asked, and answered for every entry.
    pub(super) reached: bool,
}

impl Core {
    /// The shared tier, if the version uses it.
    pub(super) fn tier(&self) -> Option<&Arc<dyn Tier>> {
        self.shared.tier.as_ref().filter(|_| self.table.has(CacheTier::Redis))
    }

    /// `c/{model}/{version}/`, what keys of entries begin with; `l` in place of `c` for leases.
    fn prefix(&self, kind: char) -> String {
        format!("{kind}/{}/{}/", self.spec.name, self.spec.version)
    }

    fn key(&self, kind: char, visit: &Visit, entry: usize) -> Option<Vec<u8>> {
        let hash = self.shared.shared_hash.of(visit.identities.get(entry));
        let key = format!("{}{:016x}/{}", self.prefix(kind), visit.epoch?, hex(&hash.to_be_bytes()));
        Some(key.into_bytes())
    }

    /// Looks there for `entries`, and gives those that were found; they are in memory then.
    pub(super) async fn look_shared(&self, visit: &mut Visit, entries: &[usize], look: Look) -> Looked {
        let keys: Option<Vec<_>> = entries.iter().map(|entry| self.key('c', visit, *entry)).collect();
        let (Some(tier), Some(keys), false) = (self.tier(), keys, entries.is_empty()) else {
            return Looked::default();
        };
        let start = self.shared.clock.now();
        let values = tier.get_each(&keys).await;
        let took = self.shared.clock.now() - start;
        let answered = values.iter().filter(|value| value.is_ok()).count();
        let mut found = Vec::new();
        for (entry, value) in entries.iter().zip(values) {
            let value = value.ok().flatten();
            let Some(kept) = value.and_then(|value| self.read(visit, *entry, &value)) else { continue };
            self.remember(visit, *entry, &kept);
            visit.hit(*entry, kept.clone(), self.shared.now());
            found.push((*entry, kept));
        }
        self.looked(look, (answered, found.len()), took);
        Looked { found, reached: answered == entries.len() }
    }

    /// Counts a look, if the tier answered: of one that is away, [`RedisStats`] tell.
    ///
    /// [`RedisStats`]: weir_clients::redis::RedisStats
    fn looked(&self, look: Look, (answered, found): (usize, usize), took: Duration) {
        let counters = &self.counters.redis;
        add(&counters.hits, found as u64);
        if look == Look::First && answered > 0 {
            add(&counters.misses, (answered - found) as u64);
            add(&counters.lookups, 1);
            add(&counters.lookup_ns, nanos(took));
        }
    }

    /// What is stored, if it is whole, of this very row, and good.
    fn read(&self, visit: &Visit, entry: usize, value: &[u8]) -> Option<Arc<Entry>> {
        let counters = &self.counters.redis;
        let stored = Stored::read(value).filter(|stored| stored.identity == visit.identities.get(entry));
        let Some(stored) = stored else {
            add(&counters.corrupt, 1);
            return None;
        };
        let now = self.shared.now();
        // Clocks of replicas differ: nothing is younger than new.
        let age = self.shared.wall().saturating_sub(clamped(stored.dates.computed_ms)).max(0);
        let computed = now.saturating_sub(age);
        let fresh_until = computed.saturating_add(clamped(stored.dates.fresh_ms));
        let stale_until = fresh_until.saturating_add(clamped(stored.dates.stale_ms));
        let times = Times { computed, fresh_until, stale_until };
        if !visit.takes(times, now) {
            add(&counters.expired, 1);
            return None;
        }
        Some(Entry::new((stored.identity, stored.answer), times, visit.generation, &self.counters))
    }

    /// Lets an entry be stored there, unless it was purged while it was on its way.
    pub(super) fn fill(&self, visit: &Visit, entry: usize, kept: &Entry) {
        let Some(key) = self.key('c', visit, entry).filter(|_| self.tier().is_some()) else { return };
        let times = kept.times;
        let span = |from: i64, to: i64| to.saturating_sub(from).max(0) as u64;
        let dates = Dates {
            computed_ms: self.shared.wall().max(0) as u64,
            fresh_ms: span(times.computed, times.fresh_until),
            stale_ms: span(times.fresh_until, times.stale_until),
        };
        let value = Stored { dates, identity: kept.identity(), answer: kept.answer() }.write();
        if value.len() > MAX_VALUE {
            self.release(visit, entry);
            return add(&self.counters.redis.dropped, 1);
        }
        let ttl = Some(Duration::from_millis(dates.fresh_ms.saturating_add(dates.stale_ms).max(1)));
        let entry = TierEntry { key, value: value.into(), ttl, if_absent: false };
        self.shared.fills.push(Fill { entry, owner: Some(self.counters.clone()) });
    }

    /// Which of `entries` are this replica's to compute, and which another one computes already.
    /// All are its own where asking would take longer than computing.
    pub(super) async fn lease(&self, visit: &Visit, entries: Vec<usize>) -> (Vec<usize>, Vec<usize>) {
        // What nobody finds there when the lease ends is not waited for until then.
        let lease = self.shared.config().lease.get().min(self.table.ttl.get());
        let keys: Option<Vec<_>> = entries.iter().map(|entry| self.key('l', visit, *entry)).collect();
        let (Some(tier), Some(keys)) = (self.tier(), keys) else { return (entries, Vec::new()) };
        if entries.is_empty() || lease.is_zero() || !self.is_slow(visit.rows_of(entries.len())) {
            return (entries, Vec::new());
        }
        let entry =
            |key| TierEntry { key, value: Bytes::from_static(b"1"), ttl: Some(lease), if_absent: true };
        let asked: Vec<_> = keys.into_iter().map(entry).collect();
        let Ok(taken) = tier.set_many(&asked).await else { return (entries, Vec::new()) };
        let now = self.shared.now();
        let until = now.saturating_add(super::shared::millis(lease));
        let taken = entries.into_iter().zip(taken);
        let (mine, others): (Vec<_>, Vec<_>) = taken.partition(|(entry, taken)| {
            let key = self.shared.shared_hash.of(visit.identities.get(*entry));
            if *taken {
                self.leases.take(key, until, now);
            }
            *taken || self.leases.has(key, now)
        });
        let entries = |of: Vec<(usize, bool)>| of.into_iter().map(|(entry, _)| entry).collect();
        (entries(mine), entries(others))
    }

    /// Gives up a lease, by and by, if this replica has one.
    pub(super) fn release(&self, visit: &Visit, entry: usize) {
        let hash = self.shared.shared_hash.of(visit.identities.get(entry));
        let Some(key) = self.key('l', visit, entry).filter(|_| self.leases.has(hash, self.shared.now()))
        else {
            return;
        };
        // A life of a millisecond, and no deletion: then it goes the way of all that is stored.
        let (value, ttl) = (Bytes::from_static(b"0"), Some(Duration::from_millis(1)));
        self.shared.fills.push(Fill { entry: TierEntry { key, value, ttl, if_absent: false }, owner: None });
    }

    /// Whether `rows` rows take the model longer than a look there takes; also where nothing is
    /// known of it yet.
    fn is_slow(&self, rows: usize) -> bool {
        let redis = self.counters.stats().redis;
        let round_trip = redis.lookup_ns.checked_div(redis.lookups).unwrap_or(0);
        self.time_of(rows).is_none_or(|time| nanos(time) > round_trip)
    }
}

fn clamped(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
