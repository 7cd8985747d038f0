//! One job on its way: its pieces, and whoever waits for them.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, oneshot};
use weir_engine::{CancelFlag, Prepared, Step};
use weir_types::{Batch, Deadline, Error, trace::Scope};

use super::{Answered, Done, Took, cut::Cut};

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
    /// Told at the same time: what runs elsewhere is waited for and cannot look at a flag.
    ended: Notify,
    /// When it came.
    pub(super) since: Instant,
    /// Where it is in its sequence, for models that keep state. Such a job is one piece.
    pub(super) step: Option<Step>,
    /// Where it is in its trace.
    pub(super) trace: Option<Scope>,
    cut: Cut,
    /// The rows, where there are several pieces.
    batch: Option<Batch>,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    /// Taken by whoever ends the call: it ends once.
    reply: Option<oneshot::Sender<Result<Done, Error>>>,
    /// One a piece.
    parts: Vec<Option<Answered>>,
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
        trace: Option<Scope>,
    ) -> (Arc<Self>, Vec<Piece>, oneshot::Receiver<Result<Done, Error>>) {
        let (reply, answer) = oneshot::channel();
        let pieces = cut.pieces();
        let parts = (0..pieces).map(|_| None).collect();
        let progress = Mutex::new(Progress { reply: Some(reply), parts, started: None });
        let (whole, batch) = if pieces == 1 { (Some(batch), None) } else { (None, Some(batch)) };
        let call = Arc::new(Self {
            deadline,
            cancel: CancelFlag::default(),
            ended: Notify::new(),
            since,
            step,
            trace,
            cut,
            batch,
            progress,
        });
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
        let started = *progress.started.get_or_insert_with(|| {
            self.trace.iter().for_each(|scope| scope.add("queue", (self.since, start), |_| {}));
            start
        });
        let whole = match result {
            Err(error) => Err(error),
            Ok(answered) => {
                *progress.parts.get_mut(index)? = Some(answered);
                if progress.parts.iter().any(Option::is_none) {
                    return None;
                }
                let parts = std::mem::take(&mut progress.parts).into_iter().flatten().collect();
                self.cut.join(parts)
            }
        };
        let reply = progress.reply.take()?;
        drop(progress);
        // One piece that failed fails the call: the others need not run.
        self.cancel();
        let (queued, ran) = (started - self.since, end - started);
        let result = whole.map(|Answered { outputs, tokens, state }| Done {
            outputs,
            tokens,
            cache: None,
            state,
            took: Took::by_model(queued, ran),
        });
        Some(Ended { result, took: (queued, ran), reply })
    }

    /// Nobody waits for the answer any more. Says whether there was still one to come.
    pub(super) fn abandon(&self) -> bool {
        let unanswered = lock(&self.progress).reply.take().is_some();
        self.cancel();
        unanswered
    }

    fn cancel(&self) {
        self.cancel.cancel();
        self.ended.notify_waiters();
    }

    /// Waits until the call has ended.
    pub(super) async fn ended(&self) {
        let mut ended = pin!(self.ended.notified());
        // Before it is looked at, so that an end in between is not missed.
        ended.as_mut().enable();
        if !self.is_over() {
            ended.await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
