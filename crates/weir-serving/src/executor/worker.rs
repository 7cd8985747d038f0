//! A worker: takes a permit, then what runs next, prepares it and runs it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use weir_engine::{CancelFlag, Context, Engine, EngineError, Prepared};
use weir_types::{Batch, Error, Outputs};

use super::{
    Stats,
    call::{Answer, Call, Piece, Work},
    lane::cost,
    local::Core,
    past_deadline,
    queue::Entry,
};

/// Works until the lane closes. The permit comes before the batch: while a worker waits for
/// its core, what it will run can still grow, be overtaken, or be withdrawn.
pub(super) fn work(core: &Core) {
    let options = &core.options;
    while core.lane.wait() {
        let delay = options.batching.max_delay.0;
        if !delay.is_zero() {
            core.lane.fill(|ticket| core.limits(ticket), delay);
        }
        let asked = options.clock.now();
        let permit = options.cores.take(options.threads());
        turn(core, asked);
        drop(permit);
    }
}

/// A piece that can run.
struct Ready {
    call: Arc<Call>,
    index: usize,
    prepared: Prepared,
}

/// One batch. The turn began when its permit was `asked` for.
fn turn(core: &Core, asked: Instant) {
    let start = core.options.clock.now();
    let over = |piece: &Piece| piece.call.is_over() || piece.call.deadline.is_past(start);
    let taken = core.lane.take(|ticket| core.limits(ticket), over);
    taken.dead.iter().for_each(|piece| expire(core, piece, start));
    let owed = cost(&taken.batch);
    let (ready, back) = prepare_all(core, taken.batch, start);
    let returned = cost(&back);
    if !back.is_empty() {
        core.lane.put_back(back);
    }
    let executed: u64 = ready.iter().map(|(cost, _)| cost).sum();
    let ready: Vec<Ready> = ready.into_iter().map(|(_, ready)| ready).collect();
    if !ready.is_empty() {
        run(core, &ready, start);
        let end = core.options.clock.now();
        core.rate.record(executed, end - start);
        core.rate.record_turn(end - asked, end - start);
    }
    core.lane.done(owed - returned);
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
/// so that a poisonous item fails alone: at most twice as many executions as items.
fn run(core: &Core, ready: &[Ready], start: Instant) {
    let work: Vec<&Prepared> = ready.iter().map(|r| &r.prepared).collect();
    let rows: Vec<usize> = work.iter().map(|w| w.rows).collect();
    let cancel = CancelFlag::all(ready.iter().map(|r| r.call.cancel.clone()));
    let began = core.options.clock.now();
    let result = execute(core, &work, cancel).and_then(|outputs| split(outputs, &rows));
    match result {
        Ok(parts) => {
            core.stats.answered_rows(rows.iter().sum(), core.options.clock.now() - began);
            for (ready, part) in ready.iter().zip(parts) {
                conclude(core, (&ready.call, ready.index), Ok((part, ready.prepared.tokens())), start);
            }
        }
        Err(error) if ready.len() > 1 && !matches!(error, EngineError::Cancelled) => {
            Stats::count(&core.stats.retried);
            tracing::warn!(jobs = ready.len(), %error, "an execution failed and is tried again in halves");
            let (first, second) = ready.split_at(ready.len() / 2);
            run(core, first, start);
            run(core, second, start);
        }
        Err(error) => {
            let error = report(&*core.engine, &error);
            for ready in ready {
                conclude(core, (&ready.call, ready.index), Err(error.clone()), start);
            }
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

fn conclude(core: &Core, (call, index): (&Call, usize), result: Result<Answer, Error>, start: Instant) {
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

/// [`Engine::execute`], guarded and counted.
pub(super) fn execute(core: &Core, work: &[&Prepared], cancel: CancelFlag) -> Result<Outputs, EngineError> {
    Stats::count(&core.stats.executed);
    guarded(|| core.engine.execute(work, &mut Context { outputs: None, cancel }))
}

/// Logs what is not the caller's, and gives what the caller may see.
pub(super) fn report(engine: &dyn Engine, error: &EngineError) -> Error {
    match error {
        EngineError::Input(_) | EngineError::Cancelled => {}
        other => tracing::error!(engine = engine.info().name, error = %other, "execution failed"),
    }
    error.public()
}
