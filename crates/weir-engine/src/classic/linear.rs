//! `LinearClassifier`, `LinearRegressor`.

use weir_types::{Tensor, TensorData};

use super::{
    labels::Labels,
    op::{
        Inputs, Op, Outcome, Source, check_cancel, count, floats, input_error, matrix, needed, no_kernel,
        tensor,
    },
    post::{Post, logistic},
};
use crate::CancelFlag;

/// `x · coefficientsᵀ + intercepts`, in float32.
struct Linear {
    coefficients: Vec<f32>,
    intercepts: Vec<f32>,
    outputs: usize,
}

impl Linear {
    /// `[rows, outputs]` scores of `x`.
    fn scores(&self, x: &Tensor, cancel: &CancelFlag) -> Outcome<(usize, Vec<f32>)> {
        let (rows, columns) = matrix(x)?;
        if self.outputs * columns != self.coefficients.len() {
            let wanted = self.coefficients.len() / self.outputs;
            return Err(input_error(format!("the model takes {wanted} columns, rows have {columns}")));
        }
        let x = floats(x)?;
        let mut out = Vec::with_capacity(count(&[rows, self.outputs])?);
        for row in 0..rows {
            if row % 256 == 0 {
                check_cancel(cancel)?;
            }
            let row = &x[row * columns..][..columns];
            for output in 0..self.outputs {
                let weights = &self.coefficients[output * columns..][..columns];
                out.push(dot(row, weights) + self.intercepts.get(output).copied().unwrap_or(0.0));
            }
        }
        Ok((rows, out))
    }
}

/// Scalar product in float32, from the first element on.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0.0, |sum, (x, y)| sum + x * y)
}

/// Compiles a regressor.
pub(super) fn regressor(source: &Source<'_>) -> Outcome<Op> {
    let outputs = usize::try_from(source.node.int("targets").unwrap_or(1)).unwrap_or(0);
    let intercepts = source.node.floats("intercepts");
    let linear = Linear {
        coefficients: source.node.floats("coefficients").to_vec(),
        // onnxruntime leaves intercepts of another length out.
        intercepts: if intercepts.len() == outputs { intercepts.to_vec() } else { Vec::new() },
        outputs,
    };
    check(source, &linear)?;
    let post = Post::read(source)?;
    Ok(Box::new(move |inputs, cancel| {
        let x = needed(inputs, 0)?;
        if !matches!(x.data(), TensorData::Float32(_)) {
            return Err(no_kernel(x));
        }
        let (rows, mut scores) = linear.scores(x, cancel)?;
        finish(post, &mut scores, linear.outputs);
        Ok(vec![tensor(vec![rows, linear.outputs], TensorData::Float32(scores))?])
    }))
}

fn check(source: &Source<'_>, linear: &Linear) -> Outcome<()> {
    let whole = linear.outputs > 0 && linear.coefficients.len().is_multiple_of(linear.outputs);
    if linear.coefficients.is_empty() || !whole {
        let n = linear.coefficients.len();
        return Err(source.broken(format!("{n} coefficients for {} outputs", linear.outputs)));
    }
    Ok(())
}

/// The transform, row by row; of a single score onnxruntime transforms PROBIT only.
fn finish(post: Post, scores: &mut [f32], outputs: usize) {
    if outputs > 1 || post == Post::Probit {
        scores.chunks_mut(outputs).for_each(|row| post.apply(row));
    }
}

/// Compiles a classifier.
pub(super) fn classifier(source: &Source<'_>) -> Outcome<Op> {
    let labels = Labels::read(source, "classlabels_ints", "classlabels_strings")?;
    let intercepts = source.node.floats("intercepts").to_vec();
    let outputs = if intercepts.is_empty() { labels.len() } else { intercepts.len() };
    let linear = Linear { coefficients: source.node.floats("coefficients").to_vec(), intercepts, outputs };
    check(source, &linear)?;
    if outputs > 1 && labels.len() < outputs {
        return Err(source.broken(format!("{} labels for {outputs} classes", labels.len())));
    }
    let post = Post::read(source)?;
    let run = move |inputs: &Inputs<'_>, cancel: &CancelFlag| {
        let (rows, scores) = linear.scores(needed(inputs, 0)?, cancel)?;
        if linear.outputs == 1 {
            one_score(&labels, post, rows, scores)
        } else {
            many(&labels, post, &linear, rows, scores)
        }
    };
    Ok(Box::new(run))
}

/// One score, cut at 0; with two labels the answer has two columns.
fn one_score(labels: &Labels, post: Post, rows: usize, scores: Vec<f32>) -> Outcome<Vec<Tensor>> {
    let winners: Vec<usize> = scores.iter().map(|&s| usize::from(s > 0.0)).collect();
    let pair = |s: &f32| match post {
        Post::Logistic => [1.0 - logistic(*s), logistic(*s)],
        Post::Probit => [1.0 - super::post::probit(*s), super::post::probit(*s)],
        _ => [1.0 - s, *s],
    };
    let (width, data) = match (labels.len(), post) {
        (2, _) => (2, scores.iter().flat_map(pair).collect()),
        (_, Post::Probit) => (1, scores.iter().map(|&s| super::post::probit(s)).collect()),
        _ => (1, scores),
    };
    let scores = tensor(vec![rows, width], TensorData::Float32(data))?;
    Ok(vec![tensor(vec![rows], labels.pick_binary(&winners))?, scores])
}

fn many(
    labels: &Labels,
    post: Post,
    linear: &Linear,
    rows: usize,
    mut scores: Vec<f32>,
) -> Outcome<Vec<Tensor>> {
    let winners: Vec<usize> = scores.chunks(linear.outputs).map(first_largest).collect();
    finish(post, &mut scores, linear.outputs);
    let scores = tensor(vec![rows, linear.outputs], TensorData::Float32(scores))?;
    Ok(vec![tensor(vec![rows], labels.pick(&winners))?, scores])
}

/// Index of the largest element, the first of equals; a leading NaN stays, others lose.
pub(super) fn first_largest(row: &[f32]) -> usize {
    let mut best = 0;
    for (i, &v) in row.iter().enumerate().skip(1) {
        if v > row[best] {
            best = i;
        }
    }
    best
}
