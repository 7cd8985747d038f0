//! Dense row-major tensors.

use std::ops::Range;

use crate::{DType, Result};

/// The elements of a tensor, row-major. Half floats are kept as their bits.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // one variant a dtype
pub enum TensorData {
    Bool(Vec<bool>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Uint8(Vec<u8>),
    Uint16(Vec<u16>),
    Uint32(Vec<u32>),
    Uint64(Vec<u64>),
    Float16(Vec<u16>),
    Bfloat16(Vec<u16>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    String(Vec<String>),
}

/// Runs `$body` with `$v` bound to the vector inside, whatever its type.
macro_rules! each {
    ($data:expr, $v:ident => $body:expr) => {
        match $data {
            TensorData::Bool($v) => $body,
            TensorData::Int8($v) => $body,
            TensorData::Int16($v) => $body,
            TensorData::Int32($v) => $body,
            TensorData::Int64($v) => $body,
            TensorData::Uint8($v) => $body,
            TensorData::Uint16($v) => $body,
            TensorData::Uint32($v) => $body,
            TensorData::Uint64($v) => $body,
            TensorData::Float16($v) => $body,
            TensorData::Bfloat16($v) => $body,
            TensorData::Float32($v) => $body,
            TensorData::Float64($v) => $body,
            TensorData::String($v) => $body,
        }
    };
}

/// Runs `$body` with `$v` bound to the vector inside and wraps the vector it gives again.
macro_rules! map_each {
    ($data:expr, $v:ident => $body:expr) => {
        match $data {
            TensorData::Bool($v) => TensorData::Bool($body),
            TensorData::Int8($v) => TensorData::Int8($body),
            TensorData::Int16($v) => TensorData::Int16($body),
            TensorData::Int32($v) => TensorData::Int32($body),
            TensorData::Int64($v) => TensorData::Int64($body),
            TensorData::Uint8($v) => TensorData::Uint8($body),
            TensorData::Uint16($v) => TensorData::Uint16($body),
            TensorData::Uint32($v) => TensorData::Uint32($body),
            TensorData::Uint64($v) => TensorData::Uint64($body),
            TensorData::Float16($v) => TensorData::Float16($body),
            TensorData::Bfloat16($v) => TensorData::Bfloat16($body),
            TensorData::Float32($v) => TensorData::Float32($body),
            TensorData::Float64($v) => TensorData::Float64($body),
            TensorData::String($v) => TensorData::String($body),
        }
    };
}

impl TensorData {
    /// An empty vector of `dtype` with room for `capacity` elements.
    pub fn with_capacity(dtype: DType, capacity: usize) -> Self {
        match dtype {
            DType::Bool => TensorData::Bool(Vec::with_capacity(capacity)),
            DType::Int8 => TensorData::Int8(Vec::with_capacity(capacity)),
            DType::Int16 => TensorData::Int16(Vec::with_capacity(capacity)),
            DType::Int32 => TensorData::Int32(Vec::with_capacity(capacity)),
            DType::Int64 => TensorData::Int64(Vec::with_capacity(capacity)),
            DType::Uint8 => TensorData::Uint8(Vec::with_capacity(capacity)),
            DType::Uint16 => TensorData::Uint16(Vec::with_capacity(capacity)),
            DType::Uint32 => TensorData::Uint32(Vec::with_capacity(capacity)),
            DType::Uint64 => TensorData::Uint64(Vec::with_capacity(capacity)),
            DType::Float16 => TensorData::Float16(Vec::with_capacity(capacity)),
            DType::Bfloat16 => TensorData::Bfloat16(Vec::with_capacity(capacity)),
            DType::Float32 => TensorData::Float32(Vec::with_capacity(capacity)),
            DType::Float64 => TensorData::Float64(Vec::with_capacity(capacity)),
            DType::String => TensorData::String(Vec::with_capacity(capacity)),
        }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        match self {
            TensorData::Bool(_) => DType::Bool,
            TensorData::Int8(_) => DType::Int8,
            TensorData::Int16(_) => DType::Int16,
            TensorData::Int32(_) => DType::Int32,
            TensorData::Int64(_) => DType::Int64,
            TensorData::Uint8(_) => DType::Uint8,
            TensorData::Uint16(_) => DType::Uint16,
            TensorData::Uint32(_) => DType::Uint32,
            TensorData::Uint64(_) => DType::Uint64,
            TensorData::Float16(_) => DType::Float16,
            TensorData::Bfloat16(_) => DType::Bfloat16,
            TensorData::Float32(_) => DType::Float32,
            TensorData::Float64(_) => DType::Float64,
            TensorData::String(_) => DType::String,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        each!(self, v => v.len())
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn slice(&self, range: Range<usize>) -> TensorData {
        map_each!(self, v => v[range].to_vec())
    }

    fn take(&self, rows: &[usize], width: usize) -> TensorData {
        map_each!(self, v => {
            let mut taken = Vec::with_capacity(rows.len() * width);
            rows.iter().for_each(|row| taken.extend_from_slice(&v[row * width..(row + 1) * width]));
            taken
        })
    }

    /// Appends the elements of `other`; `false`, and nothing done, if the types differ.
    #[must_use]
    pub fn append(&mut self, other: &TensorData) -> bool {
        macro_rules! same {
            ($($variant:ident),*) => {
                match (self, other) {
                    $((TensorData::$variant(a), TensorData::$variant(b)) => a.extend_from_slice(b),)*
                    _ => return false,
                }
            };
        }
        same!(
            Bool, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64, Float16, Bfloat16, Float32,
            Float64, String
        );
        true
    }
}

/// Why a tensor cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The product of the dimensions does not fit the machine.
    #[error("shape {0:?} has more elements than can be addressed")]
    Overflow(Vec<usize>),
    /// Shape and data disagree.
    #[error("shape {shape:?} takes {expected} elements, got {got}")]
    Length {
        /// The declared shape.
        shape: Vec<usize>,
        /// Elements it takes.
        expected: usize,
        /// Elements there are.
        got: usize,
    },
}

/// Number of elements of `shape`, checked: the one place where dimensions are multiplied
/// before anything is allocated.
///
/// # Errors
/// [`TensorError::Overflow`] where that many elements, of whatever type, cannot be one
/// allocation (`isize::MAX` bytes): so no later `count * size` can wrap either.
pub fn element_count(shape: &[usize]) -> Result<usize, TensorError> {
    // A zero anywhere would hide an overflow before it, so the other dimensions are
    // multiplied without it.
    let product = shape.iter().filter(|&&d| d != 0).try_fold(1usize, |n, &d| n.checked_mul(d));
    const MOST: usize = isize::MAX as usize / size_of::<String>();
    match product {
        Some(n) if n <= MOST => Ok(if shape.contains(&0) { 0 } else { n }),
        _ => Err(TensorError::Overflow(shape.to_vec())),
    }
}

/// A dense row-major tensor whose shape and data agree.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: TensorData,
}

impl Tensor {
    /// A tensor of `shape` over `data`.
    ///
    /// # Errors
    /// [`TensorError`] when they disagree.
    pub fn new(shape: Vec<usize>, data: TensorData) -> Result<Self, TensorError> {
        let expected = element_count(&shape)?;
        if expected != data.len() {
            return Err(TensorError::Length { shape, expected, got: data.len() });
        }
        Ok(Self { shape, data })
    }

    /// All dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements.
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// Gives the elements away.
    pub fn into_data(self) -> TensorData {
        self.data
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// The leading dimension; 1 for a scalar.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Elements of one row; 0 if there are no rows.
    pub fn row_width(&self) -> usize {
        self.data.len().checked_div(self.rows()).unwrap_or(0)
    }

    /// The elements as `f32`, if that is what they are.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            TensorData::Float32(v) => Some(v),
            _ => None,
        }
    }

    /// The elements as strings, if that is what they are.
    pub fn as_strings(&self) -> Option<&[String]> {
        match &self.data {
            TensorData::String(v) => Some(v),
            _ => None,
        }
    }

    /// A copy of the rows in `range`, which must lie within [`rows`](Self::rows).
    pub fn slice_rows(&self, range: Range<usize>) -> Tensor {
        let width = self.row_width();
        let mut shape = self.shape.clone();
        if let Some(rows) = shape.first_mut() {
            *rows = range.len();
        }
        Tensor { shape, data: self.data.slice(range.start * width..range.end * width) }
    }

    /// A copy of the rows at these indices, in this order; each must lie within
    /// [`rows`](Self::rows).
    pub fn take_rows(&self, rows: &[usize]) -> Tensor {
        let mut shape = self.shape.clone();
        if let Some(first) = shape.first_mut() {
            *first = rows.len();
        }
        Tensor { shape, data: self.data.take(rows, self.row_width()) }
    }

    /// Stacks tensors along the leading dimension; `None` where their types or row shapes
    /// differ, or where there are none.
    pub fn concat_rows(parts: &[&Tensor]) -> Option<Tensor> {
        let (first, rest) = parts.split_first()?;
        let mut whole = (*first).clone();
        for part in rest {
            if part.shape.get(1..) != first.shape.get(1..) || !whole.data.append(&part.data) {
                return None;
            }
            *whole.shape.first_mut()? += part.rows();
        }
        Some(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_shapes_are_refused_before_anything_is_allocated() {
        for shape in [vec![1, (1 << 62) + 3], vec![10_000_000_000, 10_000_000_000], vec![0, usize::MAX, 2]] {
            assert!(matches!(element_count(&shape), Err(TensorError::Overflow(_))), "{shape:?}");
        }
        assert_eq!(element_count(&[]), Ok(1));
        assert_eq!(element_count(&[3, 0, 2]), Ok(0));
    }

    #[test]
    fn shape_and_data_must_agree() {
        let error = Tensor::new(vec![2, 2], TensorData::Int64(vec![1, 2, 3])).unwrap_err();
        assert_eq!(error.to_string(), "shape [2, 2] takes 4 elements, got 3");
    }

    #[test]
    fn rows_are_taken_in_the_order_asked_for() {
        let whole = Tensor::new(vec![3, 2], TensorData::Int64(vec![0, 1, 10, 11, 20, 21])).unwrap();
        let taken = whole.take_rows(&[2, 0, 2]);
        assert_eq!(taken, Tensor::new(vec![3, 2], TensorData::Int64(vec![20, 21, 0, 1, 20, 21])).unwrap());
        assert_eq!(whole.take_rows(&[]).shape(), [0, 2]);
    }

    #[test]
    fn concat_undoes_slice() {
        let strings = ["a", "b", "c", "d", "e", "f"].map(String::from).to_vec();
        let whole = Tensor::new(vec![3, 2], TensorData::String(strings)).unwrap();
        let (head, tail) = (whole.slice_rows(0..1), whole.slice_rows(1..3));
        assert_eq!(Tensor::concat_rows(&[&head, &tail]), Some(whole));
        let other = Tensor::new(vec![1, 1], TensorData::String(vec!["x".into()])).unwrap();
        assert_eq!(Tensor::concat_rows(&[&head, &other]), None);
    }
}
