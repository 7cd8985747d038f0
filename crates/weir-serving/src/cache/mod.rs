//! Answers that are kept, row by row.
//!
//! [`Cached`] wraps the executor of a version. A row is stored under all that its answer depends
//! on (`identity`), first in this process (`memory`), then, where there is a Redis, for all replicas
//! (`remote`, over `tier`). What is found nowhere is computed once for all who ask at once (`flight`).
//! docs/concepts/caching.md draws it; ADR 0010 has the reasons.
//!
//! ```text
//! cached    found in memory: answered on the spot ┐
//! course    else: claim ─▶ Redis ─▶ lease ─▶ model ┴▶ core keeps it   visit: what is found so far
//! identity  bytes that decide, and their hash         record  an answer as bytes
//! shared    all models: budget, clock, Redis          fill    to Redis, behind the answer
//! purge     tokens and epochs                         explain which field makes two rows differ
//! ```

mod background;
mod cached;
mod core;
mod course;
mod explain;
mod fill;
mod flight;
mod identity;
mod memory;
mod mode;
mod options;
mod purge;
mod record;
mod redis;
mod remote;
mod shared;
mod stats;
mod tier;
mod visit;

#[cfg(test)]
mod tests;

pub use cached::Cached;
pub use explain::{Difference, Explained, ExplainedPair};
pub(crate) use mode::not_cached;
pub use mode::{CacheControl, CacheMode, CacheOutcome, CacheVerdict};
pub use options::CacheConfig;
pub use purge::{PurgeScope, Purged};
pub use record::{bare_answer, stored_answer};
pub use shared::Cache;
pub use stats::{CacheStats, TierStats};
pub use tier::{Tier, TierEntry, TierError, TierFuture};
