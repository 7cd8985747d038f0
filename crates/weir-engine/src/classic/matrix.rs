//! `MatMul`, `Gemm`.

use weir_types::{Tensor, TensorData};

use super::op::{
    Op, Outcome, Source, broadcast, broadcast_steps, check_cancel, count, gather_offsets, input_error,
    needed, no_kernel, one, optional, strides,
};
use crate::CancelFlag;

/// What matrices are made of.
trait Real: Copy + Default + std::ops::AddAssign + std::ops::Mul<Output = Self> {}
impl Real for f32 {}
impl Real for f64 {}

/// `out += a · b` for an `[m, k]` and a `[k, n]` matrix. The sums run over k from the start,
/// in the element's own precision; the inner loop runs over columns, so it vectorises.
fn multiply<T: Real>(a: &[T], b: &[T], out: &mut [T], (k, n): (usize, usize)) {
    if k == 0 || n == 0 {
        return;
    }
    for (row, out) in a.chunks(k).zip(out.chunks_mut(n)) {
        for (&x, b) in row.iter().zip(b.chunks(n)) {
            for (o, &y) in out.iter_mut().zip(b) {
                *o += x * y;
            }
        }
    }
}

/// `MatMul` by numpy's rules: leading dimensions broadcast, vectors are rows or columns.
pub(super) fn mat_mul(_: &Source<'_>) -> Outcome<Op> {
    Ok(Box::new(|inputs, cancel| {
        let (a, b) = (needed(inputs, 0)?, needed(inputs, 1)?);
        match (a.data(), b.data()) {
            (TensorData::Float32(v), TensorData::Float32(w)) => {
                let (shape, out) = batched((v, a.shape()), (w, b.shape()), cancel)?;
                one(shape, TensorData::Float32(out))
            }
            (TensorData::Float64(v), TensorData::Float64(w)) => {
                let (shape, out) = batched((v, a.shape()), (w, b.shape()), cancel)?;
                one(shape, TensorData::Float64(out))
            }
            _ => Err(no_kernel(a)),
        }
    }))
}

fn batched<T: Real>(
    (a, a_shape): (&[T], &[usize]),
    (b, b_shape): (&[T], &[usize]),
    cancel: &CancelFlag,
) -> Outcome<(Vec<usize>, Vec<T>)> {
    let as_row = |s: &[usize]| if s.len() == 1 { vec![1, s[0]] } else { s.to_vec() };
    let as_column = |s: &[usize]| if s.len() == 1 { vec![s[0], 1] } else { s.to_vec() };
    let (full_a, full_b) = (as_row(a_shape), as_column(b_shape));
    let mismatch = || input_error(format!("matrices {a_shape:?} and {b_shape:?} do not multiply"));
    let ([a_outer @ .., m, k], [b_outer @ .., k2, n]) = (&full_a[..], &full_b[..]) else {
        return Err(mismatch());
    };
    if k != k2 {
        return Err(mismatch());
    }
    let outer = broadcast(a_outer, b_outer)?;
    let (a_at, b_at) = (
        gather_offsets(&outer, &broadcast_steps(a_outer, &outer), 0)?,
        gather_offsets(&outer, &broadcast_steps(b_outer, &outer), 0)?,
    );
    let mut shape = outer;
    shape.extend([m, n]);
    let mut out = vec![T::default(); count(&shape)?];
    for (i, (a_at, b_at)) in a_at.iter().zip(&b_at).enumerate() {
        check_cancel(cancel)?;
        multiply(
            &a[a_at * m * k..][..m * k],
            &b[b_at * k * n..][..k * n],
            &mut out[i * m * n..][..m * n],
            (*k, *n),
        );
    }
    if b_shape.len() == 1 {
        shape.pop();
    }
    if a_shape.len() == 1 {
        shape.remove(shape.len() - if b_shape.len() == 1 { 1 } else { 2 });
    }
    Ok((shape, out))
}

/// `Gemm`: `alpha · A · B + beta · C`, A and B possibly transposed.
pub(super) fn gemm(source: &Source<'_>) -> Outcome<Op> {
    let flag = |name: &str| source.node.int(name).unwrap_or(0) != 0;
    let (trans_a, trans_b) = (flag("transA"), flag("transB"));
    let scale = |name: &str| source.node.float(name).unwrap_or(1.0);
    let (alpha, beta) = (scale("alpha"), scale("beta"));
    Ok(Box::new(move |inputs, cancel| {
        check_cancel(cancel)?;
        let (a, b, c) = (needed(inputs, 0)?, needed(inputs, 1)?, optional(inputs, 2));
        macro_rules! run {
            ($variant:ident, $a:expr, $b:expr, $wide:ident) => {{
                let ((a, [m, k]), (b, [k2, n])) =
                    (transposed($a, a.shape(), trans_a)?, transposed($b, b.shape(), trans_b)?);
                if k != k2 {
                    return Err(input_error(format!("rows of {k} values for a matrix of {k2} rows")));
                }
                let mut out = vec![$wide::default(); count(&[m, n])?];
                multiply(&a, &b, &mut out, (k, n));
                if alpha != 1.0 {
                    out.iter_mut().for_each(|v| *v *= $wide::from(alpha));
                }
                if let Some(c) = c {
                    let TensorData::$variant(v) = c.data() else { return Err(no_kernel(c)) };
                    let at = c_offsets(c, &[m, n])?;
                    out.iter_mut().zip(at).for_each(|(o, i)| *o += $wide::from(beta) * v[i]);
                }
                one(vec![m, n], TensorData::$variant(out))
            }};
        }
        match (a.data(), b.data()) {
            (TensorData::Float32(v), TensorData::Float32(w)) => run!(Float32, v, w, f32),
            (TensorData::Float64(v), TensorData::Float64(w)) => run!(Float64, v, w, f64),
            _ => Err(no_kernel(a)),
        }
    }))
}

fn c_offsets(c: &Tensor, shape: &[usize]) -> Outcome<Vec<usize>> {
    if broadcast(c.shape(), shape)? != shape {
        return Err(input_error(format!("C of shape {:?} for a product of shape {shape:?}", c.shape())));
    }
    gather_offsets(shape, &broadcast_steps(c.shape(), shape), 0)
}

/// A matrix as it is, or turned, with its shape.
fn transposed<'a, T: Real>(
    data: &'a [T],
    shape: &[usize],
    turn: bool,
) -> Outcome<(std::borrow::Cow<'a, [T]>, [usize; 2])> {
    let &[rows, columns] = shape else {
        return Err(input_error(format!("Gemm takes matrices, the shape is {shape:?}")));
    };
    if !turn {
        return Ok((data.into(), [rows, columns]));
    }
    let steps = strides(shape);
    let at = gather_offsets(&[columns, rows], &[steps[1], steps[0]], 0)?;
    Ok((at.into_iter().map(|i| data[i]).collect(), [columns, rows]))
}
