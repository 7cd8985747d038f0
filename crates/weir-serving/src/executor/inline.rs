//! Small work runs where its request was decoded.

use std::{
    future::ready,
    sync::{Arc, OnceLock},
    time::Duration,
};

use weir_engine::{CancelFlag, Engine};
use weir_types::{Clock, Error, ErrorCode};

use super::{Answered, Done, ExecuteFuture, Executor, Job, Pool, Stats, run};

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
        Self::with_stats(engine, clock, Arc::default())
    }

    /// The same, counting into `stats`.
    pub(super) fn with_stats(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>, stats: Arc<Stats>) -> Self {
        Self { engine, clock, stats }
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
        let Answered { outputs, tokens } = result?;
        Ok(Done { outputs, tokens, queued: Duration::ZERO, ran })
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
/// request to a small model does not hold up the requests that share its worker. The thread
/// starts with the first such job: hundreds of small models need no hundreds of threads.
pub struct BySize {
    inline: Inline,
    pool: OnceLock<Pool>,
    threads: usize,
    queue: usize,
    inline_rows: usize,
}

impl BySize {
    /// Runs jobs of up to `inline_rows` rows inline; `threads` and `queue` are the pool's.
    pub fn new(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        threads: usize,
        queue: usize,
        inline_rows: usize,
    ) -> Self {
        Self::with_stats(engine, clock, (threads, queue, inline_rows), Arc::default())
    }

    /// The same, counting into `stats`.
    pub(crate) fn with_stats(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        (threads, queue, inline_rows): (usize, usize, usize),
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            inline: Inline::with_stats(engine, clock, stats),
            pool: OnceLock::new(),
            threads,
            queue,
            inline_rows,
        }
    }

    fn pool(&self) -> Result<&Pool, Error> {
        if let Some(pool) = self.pool.get() {
            return Ok(pool);
        }
        let Inline { engine, clock, stats } = &self.inline;
        let pool = Pool::with_stats(engine.clone(), clock.clone(), self.threads, self.queue, stats.clone());
        let pool = pool.map_err(|error| {
            tracing::error!(%error, "the system gives no thread for a model");
            Error::new(ErrorCode::Overloaded, "the server has no thread for this request; try again shortly")
        })?;
        // Of two that come first at once, one pool stays and the other's threads end idle.
        Ok(self.pool.get_or_init(|| pool))
    }
}

impl Executor for BySize {
    fn execute(&self, job: Job) -> ExecuteFuture<'_> {
        if job.batch.rows <= self.inline_rows {
            return self.inline.execute(job);
        }
        match self.pool() {
            Ok(pool) => pool.execute(job),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn stats(&self) -> &Stats {
        &self.inline.stats
    }
}
