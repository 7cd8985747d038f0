//! A call under way for several jobs, and their ends.

use std::{ops::Range, sync::Arc, time::Instant};

use weir_clients::CallError;
use weir_types::{Batch, Error, Outputs, Tensor};

use super::{link::is_refusal, shared::Slot};
use crate::executor::{
    Answered, Stats,
    call::{Call, Piece, Work},
    past_deadline,
    queue::{Entry, Place, Ticket},
    spans::{Execution, remote},
};

/// What becomes of the room that a call had.
#[derive(PartialEq)]
enum Then {
    /// What waits may have it.
    Start,
    /// It was none: hedges of other calls have it.
    Leave,
}

/// A piece of a job in a call, with what it takes to put it back.
struct Rider {
    call: Arc<Call>,
    index: usize,
    place: Place,
    ticket: Ticket,
    batch: Batch,
    /// Whether the batch is the job's own, all of it.
    whole: bool,
}

impl From<Entry<Piece>> for Rider {
    fn from(Entry { place, ticket, item: Piece { call, index, work } }: Entry<Piece>) -> Self {
        let (batch, whole) = match work {
            Work::Whole(batch) => (batch, true),
            Work::Part | Work::Prepared(_) => (call.part(index), false),
        };
        Self { call, index, place, ticket, batch, whole }
    }
}

impl From<Rider> for Entry<Piece> {
    fn from(Rider { call, index, place, ticket, batch, whole }: Rider) -> Self {
        let work = if whole { Work::Whole(batch) } else { Work::Part };
        Self { place, ticket, item: Piece { call, index, work } }
    }
}

/// A call that is under way, and for whom.
pub(super) struct Flight {
    slot: Slot,
    riders: Vec<Rider>,
    /// How many of them have their answer; they get it in their order.
    done: usize,
    start: Instant,
}

impl Flight {
    /// A call for these, taken at `start`, in this room.
    pub(super) fn new(slot: Slot, batch: Vec<Entry<Piece>>, start: Instant) -> Self {
        Self { slot, riders: batch.into_iter().map(Rider::from).collect(), done: 0, start }
    }

    /// Asks for all. A call that fails for several because of what is in it is made again in
    /// halves, so that a poisonous item fails alone: at most twice as many calls as items.
    pub(super) async fn run(mut self) {
        let core = self.slot.core.clone();
        let then = self.ask_all().await;
        // The room is given back before others are looked for to use it. Where it was none, whoever
        // has it looks, unless that one ended just now.
        drop(self);
        if then == Then::Start || core.is_idle() {
            core.start();
        }
    }

    async fn ask_all(&mut self) -> Then {
        let core = self.slot.core.clone();
        let mut open: Vec<Range<usize>> = std::iter::once(0..self.riders.len()).collect();
        while let Some(range) = open.pop() {
            match self.ask(range.clone()).await {
                Some(Err(error)) if range.len() > 1 && blames_rows(&error) => {
                    let jobs = range.len();
                    Stats::count(&core.link.stats.retried);
                    tracing::warn!(model = core.link.name, jobs, %error, "a call failed and is made again in halves");
                    let middle = range.start + jobs / 2;
                    open.extend([middle..range.end, range.start..middle]);
                }
                Some(Err(CallError::Limited(_))) if !core.is_alone() => {
                    let back = self.riders.drain(self.done..).map(Entry::from).collect();
                    core.lane.put_back(back);
                    return Then::Leave;
                }
                result => self.conclude(range.end, result),
            }
        }
        Then::Start
    }

    /// One call for some; `None` where all of them went away.
    async fn ask(&self, range: Range<usize>) -> Option<Result<Outputs, CallError>> {
        let core = &self.slot.core;
        let riders = self.riders.get(range)?;
        let latest = riders.iter().map(|rider| rider.call.deadline.instant()).max()?;
        let batches: Vec<&Batch> = riders.iter().map(|rider| &rider.batch).collect();
        let stacked = match batches.as_slice() {
            [_] => None,
            several => match stack(several) {
                Some(batch) => Some(batch),
                None => return Some(Err(CallError::Unsendable("requests that differ in shape".into()))),
            },
        };
        let batch = stacked.as_ref().or(batches.first().copied())?;
        let gone = async {
            for rider in riders {
                rider.call.ended().await;
            }
        };
        let began = core.link.clock.now();
        let calls = riders.iter().map(|rider| (&*rider.call, rider.batch.rows));
        let execution = Execution::of(calls, began);
        // Of several that are not recorded, none is the one that the call is part of.
        let alone = match riders {
            [only] => only.call.trace.as_ref(),
            _ => None,
        };
        let within = execution.as_ref().map_or(alone, Execution::scope);
        let result = tokio::select! {
            biased;
            () = gone => return None,
            result = core.link.ask(batch, latest.into(), within) => result,
        };
        if let Some(execution) = execution {
            execution.end(core.link.clock.now(), |rows| remote(rows, result.is_err()));
        }
        if result.is_ok() {
            let cost = riders.iter().map(|rider| rider.ticket.cost).sum();
            core.rate.record(cost, core.link.clock.now() - began);
        }
        Some(result)
    }

    /// Tells those up to `end` what came of their call.
    fn conclude(&mut self, end: usize, result: Option<Result<Outputs, CallError>>) {
        let link = self.slot.core.link.clone();
        let rows: Vec<usize> = self.riders[self.done..end].iter().map(|rider| rider.batch.rows).collect();
        let refused = matches!(&result, Some(Err(error)) if is_refusal(error));
        let parts = match result {
            Some(Ok(outputs)) => outputs.split(&rows),
            Some(Err(error)) => Err(link.report(&error)),
            // Nobody is there to be told.
            None => Err(past_deadline()),
        };
        let parts = match parts {
            Ok(parts) => parts.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); rows.len()],
        };
        for part in parts {
            self.tell(part, refused);
        }
    }

    /// Tells the next one.
    fn tell(&mut self, part: Result<Outputs, Error>, refused: bool) {
        let Some(rider) = self.riders.get(self.done) else { return };
        self.done += 1;
        let link = &self.slot.core.link;
        let part = part.map(|outputs| Answered { outputs, tokens: None, state: None });
        if let Some(ended) = rider.call.answer(rider.index, part, (self.start, link.clock.now())) {
            link.count(&ended.result, refused, ended.took);
            ended.tell();
        }
    }
}

impl Drop for Flight {
    /// Also where it panicked or was cut off: nobody is left waiting.
    fn drop(&mut self) {
        self.slot.core.lane.done(self.riders.iter().map(|rider| rider.ticket.cost).sum());
        while self.done < self.riders.len() {
            self.tell(Err(Error::internal("the call to the model's server was cut off")), false);
        }
    }
}

/// Whether the call failed for what was in it: then it may go well without. A server that is
/// away, has too much to do or takes too long is not asked again for that.
fn blames_rows(error: &CallError) -> bool {
    let status = matches!(error, CallError::Status { status: 400 | 413 | 422 | 500, .. });
    status || matches!(error, CallError::Broken(_) | CallError::Unsendable(_))
}

/// Stacks rows; `None` where they differ in shape or type, or where there are none.
pub(super) fn stack(batches: &[&Batch]) -> Option<Batch> {
    let inputs = batches.first()?.inputs.len();
    let column = |i: usize| {
        let tensors = batches.iter().map(|batch| batch.inputs.get(i)).collect::<Option<Vec<_>>>()?;
        Tensor::concat_rows(&tensors)
    };
    let inputs = (0..inputs).map(column).collect::<Option<_>>()?;
    Some(Batch { rows: batches.iter().map(|batch| batch.rows).sum(), inputs })
}
