//! A store in a Redis that replicas share.
//!
//! Redis holds a *stamp* (8 bytes, of its own for each write), the expiry (8 bytes), and the
//! value. An update reads, decides in this process, and stores what was decided if stamp and
//! expiry are still those that were read: a [`Swap`] on one key, so that it
//! works in a cluster without hash tags. If they are not, somebody else was first, and it
//! decides again. Updates of one process to the same key wait for each other here, so that only
//! replicas ever meet there.
//!
//! Expiry goes by the clock that is handed in, as in the other stores; Redis' own only tidies
//! up.

use std::{
    collections::{BTreeMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{Mutex, MutexGuard};
use weir_clients::redis::{Redis, RedisError, Swap, SwapCondition};
use weir_types::{Clock, unique};

use super::{Change, Decide, Store, StoreError, StoreFuture, Stored, Update, checked};
use crate::{config::StoreKind, encoding::Reader, value::EventTime};

/// Stamp and expiry: what a swap compares.
const HEAD: usize = Swap::HEAD;

/// Locks that the keys of this process share.
const STRIPES: usize = 256;

/// Keys of one round trip.
const ROUND: usize = 512;

/// Times that an update is decided before it gives up. Each time lost is one that another
/// replica won.
const MAX_ATTEMPTS: usize = 32;

/// A store in Redis.
pub struct RedisStore(Arc<Inner>);

struct Inner {
    redis: Redis,
    clock: Arc<dyn Clock>,
    stripes: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl RedisStore {
    /// Keeps state in `redis`, under keys that begin with `f:` and `i:`.
    pub fn new(redis: Redis, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            redis,
            clock,
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }))
    }
}

impl Store for RedisStore {
    fn get(&self, keys: Vec<Bytes>) -> StoreFuture<Vec<Option<Bytes>>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let (now, held) = (inner.now(), inner.redis.get_many(&keys).await?);
            let value = |held: Option<Bytes>| Ok(held.map(Held::read).transpose()?.and_then(|h| h.live(now)));
            held.into_iter().map(value).collect()
        })
    }

    fn update(&self, updates: Vec<Update>) -> StoreFuture<()> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.update(updates).await })
    }

    fn kind(&self) -> StoreKind {
        StoreKind::Redis
    }
}

/// What Redis holds of a key.
#[derive(Debug, Clone)]
struct Held {
    head: Bytes,
    stored: Stored,
}

impl Held {
    fn read(held: Bytes) -> Result<Self, StoreError> {
        let mut from = Reader(&held);
        let expires = from.u64().and(from.i64());
        let expires =
            expires.ok_or_else(|| StoreError::Failed("Redis holds a value that is not ours".into()))?;
        let stored = Stored { value: held.slice(HEAD..), expires: EventTime::from_micros(expires) };
        Ok(Self { head: held.slice(..HEAD), stored })
    }

    fn live(self, now: EventTime) -> Option<Bytes> {
        self.stored.is_live(now).then_some(self.stored.value)
    }
}

/// The updates of one key, in their order.
struct Pending {
    key: Bytes,
    decides: Vec<Decide>,
}

/// What is to be stored in the place of what has this head; nothing where there is no value.
struct Decided {
    key: Bytes,
    head: Bytes,
    value: Option<Vec<u8>>,
    ttl: Option<Duration>,
}

impl Inner {
    fn now(&self) -> EventTime {
        self.clock.wall().into()
    }

    async fn update(&self, updates: Vec<Update>) -> Result<(), StoreError> {
        let mut keys: BTreeMap<Bytes, Vec<Decide>> = BTreeMap::new();
        for Update { key, decide } in updates {
            keys.entry(key).or_default().push(decide);
        }
        let mut pending: Vec<_> = keys.into_iter().map(|(key, decides)| Pending { key, decides }).collect();
        while !pending.is_empty() {
            let round = pending.split_off(pending.len().saturating_sub(ROUND));
            let stripes = self.stripes(&round);
            let _locks = self.lock(stripes).await;
            self.settle(round).await?;
        }
        Ok(())
    }

    /// The locks of these keys, in the order in which every call takes them, so that no two
    /// calls wait for each other.
    fn stripes(&self, round: &[Pending]) -> Vec<usize> {
        let stripe = |pending: &Pending| self.hasher.hash_one(&pending.key) as usize % STRIPES;
        let mut stripes: Vec<_> = round.iter().map(stripe).collect();
        stripes.sort_unstable();
        stripes.dedup();
        stripes
    }

    async fn lock(&self, stripes: Vec<usize>) -> Vec<MutexGuard<'_, ()>> {
        let mut locks = Vec::with_capacity(stripes.len());
        for stripe in stripes {
            locks.push(self.stripes[stripe].lock().await);
        }
        locks
    }

    async fn settle(&self, mut round: Vec<Pending>) -> Result<(), StoreError> {
        for _ in 0..MAX_ATTEMPTS {
            round = self.attempt(round).await?;
            if round.is_empty() {
                return Ok(());
            }
        }
        Err(StoreError::Contended)
    }

    /// Those that somebody else was faster than.
    async fn attempt(&self, mut round: Vec<Pending>) -> Result<Vec<Pending>, StoreError> {
        let keys: Vec<Bytes> = round.iter().map(|pending| pending.key.clone()).collect();
        let held = self.redis.get_many(&keys).await?;
        let now = self.now();
        let mut swaps = Vec::new();
        for (pending, held) in round.iter_mut().zip(held) {
            let held = held.map(Held::read).transpose()?;
            swaps.extend(self.decide(pending, held, now)?);
        }
        let lost = self.swap(swaps).await?;
        round.retain(|pending| lost.contains(&pending.key));
        Ok(round)
    }

    /// Stores what was decided; the keys of which another head was found.
    async fn swap(&self, all: Vec<Decided>) -> Result<HashSet<Bytes>, StoreError> {
        let heads: Vec<[&[u8]; 1]> = all.iter().map(|decided| [&decided.head[..]]).collect();
        let swap = |(decided, head)| {
            let Decided { key, value, ttl, .. }: &Decided = decided;
            Swap { key, condition: SwapCondition::Head(head), value: value.as_deref(), ttl: *ttl }
        };
        let swaps: Vec<Swap<'_>> = all.iter().zip(heads.iter().map(|head| &head[..])).map(swap).collect();
        let done = self.redis.swap_many(&swaps).await;
        let mut lost = HashSet::new();
        for (decided, done) in all.iter().zip(done) {
            if !done? {
                lost.insert(decided.key.clone());
            }
        }
        Ok(lost)
    }

    /// What the updates of one key make of it together; `None` if nothing.
    fn decide(
        &self,
        pending: &mut Pending,
        held: Option<Held>,
        now: EventTime,
    ) -> Result<Option<Decided>, StoreError> {
        let head = held.as_ref().map(|held| held.head.clone()).unwrap_or_default();
        let mut current = held.map(|held| held.stored).filter(|stored| stored.is_live(now));
        let mut changed = false;
        for decide in &mut pending.decides {
            let there = current.as_ref().map(|stored| &stored.value[..]);
            match checked(&pending.key, decide(there), now)? {
                Change::Keep => continue,
                Change::Delete => current = None,
                Change::Put(stored) => current = Some(stored),
            }
            changed = true;
        }
        let key = pending.key.clone();
        let decided = |value, ttl| Some(Decided { key, head, value, ttl });
        Ok(match current {
            _ if !changed => None,
            None => decided(None, None),
            Some(stored) => decided(Some(self.with_head(&stored)), ttl(&stored, now)),
        })
    }

    fn with_head(&self, stored: &Stored) -> Vec<u8> {
        let expires = stored.expires.map_or(i64::MAX, EventTime::micros);
        [&unique().to_le_bytes()[..], &expires.to_le_bytes(), &stored.value].concat()
    }
}

/// How long Redis keeps it: somewhat longer than it lives, for replicas whose clocks are behind.
fn ttl(stored: &Stored, now: EventTime) -> Option<Duration> {
    const LONGER: Duration = Duration::from_secs(60);
    stored.expires.map(|end| now.age(end) + LONGER)
}

impl From<RedisError> for StoreError {
    fn from(error: RedisError) -> Self {
        match error {
            RedisError::Unavailable(_) | RedisError::Timeout => StoreError::Unavailable,
            // Somebody else's value under a key of ours stays there: asking again is in vain.
            RedisError::Refused(why) if !why.starts_with("WRONGTYPE") => StoreError::Refused(why),
            error => StoreError::Failed(error.to_string()),
        }
    }
}
