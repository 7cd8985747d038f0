//! Where work runs.
//!
//! [`Local`] runs a model in this process: small jobs at once on the caller's thread, the
//! others from a lane that workers take batches from.
//!
//! ```text
//! local    decides: inline, refused, or queued        cut    large jobs become pieces
//! expect   refuses what would be answered too late    waiting  the caller's end of a job
//! lane     the lock around ─▶ queue: what is next     call   a job's pieces and its answer
//! worker   permit ─▶ batch ─▶ prepare ─▶ execute      cores  the permits
//! size     how much work a job is                     rate   how long work takes
//! trial    what is measured at load    spans   what traces show of an execution
//! ```

mod call;
mod caller;
mod cores;
mod cut;
mod expect;
mod lane;
mod local;
mod queue;
mod rate;
mod remote;
mod resident;
mod size;
mod spans;
mod stats;
mod sync;
mod timing;
mod trial;
mod waiting;
mod worker;

#[cfg(test)]
pub(crate) mod tests;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use weir_clients::GuardStats;
use weir_engine::{State, Step};
use weir_types::{Batch, Deadline, Error, ErrorCode, Outputs, SequenceStep, trace::Scope};

use crate::Sequences;
use crate::cache::{CacheControl, CacheOutcome, Cached};

pub use caller::Caller;
pub use cores::Cores;
pub use local::{Local, LocalOptions};
pub(crate) use remote::describe;
pub use remote::{Remote, describe_remote};
pub use resident::MemoryBudget;
pub(crate) use resident::Resident;
pub(crate) use stats::Pending;
pub use stats::{Batches, Stats};
pub use timing::Timing;
pub(crate) use trial::Trial;
pub use trial::unmerged;

/// One request's work.
#[derive(Debug, Clone)]
pub struct Job {
    /// The rows.
    pub batch: Batch,
    /// When the answer stops being of use.
    pub deadline: Deadline,
    /// 1 goes first; 0, and a number beyond the model's levels, is the model's default (as
    /// Triton's schedule policy extension has it).
    pub priority: u64,
    /// Whose share it counts against.
    pub caller: Caller,
    /// What it wants of the cache, where the model has one.
    pub cache: CacheControl,
    /// Which step of which sequence it is, for a model that keeps state.
    pub sequence: Option<SequenceStep>,
    /// What the engine is told of that. Set where sequences are kept, by nobody else.
    pub step: Option<Step>,
    /// Where it is in its trace.
    pub trace: Option<Scope>,
}

impl Job {
    /// A job of default priority from nobody in particular.
    pub fn new(batch: Batch, deadline: Deadline) -> Self {
        Self {
            batch,
            deadline,
            priority: 0,
            caller: Caller::Unknown,
            cache: CacheControl::default(),
            sequence: None,
            step: None,
            trace: None,
        }
    }
}

/// What came of a job.
#[derive(Debug)]
pub struct Done {
    /// The answer.
    pub outputs: Outputs,
    /// Tokens that the model read for each row, as
    /// [`Prepared::tokens`](weir_engine::Prepared::tokens) counts them; `None` for models that
    /// read no text.
    pub tokens: Option<Vec<u32>>,
    /// What the cache did; `None` for models that have none, and where it was not asked.
    pub cache: Option<CacheOutcome>,
    /// What the step of a sequence left for the next one; taken where sequences are kept.
    pub state: Option<State>,
    /// Where its time went.
    pub took: Took,
}

/// Where the time of a job went. What did not happen is not there, so that nobody counts it as done in no time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Took {
    /// The model's part; `None` where it was not asked: each row was stored, or computed for another request.
    pub model: Option<ModelTime>,
    /// The cache's part: looking, waiting for what others compute, keeping. `None` where it was not asked.
    pub cache: Option<Duration>,
}

/// What a model took for a job, in all where it was asked more than once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ModelTime {
    /// Waiting for a thread.
    pub queued: Duration,
    /// Running: the engine, and between the pieces of a job that was cut, others.
    pub ran: Duration,
}

impl Took {
    /// The model alone did it.
    pub fn by_model(queued: Duration, ran: Duration) -> Self {
        Self { model: Some(ModelTime { queued, ran }), cache: None }
    }
}

/// What became of a job or a piece of one.
#[derive(Debug)]
struct Answered {
    outputs: Outputs,
    /// As [`Done::tokens`].
    tokens: Option<Vec<u32>>,
    /// As [`Done::state`].
    state: Option<State>,
}

/// The future of one execution. Dropping it means that nobody waits any more: work that
/// has not started then never does.
pub type ExecuteFuture<'a> = Pin<Box<dyn Future<Output = Result<Done, Error>> + Send + 'a>>;

/// Runs jobs on one model's engine, here or on another server: that is why this is async and
/// the engine is not.
pub trait Executor: Send + Sync {
    /// Runs `job`.
    ///
    /// # Errors
    /// `Overloaded` when too much waits already, `DeadlineExceeded` when the deadline passes
    /// first, and what the engine says of bad input or its own failure.
    fn execute(&self, job: Job) -> ExecuteFuture<'_>;

    /// Whether even a small job of `caller` would be refused now: asked before a body is read,
    /// so that refusing costs little. Must cost next to nothing itself.
    ///
    /// # Errors
    /// `Overloaded`, as [`execute`](Self::execute) would say.
    fn ready(&self, caller: &Caller, deadline: Deadline) -> Result<(), Error> {
        let _ = (caller, deadline);
        Ok(())
    }

    /// What was counted so far.
    fn stats(&self) -> &Stats;

    /// Jobs that wait now, in whole or in part.
    fn waiting(&self) -> usize {
        0
    }

    /// Memory that the model holds now, where that is known: models under a budget.
    fn resident_bytes(&self) -> Option<u64> {
        None
    }

    /// Whether a row gets the same answer whatever rows are beside it, so that a job may be
    /// taken apart. `false` where that is not known.
    fn by_row(&self) -> bool {
        false
    }

    /// The part that keeps answers, for a model that has one.
    fn cached(&self) -> Option<&Cached> {
        None
    }

    /// The sequences that are kept for the model, where it keeps state.
    fn sequences(&self) -> Option<&Arc<Sequences>> {
        None
    }

    /// How calls to another server go, for a model that one runs.
    fn remote(&self) -> Option<GuardStats> {
        None
    }
}

/// What a caller is told whose deadline passed.
pub(crate) fn past_deadline() -> Error {
    Error::new(ErrorCode::DeadlineExceeded, "the deadline passed before the model answered")
}
