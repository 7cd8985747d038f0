//! What steps without a model do: means, votes, and the choice of a branch.

use std::sync::Arc;

use weir_artifact::Test;
use weir_types::{Error, Tensor, TensorData};

use super::frame::broken;

/// The elements of each tensor as a slice; `None` where one is of another type.
macro_rules! columns {
    ($of:expr, $variant:ident) => {
        $of.iter()
            .map(|tensor| match tensor.data() {
                TensorData::$variant(values) => Some(values.as_slice()),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()
            .ok_or_else(broken)
    };
}

/// The weighted mean, element by element. It is summed in float64 and rounded once.
pub(super) fn mean(of: &[Arc<Tensor>], weights: &[f64]) -> Result<Vec<Arc<Tensor>>, Error> {
    let shape = alike(of)?;
    let data = match of.first().map(|first| first.data()) {
        Some(TensorData::Float32(_)) => {
            TensorData::Float32(weighted(&columns!(of, Float32)?, weights, |mean| mean as f32))
        }
        Some(TensorData::Float64(_)) => {
            TensorData::Float64(weighted(&columns!(of, Float64)?, weights, |mean| mean))
        }
        _ => return Err(broken()),
    };
    one(shape, data)
}

fn weighted<T: Copy + Into<f64>>(columns: &[&[T]], weights: &[f64], round: fn(f64) -> T) -> Vec<T> {
    let total: f64 = weights.iter().sum();
    let mean = |i: usize| {
        let sum: f64 = columns.iter().zip(weights).map(|(column, weight)| weight * column[i].into()).sum();
        round(sum / total)
    };
    (0..columns.first().map_or(0, |column| column.len())).map(mean).collect()
}

/// The value of the most votes, element by element; of equal ones that of the earliest tensor.
pub(super) fn vote(of: &[Arc<Tensor>], weights: &[f64]) -> Result<Vec<Arc<Tensor>>, Error> {
    let shape = alike(of)?;
    macro_rules! winners {
        ($($variant:ident),*) => {
            match of.first().map(|first| first.data()) {
                $(Some(TensorData::$variant(_)) => {
                    TensorData::$variant(winners(&columns!(of, $variant)?, weights))
                })*
                _ => return Err(broken()),
            }
        };
    }
    let data = winners!(Bool, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64, String);
    one(shape, data)
}

fn winners<T: PartialEq + Clone>(columns: &[&[T]], weights: &[f64]) -> Vec<T> {
    let elements = columns.first().map_or(0, |column| column.len());
    let votes = |i: usize, value: &T| -> f64 {
        let agreeing = columns.iter().zip(weights).filter(|(column, _)| column[i] == *value);
        agreeing.map(|(_, weight)| weight).sum()
    };
    let winner = |i: usize| {
        let mut values = columns.iter().map(|column| &column[i]);
        let first = values.next()?;
        let mut best = (first, votes(i, first));
        for value in values {
            let count = votes(i, value);
            if count > best.1 {
                best = (value, count);
            }
        }
        Some(best.0.clone())
    };
    (0..elements).filter_map(winner).collect()
}

/// The shape that all of them have.
fn alike(of: &[Arc<Tensor>]) -> Result<Vec<usize>, Error> {
    let shape = of.first().ok_or_else(broken)?.shape();
    if of.iter().any(|tensor| tensor.shape() != shape) {
        let shapes: Vec<_> = of.iter().map(|tensor| format!("{:?}", tensor.shape())).collect();
        return Err(Error::internal(format!(
            "the models answered with shapes that differ: {}",
            shapes.join(", ")
        )));
    }
    Ok(shape.to_vec())
}

fn one(shape: Vec<usize>, data: TensorData) -> Result<Vec<Arc<Tensor>>, Error> {
    Ok(vec![Arc::new(Tensor::new(shape, data).map_err(|_| broken())?)])
}

/// For each row the first case that its element `column` fits.
pub(super) fn cases(on: &Tensor, column: usize, tests: &[Test]) -> Option<Vec<usize>> {
    let width = on.row_width();
    if column >= width {
        return None;
    }
    let first = |fits: &dyn Fn(&Test) -> bool| tests.iter().position(fits);
    let rows = (0..on.rows()).map(|row| row * width + column);
    macro_rules! numbers {
        ($values:expr) => {
            // Whole numbers beyond 2^53 were refused where they are compared with.
            rows.map(|i| first(&|test| test.number($values[i] as f64))).collect()
        };
    }
    match on.data() {
        TensorData::Bool(v) => rows.map(|i| first(&|test| test.flag(v[i]))).collect(),
        TensorData::String(v) => rows.map(|i| first(&|test| test.text(&v[i]))).collect(),
        TensorData::Int8(v) => numbers!(v),
        TensorData::Int16(v) => numbers!(v),
        TensorData::Int32(v) => numbers!(v),
        TensorData::Int64(v) => numbers!(v),
        TensorData::Uint8(v) => numbers!(v),
        TensorData::Uint16(v) => numbers!(v),
        TensorData::Uint32(v) => numbers!(v),
        TensorData::Uint64(v) => numbers!(v),
        TensorData::Float32(v) => numbers!(v),
        TensorData::Float64(v) => numbers!(v),
        TensorData::Float16(_) | TensorData::Bfloat16(_) => None,
    }
}

/// 0 for each row whose highest element is at least `threshold`, else 1. A row that holds NaN
/// is not sure of anything.
pub(super) fn unsure(of: &Tensor, threshold: f64) -> Option<Vec<usize>> {
    let width = of.row_width().max(1);
    let sure = |row: &[f64]| {
        let highest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        highest >= threshold && !row.iter().any(|x| x.is_nan())
    };
    let values: Vec<f64> = match of.data() {
        TensorData::Float32(v) => v.iter().map(|x| f64::from(*x)).collect(),
        TensorData::Float64(v) => v.clone(),
        _ => return None,
    };
    Some(values.chunks(width).map(|row| usize::from(!sure(row))).collect())
}

/// For each row its place in `order`, which names each of `rows` rows once.
pub(super) fn inverse(order: impl Iterator<Item = usize>, rows: usize) -> Vec<usize> {
    let mut back = vec![0; rows];
    order.enumerate().for_each(|(place, row)| back[row] = place);
    back
}
