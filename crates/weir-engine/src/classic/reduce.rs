//! Reductions, `ArgMax`, `ArgMin`, softmaxes and `LpNormalization`.

use weir_types::{Tensor, TensorData};

use super::{
    index::Lines,
    op::{Op, Outcome, Source, axis, count, gather_offsets, list, needed, no_kernel, one, strides},
};

/// How a reduction goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fold {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    L1,
    L2,
    SumSquare,
    LogSumExp,
}

macro_rules! reduction {
    ($(#[$doc:meta] $name:ident $fold:ident),*) => {
        $(#[$doc]
        pub(super) fn $name(source: &Source<'_>) -> Outcome<Op> {
            reduce(source, Fold::$fold)
        })*
    };
}
reduction!(
    /// `ReduceSum`.
    sum Sum,
    /// `ReduceMean`.
    mean Mean,
    /// `ReduceMax`.
    max Max,
    /// `ReduceMin`.
    min Min,
    /// `ReduceProd`.
    prod Prod,
    /// `ReduceL1`.
    l1 L1,
    /// `ReduceL2`.
    l2 L2,
    /// `ReduceSumSquare`.
    sum_square SumSquare,
    /// `ReduceLogSumExp`.
    log_sum_exp LogSumExp
);

fn reduce(source: &Source<'_>, fold: Fold) -> Outcome<Op> {
    let attribute = source.node.ints("axes").to_vec();
    let keep = source.node.int("keepdims").unwrap_or(1) != 0;
    let noop = source.node.int("noop_with_empty_axes").unwrap_or(0) != 0;
    Ok(Box::new(move |inputs, _| {
        let x = needed(inputs, 0)?;
        let rank = x.shape().len();
        let axes = list(inputs, 1, &attribute)?.unwrap_or_default();
        if axes.is_empty() && noop {
            return Ok(vec![x.clone()]);
        }
        let mut gone = axes.iter().map(|&a| axis(a, rank)).collect::<Outcome<Vec<_>>>()?;
        if gone.is_empty() {
            gone = (0..rank).collect();
        }
        let data = match x.data() {
            TensorData::Float32(v) => {
                TensorData::Float32(groups(x, &gone, |at| fold.single(at.map(|i| v[i])))?)
            }
            TensorData::Float64(v) => {
                TensorData::Float64(groups(x, &gone, |at| fold.double(at.map(|i| v[i])))?)
            }
            TensorData::Int64(v) => TensorData::Int64(groups(x, &gone, |at| fold.whole(at.map(|i| v[i])))?),
            TensorData::Int32(v) => {
                TensorData::Int32(groups(x, &gone, |at| fold.whole(at.map(|i| v[i].into())) as i32)?)
            }
            _ => return Err(no_kernel(x)),
        };
        one(reduced_shape(x.shape(), &gone, keep), data)
    }))
}

fn reduced_shape(shape: &[usize], gone: &[usize], keep: bool) -> Vec<usize> {
    let dim = |(d, &n): (usize, &usize)| match (gone.contains(&d), keep) {
        (true, true) => Some(1),
        (true, false) => None,
        (false, _) => Some(n),
    };
    shape.iter().enumerate().filter_map(dim).collect()
}

/// Calls `f` with the positions of each group of elements that become one.
fn groups<R>(
    x: &Tensor,
    gone: &[usize],
    f: impl Fn(&mut dyn ExactSizeIterator<Item = usize>) -> R,
) -> Outcome<Vec<R>> {
    let own = strides(x.shape());
    let part = |inside: bool| {
        let dims = (0..own.len()).filter(|d| gone.contains(d) == inside);
        let (shape, steps): (Vec<_>, Vec<_>) = dims.map(|d| (x.shape()[d], own[d])).unzip();
        gather_offsets(&shape, &steps, 0)
    };
    let (kept, inner) = (part(false)?, part(true)?);
    Ok(kept.iter().map(|base| f(&mut inner.iter().map(|i| base + i))).collect())
}

macro_rules! float_fold {
    ($name:ident, $ty:ty) => {
        /// Reduces floats in their own precision, as onnxruntime does.
        fn $name(self, values: impl ExactSizeIterator<Item = $ty>) -> $ty {
            let n = values.len();
            let nan_or =
                |a: $ty, b: $ty, a_wins: bool| if a.is_nan() || (a_wins && !b.is_nan()) { a } else { b };
            match self {
                Fold::Sum => values.sum(),
                Fold::Mean => values.sum::<$ty>() / n as $ty,
                Fold::Prod => values.product(),
                Fold::Max => values.fold(<$ty>::NEG_INFINITY, |a, b| nan_or(a, b, a > b)),
                Fold::Min => values.fold(<$ty>::INFINITY, |a, b| nan_or(a, b, a < b)),
                Fold::L1 => values.map(<$ty>::abs).sum(),
                Fold::L2 => values.map(|x| x * x).sum::<$ty>().sqrt(),
                Fold::SumSquare => values.map(|x| x * x).sum(),
                Fold::LogSumExp => {
                    let values: Vec<$ty> = values.collect();
                    let most = values.iter().copied().fold(<$ty>::NEG_INFINITY, <$ty>::max);
                    let most = if most.is_finite() { most } else { 0.0 };
                    values.iter().map(|x| (x - most).exp()).sum::<$ty>().ln() + most
                }
            }
        }
    };
}

impl Fold {
    float_fold!(single, f32);
    float_fold!(double, f64);

    /// Reduces integers, wrapping.
    fn whole(self, mut values: impl ExactSizeIterator<Item = i64>) -> i64 {
        let n = values.len() as i64;
        match self {
            Fold::Max => values.max().unwrap_or(i64::MIN),
            Fold::Min => values.min().unwrap_or(i64::MAX),
            Fold::Prod => values.fold(1, i64::wrapping_mul),
            Fold::L1 => values.fold(0, |a, b| a.wrapping_add(b.wrapping_abs())),
            Fold::SumSquare => values.fold(0, |a, b| a.wrapping_add(b.wrapping_mul(b))),
            Fold::Mean => values.fold(0, i64::wrapping_add).checked_div(n).unwrap_or(0),
            Fold::Sum => values.fold(0, i64::wrapping_add),
            Fold::L2 | Fold::LogSumExp => {
                let wide: Vec<f64> = values.by_ref().map(|v| v as f64).collect();
                self.double(wide.into_iter()) as i64
            }
        }
    }
}

/// `ArgMax`.
pub(super) fn arg_max(source: &Source<'_>) -> Outcome<Op> {
    arg(source, true)
}

/// `ArgMin`.
pub(super) fn arg_min(source: &Source<'_>) -> Outcome<Op> {
    arg(source, false)
}

fn arg(source: &Source<'_>, most: bool) -> Outcome<Op> {
    let along = source.node.int("axis").unwrap_or(0);
    let keep = source.node.int("keepdims").unwrap_or(1) != 0;
    let last = source.node.int("select_last_index").unwrap_or(0) != 0;
    Ok(Box::new(move |inputs, _| {
        let x = needed(inputs, 0)?;
        let along = axis(along, x.shape().len())?;
        let lines = Lines::new(x.shape(), along)?;
        if lines.size == 0 {
            return Err(super::op::input_error("ArgMax or ArgMin of nothing"));
        }
        macro_rules! best {
            ($v:expr) => {{
                let better = |a, b| if most { a > b } else { a < b };
                let pick = |line: usize| {
                    (1..lines.size).fold(0, |best, i| {
                        let (new, old) = ($v[lines.at(line, i)], $v[lines.at(line, best)]);
                        if better(new, old) || (last && new == old) { i } else { best }
                    }) as i64
                };
                (0..lines.count()).map(pick).collect()
            }};
        }
        let out: Vec<i64> = match x.data() {
            TensorData::Float32(v) => best!(v),
            TensorData::Float64(v) => best!(v),
            TensorData::Int64(v) => best!(v),
            TensorData::Int32(v) => best!(v),
            _ => return Err(no_kernel(x)),
        };
        one(reduced_shape(x.shape(), &[along], keep), TensorData::Int64(out))
    }))
}

/// `Softmax`.
pub(super) fn softmax(source: &Source<'_>) -> Outcome<Op> {
    by_lines(source, |line| {
        shifted_exp(line);
        let sum: f32 = line.iter().sum();
        line.iter_mut().for_each(|v| *v /= sum);
    })
}

/// `LogSoftmax`.
pub(super) fn log_softmax(source: &Source<'_>) -> Outcome<Op> {
    by_lines(source, |line| {
        let most = line.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum = line.iter().map(|v| (v - most).exp()).sum::<f32>().ln();
        line.iter_mut().for_each(|v| *v = *v - most - sum);
    })
}

fn shifted_exp(line: &mut [f32]) {
    let most = line.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    line.iter_mut().for_each(|v| *v = (*v - most).exp());
}

/// A softmax: before opset 13 over all dimensions from `axis` on, since then over one.
fn by_lines(source: &Source<'_>, f: fn(&mut [f32])) -> Outcome<Op> {
    let whole = source.opset < 13;
    let along = source.node.int("axis").unwrap_or(if whole { 1 } else { -1 });
    Ok(Box::new(move |inputs, _| {
        let x = needed(inputs, 0)?;
        let along = axis(along, x.shape().len())?;
        let lines = if whole {
            let (rows, columns) = x.shape().split_at(along);
            Lines::new(&[count(rows)?, count(columns)?], 1)?
        } else {
            Lines::new(x.shape(), along)?
        };
        Ok(vec![each_line(x, &lines, f)?])
    }))
}

fn each_line(x: &Tensor, lines: &Lines, f: impl Fn(&mut [f32])) -> Outcome<Tensor> {
    let TensorData::Float32(v) = x.data() else { return Err(no_kernel(x)) };
    let mut out = v.clone();
    let mut line = vec![0f32; lines.size];
    for n in 0..lines.count() {
        for (i, v) in line.iter_mut().enumerate() {
            *v = out[lines.at(n, i)];
        }
        f(&mut line);
        for (i, &v) in line.iter().enumerate() {
            out[lines.at(n, i)] = v;
        }
    }
    super::op::tensor(x.shape().to_vec(), TensorData::Float32(out))
}

/// `LpNormalization`; lines of zeros stay.
pub(super) fn lp_normalization(source: &Source<'_>) -> Outcome<Op> {
    let along = source.node.int("axis").unwrap_or(-1);
    let p = source.node.int("p").unwrap_or(2);
    if p != 1 && p != 2 {
        return Err(source.broken(format!("p is {p}, not 1 or 2")));
    }
    Ok(Box::new(move |inputs, _| {
        let x = needed(inputs, 0)?;
        let lines = Lines::new(x.shape(), axis(along, x.shape().len())?)?;
        let normalize = |line: &mut [f32]| {
            let norm = match p {
                1 => line.iter().map(|v| v.abs()).sum::<f32>(),
                _ => line.iter().map(|v| v * v).sum::<f32>().sqrt(),
            };
            if norm != 0.0 {
                line.iter_mut().for_each(|v| *v /= norm);
            }
        };
        Ok(vec![each_line(x, &lines, normalize)?])
    }))
}
