//! Tree ensembles: `TreeEnsembleClassifier`, `TreeEnsembleRegressor`, `TreeEnsemble`.
//!
//! [`parse`] reads attributes into one form, [`trees`] lays it out for walking, [`walk`]
//! finds leaves, [`score`] turns their weights into answers. Everything follows
//! onnxruntime, also where it departs from the specification; each such place says so.
//!
//! Rows in float32 or integers are compared and summed in float32, rows in float64 in
//! float64, as onnxruntime does; answers are float32.

mod parse;
mod score;
#[cfg(test)]
mod tests;
mod trees;
mod walk;

use std::sync::OnceLock;

use weir_types::{Tensor, TensorData};

use super::{
    labels::Labels,
    op::{
        Inputs, Op, Outcome, Source, check_cancel, count, floats, input_error, matrix, needed, no_kernel,
        tensor,
    },
    post::Post,
};
use crate::CancelFlag;
use parse::Ensemble;
use score::Scorer;
use trees::{Number, Trees};

/// Rows between two looks at the cancel flag.
const CHUNK_ROWS: usize = 256;

/// Compiles a classifier.
pub(super) fn classifier(source: &Source<'_>) -> Outcome<Op> {
    let labels = Labels::read(source, "classlabels_int64s", "classlabels_strings")?;
    let ensemble = parse::ensemble(source, "class", labels.len())?;
    forest(source, ensemble, Some(labels))
}

/// Compiles a regressor.
pub(super) fn regressor(source: &Source<'_>) -> Outcome<Op> {
    let targets = source.node.int("n_targets").unwrap_or(0);
    let targets = usize::try_from(targets).map_err(|_| source.broken("n_targets is negative"))?;
    let ensemble = parse::ensemble(source, "target", targets)?;
    forest(source, ensemble, None)
}

/// Compiles the operator of `ai.onnx.ml` 5.
pub(super) fn tree_ensemble(source: &Source<'_>) -> Outcome<Op> {
    let ensemble = parse::version5::ensemble(source)?;
    forest(source, ensemble, None)
}

/// A forest in float32, and in float64 once a float64 row has come: the type of a graph's
/// inner values is known only then.
struct Forest {
    ensemble: Ensemble,
    labels: Option<Labels>,
    single: (Trees<f32>, Scorer<f32>),
    double: OnceLock<(Trees<f64>, Scorer<f64>)>,
}

fn forest(source: &Source<'_>, ensemble: Ensemble, labels: Option<Labels>) -> Outcome<Op> {
    if let Some(width) = source.columns.filter(|&width| width < ensemble.columns) {
        return Err(source.broken(format!("a node reads column {} of {width}", ensemble.columns - 1)));
    }
    let single = compile(&ensemble, labels.as_ref()).map_err(|why| source.broken(why))?;
    let forest = Forest { ensemble, labels, single, double: OnceLock::new() };
    Ok(Box::new(move |inputs: &Inputs<'_>, cancel: &CancelFlag| forest.run(needed(inputs, 0)?, cancel)))
}

fn compile<T: Number>(ensemble: &Ensemble, labels: Option<&Labels>) -> Result<(Trees<T>, Scorer<T>), String> {
    Ok((Trees::new(ensemble)?, Scorer::new(ensemble, labels)))
}

impl Forest {
    fn run(&self, x: &Tensor, cancel: &CancelFlag) -> Outcome<Vec<Tensor>> {
        let (rows, columns) = matrix(x)?;
        if columns < self.ensemble.columns {
            return Err(input_error(format!(
                "the trees read {} columns, rows have {columns}",
                self.ensemble.columns
            )));
        }
        match x.data() {
            TensorData::Float64(v) => {
                // `Trees::new` refuses nothing in float64 that it accepted in float32.
                let built = || compile(&self.ensemble, self.labels.as_ref());
                let (trees, scorer) = match self.double.get() {
                    Some(known) => known,
                    None => {
                        let made = built().map_err(input_error)?;
                        self.double.get_or_init(|| made)
                    }
                };
                self.answer(trees, scorer, v, (rows, columns), cancel)
            }
            TensorData::Float32(_) | TensorData::Int64(_) | TensorData::Int32(_) => {
                let (trees, scorer) = &self.single;
                self.answer(trees, scorer, &floats(x)?, (rows, columns), cancel)
            }
            _ => Err(no_kernel(x)),
        }
    }

    fn answer<T: Number>(
        &self,
        trees: &Trees<T>,
        scorer: &Scorer<T>,
        x: &[T],
        (rows, columns): (usize, usize),
        cancel: &CancelFlag,
    ) -> Outcome<Vec<Tensor>> {
        let width = self.ensemble.targets;
        let mut scores = vec![0f32; count(&[rows, width])?];
        let mut winners = Vec::with_capacity(if self.labels.is_some() { rows } else { 0 });
        let mut sums = scorer.sums(rows.min(CHUNK_ROWS));
        for first in (0..rows).step_by(CHUNK_ROWS) {
            check_cancel(cancel)?;
            let end = rows.min(first + CHUNK_ROWS);
            trees.sum(&x[first * columns..end * columns], columns, &mut sums, end - first);
            for row in first..end {
                let winner =
                    scorer.finish(&mut sums, row - first, &mut scores[row * width..(row + 1) * width]);
                if self.labels.is_some() {
                    winners.push(winner);
                }
            }
        }
        let scores = tensor(vec![rows, width], TensorData::Float32(scores))?;
        Ok(match &self.labels {
            Some(labels) => vec![tensor(vec![rows], labels.pick(&winners))?, scores],
            None => vec![scores],
        })
    }
}
