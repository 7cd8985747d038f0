//! Operators that choose elements by position.

use weir_types::{Tensor, TensorData};

use super::op::{
    Inputs, Op, Outcome, Source, axis, count, gather_offsets, input_error, integers, list, needed, no_kernel,
    one, optional, strides, take, tensor,
};

/// Position `i` of `size`; negative ones count from the end.
fn position(i: i64, size: usize) -> Outcome<usize> {
    let at = if i < 0 { i.saturating_add(size as i64) } else { i };
    let inside = usize::try_from(at).ok().filter(|&at| at < size);
    inside.ok_or_else(|| input_error(format!("index {i} is outside of the {size} that there are")))
}

/// `Gather`: whole slices along `axis`.
pub(super) fn gather(source: &Source<'_>) -> Outcome<Op> {
    let along = source.node.int("axis").unwrap_or(0);
    Ok(Box::new(move |inputs, _| {
        let (x, indices) = (needed(inputs, 0)?, needed(inputs, 1)?);
        let along = axis(along, x.shape().len())?;
        let size = x.shape()[along];
        let chosen = integers(indices)?.iter().map(|&i| position(i, size)).collect::<Outcome<Vec<_>>>()?;
        let (outer, inner) = (&x.shape()[..along], &x.shape()[along + 1..]);
        let shape: Vec<usize> = outer.iter().chain(indices.shape()).chain(inner).copied().collect();
        let mut at = Vec::with_capacity(count(&shape)?);
        let block = count(inner)?;
        for row in 0..count(outer)? {
            for &i in &chosen {
                let start = (row * size + i) * block;
                at.extend(start..start + block);
            }
        }
        one(shape, take(x.data(), &at))
    }))
}

/// `GatherElements`: one element along `axis` for each index.
pub(super) fn gather_elements(source: &Source<'_>) -> Outcome<Op> {
    let along = source.node.int("axis").unwrap_or(0);
    Ok(Box::new(move |inputs, _| {
        let (x, indices) = (needed(inputs, 0)?, needed(inputs, 1)?);
        let shape = indices.shape();
        let along = axis(along, x.shape().len())?;
        let inside = |d: usize| d == along || shape[d] <= x.shape()[d];
        if shape.len() != x.shape().len() || !(0..shape.len()).all(inside) {
            return Err(input_error(format!("indices of shape {shape:?} for shape {:?}", x.shape())));
        }
        let own = strides(x.shape());
        let mut steps = own.clone();
        steps[along] = 0;
        let mut at = gather_offsets(shape, &steps, 0)?;
        for (at, &i) in at.iter_mut().zip(&integers(indices)?) {
            *at += position(i, x.shape()[along])? * own[along];
        }
        one(shape.to_vec(), take(x.data(), &at))
    }))
}

/// `Slice`: by attributes before opset 10, by inputs since.
pub(super) fn slice(source: &Source<'_>) -> Outcome<Op> {
    let ints = |name: &str| source.node.ints(name).to_vec();
    let (starts, ends, axes) = (ints("starts"), ints("ends"), ints("axes"));
    Ok(Box::new(move |inputs, _| {
        let x = needed(inputs, 0)?;
        let starts = list(inputs, 1, &starts)?.unwrap_or_default();
        let ends = list(inputs, 2, &ends)?.unwrap_or_default();
        let axes = list(inputs, 3, &axes)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = list(inputs, 4, &[])?.unwrap_or_else(|| vec![1; starts.len()]);
        if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
            return Err(input_error("starts, ends, axes and steps of Slice differ in length"));
        }
        slice_run(x, &starts, &ends, &axes, &steps)
    }))
}

fn slice_run(x: &Tensor, starts: &[i64], ends: &[i64], axes: &[i64], steps: &[i64]) -> Outcome<Vec<Tensor>> {
    let mut chosen: Vec<Vec<usize>> = x.shape().iter().map(|&n| (0..n).collect()).collect();
    for i in 0..starts.len() {
        let d = axis(axes[i], x.shape().len())?;
        chosen[d] = range(x.shape()[d], starts[i], ends[i], steps[i])?;
    }
    let shape: Vec<usize> = chosen.iter().map(Vec::len).collect();
    count(&shape)?;
    let own = strides(x.shape());
    let mut at = vec![0usize];
    for (d, indices) in chosen.iter().enumerate() {
        at = at
            .iter()
            .flat_map(|base| indices.iter().map(move |i| (base, i)))
            .map(|(b, i)| b + i * own[d])
            .collect();
    }
    one(shape, take(x.data(), &at))
}

/// The positions of a slice with a step, by numpy's rules.
fn range(size: usize, start: i64, end: i64, step: i64) -> Outcome<Vec<usize>> {
    let n = size as i64;
    let from_end = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
    let (low, high) = if step < 0 { (-1, n - 1) } else { (0, n) };
    let (mut at, end) =
        (from_end(start).clamp(low.max(0).min(high.max(0)), high.max(0)), from_end(end).clamp(low, high));
    if step == 0 {
        return Err(input_error("the step of Slice is 0"));
    }
    let mut out = Vec::new();
    while at < n && ((step > 0 && at < end) || (step < 0 && at > end)) {
        out.push(at as usize);
        at = match at.checked_add(step) {
            Some(next) if next >= 0 => next,
            _ => break,
        };
    }
    Ok(out)
}

/// `TopK` along `axis`; of equals the first comes first.
pub(super) fn top_k(source: &Source<'_>) -> Outcome<Op> {
    let node = source.node;
    let along = node.int("axis").unwrap_or(-1);
    let largest = node.int("largest").unwrap_or(1) != 0;
    let sorted = node.int("sorted").unwrap_or(1) != 0;
    let fixed = node.int("k");
    let _ = sorted; // sorted is one of the orders that unsorted allows
    Ok(Box::new(move |inputs, _| {
        let x = needed(inputs, 0)?;
        let k = match (optional(inputs, 1), fixed) {
            (Some(k), _) => integers(k)?.first().copied(),
            (None, k) => k,
        };
        let along = axis(along, x.shape().len())?;
        let size = x.shape()[along];
        let k = k.and_then(|k| usize::try_from(k).ok()).filter(|&k| k <= size);
        let k = k.ok_or_else(|| input_error(format!("TopK of more than the {size} that there are")))?;
        match x.data() {
            TensorData::Float32(v) => top(x, v, along, k, |a, b| a.total_cmp(b), largest),
            TensorData::Float64(v) => top(x, v, along, k, |a, b| a.total_cmp(b), largest),
            TensorData::Int64(v) => top(x, v, along, k, Ord::cmp, largest),
            TensorData::Int32(v) => top(x, v, along, k, Ord::cmp, largest),
            _ => Err(no_kernel(x)),
        }
    }))
}

fn top<T: Copy>(
    x: &Tensor,
    v: &[T],
    along: usize,
    k: usize,
    order: impl Fn(&T, &T) -> std::cmp::Ordering,
    largest: bool,
) -> Outcome<Vec<Tensor>> {
    let lines = Lines::new(x.shape(), along)?;
    let mut shape = x.shape().to_vec();
    shape[along] = k;
    let mut at = vec![0usize; count(&shape)?];
    let mut which = vec![0i64; at.len()];
    for line in 0..lines.count() {
        let mut ranked: Vec<usize> = (0..lines.size).collect();
        let compare = |a: &usize, b: &usize| order(&v[lines.at(line, *a)], &v[lines.at(line, *b)]);
        ranked.sort_by(|a, b| if largest { compare(b, a) } else { compare(a, b) });
        for (rank, &i) in ranked.iter().take(k).enumerate() {
            let to = line / lines.inner * k * lines.inner + rank * lines.inner + line % lines.inner;
            at[to] = lines.at(line, i);
            which[to] = i as i64;
        }
    }
    Ok(vec![tensor(shape.clone(), take(x.data(), &at))?, tensor(shape, TensorData::Int64(which))?])
}

/// A tensor seen as lines along one dimension.
pub(super) struct Lines {
    outer: usize,
    pub(super) size: usize,
    pub(super) inner: usize,
}

impl Lines {
    /// The lines of `shape` along dimension `along`.
    pub(super) fn new(shape: &[usize], along: usize) -> Outcome<Self> {
        Ok(Self { outer: count(&shape[..along])?, size: shape[along], inner: count(&shape[along + 1..])? })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.outer * self.inner
    }

    /// Where element `i` of line `line` stands.
    pub(super) fn at(&self, line: usize, i: usize) -> usize {
        (line / self.inner * self.size + i) * self.inner + line % self.inner
    }
}

/// `CumSum` along an axis given as an input.
pub(super) fn cum_sum(source: &Source<'_>) -> Outcome<Op> {
    let flag = |name: &str| source.node.int(name).unwrap_or(0) != 0;
    let (exclusive, reverse) = (flag("exclusive"), flag("reverse"));
    Ok(Box::new(move |inputs, _| {
        let x = needed(inputs, 0)?;
        let along = integers(needed(inputs, 1)?)?.first().copied().unwrap_or(0);
        let lines = Lines::new(x.shape(), axis(along, x.shape().len())?)?;
        macro_rules! sums {
            ($variant:ident, $v:expr, $zero:expr) => {{
                let mut out = $v.clone();
                for line in 0..lines.count() {
                    let mut sum = $zero;
                    for i in 0..lines.size {
                        let at = lines.at(line, if reverse { lines.size - 1 - i } else { i });
                        let before = sum;
                        sum += $v[at];
                        out[at] = if exclusive { before } else { sum };
                    }
                }
                TensorData::$variant(out)
            }};
        }
        let data = match x.data() {
            TensorData::Float32(v) => sums!(Float32, v, 0.0),
            TensorData::Float64(v) => sums!(Float64, v, 0.0),
            _ => return Err(no_kernel(x)),
        };
        one(x.shape().to_vec(), data)
    }))
}

/// `OneHot`: a new dimension of `depth`, filled with the two given values.
pub(super) fn one_hot(source: &Source<'_>) -> Outcome<Op> {
    let along = source.node.int("axis").unwrap_or(-1);
    Ok(Box::new(move |inputs, _| one_hot_run(inputs, along)))
}

fn one_hot_run(inputs: &Inputs<'_>, along: i64) -> Outcome<Vec<Tensor>> {
    let (indices, depth, values) = (needed(inputs, 0)?, needed(inputs, 1)?, needed(inputs, 2)?);
    let depth = integers(depth)?.first().and_then(|&d| usize::try_from(d).ok()).filter(|&d| d > 0);
    let depth = depth.ok_or_else(|| input_error("the depth of OneHot must be positive"))?;
    if values.data().len() != 2 {
        return Err(input_error("OneHot needs two values"));
    }
    let along = axis(along, indices.shape().len() + 1)?;
    let mut shape = indices.shape().to_vec();
    shape.insert(along, depth);
    let lines = Lines::new(&shape, along)?;
    let mut which = vec![0usize; count(&shape)?];
    for (line, &i) in integers(indices)?.iter().enumerate() {
        // An index outside is no category: the line stays off.
        if let Ok(i) = position(i, depth) {
            which[lines.at(line, i)] = 1;
        }
    }
    one(shape, take(values.data(), &which))
}
