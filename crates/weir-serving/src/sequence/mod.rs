//! Sequences of models that keep state: which state a step goes on with, and in which order.
//!
//! ```text
//! job ─▶ table   whose turn: a sequence's steps run one after the other, as they came
//!        store   what another replica may have done (only with a store)
//!        inner   the model, state in and state out; other sequences may share the execution
//!        commit  the state is kept, then the caller is answered
//! ```
//!
//! A step counts once it was answered by the model, and kept. Whatever goes wrong before leaves
//! the sequence as it was, so that the step may be sent again. An idle sequence is its state and
//! an entry in a map: no task, no timer.

mod redis;
mod snapshot;
mod store;
mod table;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use tokio::{sync::OwnedMutexGuard, time::timeout_at};
use weir_artifact::{ModelSpec, SequenceSpec};
use weir_engine::{State, Step};
use weir_types::{Clock, Deadline, Error, ErrorCode, ModelName, Principal, SequenceId, SequenceStep, Tensor};

use crate::{Caller, Done, ExecuteFuture, Executor, Job, Stats, executor::past_deadline};
pub use redis::RedisSequences;
use snapshot::Identity;
pub use store::{Expected, SequenceStore, StoreFuture, Token};
use table::{Key, Refusal, Turn};
pub use table::{SequenceCounts, Sequences};

/// Where models keep sequences besides this process.
#[derive(Clone, Default)]
pub enum KeepSequences {
    /// Nowhere, whatever `[sequence]` says: for commands that answer a few rows and end.
    #[default]
    Here,
    /// Where `[sequence]` says; the store for those that say `redis`, if there is one.
    AsDeclared(Option<Arc<dyn SequenceStore>>),
}

/// Runs the steps of sequences on a model.
pub(crate) struct SequenceExecutor {
    inner: Arc<dyn Executor>,
    own: Arc<Own>,
}

/// What steps need to know besides their job.
struct Own {
    model: ModelName,
    identity: Identity,
    spec: Arc<SequenceSpec>,
    table: Arc<Sequences>,
    store: Option<Arc<dyn SequenceStore>>,
    clock: Arc<dyn Clock>,
}

/// How far a sequence has come.
#[derive(Debug, Default)]
struct Progress {
    /// What its last step left; `None` before the first.
    state: Option<State>,
    /// Steps so far.
    step: u64,
    /// What the store holds as far as this process knows: its last write that was confirmed, and
    /// those after it that were not. Whichever it is, what is remembered here is what goes on.
    written: Vec<Token>,
}

/// Most writes in a row that were not confirmed, before the store is asked what there is.
const MAX_DOUBTS: usize = 8;

/// A sequence whose turn it is, and which nobody else touches meanwhile.
struct Held {
    progress: OwnedMutexGuard<Progress>,
    turn: Turn,
}

/// Why a step came to nothing.
enum Lost {
    /// Another replica was faster: what is held is of an earlier moment.
    Conflict(Held),
    Failed(Error),
}

impl From<Error> for Lost {
    fn from(error: Error) -> Self {
        Lost::Failed(error)
    }
}

impl SequenceExecutor {
    /// Runs the sequences of `spec`'s model on `inner`. Those in `table` go on: it may be that of
    /// an earlier executor of the same digest.
    pub(crate) fn new(
        inner: Arc<dyn Executor>,
        (spec, sequence): (&ModelSpec, Arc<SequenceSpec>),
        table: Arc<Sequences>,
        store: Option<Arc<dyn SequenceStore>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let identity = Identity::new(&spec.digest);
        let own = Own { model: spec.name.clone(), identity, spec: sequence, table, store, clock };
        Self { inner, own: Arc::new(own) }
    }

    async fn step(&self, job: Job) -> Result<Done, Error> {
        let own = &self.own;
        let asked = job.sequence.clone().ok_or_else(|| own.without_id())?;
        let tenant = job.caller.tenant().unwrap_or(&Principal::LOCAL).clone();
        let key = Key { tenant, id: asked.id.clone() };
        let came = own.clock.now();
        let mut held = self.turn(key, &asked, job.deadline).await?;
        let turn = own.clock.now();
        let waited = turn - came;
        job.trace.iter().for_each(|scope| scope.add("turn", (came, turn), |_| {}));
        if !asked.start && held.progress.state.is_none() {
            own.find(&mut held).await?;
        }
        // A copy is only needed where another replica may be faster.
        let spare = own.store.as_ref().map(|_| job.clone());
        let mut done = match (self.run(job, &asked, held).await, spare) {
            (Err(Lost::Conflict(mut held)), Some(job)) => {
                own.find(&mut held).await?;
                self.run(job, &asked, held).await.map_err(|lost| own.lost(lost, &asked.id))
            }
            (done, _) => done.map_err(|lost| own.lost(lost, &asked.id)),
        }?;
        done.took.model.get_or_insert_default().queued += waited;
        Ok(done)
    }

    /// Waits for the steps that came before.
    async fn turn(&self, key: Key, asked: &SequenceStep, deadline: Deadline) -> Result<Held, Error> {
        let own = &self.own;
        let may_be_new = asked.start || own.store.is_some();
        let turn = own.table.enter(&own.spec, key, may_be_new);
        let turn = turn.map_err(|refusal| own.refused(&asked.id, refusal))?;
        let progress = timeout_at(deadline.instant().into(), turn.progress.clone().lock_owned()).await;
        let progress = progress.map_err(|_| {
            Stats::count(&self.inner.stats().expired);
            past_deadline()
        })?;
        Ok(Held { progress, turn })
    }

    /// Runs one step and keeps what it leaves.
    async fn run(&self, job: Job, asked: &SequenceStep, held: Held) -> Result<Done, Lost> {
        let state = held.progress.state.clone().filter(|_| !asked.start);
        let step = Step { id: Some(asked.id.clone()), state, end: asked.end };
        let mut done = self.inner.execute(Job { step: Some(step), ..job }).await?;
        let state = done.state.take();
        let state = state.ok_or_else(|| Error::internal("the model gave no state for its next step"))?;
        self.own.keep(asked, state, held).await?;
        Ok(done)
    }
}

impl Own {
    /// Takes up what the store has of a sequence.
    async fn find(&self, held: &mut Held) -> Result<(), Error> {
        let id = held.turn.key.id.clone();
        let unknown = || self.refused(&id, Refusal::Unknown);
        *held.progress = Progress::default();
        held.turn.keep(None);
        let store = self.store.as_ref().ok_or_else(unknown)?;
        let value = store.get(&self.identity.key(&held.turn.key)).await?.ok_or_else(unknown)?;
        let (token, step, state) = snapshot::read(&value, &self.identity, &self.spec).map_err(|why| {
            tracing::warn!(model = %self.model, sequence = %id, "a stored sequence cannot be used: {why}");
            unknown()
        })?;
        held.turn.keep(Some(&state));
        *held.progress = Progress { state: Some(state), step, written: vec![token] };
        Ok(())
    }

    /// Keeps what a step left. Where that takes a store, it is done also when the caller goes
    /// away meanwhile: a sequence is either a step further or not, never in between.
    async fn keep(self: &Arc<Self>, asked: &SequenceStep, state: State, mut held: Held) -> Result<(), Lost> {
        if self.store.is_none() {
            self.remember(asked, state, &mut held);
            return Ok(());
        }
        let (own, asked) = (self.clone(), asked.clone());
        let kept = tokio::spawn(async move {
            match own.write(&asked, &state, &mut held).await {
                Ok(true) => {
                    own.remember(&asked, state, &mut held);
                    Ok(())
                }
                Ok(false) => Err(Lost::Conflict(held)),
                Err(error) => Err(Lost::Failed(error)),
            }
        });
        kept.await.unwrap_or_else(|_| Err(Error::internal("keeping the step was cut off").into()))
    }

    fn remember(&self, asked: &SequenceStep, state: State, held: &mut Held) {
        let Held { progress, turn } = held;
        if asked.start {
            Stats::count(&self.table.stats.started);
            progress.step = 0;
        }
        if asked.end {
            Stats::count(&self.table.stats.ended);
        }
        progress.step += 1;
        progress.state = (!asked.end).then_some(state);
        turn.keep(progress.state.as_deref());
    }

    /// Tells the store: before the answer, so that a replica that takes over finds every step
    /// that was answered. `false` where another replica was faster.
    async fn write(&self, asked: &SequenceStep, state: &[Tensor], held: &mut Held) -> Result<bool, Error> {
        let Some(store) = &self.store else { return Ok(true) };
        let Held { progress, turn } = held;
        let name = self.identity.key(&turn.key);
        let known = std::mem::take(&mut progress.written);
        let expected = if asked.start { Expected::Anything } else { Expected::OneOf(&known) };
        let token = Token::new(if asked.start { 1 } else { progress.step + 1 });
        let written = match asked.end {
            true => store.delete(&name, expected).await,
            false => {
                let value = snapshot::write(token, &self.identity, state);
                store.put(&name, expected, value, self.spec.ttl).await
            }
        };
        match &written {
            Ok(true) => progress.written = vec![token],
            Ok(false) => {}
            // It may have been done all the same: the next attempt accepts either. Where it took
            // the place of what others may have written, nothing is known any more.
            Err(_) if asked.start || known.len() > MAX_DOUBTS => {
                **progress = Progress::default();
                turn.keep(None);
            }
            Err(_) => progress.written = known.into_iter().chain([token]).collect(),
        }
        written
    }

    fn refused(&self, id: &SequenceId, refusal: Refusal) -> Error {
        let (model, idle) = (&self.model, self.spec.ttl);
        self.table.stats.refused(refusal);
        match refusal {
            Refusal::Unknown => Error::invalid(format!(
                "inference request for sequence {id} to model '{model}' must specify the START flag on the first \
                 request of the sequence: it was not started, has ended, was idle for {idle:?}, or the model \
                 was replaced since"
            )),
            Refusal::Full(wait) => {
                let most = self.spec.max_sequences;
                let text = format!(
                    "model '{model}' keeps as many sequences as it may, {most}: end some, or raise sequence.max_sequences"
                );
                Error::new(ErrorCode::Overloaded, text).retry_after(wait)
            }
            Refusal::Busy => {
                let most = self.spec.queue;
                let text = format!(
                    "{most} steps of sequence {id} wait already (sequence.queue): wait for their answers"
                );
                Error::new(ErrorCode::Overloaded, text).retry_after(Duration::from_millis(100))
            }
        }
    }

    fn without_id(&self) -> Error {
        let model = &self.model;
        Error::invalid(format!(
            "inference request to model '{model}' must specify a non-zero or non-empty correlation ID: it keeps \
             state (sequence_id in V2, the header Sequence-Id elsewhere)"
        ))
    }

    fn lost(&self, lost: Lost, id: &SequenceId) -> Error {
        if let Lost::Failed(error) = lost {
            return error;
        }
        let text = format!("another server is at work on sequence {id}: send its steps one after the other");
        Error::new(ErrorCode::Conflict, text)
    }
}

impl Executor for SequenceExecutor {
    fn execute(&self, job: Job) -> ExecuteFuture<'_> {
        Box::pin(self.step(job))
    }

    fn ready(&self, caller: &Caller, deadline: Deadline) -> Result<(), Error> {
        self.inner.ready(caller, deadline)
    }

    fn stats(&self) -> &Stats {
        self.inner.stats()
    }

    fn waiting(&self) -> usize {
        self.inner.waiting()
    }

    fn resident_bytes(&self) -> Option<u64> {
        self.inner.resident_bytes()
    }

    fn sequences(&self) -> Option<&Arc<Sequences>> {
        Some(&self.own.table)
    }
}
