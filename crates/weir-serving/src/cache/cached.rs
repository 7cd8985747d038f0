//! The cache as an executor.

use std::{future::ready, sync::Arc};

use weir_clients::GuardStats;
use weir_types::{
    Batch, Deadline, Error,
    trace::{Scope, SpanKind},
};

use super::{
    CacheControl, CacheMode, CacheStats, Explained, core::Core, course::Course, explain, not_cached,
    stats::add,
};
use crate::{Caller, Done, ExecuteFuture, Executor, Job, Stats, executor::past_deadline};

/// Keeps the answers of another executor: every face and every graph that asks a version has
/// its cache, and none knows of it. See [`Executor::cached`].
pub struct Cached(pub(super) Arc<Core>);

impl Cached {
    /// What the version's cache counted.
    pub fn stats(&self) -> CacheStats {
        self.0.counters.stats()
    }

    /// What a request that says `control` wants of this model's cache.
    pub(crate) fn mode(&self, control: CacheControl) -> CacheMode {
        control.mode(self.0.table.default.into())
    }

    /// Whether the model would refuse even a small job now, for a request that is computed whatever is
    /// stored.
    ///
    /// # Errors
    /// As [`Executor::ready`].
    pub fn would_compute(&self, caller: &Caller, deadline: Deadline) -> Result<(), Error> {
        self.0.inner.ready(caller, deadline)
    }

    /// Why the rows of `a` and `b`, two requests to this version, do or do not share entries.
    pub fn explain(&self, a: &Batch, b: &Batch) -> Explained {
        explain::explain(&self.0, a, b)
    }
}

impl Cached {
    /// What an unrecorded request gets, and a recorded one within its span.
    fn answer(&self, job: Job) -> ExecuteFuture<'_> {
        let core = &self.0;
        let start = core.shared.clock.now();
        if job.deadline.is_past(start) {
            Stats::count(&core.inner.stats().expired);
            return Box::pin(ready(Err(past_deadline())));
        }
        let mode = self.mode(job.cache);
        if mode == CacheMode::NoStore || job.batch.rows == 0 {
            add(&core.counters.bypassed, 1);
            return core.inner.execute(job);
        }
        let Some(mut visit) = core.visit(&job.caller, &job.batch, start) else {
            add(&core.counters.bypassed, 1);
            return core.inner.execute(job);
        };
        visit.no_older_than(job.cache.max_age);
        if mode != CacheMode::NoCache {
            core.look(&mut visit);
        }
        if !visit.is_complete() {
            return Box::pin(Course::new(core, visit, job, mode).answer(core));
        }
        let only_if_cached = mode == CacheMode::OnlyIfCached;
        if !visit.stale.is_empty() && !only_if_cached {
            core.refresh(&visit, &job.batch, &job.caller);
        }
        match core.assemble(&visit, None, 0) {
            Some(done) => Box::pin(ready(Ok(done))),
            None if only_if_cached => Box::pin(ready(Err(not_cached()))),
            // Rows whose answers have several shapes: only the model can put them beside each other.
            None => core.inner.execute(job),
        }
    }

    async fn recorded(&self, around: Scope, job: Job) -> Result<Done, Error> {
        let clock = &self.0.shared.clock;
        let (scope, start) = (around.within(), clock.now());
        let result = self.answer(Job { trace: Some(scope.clone()), ..job }).await;
        scope.end(&around, ("cache", SpanKind::Internal), (start, clock.now()), |span| {
            span.failed = result.is_err();
            if let Some(outcome) = result.as_ref().ok().and_then(|done| done.cache) {
                span.set("weir.cache.verdict", outcome.verdict().as_str());
                span.set("weir.cache.hits", outcome.hits);
                span.set("weir.rows", outcome.rows);
            }
        });
        result
    }
}

impl Executor for Cached {
    fn execute(&self, job: Job) -> ExecuteFuture<'_> {
        match job.trace.as_ref().filter(|scope| scope.is_recorded()).cloned() {
            None => self.answer(job),
            Some(scope) => Box::pin(self.recorded(scope, job)),
        }
    }

    /// Never refuses: what is asked is not known before the body is read, and it may well be
    /// stored, which is most of all wanted while the model has too much to do. A request that is
    /// not is refused by the model as soon as it was decoded, some microseconds later.
    fn ready(&self, _: &Caller, _: Deadline) -> Result<(), Error> {
        Ok(())
    }

    fn stats(&self) -> &Stats {
        self.0.inner.stats()
    }

    fn waiting(&self) -> usize {
        self.0.inner.waiting()
    }

    fn resident_bytes(&self) -> Option<u64> {
        self.0.inner.resident_bytes()
    }

    fn by_row(&self) -> bool {
        self.0.by_row
    }

    fn cached(&self) -> Option<&Cached> {
        Some(self)
    }

    fn remote(&self) -> Option<GuardStats> {
        self.0.inner.remote()
    }
}
