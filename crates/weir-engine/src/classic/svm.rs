//! `SVMClassifier`, `SVMRegressor`: support vectors, and the linear form that has none.
//!
//! Probabilities follow Wu, Lin, Weng: "Probability Estimates for Multi-class
//! Classification by Pairwise Coupling" (JMLR 5, 2004), as libsvm and onnxruntime do.

use weir_types::{Tensor, TensorData};

use super::{
    labels::Labels,
    linear::{dot, first_largest},
    op::{Op, Outcome, Source, check_cancel, count, floats, input_error, matrix, needed, no_kernel, tensor},
    post::{Post, logistic},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Linear,
    Poly,
    Rbf,
    Sigmoid,
}

/// A kernel function over vectors.
struct Kernel {
    kind: Kind,
    gamma: f32,
    offset: f32,
    degree: f32,
    /// Vectors side by side, `columns` long.
    vectors: Vec<f32>,
    columns: usize,
}

impl Kernel {
    fn read(source: &Source<'_>, vectors: Vec<f32>, count: usize, linear: bool) -> Outcome<Self> {
        let kinds =
            [("LINEAR", Kind::Linear), ("POLY", Kind::Poly), ("RBF", Kind::Rbf), ("SIGMOID", Kind::Sigmoid)];
        let (gamma, offset, degree) = match *source.node.floats("kernel_params") {
            [] => (0.0, 0.0, 0.0),
            [gamma, offset, degree, ..] => (gamma, offset, degree),
            _ => return Err(source.broken("kernel_params needs gamma, coef0 and degree")),
        };
        if count == 0 || vectors.is_empty() || !vectors.len().is_multiple_of(count) {
            return Err(source.broken(format!("{} numbers for {count} support vectors", vectors.len())));
        }
        let kind = if linear { Kind::Linear } else { source.word("kernel_type", &kinds)? };
        Ok(Self { kind, gamma, offset, degree, columns: vectors.len() / count, vectors })
    }

    /// The kernel of `row` with each vector, in float32.
    fn apply(&self, row: &[f32], out: &mut Vec<f32>) {
        out.clear();
        let value = |v: &[f32]| match self.kind {
            Kind::Linear => product(row, v),
            Kind::Poly => power(self.gamma * product(row, v) + self.offset, self.degree),
            Kind::Sigmoid => (self.gamma * product(row, v) + self.offset).tanh(),
            Kind::Rbf => {
                let distance = row.iter().zip(v).fold(0.0, |sum, (x, y)| sum + (x - y) * (x - y));
                (-self.gamma * distance).exp()
            }
        };
        out.extend(self.vectors.chunks(self.columns).map(value));
    }

    /// Rows of `x`, checked against the vectors.
    fn rows<'a>(&self, x: &'a Tensor) -> Outcome<(usize, std::borrow::Cow<'a, [f32]>)> {
        let (rows, columns) = matrix(x)?;
        if columns != self.columns {
            return Err(input_error(format!(
                "the model takes {} columns, rows have {columns}",
                self.columns
            )));
        }
        Ok((rows, floats(x)?))
    }
}

/// The scalar product, rounded once: onnxruntime's fused multiply-adds come close to that,
/// and the cubes of `POLY` magnify what plain float32 sums lose.
fn product(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>() as f32
}

fn power(x: f32, degree: f32) -> f32 {
    match degree {
        2.0 => x * x,
        3.0 => x * x * x,
        _ => x.powf(degree),
    }
}

/// Compiles a regressor.
pub(super) fn regressor(source: &Source<'_>) -> Outcome<Op> {
    let coefficients = source.node.floats("coefficients").to_vec();
    let supports = usize::try_from(source.node.int("n_supports").unwrap_or(0)).unwrap_or(0);
    let linear = supports == 0;
    let vectors = if linear { coefficients.clone() } else { source.node.floats("support_vectors").to_vec() };
    let kernel = Kernel::read(source, vectors, supports.max(1), linear)?;
    if !linear && coefficients.len() != supports {
        return Err(
            source.broken(format!("{} coefficients for {supports} support vectors", coefficients.len()))
        );
    }
    let rho = *source.node.floats("rho").first().ok_or_else(|| source.broken("rho is missing"))?;
    let one_class = source.node.int("one_class").unwrap_or(0) != 0;
    Ok(Box::new(move |inputs, cancel| {
        let x = needed(inputs, 0)?;
        if !matches!(x.data(), TensorData::Float32(_)) {
            return Err(no_kernel(x));
        }
        let (rows, x) = kernel.rows(x)?;
        let mut out = Vec::with_capacity(count(&[rows])?);
        let mut values = Vec::new();
        for row in x.chunks(kernel.columns) {
            check_cancel(cancel)?;
            kernel.apply(row, &mut values);
            let sum = if linear { values[0] } else { dot(&values, &coefficients) } + rho;
            out.push(if one_class { if sum > 0.0 { 1.0 } else { -1.0 } } else { sum });
        }
        Ok(vec![tensor(vec![rows, 1], TensorData::Float32(out))?])
    }))
}

/// A classifier over support vectors: one machine for each pair of classes.
struct Pairs {
    coefficients: Vec<f32>,
    /// Where the vectors of each class start, and their total.
    starts: Vec<usize>,
    rho: Vec<f32>,
    prob_a: Vec<f32>,
    prob_b: Vec<f32>,
}

/// Compiles a classifier.
pub(super) fn classifier(source: &Source<'_>) -> Outcome<Op> {
    let labels = Labels::read(source, "classlabels_ints", "classlabels_strings")?;
    let coefficients = source.node.floats("coefficients").to_vec();
    let post = Post::read(source)?;
    let supports = supports(source)?;
    let rho = source.node.floats("rho").to_vec();
    if supports.is_empty() || supports.iter().sum::<usize>() == 0 {
        return liblinear(source, labels, coefficients, &rho, post);
    }
    let classes = labels.len();
    let starts: Vec<usize> = std::iter::once(0)
        .chain(supports.iter().scan(0usize, |sum, n| {
            *sum += n;
            Some(*sum)
        }))
        .collect();
    let total = starts[starts.len() - 1];
    let kernel = Kernel::read(source, source.node.floats("support_vectors").to_vec(), total, false)?;
    let pairs = Pairs {
        coefficients,
        starts,
        rho,
        prob_a: source.node.floats("prob_a").to_vec(),
        prob_b: source.node.floats("prob_b").to_vec(),
    };
    pairs.check(classes, supports.len()).map_err(|why| source.broken(why))?;
    Ok(Box::new(move |inputs, cancel| {
        let (rows, x) = kernel.rows(needed(inputs, 0)?)?;
        let width = pairs.width(classes);
        let mut out = Vec::with_capacity(count(&[rows, width])?);
        let (mut winners, mut values) = (Vec::with_capacity(rows), Vec::new());
        for row in x.chunks(kernel.columns) {
            check_cancel(cancel)?;
            kernel.apply(row, &mut values);
            winners.push(pairs.answer(&values, classes, post, &mut out));
        }
        let scores = tensor(vec![rows, width], TensorData::Float32(out))?;
        Ok(vec![tensor(vec![rows], labels.pick_binary(&winners))?, scores])
    }))
}

fn supports(source: &Source<'_>) -> Outcome<Vec<usize>> {
    // More than a file can hold, and still no sum of them wraps.
    let known = |&n: &i64| usize::try_from(n).ok().filter(|&n| n <= 1 << 31);
    let counts = source.node.ints("vectors_per_class").iter().map(known).collect::<Option<Vec<_>>>();
    counts.ok_or_else(|| source.broken("vectors_per_class cannot be"))
}

impl Pairs {
    fn check(&self, classes: usize, groups: usize) -> Result<(), String> {
        let total = self.starts[self.starts.len() - 1];
        let machines = classes * (classes - 1) / 2;
        if !(2..=1 << 16).contains(&classes) || groups != classes {
            return Err(format!("{groups} groups of support vectors for {classes} classes"));
        }
        if self.coefficients.len() < (classes - 1) * total || self.rho.len() < machines {
            return Err("coefficients or rho are too few".to_owned());
        }
        let probabilities = [&self.prob_a, &self.prob_b];
        let enough = |p: &&Vec<f32>| p.len() >= machines;
        if probabilities.iter().any(|p| !p.is_empty()) && !probabilities.iter().all(enough) {
            return Err("prob_a and prob_b are too few".to_owned());
        }
        Ok(())
    }

    /// Scores of a row: probabilities one a class, else one a pair (two for a single pair).
    fn width(&self, classes: usize) -> usize {
        match (self.prob_a.is_empty(), classes) {
            (false, _) => classes,
            (true, 2) => 2,
            (true, _) => classes * (classes - 1) / 2,
        }
    }

    /// One row: appends its scores, gives the winning class.
    fn answer(&self, kernel: &[f32], classes: usize, post: Post, out: &mut Vec<f32>) -> usize {
        let mut votes = vec![0usize; classes];
        let scores = self.machines(kernel, &mut votes);
        // The first class with most votes.
        let most = votes.iter().max().copied().unwrap_or(0);
        let winner = votes.iter().position(|&v| v == most).unwrap_or(0);
        let start = out.len();
        if !self.prob_a.is_empty() {
            out.extend(self.probabilities(&scores, classes));
            post.apply(&mut out[start..]);
        } else if classes == 2 {
            // The score stands for the first class, so its negative comes first.
            let pair = |s: f32| if post == Post::None { [-s, s] } else { [1.0 - s, s] };
            out.extend(pair(scores[0]));
        } else {
            out.extend(&scores);
            post.apply(&mut out[start..]);
        }
        winner
    }

    /// The score of each pair; sums in float64 of float32 products.
    fn machines(&self, kernel: &[f32], votes: &mut [usize]) -> Vec<f32> {
        let (classes, total) = (votes.len(), self.starts[votes.len()]);
        let mut scores = Vec::with_capacity(classes * (classes - 1) / 2);
        for i in 0..classes - 1 {
            for j in i + 1..classes {
                let part = |class: usize, row: usize| {
                    let range = self.starts[class]..self.starts[class + 1];
                    let weights = &self.coefficients[row * total..][range.clone()];
                    weights.iter().zip(&kernel[range]).map(|(w, k)| f64::from(w * k))
                };
                let sum = part(i, j - 1).chain(part(j, i)).sum::<f64>() + f64::from(self.rho[scores.len()]);
                votes[if sum > 0.0 { i } else { j }] += 1;
                scores.push(sum as f32);
            }
        }
        scores
    }

    fn probabilities(&self, scores: &[f32], classes: usize) -> Vec<f32> {
        let mut pairwise = vec![0f32; classes * classes];
        let mut machine = 0;
        for i in 0..classes {
            for j in i + 1..classes {
                let platt = 1.0 - logistic(scores[machine] * self.prob_a[machine] + self.prob_b[machine]);
                let p = platt.clamp(1e-7, 1.0 - 1e-7);
                pairwise[i * classes + j] = p;
                pairwise[j * classes + i] = 1.0 - p;
                machine += 1;
            }
        }
        couple(&pairwise, classes)
    }
}

/// Class probabilities from pairwise ones, by the fixed-point iteration of the paper's
/// second method.
fn couple(r: &[f32], k: usize) -> Vec<f32> {
    let at = |i: usize, j: usize| i * k + j;
    let mut q = vec![0f32; k * k];
    for i in 0..k {
        for j in (0..k).filter(|&j| j != i) {
            q[at(i, i)] += r[at(j, i)] * r[at(j, i)];
            q[at(i, j)] = if j < i { q[at(j, i)] } else { -r[at(j, i)] * r[at(i, j)] };
        }
    }
    let mut p = vec![1.0 / k as f32; k];
    let most_error = 0.005 / k as f32;
    for _ in 0..100 {
        let mut qp: Vec<f32> = (0..k).map(|i| dot(&q[i * k..][..k], &p)).collect();
        let mut pqp = dot(&p, &qp);
        if qp.iter().all(|v| (v - pqp).abs() < most_error) {
            break;
        }
        for i in 0..k {
            let step = (pqp - qp[i]) / q[at(i, i)];
            p[i] += step;
            pqp = (pqp + step * (step * q[at(i, i)] + 2.0 * qp[i])) / (1.0 + step) / (1.0 + step);
            for j in 0..k {
                qp[j] = (qp[j] + step * q[at(i, j)]) / (1.0 + step);
                p[j] /= 1.0 + step;
            }
        }
    }
    p
}

/// The form without support vectors: one row of coefficients a class.
fn liblinear(
    source: &Source<'_>,
    labels: Labels,
    coefficients: Vec<f32>,
    rho: &[f32],
    post: Post,
) -> Outcome<Op> {
    let classes = labels.len();
    let rho = *rho.first().ok_or_else(|| source.broken("rho is missing"))?;
    let positive = coefficients.iter().all(|&c| c >= 0.0);
    let kernel = Kernel::read(source, coefficients, classes, true)?;
    Ok(Box::new(move |inputs, cancel| {
        let (rows, x) = kernel.rows(needed(inputs, 0)?)?;
        let mut out = Vec::with_capacity(count(&[rows, classes])?);
        let (mut winners, mut values) = (Vec::with_capacity(rows), Vec::new());
        for row in x.chunks(kernel.columns) {
            check_cancel(cancel)?;
            kernel.apply(row, &mut values);
            values.iter_mut().for_each(|v| *v += rho);
            let best = first_largest(&values);
            // Two classes: the second as soon as the best score passes the cut.
            let cut = if positive { values[best] >= 0.5 } else { values[best] > 0.0 };
            winners.push(if classes == 2 && cut { 1 } else { best });
            if classes > 1 || post == Post::Probit {
                post.apply(&mut values);
            }
            out.extend(&values);
        }
        let scores = tensor(vec![rows, classes], TensorData::Float32(out))?;
        Ok(vec![tensor(vec![rows], labels.pick(&winners))?, scores])
    }))
}
