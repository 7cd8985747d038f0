//! Small work runs where its request was decoded.

use std::{future::ready, io, sync::Arc, time::Duration};

use weir_engine::{CancelFlag, Engine};
use weir_types::{Clock, Error, ErrorCode};

use super::{Done, ExecuteFuture, Executor, Job, Pool, Stats, run};

/// Runs each job at once on the caller's thread: for models of microseconds, where a
/// hand-over to another thread would cost more than the work.
pub struct Inline {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    stats: Arc<Stats>,
}

impl Inline {
    /// Runs jobs on `engine`.
    pub fn new(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>) -> Self {
        Self { engine, clock, stats: Arc::default() }
    }

    fn run(&self, job: Job) -> Result<Done, Error> {
        let start = self.clock.now();
        if job.deadline.is_past(start) {
            Stats::count(&self.stats.abandoned);
            return Err(past_deadline());
        }
        let result = run(&*self.engine, job.batch, CancelFlag::default(), &self.stats);
        let ran = self.clock.now() - start;
        self.stats.finished(&result, (Duration::ZERO, ran), self.clock.wall());
        Ok(Done { outputs: result?, queued: Duration::ZERO, ran })
    }
}

pub(super) fn past_deadline() -> Error {
    Error::new(ErrorCode::DeadlineExceeded, "the deadline passed before the model answered")
}

impl Executor for Inline {
    fn execute(&self, job: Job) -> ExecuteFuture<'_> {
        Box::pin(ready(self.run(job)))
    }

    fn stats(&self) -> &Stats {
        &self.stats
    }
}

/// Runs jobs of few rows inline and the others on a thread of their own, so that a bulk
/// request to a small model does not hold up the requests that share its worker.
pub struct BySize {
    inline: Inline,
    pool: Pool,
    inline_rows: usize,
}

impl BySize {
    /// Runs jobs of up to `inline_rows` rows inline; `threads` and `queue` are the pool's.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn new(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        threads: usize,
        queue: usize,
        inline_rows: usize,
    ) -> io::Result<Self> {
        let inline = Inline::new(engine.clone(), clock.clone());
        let pool = Pool::with_stats(engine, clock, threads, queue, inline.stats.clone())?;
        Ok(Self { inline, pool, inline_rows })
    }
}

impl Executor for BySize {
    fn execute(&self, job: Job) -> ExecuteFuture<'_> {
        if job.batch.rows <= self.inline_rows { self.inline.execute(job) } else { self.pool.execute(job) }
    }

    fn stats(&self) -> &Stats {
        &self.inline.stats
    }
}
