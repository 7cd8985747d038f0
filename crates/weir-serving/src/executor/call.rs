//! One job on its way: its pieces, and whoever waits for them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use weir_engine::{CancelFlag, Prepared, State, Step};
use weir_types::{Batch, Deadline, Error, Outputs};

use super::{Answered, Done, cut::Cut};

/// What waits in the lane: a part of a job, or all of it.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) call: Arc<Call>,
    /// Which of the call's pieces.
    pub(super) index: usize,
    pub(super) work: Work,
}

/// How far a piece has come.
#[derive(Debug)]
pub(super) enum Work {
    /// All rows of the job.
    Whole(Batch),
    /// Some of them, still to be cut out of the call's batch: copied when they run, so that
    /// what waits is held once.
    Part,
    /// Ready to run.
    Prepared(Prepared),
}

/// A job that waits or runs.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) deadline: Deadline,
    /// Set when nobody waits any more.
    pub(super) cancel: CancelFlag,
    /// When it came.
    pub(super) since: Instant,
    /// Where it is in its sequence, for models that keep state. Such a job is one piece.
    pub(super) step: Option<Step>,
    cut: Cut,
    /// The rows, where there are several pieces.
    batch: Option<Batch>,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    /// Taken by whoever ends the call: it ends once.
    reply: Option<oneshot::Sender<Result<Done, Error>>>,
    parts: Vec<Option<Outputs>>,
    /// Tokens of the parts that are there.
    tokens: Option<usize>,
    /// What the step of a sequence left.
    state: Option<State>,
    started: Option<Instant>,
}

/// A call that ended, to be counted before its caller knows: who reads the statistics after
/// an answer finds it there.
#[derive(Debug)]
#[must_use]
pub(super) struct Ended {
    pub(super) result: Result<Done, Error>,
    /// How long it waited and how long it ran.
    pub(super) took: (Duration, Duration),
    reply: oneshot::Sender<Result<Done, Error>>,
}

impl Ended {
    /// Tells the caller. Nobody left to tell is no error: it went away just now.
    pub(super) fn tell(self) {
        let _ = self.reply.send(self.result);
    }
}

impl Call {
    /// A call and its pieces, and where the answer will come.
    pub(super) fn new(
        batch: Batch,
        cut: Cut,
        (deadline, since): (Deadline, Instant),
        step: Option<Step>,
    ) -> (Arc<Self>, Vec<Piece>, oneshot::Receiver<Result<Done, Error>>) {
        let (reply, answer) = oneshot::channel();
        let pieces = cut.pieces();
        let parts = (0..pieces).map(|_| None).collect();
        let progress =
            Mutex::new(Progress { reply: Some(reply), parts, tokens: None, state: None, started: None });
        let (whole, batch) = if pieces == 1 { (Some(batch), None) } else { (None, Some(batch)) };
        let call =
            Arc::new(Self { deadline, cancel: CancelFlag::default(), since, step, cut, batch, progress });
        let pieces = match whole {
            Some(batch) => vec![Piece { call: call.clone(), index: 0, work: Work::Whole(batch) }],
            None => (0..pieces).map(|index| Piece { call: call.clone(), index, work: Work::Part }).collect(),
        };
        (call, pieces, answer)
    }

    /// Whether the call has ended.
    pub(super) fn is_over(&self) -> bool {
        lock(&self.progress).reply.is_none()
    }

    /// The rows of a piece that is a [`Work::Part`].
    pub(super) fn part(&self, index: usize) -> Batch {
        let nothing = || Batch { rows: 0, inputs: Vec::new() };
        self.batch.as_ref().map_or_else(nothing, |batch| self.cut.rows(batch, index))
    }

    /// A piece was answered, having run from `start` to `end`. Gives the call's end, if this
    /// was it.
    pub(super) fn answer(
        &self,
        index: usize,
        result: Result<Answered, Error>,
        (start, end): (Instant, Instant),
    ) -> Option<Ended> {
        let mut progress = lock(&self.progress);
        let started = *progress.started.get_or_insert(start);
        let whole = match result {
            Err(error) => Err(error),
            Ok(Answered { outputs, tokens, state }) => {
                progress.state = state;
                *progress.parts.get_mut(index)? = Some(outputs);
                if let Some(tokens) = tokens {
                    *progress.tokens.get_or_insert(0) += tokens;
                }
                if progress.parts.iter().any(Option::is_none) {
                    return None;
                }
                let parts = std::mem::take(&mut progress.parts).into_iter().flatten().collect();
                self.cut.join(parts)
            }
        };
        let (reply, tokens, state) = (progress.reply.take()?, progress.tokens, progress.state.take());
        drop(progress);
        // One piece that failed fails the call: the others need not run.
        self.cancel.cancel();
        let (queued, ran) = (started - self.since, end - started);
        let result = whole.map(|outputs| Done { outputs, tokens, state, queued, ran });
        Some(Ended { result, took: (queued, ran), reply })
    }

    /// Nobody waits for the answer any more. Says whether there was still one to come.
    pub(super) fn abandon(&self) -> bool {
        self.cancel.cancel();
        lock(&self.progress).reply.take().is_some()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
