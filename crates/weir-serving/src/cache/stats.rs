//! What the cache counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TierStats {
    /// Rows that it had.
    pub hits: u64,
    /// Rows that it had not, or had too long ago; not those that a Redis which is away was not asked for.
    pub misses: u64,
    /// Of the misses, those whose entry was no longer fresh.
    pub expired: u64,
    /// Of the misses, those whose entry was another row's or damaged: a collision of hashes, or
    /// bytes that changed.
    pub corrupt: u64,
    /// Entries written.
    pub filled: u64,
    /// Entries that were to be written and were not: no room in the queue, no Redis.
    pub dropped: u64,
    /// Entries that made room for others; of memory alone.
    pub evicted: u64,
    /// Entries there now; of memory alone.
    pub entries: u64,
    /// Bytes that they take, overhead included; of memory alone.
    pub bytes: u64,
    /// Look-ups that were answered, each of all rows that a request still needs.
    pub lookups: u64,
    /// Nanoseconds that they took in all.
    pub lookup_ns: u64,
}

/// Counters of one version of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Answers all of whose rows were stored.
    pub hit: u64,
    /// Answers some of whose rows were.
    pub partial: u64,
    /// Answers none of whose rows was.
    pub miss: u64,
    /// Requests that went by: `no-store`, and rows that cannot be told apart.
    pub bypassed: u64,
    /// Rows that another request was computing already.
    pub coalesced: u64,
    /// Rows that were given after their `ttl` while they were computed anew.
    pub stale: u64,
    /// Nanoseconds of the model that stored and coalesced rows saved.
    pub saved_ns: u64,
    /// The tier in this process.
    pub memory: TierStats,
    /// The tier in Redis; zeros where the model has none.
    pub redis: TierStats,
}

/// The counters behind [`TierStats`].
#[derive(Debug, Default)]
pub(super) struct TierCounters {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) expired: AtomicU64,
    pub(super) corrupt: AtomicU64,
    pub(super) filled: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) evicted: AtomicU64,
    pub(super) entries: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) lookups: AtomicU64,
    pub(super) lookup_ns: AtomicU64,
}

impl TierCounters {
    fn stats(&self) -> TierStats {
        TierStats {
            hits: read(&self.hits),
            misses: read(&self.misses),
            expired: read(&self.expired),
            corrupt: read(&self.corrupt),
            filled: read(&self.filled),
            dropped: read(&self.dropped),
            evicted: read(&self.evicted),
            entries: read(&self.entries),
            bytes: read(&self.bytes),
            lookups: read(&self.lookups),
            lookup_ns: read(&self.lookup_ns),
        }
    }
}

/// The counters behind [`CacheStats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) hit: AtomicU64,
    pub(super) partial: AtomicU64,
    pub(super) miss: AtomicU64,
    pub(super) bypassed: AtomicU64,
    pub(super) coalesced: AtomicU64,
    pub(super) stale: AtomicU64,
    pub(super) saved_ns: AtomicU64,
    pub(super) memory: TierCounters,
    pub(super) redis: TierCounters,
    /// Purges so far, as far as memory goes.
    generation: AtomicU64,
    /// The version's epoch in the shared tier as it was seen last; 0 before.
    epoch: AtomicU64,
}

impl Counters {
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn next_generation(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes the epoch of the version's entries; whether it is another one than before.
    pub(super) fn set_epoch(&self, epoch: u64) -> bool {
        self.epoch.swap(epoch, Ordering::AcqRel) != epoch
    }

    pub(super) fn stats(&self) -> CacheStats {
        CacheStats {
            hit: read(&self.hit),
            partial: read(&self.partial),
            miss: read(&self.miss),
            bypassed: read(&self.bypassed),
            coalesced: read(&self.coalesced),
            stale: read(&self.stale),
            saved_ns: read(&self.saved_ns),
            memory: self.memory.stats(),
            redis: self.redis.stats(),
        }
    }
}

/// Adds `n` to `counter`.
pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
