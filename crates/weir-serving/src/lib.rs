//! The predict use case: admission → routing → execution, as stages with typed hand-offs.
//!
//! ```text
//! Grant ─ Predictor::admit ─▶ Admitted ─ route ─▶ Routed ─ batch ─▶ Ready ─ execute ─▶ Executed
//!                                                    └── complete ──┘  (rows that leave features
//!                                                                       to be looked up)
//! ```
//!
//! A stage can only be reached from the one before it, so no path skips admission and none
//! executes without a [`Grant`](weir_types::Grant). What is served is one immutable
//! [`ServingSnapshot`], built by the [`Loader`] off the request path.

mod admission;
mod background;
mod cache;
mod control;
mod executor;
mod features;
mod fetch;
mod graph;
mod load;
mod predict;
mod reason;
mod samples;
mod sequence;
mod snapshot;
mod stored;
mod watch;

pub use admission::{Admission, Admitted, Room, Sender};
pub use cache::{
    Cache, CacheConfig, CacheControl, CacheMode, CacheOutcome, CacheStats, CacheVerdict, Cached, Difference,
    Explained, ExplainedPair, PurgeScope, Purged, Tier, TierEntry, TierError, TierFuture, TierStats,
    bare_answer, stored_answer,
};
pub use control::{Change, Keeper, ModelControl, PutInForce, Refused, Reread};
pub use executor::{
    Batches, Caller, Cores, Done, ExecuteFuture, Executor, Job, Local, LocalOptions, MemoryBudget, ModelTime,
    Remote, Stats, Timing, Took, describe_remote, unmerged,
};
pub use features::{Incomplete, Lookup};
pub use fetch::{
    ArchiveConfig, Archives, Bring, FetchConfig, FetchParts, FetchProblem, Fetcher, Missing as MissingArchive,
};
pub use load::{LoadOptions, Loader, Progress};
pub use predict::{Executed, Predictor, Ready, Routed};
pub use reason::Reason;
pub use sequence::{
    Expected, KeepSequences, RedisSequences, SequenceCounts, SequenceStore, Sequences, StoreFuture, Token,
};
pub use snapshot::{Failure, ServedModel, ServedVersion, ServingSnapshot};
pub use watch::Watch;
