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

use super::{Budget, Change, IDEMPOTENCY, Store, StoreError, StoreFuture, Stored, Update, checked};
use crate::{config::StoreKind, value::EventTime};

/// Keys and values in memory, gone when the process ends.
pub struct Memory {
    map: Arc<Map>,
    clock: Arc<dyn Clock>,
}

impl Memory {
    /// A store that holds at most `budget`.
    pub fn new(budget: impl Into<Budget>, clock: Arc<dyn Clock>) -> Self {
        Self { map: Arc::new(Map::new(budget.into())), clock }
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

    fn held(&self) -> Option<Budget> {
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

/// Which of the two budgets a key is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    State,
    Idempotency,
}

impl Account {
    pub(super) const ALL: [Account; 2] = [Account::State, Account::Idempotency];

    pub(super) fn of(key: &[u8]) -> Self {
        if key.starts_with(IDEMPOTENCY) { Account::Idempotency } else { Account::State }
    }

    /// What is told where it has no room.
    pub(super) fn full(self) -> StoreError {
        match self {
            Account::State => StoreError::Full,
            Account::Idempotency => StoreError::KeysFull,
        }
    }
}

/// A bounded map whose entries expire; the embedded store has one too.
pub(super) struct Map {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    /// By account.
    held: [AtomicUsize; 2],
    budget: [usize; 2],
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

    /// Puts `stored` at `key`, or nothing, and gives back what was there. Both maps share one
    /// allocation of the key, of just its size.
    fn set(&mut self, key: &[u8], stored: Option<Stored>) -> Option<Stored> {
        let ends = stored.as_ref().and_then(|s| s.expires);
        let there = self.entries.get_key_value(key).map(|(key, _)| key.clone());
        let key = there.unwrap_or_else(|| Bytes::copy_from_slice(key));
        let before = match stored {
            Some(stored) => self.entries.insert(key.clone(), stored),
            None => self.entries.remove(&key),
        };
        if let Some(end) = before.as_ref().and_then(|s| s.expires) {
            self.ends.remove(&(end, key.clone()));
        }
        self.ends.extend(ends.map(|end| (end, key)));
        before
    }

    fn expired(&self, now: EventTime) -> impl Iterator<Item = &Bytes> {
        self.ends.iter().take_while(move |(end, _)| *end <= now).map(|(_, key)| key)
    }
}

impl Map {
    pub(super) fn new(budget: Budget) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            held: Default::default(),
            budget: [budget.state, budget.idempotency],
        }
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.hasher.hash_one(key) as usize % SHARDS])
    }

    pub(super) fn get(&self, key: &[u8], now: EventTime) -> Option<Bytes> {
        self.shard(key).live(key, now).cloned()
    }

    /// Bytes held, keys and bookkeeping included.
    pub(super) fn held(&self) -> Budget {
        let of = |account| self.held_of(account);
        Budget { state: of(Account::State), idempotency: of(Account::Idempotency) }
    }

    pub(super) fn held_of(&self, account: Account) -> usize {
        self.held[account as usize].load(Ordering::Relaxed)
    }

    pub(super) fn budget(&self, account: Account) -> usize {
        self.budget[account as usize]
    }

    /// Whether the account has room for `more` bytes; less than none where some are to go.
    pub(super) fn has_room(&self, account: Account, more: isize) -> bool {
        self.held_of(account).saturating_add_signed(more) <= self.budget(account)
    }

    /// What counts for `key` now, be it expired or not.
    pub(super) fn cost_of(&self, key: &[u8]) -> usize {
        self.shard(key).entries.get(key).map_or(0, |stored| cost(key, &stored.value))
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

    fn set_in(&self, shard: &mut Shard, key: &[u8], mut stored: Option<Stored>) {
        if let Some(stored) = &mut stored {
            // A value that was written piece by piece has up to twice its length allocated.
            stored.value = Bytes::copy_from_slice(&stored.value);
        }
        let held = &self.held[Account::of(key) as usize];
        let cost = |stored: &Stored| cost(key, &stored.value);
        held.fetch_add(stored.as_ref().map_or(0, cost), Ordering::Relaxed);
        let before = shard.set(key, stored);
        held.fetch_sub(before.as_ref().map_or(0, cost), Ordering::Relaxed);
    }

    fn update(&self, mut update: Update, now: EventTime) -> Result<(), StoreError> {
        if self.try_update(&mut update, now)? {
            return Ok(());
        }
        let expired = self.expired(now, usize::MAX);
        expired.iter().for_each(|key| self.sweep(&mut self.shard(key), now, SWEEP));
        if self.try_update(&mut update, now)? { Ok(()) } else { Err(Account::of(&update.key).full()) }
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
                if more > 0 && !self.has_room(Account::of(key), signed(more)) {
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

/// No value is so large that this changes it.
pub(super) fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

/// A panic while a shard was locked would have left whole entries behind: nothing here calls
/// out between two steps that belong together.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_allocated_to_its_length() {
        let map = Map::new(Budget::from(1 << 20));
        let roomy = |bytes: &[u8]| {
            let mut vec = Vec::with_capacity(1 << 16);
            vec.extend_from_slice(bytes);
            Bytes::from(vec)
        };
        let stored = Stored { value: roomy(b"value"), expires: Some(EventTime::default()) };
        map.set(&roomy(b"f:v:key"), Some(stored));
        let mut shard = map.shard(b"f:v:key");
        let (key, stored) = shard.entries.remove_entry(&b"f:v:key"[..]).unwrap();
        shard.ends.clear(); // which shares the key
        for (bytes, length) in [(key, 7), (stored.value, 5)] {
            assert_eq!(bytes.try_into_mut().unwrap().capacity(), length);
        }
    }

    #[test]
    fn keys_have_a_budget_of_their_own() {
        let map = Map::new(Budget { state: 1000, idempotency: 800 });
        let stored = || Some(Stored { value: vec![7; 300].into(), expires: None });
        map.set(&"i:a".into(), stored());
        map.set(&"f:v:a".into(), stored());
        let entry = 300 + OVERHEAD_BYTES;
        assert_eq!(map.held(), Budget { state: 5 + entry, idempotency: 3 + entry });
        assert!(!map.has_room(Account::Idempotency, 200) && map.has_room(Account::State, 200));
        map.set(&"i:a".into(), None);
        assert_eq!(map.held(), Budget { state: 5 + entry, idempotency: 0 });
    }
}
