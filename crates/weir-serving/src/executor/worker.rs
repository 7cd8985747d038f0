//! A worker: takes a permit, then what runs next, prepares it and runs it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use weir_engine::{CancelFlag, Context, Engine, EngineError, Prepared, Step};
use weir_types::{Batch, Error, Outputs};

use super::{
    Answered, Stats,
    call::{Call, Piece, Work},
    lane::cost,
    local::Core,
    past_deadline,
    queue::Entry,
    spans::{Execution, engine},
};

/// Works until the lane closes. The permit comes before the batch: while a worker waits for
/// its core, what it will run can still grow, be overtaken, or be withdrawn.
pub(super) fn work(core: &Core) {
    let options = &core.options;
    while core.lane.wait() {
        let delay = options.batching.max_delay.0;
        if !delay.is_zero() {
            let now = options.clock.now();
            let left = |piece: &Piece| delay.saturating_sub(now.saturating_duration_since(piece.call.since));
            core.lane.fill(|ticket| core.limits(ticket), left);
        }
        let asked = options.clock.now();
        let permit = options.cores.take(options.threads());
        if catch_unwind(AssertUnwindSafe(|| turn(core, asked))).is_err() {
            // Engines are guarded: this is our own mistake, and must not cost the model its worker.
            tracing::error!("a worker panicked outside the engine");
        }
        drop(permit);
    }
}

/// A piece that can run.
struct Ready {
    call: Arc<Call>,
    index: usize,
    prepared: Prepared,
}

/// What a turn took from the lane and has not given back; settled also where it panics.
struct Owed<'a> {
    core: &'a Core,
    cost: u64,
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        self.core.lane.done(self.cost);
    }
}

/// One batch. The turn began when its permit was `asked` for.
fn turn(core: &Core, asked: Instant) {
    let start = core.options.clock.now();
    let over = |piece: &Piece| piece.call.is_over() || piece.call.deadline.is_past(start);
    let taken = core.lane.take(|ticket| core.limits(ticket), over);
    taken.dead.iter().for_each(|piece| expire(core, piece, start));
    let mut owed = Owed { core, cost: cost(&taken.batch) };
    let (ready, back) = prepare_all(core, taken.batch, start);
    let returned = cost(&back);
    if !back.is_empty() {
        owed.cost -= returned;
        core.lane.put_back(back);
    }
    let executed: u64 = ready.iter().map(|(cost, _)| cost).sum();
    let ready: Vec<Ready> = ready.into_iter().map(|(_, ready)| ready).collect();
    if ready.is_empty() {
        return;
    }
    let traces = ready.iter().filter_map(|ready| ready.call.trace.as_ref());
    traces.for_each(|scope| scope.add("prepare", (start, core.options.clock.now()), |_| {}));
    let ran = run(core, &ready, start);
    let end = core.options.clock.now();
    // What failed says nothing about how long the work takes, and what was cut off only that it
    // would have taken longer still.
    let took = end - start;
    match ran {
        Ran::Answered => {
            core.rate.record(executed, took);
            core.rate.record_turn(end - asked, took);
        }
        Ran::CutOff if took > core.rate.predict(executed) => core.rate.record(executed, took),
        Ran::CutOff | Ran::Failed => {}
    }
}

/// What came of an execution.
enum Ran {
    Answered,
    /// All its callers went away.
    CutOff,
    Failed,
}

/// Tells the caller of a piece that will not run, where there still is one.
fn expire(core: &Core, piece: &Piece, now: Instant) {
    if let Some(ended) = piece.call.answer(piece.index, Err(past_deadline()), (now, now)) {
        Stats::count(&core.stats.expired);
        ended.tell();
    }
}

/// Prepares a batch: what can run, with its cost, and what goes back because the true lengths
/// are beyond the limit that the estimated ones kept. Bad input ends here, each for itself.
fn prepare_all(
    core: &Core,
    batch: Vec<Entry<Piece>>,
    start: Instant,
) -> (Vec<(u64, Ready)>, Vec<Entry<Piece>>) {
    let most = batch.first().map_or(0, |first| core.limits(&first.ticket).cost);
    let (mut ready, mut back, mut length) = (Vec::new(), Vec::new(), 0u64);
    for Entry { place, ticket, item: Piece { call, index, work } } in batch {
        let prepared = match work {
            Work::Whole(batch) => prepare(&*core.engine, batch),
            Work::Part => prepare(&*core.engine, call.part(index)),
            Work::Prepared(prepared) => Ok(prepared),
        };
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                conclude(core, (&call, index), Err(report(&*core.engine, &error)), start);
                continue;
            }
        };
        length = length.saturating_add((prepared.rows as u64).saturating_mul(prepared.length as u64));
        if length <= most || ready.is_empty() {
            ready.push((ticket.cost, Ready { call, index, prepared }));
        } else {
            let item = Piece { call, index, work: Work::Prepared(prepared) };
            back.push(Entry { place, ticket, item });
        }
    }
    (ready, back)
}

/// Runs what is ready in one execution. One that fails for several is tried again in halves,
/// so that a poisonous item fails alone: at most twice as many executions as items. Says
/// what came of the first one.
fn run(core: &Core, ready: &[Ready], start: Instant) -> Ran {
    let work: Vec<&Prepared> = ready.iter().map(|r| &r.prepared).collect();
    let rows: Vec<usize> = work.iter().map(|w| w.rows).collect();
    let cancel = CancelFlag::all(ready.iter().map(|r| r.call.cancel.clone()));
    let began = core.options.clock.now();
    let mut steps: Vec<Step> = ready.iter().filter_map(|r| r.call.step.clone()).collect();
    let execution = Execution::of(ready.iter().map(|r| (&*r.call, r.prepared.rows)), began);
    let result = execute(core, &work, cancel, &mut steps).and_then(|outputs| split(outputs, &rows));
    if let Some(execution) = execution {
        execution.end(core.options.clock.now(), |rows| engine(&*core.engine, rows, result.is_err()));
    }
    let mut states = steps.into_iter().map(|step| step.state);
    match result {
        Ok(parts) => {
            core.stats.answered_rows(rows.iter().sum(), core.options.clock.now() - began);
            for (ready, outputs) in ready.iter().zip(parts) {
                let (tokens, state) = (ready.prepared.tokens(), states.next().flatten());
                let answered = Answered { outputs, tokens, state };
                conclude(core, (&ready.call, ready.index), Ok(answered), start);
            }
            Ran::Answered
        }
        Err(error) if ready.len() > 1 && !matches!(error, EngineError::Cancelled) => {
            Stats::count(&core.stats.retried);
            tracing::warn!(jobs = ready.len(), %error, "an execution failed and is tried again in halves");
            let (first, second) = ready.split_at(ready.len() / 2);
            run(core, first, start);
            run(core, second, start);
            Ran::Failed
        }
        Err(error) => {
            let ran = if matches!(error, EngineError::Cancelled) { Ran::CutOff } else { Ran::Failed };
            let error = report(&*core.engine, &error);
            for ready in ready {
                conclude(core, (&ready.call, ready.index), Err(error.clone()), start);
            }
            ran
        }
    }
}

fn split(outputs: Outputs, rows: &[usize]) -> Result<Vec<Outputs>, EngineError> {
    // Alone, a job gets what the engine gives, also where a tensor has rows of its own.
    if rows.len() == 1 {
        return Ok(vec![outputs]);
    }
    outputs.split(rows).map_err(|error| EngineError::Runtime(error.message.into_owned()))
}

fn conclude(core: &Core, (call, index): (&Call, usize), result: Result<Answered, Error>, start: Instant) {
    let end = core.options.clock.now();
    if let Some(ended) = call.answer(index, result, (start, end)) {
        core.stats.finished(&ended.result, ended.took, core.options.clock.wall());
        ended.tell();
    }
}

/// Turns a panic of an engine into an error: one request's bad luck must not take down the
/// thread that serves the others.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(EngineError::Runtime("the engine panicked".into())))
}

/// [`Engine::prepare`], guarded.
pub(super) fn prepare(engine: &dyn Engine, batch: Batch) -> Result<Prepared, EngineError> {
    guarded(|| engine.prepare(batch))
}

/// [`Engine::execute`], guarded and counted. `steps` are those of `work`, for models that keep
/// state; what they leave for the next ones is in them where it went well.
pub(super) fn execute(
    core: &Core,
    work: &[&Prepared],
    cancel: CancelFlag,
    steps: &mut Vec<Step>,
) -> Result<Outputs, EngineError> {
    Stats::count(&core.stats.executed);
    let mut context = Context { outputs: None, cancel, steps: std::mem::take(steps) };
    let outputs = guarded(|| core.engine.execute(work, &mut context))?;
    *steps = context.steps;
    Ok(outputs)
}

/// Logs what is not the caller's, and gives what the caller may see.
pub(super) fn report(engine: &dyn Engine, error: &EngineError) -> Error {
    match error {
        EngineError::Input(_) | EngineError::Cancelled => {}
        other => tracing::error!(engine = engine.info().name, error = %other, "execution failed"),
    }
    error.public()
}
