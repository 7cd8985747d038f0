//! A store in this process's memory.

use std::{
    collections::{BTreeSet, HashMap},
    future::ready,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use weir_types::Clock;

use super::{Change, Store, StoreError, StoreFuture, Stored, Update, checked};
use crate::{config::StoreKind, value::EventTime};

/// Keys and values in memory, gone when the process ends.
pub struct Memory {
    map: Arc<Map>,
    clock: Arc<dyn Clock>,
}

impl Memory {
    /// A store that holds at most `budget` bytes, keys and bookkeeping included.
    pub fn new(budget: usize, clock: Arc<dyn Clock>) -> Self {
        Self { map: Arc::new(Map::new(budget)), clock }
    }
}

impl Store for Memory {
    fn get(&self, keys: Vec<Bytes>) -> StoreFuture<Vec<Option<Bytes>>> {
        let now = self.clock.wall().into();
        Box::pin(ready(Ok(keys.iter().map(|key| self.map.get(key, now)).collect())))
    }

    fn update(&self, updates: Vec<Update>) -> StoreFuture<()> {
        let now = self.clock.wall().into();
        Box::pin(ready(updates.into_iter().try_for_each(|update| self.map.update(update, now))))
    }

    fn kind(&self) -> StoreKind {
        StoreKind::Memory
    }

    fn held(&self) -> Option<usize> {
        Some(self.map.held())
    }
}

/// Locks, so that look-ups of different keys rarely wait for each other.
const SHARDS: usize = 64;

/// What an entry costs beside key and value: slots of the two maps and allocations, as
/// `cargo bench -p weir-features` measures it for one that expires and has been looked up.
const OVERHEAD_BYTES: usize = 336;

/// Expired entries that a write removes on its way: more than it adds.
const SWEEP: usize = 2;

/// A bounded map whose entries expire; the embedded store has one too.
pub(super) struct Map {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    held: AtomicUsize,
    budget: usize,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<Bytes, Stored>,
    ends: BTreeSet<(EventTime, Bytes)>,
}

impl Shard {
    fn live(&self, key: &[u8], now: EventTime) -> Option<&Bytes> {
        self.entries.get(key).filter(|stored| stored.is_live(now)).map(|stored| &stored.value)
    }

    /// Puts `stored` at `key`, or nothing, and gives back what was there.
    fn set(&mut self, key: &Bytes, stored: Option<Stored>) -> Option<Stored> {
        let ends = stored.as_ref().and_then(|s| s.expires);
        let before = match stored {
            Some(stored) => self.entries.insert(key.clone(), stored),
            None => self.entries.remove(key),
        };
        if let Some(end) = before.as_ref().and_then(|s| s.expires) {
            self.ends.remove(&(end, key.clone()));
        }
        self.ends.extend(ends.map(|end| (end, key.clone())));
        before
    }

    fn expired(&self, now: EventTime) -> impl Iterator<Item = &Bytes> {
        self.ends.iter().take_while(move |(end, _)| *end <= now).map(|(_, key)| key)
    }
}

impl Map {
    pub(super) fn new(budget: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            held: AtomicUsize::new(0),
            budget,
        }
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.hasher.hash_one(key) as usize % SHARDS])
    }

    pub(super) fn get(&self, key: &[u8], now: EventTime) -> Option<Bytes> {
        self.shard(key).live(key, now).cloned()
    }

    /// Bytes held, keys and bookkeeping included.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether there is room for `more` bytes.
    pub(super) fn has_room(&self, more: usize) -> bool {
        self.held().saturating_add(more) <= self.budget
    }

    /// Up to `most` keys that have expired, of all shards.
    pub(super) fn expired(&self, now: EventTime, most: usize) -> Vec<Bytes> {
        let mut keys = Vec::new();
        for shard in &self.shards {
            keys.extend(lock(shard).expired(now).take(most - keys.len()).cloned());
        }
        keys
    }

    /// Puts `stored` at `key`, or nothing.
    pub(super) fn set(&self, key: &Bytes, stored: Option<Stored>) {
        self.set_in(&mut self.shard(key), key, stored);
    }

    fn set_in(&self, shard: &mut Shard, key: &Bytes, stored: Option<Stored>) {
        let cost = |stored: &Stored| cost(key, &stored.value);
        self.held.fetch_add(stored.as_ref().map_or(0, cost), Ordering::Relaxed);
        let before = shard.set(key, stored);
        self.held.fetch_sub(before.as_ref().map_or(0, cost), Ordering::Relaxed);
    }

    fn update(&self, mut update: Update, now: EventTime) -> Result<(), StoreError> {
        if self.try_update(&mut update, now)? {
            return Ok(());
        }
        let expired = self.expired(now, usize::MAX);
        expired.iter().for_each(|key| self.sweep(&mut self.shard(key), now, SWEEP));
        if self.try_update(&mut update, now)? { Ok(()) } else { Err(StoreError::Full) }
    }

    /// Whether there was room.
    fn try_update(&self, update: &mut Update, now: EventTime) -> Result<bool, StoreError> {
        let Update { key, decide } = update;
        let mut shard = self.shard(key);
        self.sweep(&mut shard, now, SWEEP);
        let current = shard.live(key, now);
        let held = current.map_or(0, |value| cost(key, value));
        match checked(key, decide(current.map(AsRef::as_ref)), now)? {
            Change::Keep => {}
            Change::Delete => self.set_in(&mut shard, key, None),
            Change::Put(stored) => {
                let more = cost(key, &stored.value).saturating_sub(held);
                if more > 0 && !self.has_room(more) {
                    return Ok(false);
                }
                self.set_in(&mut shard, key, Some(stored));
            }
        }
        Ok(true)
    }

    fn sweep(&self, shard: &mut Shard, now: EventTime, most: usize) {
        let expired: Vec<_> = shard.expired(now).take(most).cloned().collect();
        expired.iter().for_each(|key| self.set_in(shard, key, None));
    }
}

/// What an entry counts for.
pub(super) fn cost(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + OVERHEAD_BYTES
}

/// A panic while a shard was locked would have left whole entries behind: nothing here calls
/// out between two steps that belong together.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
