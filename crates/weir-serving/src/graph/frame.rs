//! The rows of one scope, and what the steps made of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use weir_artifact::{Branch, Operation, PlannedStep, Selector, Source};
use weir_types::{
    Batch, Deadline, Error, ErrorCode, Outputs, Tensor, TensorData, TensorSpec,
    trace::{Scope, SpanKind},
};

use super::{
    GraphExecutor, combine,
    running::{Running, Step},
};
use crate::{CacheControl, Caller, Done, Job, ServedVersion};

/// Microseconds after which other requests get their turn.
const LONGEST_HOLD: u64 = 1_000;

/// What a step gave, one tensor an output.
type Given = Vec<Arc<Tensor>>;

/// What all that is asked for one request shares.
pub(super) struct Terms {
    pub(super) deadline: Deadline,
    pub(super) priority: u64,
    pub(super) caller: Caller,
    pub(super) cache: CacheControl,
    pub(super) trace: Option<Scope>,
    /// Microseconds that models ran on this thread since others had their turn.
    pub(super) held: AtomicU64,
}

/// Rows that go through the same steps: all of a request, or those of one branch.
pub(super) struct Frame<'a> {
    graph: &'a GraphExecutor,
    scope: usize,
    rows: usize,
    terms: &'a Terms,
    origin: Origin<'a>,
    /// One a step of the plan; those of other scopes stay empty.
    given: Vec<OnceLock<Given>>,
    /// Tensors of frames around this one, cut to these rows.
    cut: Mutex<BTreeMap<Source, Arc<Tensor>>>,
}

/// Where the rows come from.
enum Origin<'a> {
    /// The request.
    Request(Given),
    /// These rows of the frame around; all of them where they are not listed.
    Around(&'a Frame<'a>, Option<Vec<usize>>),
}

impl<'a> Frame<'a> {
    /// All rows of a request.
    pub(super) fn whole(graph: &'a GraphExecutor, rows: usize, inputs: Given, terms: &'a Terms) -> Self {
        Self::new(graph, (0, rows), terms, Origin::Request(inputs))
    }

    fn new(
        graph: &'a GraphExecutor,
        (scope, rows): (usize, usize),
        terms: &'a Terms,
        origin: Origin<'a>,
    ) -> Self {
        let given = graph.plan.steps.iter().map(|_| OnceLock::new()).collect();
        Self { graph, scope, rows, terms, origin, given, cut: Mutex::default() }
    }

    /// These rows of this frame, on their way through `branch`.
    fn branch<'b>(&'b self, branch: &Branch, rows: Vec<usize>) -> Frame<'b> {
        let number = rows.len();
        let rows = Some(rows).filter(|_| number < self.rows);
        Frame::new(self.graph, (branch.scope, number), self.terms, Origin::Around(self, rows))
    }

    fn steps(&self) -> &'a [PlannedStep] {
        &self.graph.plan.steps
    }

    /// Runs all steps of the scope, each as soon as what it needs is there.
    pub(super) fn run(&self) -> Step<'_, Result<(), Error>> {
        Box::pin(async move {
            let of_scope = |(_, step): &(usize, &PlannedStep)| step.scope == self.scope;
            let mut waiting: Vec<_> = self.steps().iter().enumerate().filter(of_scope).collect();
            let mut running = Running::new();
            loop {
                waiting.retain(|(index, step)| {
                    let ready = step.needs.iter().all(|need| self.given[*need].get().is_some());
                    if ready {
                        running.push(self.step(*index, step));
                    }
                    !ready
                });
                let Some(done) = running.next().await else { return Ok(()) };
                let (index, given) = done?;
                let _ = self.given[index].set(given);
            }
        })
    }

    fn step<'s>(&'s self, index: usize, step: &'s PlannedStep) -> Step<'s, Result<(usize, Given), Error>> {
        Box::pin(async move {
            let given = match &step.operation {
                Operation::Model { member, inputs } => self.ask(step, *member, inputs).await?,
                Operation::Mean { of, weights } => combine::mean(&self.tensors(of)?, weights)?,
                Operation::Vote { of, weights } => combine::vote(&self.tensors(of)?, weights)?,
                Operation::Route { by, branches } => self.route(by, branches, &step.outputs).await?,
            };
            Ok((index, given))
        })
    }

    async fn ask(&self, step: &PlannedStep, member: usize, inputs: &[Source]) -> Result<Given, Error> {
        let inputs = self.tensors(inputs)?.into_iter().map(Arc::unwrap_or_clone).collect();
        let Terms { deadline, priority, caller, cache, held, .. } = self.terms;
        let batch = Batch { rows: self.rows, inputs };
        let job =
            Job { priority: *priority, caller: caller.clone(), cache: *cache, ..Job::new(batch, *deadline) };
        let version = self.graph.members.get(member).ok_or_else(broken)?;
        let done = self.traced(step, version, job).await.map_err(|error| in_step(step, error))?;
        // Small models run on this thread: many of them must let other requests through.
        let took = done.took.model.unwrap_or_default();
        let ran = took.ran.as_micros() as u64;
        if took.queued.is_zero() && held.fetch_add(ran, Ordering::Relaxed) + ran > LONGEST_HOLD {
            held.store(0, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
        let outputs = done.outputs;
        whole(&outputs, self.rows, step)?;
        Ok(outputs.tensors.into_iter().map(Arc::new).collect())
    }

    /// Asks `version` for a step, within a span of its own where the request is recorded.
    async fn traced(&self, step: &PlannedStep, version: &ServedVersion, job: Job) -> Result<Done, Error> {
        let Some(around) = &self.terms.trace else { return version.executor.execute(job).await };
        let (scope, clock) = (around.within().of(&version.spec.name), &self.graph.clock);
        let start = clock.now();
        let result = version.executor.execute(Job { trace: Some(scope.clone()), ..job }).await;
        let name = format!("step {}", step.name);
        scope.end(around, (name, SpanKind::Internal), (start, clock.now()), |span| {
            span.set("weir.model.name", version.spec.name.to_string());
            span.set("weir.model.version", version.spec.version.to_string());
            span.set("weir.rows", self.rows);
            span.failed = result.is_err();
        });
        result
    }

    async fn route(&self, by: &Selector, branches: &[Branch], specs: &[TensorSpec]) -> Result<Given, Error> {
        if self.rows == 0 {
            return specs.iter().map(|spec| empty(spec).map(Arc::new)).collect();
        }
        let chosen = self.chosen(by)?;
        let rows = |branch| chosen.iter().enumerate().filter(move |(_, c)| **c == branch).map(|(row, _)| row);
        let taken: Vec<(&Branch, Vec<usize>)> =
            branches.iter().enumerate().map(|(i, branch)| (branch, rows(i).collect())).collect();
        let taken: Vec<_> = taken.into_iter().filter(|(_, rows)| !rows.is_empty()).collect();
        let back = combine::inverse(taken.iter().flat_map(|(_, rows)| rows.iter().copied()), self.rows);
        let frames: Vec<(&Branch, Frame<'_>)> =
            taken.into_iter().map(|(branch, rows)| (branch, self.branch(branch, rows))).collect();
        let mut running = Running::new();
        frames.iter().for_each(|(_, frame)| running.push(frame.run()));
        while let Some(done) = running.next().await {
            done?;
        }
        drop(running);
        (0..specs.len()).map(|output| gathered(&frames, output, &back)).collect()
    }

    /// The branch of each row.
    fn chosen(&self, by: &Selector) -> Result<Vec<usize>, Error> {
        match by {
            Selector::Cases { on, column, tests } => combine::cases(&*self.tensor(*on)?, *column, tests),
            Selector::Confidence { of, threshold } => combine::unsure(&*self.tensor(*of)?, *threshold),
        }
        .ok_or_else(broken)
    }

    fn tensors(&self, sources: &[Source]) -> Result<Given, Error> {
        sources.iter().map(|source| self.tensor(*source)).collect()
    }

    /// A tensor as far as it is about this frame's rows.
    pub(super) fn tensor(&self, source: Source) -> Result<Arc<Tensor>, Error> {
        if let Source::Step { step, output } = source
            && let Some(given) = self.given.get(step).and_then(OnceLock::get)
        {
            return given.get(output).cloned().ok_or_else(broken);
        }
        match (&self.origin, source) {
            (Origin::Request(inputs), Source::Input(index)) => inputs.get(index).cloned().ok_or_else(broken),
            (Origin::Request(_), Source::Step { .. }) => Err(broken()),
            (Origin::Around(frame, None), _) => frame.tensor(source),
            (Origin::Around(frame, Some(rows)), _) => self.cut(frame, rows, source),
        }
    }

    fn cut(&self, frame: &Frame<'_>, rows: &[usize], source: Source) -> Result<Arc<Tensor>, Error> {
        // What is guarded stays whole when a holder panics: entries are added as a whole.
        let mut cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tensor) = cut.get(&source) {
            return Ok(tensor.clone());
        }
        let tensor = Arc::new(frame.tensor(source)?.take_rows(rows));
        cut.insert(source, tensor.clone());
        Ok(tensor)
    }
}

/// One output of all branches, its rows where they were before.
fn gathered(frames: &[(&Branch, Frame<'_>)], output: usize, back: &[usize]) -> Result<Arc<Tensor>, Error> {
    let part = |(branch, frame): &(&Branch, Frame<'_>)| {
        frame.tensor(*branch.outputs.get(output).ok_or_else(broken)?)
    };
    let parts = frames.iter().map(part).collect::<Result<Vec<_>, _>>()?;
    if let [one] = parts.as_slice() {
        return Ok(one.clone());
    }
    let parts: Vec<&Tensor> = parts.iter().map(|part| &**part).collect();
    let stacked = Tensor::concat_rows(&parts)
        .ok_or_else(|| Error::internal("the branches of the graph answered with rows of different shapes"))?;
    Ok(Arc::new(stacked.take_rows(back)))
}

/// Checks that a model answered every row and every output: rows are put side by side later.
fn whole(outputs: &Outputs, rows: usize, step: &PlannedStep) -> Result<(), Error> {
    let fits = outputs.rows == rows
        && outputs.tensors.len() == step.outputs.len()
        && outputs.tensors.iter().all(|t| t.rows() == rows);
    let message =
        || format!("step `{}`: the model answered another number of rows than it was asked", step.name);
    if fits { Ok(()) } else { Err(Error::internal(message())) }
}

fn empty(spec: &TensorSpec) -> Result<Tensor, Error> {
    let row = spec.shape.iter().skip(1).map(|dim| dim.fixed().unwrap_or(0));
    let shape = std::iter::once(0).chain(row).collect();
    Tensor::new(shape, TensorData::with_capacity(spec.dtype, 0)).map_err(|_| broken())
}

/// The same error, saying where in the graph it came up.
pub(super) fn in_step(step: &PlannedStep, error: Error) -> Error {
    match error.code {
        // The deadline is the request's own, whichever step it passed in.
        ErrorCode::DeadlineExceeded => error,
        _ => Error { message: format!("step `{}`: {}", step.name, error.message).into(), ..error },
    }
}

/// Something that the plan rules out.
pub(super) fn broken() -> Error {
    Error::internal("the graph could not be followed")
}
