//! The tier in this process: entries bounded by bytes.

use std::{
    cell::Cell,
    hash::{BuildHasherDefault, Hasher},
    sync::{Arc, atomic::Ordering},
};

use quick_cache::{Lifecycle, Weighter, sync::Cache};

use super::stats::{Counters, add};

/// Bytes that an entry takes besides its identity and answer: the entry itself, its two
/// allocations, its place in the table and its share of free places (`benches/cache.rs` measures them).
const OVERHEAD: u64 = 184;
/// Bytes of an entry of middling size: decides how many shards there are, not how much fits.
const TYPICAL: u64 = 512;

/// An answer and what it is the answer to.
#[derive(Debug)]
pub(super) struct Entry {
    /// Identity, then answer.
    bytes: Box<[u8]>,
    split: u32,
    /// Which purge it came after.
    pub(super) generation: u64,
    pub(super) times: Times,
    owner: Arc<Counters>,
}

/// When an answer was computed and for how long it is good, in milliseconds of the cache's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) computed: i64,
    pub(super) fresh_until: i64,
    pub(super) stale_until: i64,
}

/// How good an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    Fresh,
    /// May be given while it is computed anew.
    Stale,
    Expired,
}

impl Times {
    pub(super) fn at(&self, now: i64) -> Freshness {
        match now {
            now if now < self.fresh_until => Freshness::Fresh,
            now if now < self.stale_until => Freshness::Stale,
            _ => Freshness::Expired,
        }
    }
}

impl Entry {
    /// An entry that counts as `owner`'s for as long as it is there.
    pub(super) fn new(
        (identity, answer): (&[u8], &[u8]),
        times: Times,
        generation: u64,
        owner: &Arc<Counters>,
    ) -> Arc<Self> {
        let bytes = [identity, answer].concat().into_boxed_slice();
        // Beyond 4 GiB nothing is the identity of anything, so such an entry is never found.
        let split = u32::try_from(identity.len()).unwrap_or(0);
        let entry = Self { bytes, split, generation, times, owner: owner.clone() };
        add(&owner.memory.entries, 1);
        add(&owner.memory.bytes, entry.weight());
        Arc::new(entry)
    }

    pub(super) fn identity(&self) -> &[u8] {
        self.bytes.get(..self.split as usize).unwrap_or_default()
    }

    pub(super) fn answer(&self) -> &[u8] {
        self.bytes.get(self.split as usize..).unwrap_or_default()
    }

    pub(super) fn weight(&self) -> u64 {
        self.bytes.len() as u64 + OVERHEAD
    }

    pub(super) fn is_of(&self, owner: &Arc<Counters>) -> bool {
        Arc::ptr_eq(&self.owner, owner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.owner.memory.entries.fetch_sub(1, Ordering::Relaxed);
        self.owner.memory.bytes.fetch_sub(self.weight(), Ordering::Relaxed);
    }
}

/// Entries of one or more models under one budget.
///
/// quick_cache (S3-FIFO with a ghost list: in the class of W-TinyLFU) and not moka: a hit on one
/// thread takes it 43 ns instead of 126, an entry of 200 bytes 360 instead of 614 bytes, and it
/// brings two small crates instead of fourteen (one run, 2 cores).
pub(super) struct Memory(Cache<u128, Arc<Entry>, Weight, BuildHasherDefault<Low>, Evicted>);

impl Memory {
    /// Room for `budget` bytes.
    pub(super) fn new(budget: u64) -> Self {
        let items = usize::try_from(budget / TYPICAL).unwrap_or(usize::MAX);
        Self(Cache::with(items, budget, Weight, BuildHasherDefault::default(), Evicted))
    }

    pub(super) fn set_budget(&self, budget: u64) {
        if self.0.capacity() != budget {
            self.0.set_capacity(budget);
        }
    }

    /// The entry at `key`, whosever it is.
    pub(super) fn get(&self, key: u128) -> Option<Arc<Entry>> {
        self.0.get(&key)
    }

    pub(super) fn insert(&self, key: u128, entry: Arc<Entry>) {
        add(&entry.owner.memory.filled, 1);
        self.0.insert(key, entry);
    }

    /// Drops the entries of `owner`, and says how many there were.
    pub(super) fn drop_of(&self, owner: &Arc<Counters>) -> u64 {
        let dropped = Cell::new(0);
        self.0.retain(|_, entry| {
            let keep = !entry.is_of(owner);
            dropped.set(dropped.get() + u64::from(!keep));
            keep
        });
        dropped.get()
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<u128, Arc<Entry>> for Weight {
    fn weight(&self, _: &u128, entry: &Arc<Entry>) -> u64 {
        entry.weight()
    }
}

#[derive(Clone)]
struct Evicted;

impl Lifecycle<u128, Arc<Entry>> for Evicted {
    type RequestState = ();

    // Not `on_evict`, which is told of entries that were replaced, too.
    fn before_evict(&self, (): &mut (), _: &u128, entry: &mut Arc<Entry>) {
        add(&entry.owner.memory.evicted, 1);
    }
}

/// Keys are hashes with a secret key already.
#[derive(Default)]
pub(super) struct Low(u64);

impl Hasher for Low {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOREVER: Times = Times { computed: 0, fresh_until: i64::MAX, stale_until: i64::MAX };

    fn entry(n: usize, owner: &Arc<Counters>) -> Arc<Entry> {
        Entry::new((&n.to_le_bytes(), &[7; 192]), FOREVER, 0, owner)
    }

    #[test]
    fn bytes_stay_within_the_budget_and_are_counted_to_the_last() {
        let (one, two) = (Arc::default(), Arc::default());
        let memory = Memory::new(1 << 20);
        for n in 0..10_000u64 {
            let owner = if n % 2 == 0 { &one } else { &two };
            memory.insert(
                u128::from(n) << 64 | u128::from(n.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
                entry(n as usize, owner),
            );
        }
        let [a, b] = [&one, &two].map(|c: &Arc<Counters>| c.stats().memory);
        assert!(a.bytes + b.bytes <= 1 << 20, "{a:?} {b:?}");
        assert!(a.bytes + b.bytes > (1 << 20) * 9 / 10, "{a:?} {b:?}");
        assert_eq!(a.entries + b.entries + a.evicted + b.evicted, 10_000);
        assert_eq!(memory.drop_of(&one), a.entries);
        assert_eq!((one.stats().memory.bytes, two.stats().memory.bytes), (0, b.bytes));
        memory.set_budget(1 << 16);
        assert!(two.stats().memory.bytes <= 1 << 16);
        drop(memory);
        assert_eq!(two.stats().memory.bytes, 0);
    }

    #[test]
    fn what_is_replaced_counts_no_longer() {
        let owner = Arc::default();
        let memory = Memory::new(1 << 20);
        (0..3).for_each(|n| memory.insert(9, entry(n, &owner)));
        assert_eq!((owner.stats().memory.entries, owner.stats().memory.evicted), (1, 0));
    }

    #[test]
    fn freshness_ends_and_then_staleness() {
        let times = Times { computed: 0, fresh_until: 10, stale_until: 15 };
        let at = [9, 10, 14, 15].map(|now| times.at(now));
        assert_eq!(at, [Freshness::Fresh, Freshness::Stale, Freshness::Stale, Freshness::Expired]);
    }
}
