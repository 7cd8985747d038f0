//! Runs a model in this process.

use std::{
    future::ready,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use weir_artifact::BatchingTable;
use weir_engine::{CancelFlag, Engine, Step};
use weir_types::{Batch, Clock, Deadline, Error};

use super::{
    Answered, Caller, Cores, Done, ExecuteFuture, Executor, Job, Stats, Took,
    call::{Call, Piece},
    cut::Cut,
    expect::{Asked, Expected, refuse},
    lane::{Lane, Pushed},
    past_deadline,
    queue::{Limits, Ticket},
    rate::Rate,
    size::Size,
    spans,
    trial::Trial,
    waiting::{Desk, Waiting},
    worker,
};

/// Work that is expected to take less runs at once where its request was decoded. A hand-over
/// to another thread and back takes 6 to 10 µs (two condition variables, EPYC, busy machine):
/// beyond this budget that is less than a twentieth, while what runs here holds up the other
/// requests of its thread.
pub(super) const INLINE_BUDGET: Duration = Duration::from_micros(200);

/// How long an execution takes whose size the operator left open.
const EXECUTION_GOAL: Duration = Duration::from_millis(10);
/// Bounds of that size, rows.
const OPEN_ROWS: (usize, usize) = (8, 1_024);

/// Tokens of a text that is hardly one.
const SHORT_TEXT: u64 = 8;

/// What a model's executor is made of besides its engine.
#[derive(Clone)]
pub struct LocalOptions {
    /// `[batching]` of the model.
    pub batching: BatchingTable,
    /// Jobs that may wait where `[batching]` does not say.
    pub queue: usize,
    /// Whether rows of several jobs may run together, and those of one apart.
    pub merge: bool,
    /// Whether all rows have the same number of elements.
    pub uniform: bool,
    /// Threads that all models share.
    pub cores: Arc<Cores>,
    /// Time for deadlines.
    pub clock: Arc<dyn Clock>,
}

/// Runs jobs on an engine of this process: at once where they are small, else in batches, on
/// threads that start when the first such job comes.
pub struct Local(Arc<Core>);

/// What callers and workers share.
pub(super) struct Core {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) options: LocalOptions,
    pub(super) stats: Arc<Stats>,
    pub(super) lane: Lane<Piece>,
    pub(super) rate: Rate,
    /// Whether rows are texts, whose lengths differ.
    ragged: bool,
    instances: usize,
    hired: AtomicUsize,
    /// The smallest job so far, where jobs decide how large a row is.
    least: AtomicU64,
    /// Whether anybody ever asked to go before others.
    prioritised: AtomicBool,
}

impl Local {
    /// Runs jobs on `engine`.
    pub fn new(engine: Arc<dyn Engine>, options: LocalOptions) -> Self {
        let rate = Rate::new(engine.cost());
        Self::with(engine, options, rate, Arc::default())
    }

    /// The same with what a trial showed, counting into `stats`.
    pub(crate) fn tried(
        engine: Arc<dyn Engine>,
        options: LocalOptions,
        trial: Trial,
        stats: Arc<Stats>,
    ) -> Self {
        Self::with(engine, options, trial.rate, stats)
    }

    #[cfg(test)]
    pub(super) fn counting(engine: Arc<dyn Engine>, options: LocalOptions, stats: Arc<Stats>) -> Self {
        let rate = Rate::new(engine.cost());
        Self::with(engine, options, rate, stats)
    }

    fn with(engine: Arc<dyn Engine>, options: LocalOptions, rate: Rate, stats: Arc<Stats>) -> Self {
        let BatchingTable { instances, priority_levels, .. } = &options.batching;
        let threads = options.threads();
        let instances = instances.unwrap_or(options.cores.total() / threads).max(1);
        let lane = Lane::new(*priority_levels);
        let ragged = engine.lengths(&Batch { rows: 0, inputs: Vec::new() }).is_some();
        let (hired, prioritised) = (AtomicUsize::new(0), AtomicBool::new(false));
        let least = AtomicU64::new(1);
        if !options.uniform {
            least.store(u64::MAX, Ordering::Relaxed);
        }
        Self(Arc::new(Core {
            engine,
            options,
            stats,
            lane,
            rate,
            ragged,
            instances,
            hired,
            least,
            prioritised,
        }))
    }
}

impl LocalOptions {
    /// Threads of one execution.
    pub(super) fn threads(&self) -> usize {
        self.batching.threads.unwrap_or(1).clamp(1, self.cores.total())
    }
}

impl Core {
    /// Runs a small job on this thread.
    fn run(&self, job: Job, cost: u64) -> Result<Done, Error> {
        let start = self.options.clock.now();
        if job.deadline.is_past(start) {
            Stats::count(&self.stats.expired);
            return Err(past_deadline());
        }
        let (rows, trace) = (job.batch.rows, job.trace);
        let mut steps: Vec<Step> = job.step.into_iter().collect();
        let result = worker::prepare(&*self.engine, job.batch)
            .and_then(|prepared| {
                let outputs = worker::execute(self, &[&prepared], CancelFlag::NEVER, &mut steps)?;
                let state = steps.pop().and_then(|step| step.state);
                Ok(Answered { outputs, tokens: prepared.tokens(), state })
            })
            .map_err(|error| worker::report(&*self.engine, &error));
        let end = self.options.clock.now();
        let ran = end - start;
        if let Some(scope) = trace {
            scope.add("engine", (start, end), spans::engine(&*self.engine, rows, result.is_err()));
        }
        if result.is_ok() {
            self.rate.record(cost, ran);
            self.stats.answered_rows(rows, ran);
        }
        self.stats.finished(&result, (Duration::ZERO, ran), self.options.clock.wall());
        let Answered { outputs, tokens, state } = result?;
        Ok(Done { outputs, tokens, cache: None, state, took: Took::by_model(Duration::ZERO, ran) })
    }

    /// How much goes into one execution that begins with `ticket`'s entry.
    pub(super) fn limits(&self, ticket: &Ticket) -> Limits {
        self.limits_for(ticket.cost / (ticket.rows as u64).max(1))
    }

    /// The same, of rows that cost so much each.
    fn limits_for(&self, row_cost: u64) -> Limits {
        let BatchingTable { max_rows, max_tokens, .. } = self.options.batching;
        let open = || {
            let (least, most) = OPEN_ROWS;
            if self.ragged {
                return most;
            }
            let one = self.rate.predict(row_cost.saturating_mul(least as u64)) / least as u32;
            let rows = EXECUTION_GOAL.as_nanos() / one.as_nanos().max(1);
            usize::try_from(rows).unwrap_or(most).clamp(least, most)
        };
        Limits {
            entries: if self.options.merge { usize::MAX } else { 1 },
            rows: max_rows.unwrap_or_else(open),
            cost: if self.ragged { max_tokens as u64 } else { u64::MAX },
        }
    }

    fn expected(&self) -> Expected<'_> {
        let queue = self.options.batching.queue.unwrap_or(self.options.queue);
        Expected { rate: &self.rate, instances: self.instances, queue, now: self.options.clock.now() }
    }

    /// Lets another worker start, if the model may have one more.
    fn hire(self: &Arc<Self>) -> io::Result<()> {
        let more = |hired: usize| (hired < self.instances).then_some(hired + 1);
        let Ok(before) = self.hired.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) else {
            return Ok(());
        };
        let core = self.clone();
        let thread = thread::Builder::new().name(format!("weir-model-{before}"));
        let started = thread.spawn(move || worker::work(&core)).map(|_| ());
        if started.is_err() {
            self.hired.fetch_sub(1, Ordering::Relaxed);
        }
        // Those there are do the work of one that could not start.
        started.or_else(|error| if before > 0 { Ok(()) } else { Err(error) })
    }

    fn submit(self: &Arc<Self>, job: Job, size: &Size) -> Result<Waiting<Self>, Error> {
        let Job { batch, deadline, priority, caller, step, trace, .. } = job;
        let now = self.options.clock.now();
        if deadline.is_past(now) {
            Stats::count(&self.stats.expired);
            return Err(past_deadline());
        }
        if self.options.batching.level(priority) < self.options.batching.level(0) {
            self.prioritised.store(true, Ordering::Relaxed);
        }
        let (level, limits) = (self.options.batching.level(priority), self.limits_for(size.row_cost()));
        let cut = match step {
            // One piece: what it leaves is the state of all its rows.
            Some(_) => Cut::new(size.rows, None, usize::MAX, usize::MAX),
            None => self.cut(size, limits),
        };
        let tickets = size.tickets(&cut, &batch, &self.options.batching.buckets, (level, &caller));
        let asked = Asked::new(&tickets, limits, (level, &caller, deadline));
        let (call, pieces, answer) = Call::new(batch, cut, (deadline, now), step, trace);
        let entries = tickets.into_iter().zip(pieces).collect();
        let pushed = self.lane.push(entries, |state| self.expected().admit(state, &asked));
        let Pushed { places, short_handed } = pushed.inspect_err(|_| Stats::count(&self.stats.refused))?;
        let waiting = Waiting { desk: self.clone(), call, places, answer };
        if short_handed {
            self.hire().map_err(|error| {
                tracing::error!(%error, "the system gives no thread for a model");
                refuse("the server has no thread for this request", Duration::from_secs(1))
            })?;
        }
        Ok(waiting)
    }

    /// Rows that may not share an execution with others may not be torn apart either.
    fn cut(&self, size: &Size, limits: Limits) -> Cut {
        let (rows, length) = match self.options.merge {
            true => (limits.rows, usize::try_from(limits.cost).unwrap_or(usize::MAX)),
            false => (usize::MAX, usize::MAX),
        };
        Cut::new(size.rows, size.lengths(), rows, length)
    }
}

impl Desk for Core {
    fn lane(&self) -> &Lane<Piece> {
        &self.lane
    }

    fn stats(&self) -> &Stats {
        &self.stats
    }

    fn now(&self) -> Instant {
        self.options.clock.now()
    }
}

impl Executor for Local {
    fn execute(&self, job: Job) -> ExecuteFuture<'_> {
        let size = Size::new(&*self.0.engine, &job.batch, self.0.options.uniform);
        let cost = size.cost();
        if !self.0.options.uniform {
            self.0.least.fetch_min(cost, Ordering::Relaxed);
        }
        if self.0.rate.predict(cost) <= INLINE_BUDGET {
            return Box::pin(ready(self.0.run(job, cost)));
        }
        match self.0.submit(job, &size) {
            Ok(waiting) => Box::pin(waiting.answer()),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn ready(&self, caller: &Caller, deadline: Deadline) -> Result<(), Error> {
        let core = &self.0;
        let least = match core.least.load(Ordering::Relaxed) {
            _ if core.ragged => SHORT_TEXT,
            // Nothing came yet, and nothing is known about how large it will be.
            u64::MAX => 1,
            least => least,
        };
        if core.rate.predict(least) <= INLINE_BUDGET {
            return Ok(());
        }
        // Who may go first is not known before the body is read: then nothing waits before it.
        let level = if core.prioritised.load(Ordering::Relaxed) { 0 } else { core.options.batching.level(0) };
        let asked = Asked::least(least, core.limits_for(least), (level, caller, deadline));
        let ready = core.lane.look(|state| core.expected().admit(state, &asked));
        ready.inspect_err(|_| Stats::count(&core.stats.refused))
    }

    fn stats(&self) -> &Stats {
        &self.0.stats
    }

    fn by_row(&self) -> bool {
        self.0.options.merge
    }

    fn waiting(&self) -> usize {
        self.0.lane.look(|state| state.queue.jobs())
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.0.lane.close();
    }
}
