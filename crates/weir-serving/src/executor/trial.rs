//! What a model shows when it is tried out at load: how long a row takes, and whether rows
//! that run together get the answers that they get alone.

use std::{sync::Arc, time::Duration};

use weir_artifact::ModelSpec;
use weir_codec::{BodyShape, DecodeLimits, RowDecoder};
use weir_engine::{CancelFlag, Context, Engine, EngineError};
use weir_types::{Batch, Clock, Dim, Outputs, Tensor, TensorData};

use super::{
    rate::Rate,
    size::{Size, kind},
    worker,
};

/// Most runs of the first row that are timed, and the time after which there is no further
/// one. The first of all, slower than the others, is not timed.
const RUNS: (usize, Duration) = (5, Duration::from_millis(20));

/// Rows that are looked at for two that differ.
const MAX_ROWS: usize = 8;

/// How often each of two rows is there when they run together: enough to see what a row costs
/// in company.
const TOGETHER: usize = 4;

/// How far two runs of a row may be apart, relative to 1 or the value: padding and blocked
/// sums move a float32 by less than 1e-5. Dynamic quantisation, whose scales are taken over
/// all rows of an execution, moves it by 1e-3 and more.
const TOLERANCE: f64 = 1e-4;

/// What came of it.
pub(crate) struct Trial {
    /// How long work takes.
    pub(super) rate: Rate,
    /// Whether all rows have the same number of elements.
    pub(crate) uniform: bool,
    /// Whether rows may run together; why not.
    pub(super) merge: Result<(), String>,
}

impl Trial {
    /// Tries out `engine`, which serves `spec`.
    pub(crate) fn new(spec: &ModelSpec, engine: &dyn Engine, clock: &dyn Clock) -> Self {
        let uniform = spec.signature.inputs.iter().all(|i| i.row_width().is_some());
        let trial = Self { rate: Rate::new(engine.cost()), uniform, merge: Ok(()) };
        let rows = examples(spec);
        if let Some(first) = rows.first() {
            trial.time(engine, clock, first);
        }
        let merge = match spec.batching.merge {
            // Not the operator's to decide: a step of several moments that is torn apart would
            // run every part from the same state.
            _ if keeps_state_apart(spec) => Err("the model keeps state".to_owned()),
            Some(true) if by_rows(spec) => Ok(()),
            Some(false) => Err("`batching.merge` is false".to_owned()),
            _ => trial.compare(spec, engine, clock, &rows),
        };
        Self { merge, ..trial }
    }

    /// Whether rows may run together.
    pub(crate) fn merges(&self) -> bool {
        self.merge.is_ok()
    }

    /// What an operator should know about it.
    pub(crate) fn note(&self) -> Option<String> {
        let why = self.merge.as_ref().err()?;
        Some(format!("each request runs by itself: {why}; see docs/concepts/batching.md"))
    }

    fn time(&self, engine: &dyn Engine, clock: &dyn Clock, row: &Batch) {
        if answer(engine, &[row]).is_err() {
            return;
        }
        let begin = clock.now();
        let mut best = Duration::MAX;
        for _ in 0..RUNS.0 {
            let start = clock.now();
            if answer(engine, &[row]).is_err() {
                return;
            }
            let end = clock.now();
            best = best.min(end - start);
            if end - begin > RUNS.1 {
                break;
            }
        }
        self.rate.record(self.cost(engine, row), best);
    }

    fn cost(&self, engine: &dyn Engine, batch: &Batch) -> u64 {
        Size::new(engine, batch, self.uniform).cost()
    }

    /// Whether rows of `spec` may run together on `engine`.
    fn compare(
        &self,
        spec: &ModelSpec,
        engine: &dyn Engine,
        clock: &dyn Clock,
        rows: &[Batch],
    ) -> Result<(), String> {
        if !by_rows(spec) {
            return Err(NO_ROWS.to_owned());
        }
        compare(rows, other, TOGETHER, &|rows| {
            let start = clock.now();
            let outputs = answer(engine, rows).map_err(|e| e.to_string())?;
            if rows.len() > 1 {
                let cost = rows.iter().map(|row| self.cost(engine, row)).sum();
                self.rate.record(cost, clock.now() - start);
            }
            Ok(outputs)
        })
    }
}

const NO_ROWS: &str = "an input or output has no free leading dimension";

/// Answers rows together.
type Together<'a> = dyn Fn(&[&Batch]) -> Result<Outputs, String> + 'a;

/// Runs two different rows alone, and several of each together. Where only one is there,
/// `other` makes up the second.
fn compare(
    rows: &[Batch],
    other: impl Fn(&Batch) -> Option<Batch>,
    times: usize,
    answer: &Together<'_>,
) -> Result<(), String> {
    let unknown = || "two different rows to try it with are missing: give golden rows (`samples`)".to_owned();
    let first = rows.first().ok_or_else(unknown)?;
    let alike = |row: &&Batch| *row != first && kind(row) == kind(first);
    let second = rows.iter().find(alike).cloned().or_else(|| other(first)).ok_or_else(unknown)?;
    let alone = [answer(&[first]), answer(&[&second])];
    let [Ok(one), Ok(two)] = alone else { return Err(unknown()) };
    let rows = [first, &second].repeat(times);
    let together = answer(&rows).map_err(|e| format!("rows that run together fail: {e}"))?;
    let parts = together.split(&vec![1; rows.len()]).map_err(|e| e.to_string())?;
    if parts.chunks(2).all(|pair| near(&pair[0], &one) && near(&pair[1], &two)) {
        return Ok(());
    }
    Err("a row's answer depends on the rows beside it".to_owned())
}

/// How a model on another server is tried.
pub(super) struct SharedTrial<'a> {
    /// Whether asking twice is as good as asking once.
    pub(super) repeatable: bool,
    /// Most rows that the server takes in one call.
    pub(super) max_rows: Option<usize>,
    /// Asks it.
    pub(super) answer: &'a Together<'a>,
}

/// Whether rows of several callers may share a call to the server that runs `spec`, and those
/// of one go apart. It is asked for golden rows only: what nobody wrote down might cost
/// something there.
///
/// # Errors
/// Why not.
pub(super) fn may_share(spec: &ModelSpec, trial: &SharedTrial<'_>) -> Result<(), String> {
    if spec.batching.merge == Some(false) {
        return Err("`batching.merge` is false".to_owned());
    }
    if !trial.repeatable {
        return Err("a call for several that fails could not be repeated in parts, for the model is not \
                    deterministic or keeps state"
            .to_owned());
    }
    if !by_rows(spec) {
        return Err(NO_ROWS.to_owned());
    }
    let most = trial.max_rows.unwrap_or(usize::MAX);
    if most < 2 {
        return Err("its server takes one row in a call".to_owned());
    }
    if spec.batching.merge == Some(true) {
        return Ok(());
    }
    let rows = if spec.samples.is_empty() { Vec::new() } else { examples(spec) };
    compare(&rows, |_| None, TOGETHER.min(most / 2), trial.answer)
}

/// Why requests to a model do not run together, if they do not.
pub fn unmerged(spec: &ModelSpec, engine: &dyn Engine, clock: &dyn Clock) -> Option<String> {
    Trial::new(spec, engine, clock).note()
}

/// Whether the model keeps state that has no dimension for several sequences.
fn keeps_state_apart(spec: &ModelSpec) -> bool {
    spec.stateful && !spec.sequence.as_ref().is_some_and(|sequence| sequence.merges)
}

/// Whether everything that goes in and comes out has one entry a row.
pub(super) fn by_rows(spec: &ModelSpec) -> bool {
    let sides = spec.signature.inputs.iter().chain(&spec.signature.outputs);
    sides.into_iter().all(|side| matches!(side.shape.first(), Some(Dim::Any(_))))
}

/// Rows to try the model with.
fn examples(spec: &ModelSpec) -> Vec<Batch> {
    let schema = Arc::new(spec.schema.clone());
    let Ok(decoder) = RowDecoder::new(schema, BodyShape::Row, DecodeLimits::default()) else {
        return Vec::new();
    };
    let rows = spec.example_rows(MAX_ROWS);
    rows.iter().filter_map(|row| decoder.decode(row.to_string().as_bytes()).ok()).collect()
}

/// A row like `row` with other values.
fn other(row: &Batch) -> Option<Batch> {
    let change = |tensor: &Tensor| {
        let data = match tensor.data().clone() {
            TensorData::Float32(v) => TensorData::Float32(v.iter().map(|x| x * 1.25 + 0.5).collect()),
            TensorData::Float64(v) => TensorData::Float64(v.iter().map(|x| x * 1.25 + 0.5).collect()),
            TensorData::Int64(v) => {
                TensorData::Int64(v.iter().map(|x| if *x > 0 { x - 1 } else { 1 }).collect())
            }
            TensorData::Int32(v) => {
                TensorData::Int32(v.iter().map(|x| if *x > 0 { x - 1 } else { 1 }).collect())
            }
            TensorData::Uint8(v) => TensorData::Uint8(v.iter().map(|x| x ^ 1).collect()),
            TensorData::Bool(v) => TensorData::Bool(v.iter().map(|x| !x).collect()),
            TensorData::String(v) => TensorData::String(v.iter().map(|s| format!("{s} and more")).collect()),
            same => same,
        };
        Tensor::new(tensor.shape().to_vec(), data).ok()
    };
    let inputs = row.inputs.iter().map(change).collect::<Option<Vec<_>>>()?;
    Some(Batch { rows: row.rows, inputs }).filter(|other| other != row)
}

fn answer(engine: &dyn Engine, rows: &[&Batch]) -> Result<Outputs, EngineError> {
    let prepared =
        rows.iter().map(|row| worker::prepare(engine, (*row).clone())).collect::<Result<Vec<_>, _>>()?;
    let work: Vec<_> = prepared.iter().collect();
    worker::guarded(|| {
        engine.execute(&work, &mut Context { cancel: CancelFlag::NEVER, ..Context::default() })
    })
}

fn near(a: &Outputs, b: &Outputs) -> bool {
    a.tensors.len() == b.tensors.len() && a.tensors.iter().zip(&b.tensors).all(|(a, b)| near_tensor(a, b))
}

fn near_tensor(a: &Tensor, b: &Tensor) -> bool {
    let pair = |a: f64, b: f64| {
        a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE * b.abs().max(1.0)
    };
    a.shape() == b.shape()
        && match (a.data(), b.data()) {
            (TensorData::Float32(a), TensorData::Float32(b)) => {
                a.iter().zip(b).all(|(&a, &b)| pair(a.into(), b.into()))
            }
            (TensorData::Float64(a), TensorData::Float64(b)) => a.iter().zip(b).all(|(&a, &b)| pair(a, b)),
            // Half floats round at 1e-3: only what is equal is known to be independent.
            (a, b) => a == b,
        }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use weir_artifact::discover;

    use super::*;
    use crate::executor::tests::Double;

    #[test]
    fn steps_that_cannot_stand_side_by_side_do_not_merge_whatever_the_operator_says() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sequences/models/smoothing");
        let candidate = discover(&folder).complete().unwrap().remove(0);
        let mut spec = weir_artifact::load(&candidate).unwrap().spec;
        assert!(by_rows(&spec), "its rows are moments");
        let double = Double::light();
        for merge in [None, Some(true)] {
            spec.batching.merge = merge;
            let trial = Trial::new(&spec, &*double, double.clock());
            assert_eq!(trial.merge, Err("the model keeps state".to_owned()), "{merge:?}");
        }
    }
}
