//! `post_transform` of `ai.onnx.ml`, as onnxruntime computes it: in float32, with its
//! constants.

use super::op::{Outcome, Source};

/// How raw scores become an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Post {
    None,
    Logistic,
    Softmax,
    SoftmaxZero,
    Probit,
}

/// The words of the attribute, the default first.
const WORDS: [(&str, Post); 5] = [
    ("NONE", Post::None),
    ("LOGISTIC", Post::Logistic),
    ("SOFTMAX", Post::Softmax),
    ("SOFTMAX_ZERO", Post::SoftmaxZero),
    ("PROBIT", Post::Probit),
];

impl Post {
    /// The node's `post_transform`.
    pub(super) fn read(source: &Source<'_>) -> Outcome<Self> {
        source.word("post_transform", &WORDS)
    }

    /// The same by its number in `TreeEnsemble` (`ai.onnx.ml` 5).
    pub(super) fn by_number(number: i64) -> Option<Self> {
        usize::try_from(number).ok().and_then(|n| WORDS.get(n)).map(|(_, post)| *post)
    }

    /// Turns the raw scores of one row (two or more) into its answer.
    pub(super) fn apply(self, scores: &mut [f32]) {
        match self {
            Post::None => {}
            Post::Logistic => scores.iter_mut().for_each(|s| *s = logistic(*s)),
            Post::Probit => scores.iter_mut().for_each(|s| *s = probit(*s)),
            Post::Softmax => softmax(scores),
            Post::SoftmaxZero => softmax_zero(scores),
        }
    }

    /// Both scores of a binary classifier that has only one.
    pub(super) fn pair(self, score: f32) -> [f32; 2] {
        match self {
            Post::Logistic => [logistic(-score), logistic(score)],
            _ => [-score, score],
        }
    }
}

/// 1 / (1 + e^-x) without overflow.
pub(super) fn logistic(x: f32) -> f32 {
    let v = 1.0 / (1.0 + (-x.abs()).exp());
    if x < 0.0 { 1.0 - v } else { v }
}

/// The normal quantile, by Winitzki's approximation of erf⁻¹ with onnxruntime's constants.
pub(super) fn probit(p: f32) -> f32 {
    std::f32::consts::SQRT_2 * erf_inv(2.0 * p - 1.0)
}

fn erf_inv(x: f32) -> f32 {
    let sign = if x < 0.0 { -1.0 } else { 1.0 };
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let v = 2.0 / (std::f32::consts::PI * 0.147) + 0.5 * log;
    let v2 = 1.0 / 0.147 * log;
    sign * (-v + (v * v - v2).sqrt()).sqrt()
}

fn largest(scores: &[f32]) -> f32 {
    scores.iter().fold(f32::MIN, |m, &s| if s > m { s } else { m })
}

fn softmax(scores: &mut [f32]) {
    let most = largest(scores);
    let mut sum = 0.0;
    for s in &mut *scores {
        *s = (*s - most).exp();
        sum += *s;
    }
    scores.iter_mut().for_each(|s| *s /= sum);
}

/// Softmax that leaves scores of zero out of the sum.
fn softmax_zero(scores: &mut [f32]) {
    let most = largest(scores);
    let zero_scale = (-most).exp();
    let mut sum = 0.0;
    for s in &mut *scores {
        if s.abs() > 1e-7 {
            *s = (*s - most).exp();
            sum += *s;
        } else {
            *s *= zero_scale;
        }
    }
    scores.iter_mut().for_each(|s| *s /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logistic_is_symmetric_and_bounded() {
        assert_eq!(logistic(0.0), 0.5);
        assert_eq!((logistic(1e30), logistic(-1e30)), (1.0, 0.0));
        assert!((logistic(2.0) + logistic(-2.0) - 1.0).abs() < 1e-7);
    }

    #[test]
    fn softmax_does_not_overflow() {
        let mut scores = [1000.0, 0.0, -1000.0];
        Post::Softmax.apply(&mut scores);
        assert_eq!(scores, [1.0, 0.0, 0.0]);
    }

    #[test]
    fn probit_is_the_normal_quantile() {
        assert!((probit(0.975) - 1.96).abs() < 0.01);
        assert_eq!(probit(0.5), 0.0);
    }
}
