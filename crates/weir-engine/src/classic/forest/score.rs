//! From summed weights to answers.

use super::{
    Post,
    parse::{Aggregate, Ensemble},
    trees::{Join, Number},
};
use crate::classic::{labels::Labels, post::probit};

/// A running sum, and whether any leaf added to it: onnxruntime answers 0 for a target that
/// none did, whatever its base value.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum<T> {
    value: T,
    hit: bool,
}

impl<T: Number> Sum<T> {
    /// Lets `weight` join.
    #[inline(always)]
    #[allow(clippy::neg_cmp_op_on_partial_ord)] // NaN keeps what is there, as in onnxruntime
    pub(super) fn add(&mut self, join: Join, weight: T) {
        match join {
            Join::Add => self.value += weight,
            Join::Min if self.hit && !(weight < self.value) => {}
            Join::Max if self.hit && !(weight > self.value) => {}
            Join::Min | Join::Max => self.value = weight,
        }
        self.hit = true;
    }

    fn shown(self) -> f32 {
        if self.hit { self.value.f32() } else { 0.0 }
    }
}

/// Sums of some rows, one a target.
#[derive(Debug)]
pub(super) struct Sums<T> {
    targets: usize,
    sums: Vec<Sum<T>>,
}

impl<T: Number> Sums<T> {
    /// Starts `rows` rows anew.
    pub(super) fn clear(&mut self, rows: usize) {
        self.sums[..rows * self.targets].fill(Sum::default());
    }

    /// The sums of one target in rows from `first` on.
    pub(super) fn of_target(&mut self, first: usize, target: usize) -> impl Iterator<Item = &mut Sum<T>> {
        self.sums[first * self.targets..].iter_mut().skip(target).step_by(self.targets)
    }

    /// Lets `weight` join the sum of `target` in row `row`.
    #[inline(always)]
    pub(super) fn add(&mut self, join: Join, row: usize, target: usize, weight: T) {
        self.sums[row * self.targets + target].add(join, weight);
    }
}

/// How the rows of one forest are finished.
#[derive(Debug)]
pub(super) struct Scorer<T> {
    targets: usize,
    classes: bool,
    base: Vec<T>,
    trees: Option<usize>,
    post: Post,
    binary: Binary,
}

/// What a classifier of two classes does with a single score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Binary {
    /// Weights go to one class and none is negative: a probability, cut at 0.5.
    Probability,
    /// Weights go to one class: a raw score, cut at 0.
    Score,
    /// Weights go to both classes.
    Both,
}

impl<T: Number> Scorer<T> {
    /// How rows of `ensemble` are finished.
    pub(super) fn new(ensemble: &Ensemble, labels: Option<&Labels>) -> Self {
        let one_class = ensemble.weights.windows(2).all(|w| w[0].0 == w[1].0);
        let positive = ensemble.weights.iter().all(|w| w.1 >= 0.0 || w.1.is_nan());
        Self {
            targets: ensemble.targets,
            classes: labels.is_some(),
            base: ensemble.base.iter().map(|&b| T::of(b)).collect(),
            trees: (ensemble.aggregate == Aggregate::Average).then_some(ensemble.roots.len()),
            post: ensemble.post,
            binary: match (one_class && ensemble.targets == 2, positive) {
                (true, true) => Binary::Probability,
                (true, false) => Binary::Score,
                (false, _) => Binary::Both,
            },
        }
    }

    /// Room for the sums of `rows` rows.
    pub(super) fn sums(&self, rows: usize) -> Sums<T> {
        Sums { targets: self.targets, sums: vec![Sum::default(); rows * self.targets] }
    }

    /// Writes row `row`'s answer into `out` and gives the winning class (0 for regressors).
    pub(super) fn finish(&self, sums: &mut Sums<T>, row: usize, out: &mut [f32]) -> usize {
        let sums = &mut sums.sums[row * self.targets..(row + 1) * self.targets];
        match (self.classes, sums.len()) {
            (false, 1) => self.one_target(sums[0], out),
            (false, _) => self.targets(sums, out),
            (true, 1) => return self.one_class(&mut sums[0], out),
            (true, 2) => return self.two_classes(sums, out),
            (true, _) => return self.classes(sums, out),
        }
        0
    }

    fn mean(&self, value: T) -> T {
        self.trees.map_or(value, |trees| value.divided(trees))
    }

    /// One target: of the transforms onnxruntime applies PROBIT only.
    fn one_target(&self, sum: Sum<T>, out: &mut [f32]) {
        let base = self.base.first().copied().unwrap_or_default();
        let score = self.mean(sum.value).plus(base).f32();
        out[0] = if self.post == Post::Probit { probit(score) } else { score };
    }

    fn targets(&self, sums: &mut [Sum<T>], out: &mut [f32]) {
        for (i, sum) in sums.iter_mut().enumerate() {
            sum.value = self.mean(sum.value).plus(self.base.get(i).copied().unwrap_or_default());
        }
        self.write(sums, out);
    }

    fn write(&self, sums: &[Sum<T>], out: &mut [f32]) {
        for (o, sum) in out.iter_mut().zip(sums) {
            *o = sum.shown();
        }
        self.post.apply(out);
    }

    fn one_class(&self, sum: &mut Sum<T>, out: &mut [f32]) -> usize {
        sum.value = sum.value.plus(self.base.first().copied().unwrap_or_default());
        let score = sum.value.f32();
        out[0] = if self.post == Post::Probit { probit(score) } else { score };
        0
    }

    fn classes(&self, sums: &mut [Sum<T>], out: &mut [f32]) -> usize {
        for (sum, &base) in sums.iter_mut().zip(&self.base) {
            *sum = Sum { value: if sum.hit { sum.value.plus(base) } else { base }, hit: true };
        }
        let mut winner: Option<usize> = None;
        for (i, sum) in sums.iter().enumerate().filter(|(_, sum)| sum.hit) {
            if winner.is_none_or(|w| sum.value > sums[w].value) {
                winner = Some(i);
            }
        }
        self.write(sums, out);
        winner.unwrap_or(0)
    }

    /// Two classes, by onnxruntime's rules (the specification says nothing): with one base
    /// value it joins the first score; with two, the second replaces both. Where leaves
    /// give one score only, the other is made from it.
    fn two_classes(&self, sums: &mut [Sum<T>], out: &mut [f32]) -> usize {
        match *self.base {
            // Not the second's own score: onnxruntime takes the first, whatever it means.
            [_, second] if sums[1].hit => {
                sums[1].value = second.plus(sums[0].value);
                sums[0].value = -sums[1].value;
            }
            [first, second] => {
                sums[0].value = sums[0].value.plus(first);
                sums[1].value = sums[1].value.plus(second);
            }
            [first] => sums[0].value = sums[0].value.plus(first),
            _ => {}
        }
        let pair = sums[1].hit || self.base.len() == 2;
        let deciding = if sums[1].hit { sums[1] } else { sums[0] };
        let cut = if self.binary == Binary::Probability { 0.5 } else { 0.0 };
        let winner = usize::from(deciding.hit && deciding.value > T::of(cut));
        if pair {
            self.write(sums, out);
        } else {
            self.single_score(sums[0].value.f32(), out);
        }
        winner
    }

    fn single_score(&self, score: f32, out: &mut [f32]) {
        let pair = match (self.post, self.binary) {
            // onnxruntime leaves the second number uninitialised here; it is the complement.
            (Post::Probit, _) => [probit(score), 1.0 - probit(score)],
            (_, Binary::Probability) => [1.0 - score, score],
            (post, _) => post.pair(score),
        };
        out.copy_from_slice(&pair);
    }
}
