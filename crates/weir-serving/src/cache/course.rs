//! The course of a request that memory alone does not answer.
//!
//! ```text
//! claim what is missing ─▶ mine: Redis ─▶ lease ─▶ model ─▶ kept, landed for all who wait
//!                       ├▶ others': wait for them, and claim again where they ended early
//!                       └▶ another row has the key: model, for this request alone
//! ```

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout_at};
use weir_types::{
    Batch, Deadline, Error, ErrorCode, Outputs,
    trace::{Scope, SpanKind},
};

use super::{
    CacheControl, CacheMode,
    core::{Computed, Core, nanos},
    flight::{Claim, Landed, Pilot, Waiter},
    not_cached,
    remote::{Look, Looked},
    visit::Visit,
};
use crate::{Caller, Done, Job, ModelTime, Stats, executor::past_deadline};

/// What a stale entry may take that is computed anew: nobody waits for it.
const REFRESH: Duration = Duration::from_secs(30);
/// Pauses between looks for what another replica computes: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// Entries that are kept in one go, about half a millisecond: then others on this thread get their turn.
const LONGEST_HOLD: usize = 512;

/// A request under way.
pub(super) struct Course<'a> {
    core: &'a Core,
    visit: Visit,
    /// Its rows; taken when all of them go to the model.
    batch: Batch,
    deadline: Deadline,
    priority: u64,
    caller: Caller,
    mode: CacheMode,
    control: CacheControl,
    trace: Option<Scope>,
    /// Entries that this replica has a lease on.
    leased: Vec<usize>,
    /// What the model took so far; `None` before it was asked.
    model: Option<ModelTime>,
    /// Nanoseconds of what the model answered, as entries tell them.
    ran_ns: u64,
    /// The model's own answer, where it answered all rows at once.
    whole: Option<(Outputs, Option<Vec<u32>>)>,
}

impl<'a> Course<'a> {
    pub(super) fn new(core: &'a Core, visit: Visit, job: Job, mode: CacheMode) -> Self {
        let Job { batch, deadline, priority, caller, cache: control, trace, .. } = job;
        Self {
            core,
            visit,
            batch,
            deadline,
            priority,
            caller,
            mode,
            control,
            trace,
            leased: Vec::new(),
            model: None,
            ran_ns: 0,
            whole: None,
        }
    }

    /// Goes it to its end.
    pub(super) async fn answer(mut self, core: &Arc<Core>) -> Result<Done, Error> {
        match self.mode {
            CacheMode::OnlyIfCached => self.look_only().await?,
            CacheMode::NoCache => {
                let all: Vec<usize> = (0..self.visit.entries()).collect();
                self.compute(&all, &mut self.core.flights.pilot()).await?;
            }
            // `NoStore` goes by the cache, and never gets here.
            CacheMode::Use | CacheMode::NoStore => self.complete().await?,
        }
        if !self.visit.stale.is_empty() && self.mode != CacheMode::OnlyIfCached {
            core.refresh(&self.visit, &self.batch, &self.caller);
        }
        if let Some((outputs, tokens)) = self.whole.take() {
            return Ok(self.core.done(&self.visit, outputs, tokens, self.model));
        }
        match self.core.assemble(&self.visit, self.model, self.ran_ns) {
            Some(done) => Ok(done),
            None if self.mode == CacheMode::OnlyIfCached => Err(not_cached()),
            None => self.core.inner.execute(self.job(self.batch.clone())).await,
        }
    }

    async fn look_only(&mut self) -> Result<(), Error> {
        let missing = self.visit.missing();
        self.ask_tier(&missing, Look::First).await;
        if self.visit.is_complete() { Ok(()) } else { Err(not_cached()) }
    }

    async fn complete(&mut self) -> Result<(), Error> {
        while !self.visit.is_complete() && self.whole.is_none() {
            let mut pilot = self.core.flights.pilot();
            let Claimed { mine, theirs, collisions } = self.claim(&mut pilot);
            self.complete_mine(&mine, &mut pilot).await?;
            self.compute(&collisions, &mut pilot).await?;
            // Landed or not: nobody waits for this request while it waits for others.
            drop(pilot);
            self.wait(theirs).await?;
        }
        Ok(())
    }

    fn claim(&mut self, pilot: &mut Pilot) -> Claimed {
        let mut claimed = Claimed::default();
        for entry in self.visit.missing() {
            let Some(key) = self.visit.keys.get(entry).copied() else { continue };
            match pilot.claim(key, self.visit.identities.get(entry)) {
                Claim::Theirs(waiter) => claimed.theirs.push((entry, waiter)),
                Claim::Collision => claimed.collisions.push(entry),
                // It may have landed between the look and the claim.
                Claim::Mine => match self.core.look_again(&self.visit, entry) {
                    Some(found) => {
                        pilot.land(key, Landed::Answer(found.clone()));
                        self.visit.join(entry, found);
                    }
                    None => claimed.mine.push(entry),
                },
            }
        }
        claimed
    }

    async fn complete_mine(&mut self, mine: &[usize], pilot: &mut Pilot) -> Result<(), Error> {
        let reached = self.look_shared(mine, Look::First, pilot).await;
        let missing = self.still_missing(mine);
        if !reached {
            return self.compute(&missing, pilot).await;
        }
        let others = self.compute_leased(missing, pilot).await?;
        self.wait_for_replicas(others, pilot).await
    }

    /// Computes those of `entries` that this replica may; the others are another one's.
    async fn compute_leased(&mut self, entries: Vec<usize>, pilot: &mut Pilot) -> Result<Vec<usize>, Error> {
        let (leased, others) = self.core.lease(&self.visit, entries).await;
        self.leased.extend(&leased);
        self.compute(&leased, pilot).await?;
        Ok(others)
    }

    fn still_missing(&self, entries: &[usize]) -> Vec<usize> {
        entries.iter().copied().filter(|entry| self.visit.is_missing(*entry)).collect()
    }

    /// Whether the tier answered for all of them; else there is no use in asking it for more.
    async fn look_shared(&mut self, entries: &[usize], look: Look, pilot: &mut Pilot) -> bool {
        let looked = self.ask_tier(entries, look).await;
        for (entry, found) in looked.found {
            if let Some(key) = self.visit.keys.get(entry) {
                pilot.land(*key, Landed::Answer(found));
            }
        }
        looked.reached
    }

    /// Asks the shared tier, within a span of its own where the request is recorded.
    async fn ask_tier(&mut self, entries: &[usize], look: Look) -> Looked {
        let (clock, trace) = (&self.core.shared.clock, self.trace.as_ref());
        let around = trace.filter(|_| self.visit.epoch.is_some() && !entries.is_empty());
        let start = clock.now();
        let looked = self.core.look_shared(&mut self.visit, entries, look).await;
        if let Some(around) = around {
            let times = (start, clock.now());
            // What asks Redis knows no trace, and Redis takes none: this end is all that is seen.
            around.within().end(around, ("redis", SpanKind::Client), times, |span| {
                span.set("db.system.name", "redis");
                span.set("db.operation.batch.size", entries.len());
                span.set("weir.cache.hits", looked.found.len());
                span.failed = !looked.reached;
            });
        }
        looked
    }

    /// Looks for what other replicas compute until it is there. Takes over each lease that ends, and
    /// computes what is left when the time is up or the tier is away: another replica that does not
    /// answer is no reason to fail.
    async fn wait_for_replicas(&mut self, mut left: Vec<usize>, pilot: &mut Pilot) -> Result<(), Error> {
        let end = self.end_of_wait(left.len());
        let (mut pause, longest) = PAUSE;
        while !left.is_empty() && Instant::now() < end {
            tokio::select! {
                () = sleep_until(end.min(Instant::now() + pause)) => {}
                // A request of this replica that waits for this one has less time.
                () = pilot.hurried() => break,
            }
            pause = (pause * 2).min(longest);
            let reached = self.look_shared(&left, Look::Again, pilot).await;
            left = self.still_missing(&left);
            if !reached {
                break;
            }
            left = self.compute_leased(left, pilot).await?;
        }
        self.compute(&left, pilot).await
    }

    /// When a request stops waiting for other replicas: after a lease, and early enough to compute
    /// `entries` entries itself, twice the time that they take on average; half of what it has left
    /// where that is not known.
    fn end_of_wait(&self, entries: usize) -> Instant {
        let now = Instant::now();
        let left = Instant::from_std(self.deadline.instant()).saturating_duration_since(now);
        let needed = self.core.time_of(self.visit.rows_of(entries)).map_or(left / 2, |time| time * 2);
        now + left.saturating_sub(needed).min(self.core.shared.config().lease.get())
    }

    /// Asks the model for these entries, keeps what it says and lands it.
    async fn compute(&mut self, entries: &[usize], pilot: &mut Pilot) -> Result<(), Error> {
        if entries.is_empty() {
            return Ok(());
        }
        let all = entries.len() == self.visit.entries();
        let batch = match all {
            true => std::mem::replace(&mut self.batch, Batch { rows: 0, inputs: Vec::new() }),
            false => self.batch.gather_rows(entries),
        };
        let rows = batch.rows;
        let done = match self.core.inner.execute(self.job(batch)).await {
            Ok(done) => done,
            Err(error) => {
                if let ([only], true) = (entries, is_of_the_row(&error))
                    && let Some(key) = self.visit.keys.get(*only)
                {
                    pilot.land(*key, Landed::Failed(error.clone()));
                }
                return Err(error);
            }
        };
        let took = done.took.model.unwrap_or_default();
        let model = self.model.get_or_insert_default();
        model.queued += took.queued;
        model.ran += took.ran;
        self.core.paced(rows, took.ran);
        let splits = !self.core.by_row || splits(&done.outputs, rows);
        if splits {
            self.keep(entries, &done, pilot).await;
        } else if !all {
            return Err(Error::internal("the model answered another number of rows than it was given"));
        }
        if all {
            self.whole = Some((done.outputs, done.tokens));
        }
        Ok(())
    }

    async fn keep(&mut self, entries: &[usize], done: &Done, pilot: &mut Pilot) {
        let ns = nanos(done.took.model.unwrap_or_default().ran) / (entries.len() as u64).max(1);
        let computed = Computed { outputs: &done.outputs, tokens: done.tokens.as_deref(), ns };
        for (at, entry) in entries.iter().enumerate() {
            let row = self.core.by_row.then_some(at);
            let kept = self.core.keep(&self.visit, *entry, row, &computed);
            if let Some(key) = self.visit.keys.get(*entry) {
                pilot.land(*key, Landed::Answer(kept.clone()));
            }
            self.visit.resolve(*entry, kept);
            if at % LONGEST_HOLD == LONGEST_HOLD - 1 {
                tokio::task::yield_now().await;
            }
        }
        self.ran_ns += ns * entries.len() as u64;
    }

    async fn wait(&mut self, theirs: Vec<(usize, Waiter)>) -> Result<(), Error> {
        let deadline = Instant::from_std(self.deadline.instant());
        for (entry, waiter) in theirs {
            if timeout_at(self.end_of_wait(1), waiter.landed()).await.is_err() {
                waiter.hurry();
            }
            let landed = timeout_at(deadline, waiter.landed()).await.map_err(|_| {
                // The model, which counts the others that are late, never saw this request.
                Stats::count(&self.core.inner.stats().expired);
                past_deadline()
            })?;
            match landed {
                // What is older was purged before this request came.
                Some(Landed::Answer(answer)) if answer.generation >= self.visit.generation => {
                    self.visit.join(entry, answer);
                }
                Some(Landed::Failed(error)) => return Err(error),
                Some(Landed::Answer(_)) | None => {}
            }
        }
        Ok(())
    }

    fn job(&self, batch: Batch) -> Job {
        let (priority, caller, cache) = (self.priority, self.caller.clone(), self.control.inherited());
        Job { priority, caller, cache, trace: self.trace.clone(), ..Job::new(batch, self.deadline) }
    }
}

/// Leases on what was not computed, for whatever reason, are given up: other replicas need not wait for
/// their end.
impl Drop for Course<'_> {
    fn drop(&mut self) {
        for entry in self.leased.iter().filter(|entry| self.visit.is_missing(**entry)) {
            self.core.release(&self.visit, *entry);
        }
    }
}

#[derive(Default)]
struct Claimed {
    mine: Vec<usize>,
    theirs: Vec<(usize, Waiter)>,
    collisions: Vec<usize>,
}

impl Core {
    /// Computes the stale entries of a request anew, in the background, but for those that
    /// somebody computes already.
    pub(super) fn refresh(self: &Arc<Self>, visit: &Visit, batch: &Batch, caller: &Caller) {
        let mut pilot = self.flights.pilot();
        let mut mine = |entry: &usize| {
            let key = visit.keys.get(*entry).copied().unwrap_or_default();
            matches!(pilot.claim(key, visit.identities.get(*entry)), Claim::Mine)
        };
        let stale: Vec<usize> = visit.stale.iter().copied().filter(&mut mine).collect();
        if stale.is_empty() {
            return;
        }
        let batch = if self.by_row { batch.gather_rows(&stale) } else { batch.clone() };
        let now = self.shared.clock.now();
        let Some(visit) = self.visit(caller, &batch, now) else { return };
        let deadline = Deadline::after(now, REFRESH);
        // A graph's members compute anew, too: else what they stored long ago would be fresh again.
        let mode = CacheMode::NoCache;
        let job = Job { caller: caller.clone(), cache: mode.into(), ..Job::new(batch, deadline) };
        let core = self.clone();
        self.shared.background.spawn(async move {
            let mut course = Course::new(&core, visit, job, mode);
            let all: Vec<usize> = (0..course.visit.entries()).collect();
            // Whoever asks next tries again, and is told why if it fails for good.
            let _ = course.compute(&all, &mut pilot).await;
        });
    }
}

/// Whether `outputs` has one entry a row in every tensor.
fn splits(outputs: &Outputs, rows: usize) -> bool {
    outputs.rows == rows && outputs.tensors.iter().all(|t| !t.shape().is_empty() && t.rows() == rows)
}

/// Whether the same row would fail again; else it failed for a reason of its request's: too late,
/// too much to do.
fn is_of_the_row(error: &Error) -> bool {
    matches!(
        error.code,
        ErrorCode::InvalidArgument
            | ErrorCode::ValidationFailed
            | ErrorCode::TooLarge
            | ErrorCode::Unsupported
            | ErrorCode::Internal
    )
}
