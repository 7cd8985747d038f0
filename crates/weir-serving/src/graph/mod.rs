//! Running models that are made of others.
//!
//! A request's rows go through the steps of a [`GraphPlan`]. Steps run as soon as what they
//! take is there, all at the same time, each asking its model through that model's own
//! [`Executor`]: with its queue, its threads and its statistics. Rows that a switch or cascade
//! sends one way become a [`Frame`](frame::Frame) of their own, and their answers go back to
//! where they came from. There is one deadline; the first failure drops what still runs, and
//! so does the caller who goes away.

mod build;
mod combine;
mod frame;
mod order;
mod running;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use weir_artifact::{GraphPlan, Operation};
use weir_types::{Batch, Clock, Deadline, Error, Outputs, Tensor};

use crate::{
    Caller, Done, ExecuteFuture, Executor, Job, ServedVersion, Stats, Took,
    executor::{Pending, past_deadline},
};
use frame::{Frame, Terms, in_step};

pub(crate) use build::settle;
pub(crate) use order::with_members;

/// Runs one graph on the versions that it was resolved with.
pub(crate) struct GraphExecutor {
    plan: Arc<GraphPlan>,
    /// One a member of the plan.
    members: Vec<Arc<ServedVersion>>,
    /// Steps that every request takes, and the members that they ask, each once: those of a
    /// branch may not be taken.
    always: Vec<(usize, usize)>,
    clock: Arc<dyn Clock>,
    stats: Stats,
}

impl GraphExecutor {
    pub(crate) fn new(plan: Arc<GraphPlan>, members: Vec<Arc<ServedVersion>>, clock: Arc<dyn Clock>) -> Self {
        let always = always(&plan);
        Self { plan, members, always, clock, stats: Stats::default() }
    }

    async fn answer(&self, job: Job) -> Result<Outputs, Error> {
        let Job { batch: Batch { rows, inputs }, deadline, priority, caller, cache, trace, .. } = job;
        let (cache, held) = (cache.inherited(), AtomicU64::new(0));
        let terms = Terms { deadline, priority, caller, cache, trace, held };
        let whole = Frame::whole(self, rows, inputs.into_iter().map(Arc::new).collect(), &terms);
        whole.run().await?;
        let outputs = self.plan.outputs.iter().map(|output| whole.tensor(*output));
        let tensors = outputs.collect::<Result<Vec<_>, _>>()?;
        drop(whole);
        Ok(Outputs { rows, tensors: tensors.into_iter().map(Arc::unwrap_or_clone).collect::<Vec<Tensor>>() })
    }
}

impl Executor for GraphExecutor {
    fn execute(&self, job: Job) -> ExecuteFuture<'_> {
        Box::pin(async move {
            let (start, rows) = (self.clock.now(), job.batch.rows as u64);
            if job.deadline.is_past(start) {
                Stats::count(&self.stats.expired);
                return Err(past_deadline());
            }
            Stats::count(&self.stats.executed);
            let pending = Pending::new(&self.stats, &*self.clock, job.deadline);
            let result = self.answer(job).await;
            pending.ended();
            // How long rows waited for which model is in the statistics of that model.
            let ran = self.clock.now() - start;
            self.stats.finished(&result, (Duration::ZERO, ran), self.clock.wall());
            let outputs = result?;
            self.stats.rows.fetch_add(rows, Ordering::Relaxed);
            let took = Took::by_model(Duration::ZERO, ran);
            Ok(Done { outputs, tokens: None, cache: None, state: None, took })
        })
    }

    fn ready(&self, caller: &Caller, deadline: Deadline) -> Result<(), Error> {
        let refused = self.always.iter().find_map(|(step, member)| {
            let error = self.members.get(*member)?.executor.ready(caller, deadline).err()?;
            self.plan.steps.get(*step).map(|step| in_step(step, error))
        });
        match refused {
            None => Ok(()),
            Some(error) => {
                Stats::count(&self.stats.refused);
                Err(error)
            }
        }
    }

    fn by_row(&self) -> bool {
        // Steps of its own (mean, vote, switch) go row by row.
        self.members.iter().all(|member| member.executor.by_row())
    }

    fn stats(&self) -> &Stats {
        &self.stats
    }
}

/// Steps of the outermost scope that ask a model, the first for each.
fn always(plan: &GraphPlan) -> Vec<(usize, usize)> {
    let mut seen = BTreeSet::new();
    let outermost = plan.steps.iter().enumerate().filter(|(_, step)| step.scope == 0);
    let asked = outermost.filter_map(|(index, step)| match step.operation {
        Operation::Model { member, .. } => Some((index, member)),
        _ => None,
    });
    asked.filter(|(_, member)| seen.insert(*member)).collect()
}
