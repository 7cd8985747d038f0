//! What goes into a model and what comes out, whatever face it came through.

use std::ops::Range;

use crate::{Error, Tensor};

/// The rows of one request, as the model's own input tensors in signature order.
///
/// A typed row and a V2 tensor request decode into the same value, so they cannot be
/// answered differently. Fields that the model takes as one `[rows, n]` tensor are
/// written there directly; columns of their own would be copied once more.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Number of rows: the leading dimension of every input of a batching model.
    pub rows: usize,
    /// One tensor an input, in the order of the signature.
    pub inputs: Vec<Tensor>,
}

impl Batch {
    /// A copy of the rows in `range`, which must lie within [`rows`](Self::rows).
    pub fn slice_rows(&self, range: Range<usize>) -> Batch {
        let inputs = self.inputs.iter().map(|t| t.slice_rows(range.clone())).collect();
        Batch { rows: range.len(), inputs }
    }

    /// A copy of these rows, in this order; each must be less than [`rows`](Self::rows).
    pub fn gather_rows(&self, rows: &[usize]) -> Batch {
        Batch { rows: rows.len(), inputs: self.inputs.iter().map(|t| t.take_rows(rows)).collect() }
    }
}

/// A model's answer for one or more rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Outputs {
    /// Number of rows answered.
    pub rows: usize,
    /// One tensor an output, in the order of the signature.
    pub tensors: Vec<Tensor>,
}

impl Outputs {
    /// Stacks answers: the rows of the first, then those of the next.
    ///
    /// # Errors
    /// [`ErrorCode::Internal`](crate::ErrorCode::Internal) where their tensors differ in number,
    /// type or shape of a row, or where there are none.
    pub fn concat(parts: &[Outputs]) -> Result<Outputs, Error> {
        let differ = || Error::internal("the engine answered the parts of a request in different shapes");
        let tensors = parts.first().ok_or_else(differ)?.tensors.len();
        if parts.iter().any(|p| p.tensors.len() != tensors) {
            return Err(differ());
        }
        let stack = |i: usize| {
            let column: Vec<&Tensor> = parts.iter().filter_map(|p| p.tensors.get(i)).collect();
            Tensor::concat_rows(&column).ok_or_else(differ)
        };
        let tensors = (0..tensors).map(stack).collect::<Result<_, _>>()?;
        Ok(Outputs { rows: parts.iter().map(|p| p.rows).sum(), tensors })
    }

    /// A copy of these rows, in this order; each must be less than [`rows`](Self::rows).
    pub fn gather_rows(&self, rows: &[usize]) -> Outputs {
        Outputs { rows: rows.len(), tensors: self.tensors.iter().map(|t| t.take_rows(rows)).collect() }
    }

    /// Cuts a merged answer into one for each caller; `rows` are the callers' sizes in the
    /// order in which they were merged.
    ///
    /// # Errors
    /// [`ErrorCode::Internal`](crate::ErrorCode::Internal) when the sizes do not add up to
    /// what the engine returned: better no answer than somebody else's.
    pub fn split(self, rows: &[usize]) -> Result<Vec<Outputs>, Error> {
        if rows.iter().sum::<usize>() != self.rows || self.tensors.iter().any(|t| t.rows() != self.rows) {
            return Err(Error::internal("the engine answered another number of rows than it was given"));
        }
        if let [_] = rows {
            return Ok(vec![self]);
        }
        let mut start = 0;
        let cut = |&n: &usize| {
            let range = start..start + n;
            start += n;
            Outputs { rows: n, tensors: self.tensors.iter().map(|t| t.slice_rows(range.clone())).collect() }
        };
        Ok(rows.iter().map(cut).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorData;

    fn outputs(rows: usize) -> Outputs {
        let data = (0..rows * 2).map(|i| i as f32).collect();
        Outputs { rows, tensors: vec![Tensor::new(vec![rows, 2], TensorData::Float32(data)).unwrap()] }
    }

    #[test]
    fn split_gives_each_caller_its_own_rows() {
        let parts = outputs(5).split(&[2, 0, 3]).unwrap();
        assert_eq!(parts.iter().map(|p| p.rows).collect::<Vec<_>>(), [2, 0, 3]);
        assert_eq!(parts[2].tensors[0].data(), &TensorData::Float32(vec![4., 5., 6., 7., 8., 9.]));
    }

    #[test]
    fn concat_undoes_split_and_gather_undoes_an_order() {
        let whole = outputs(5);
        let parts = whole.clone().split(&[1, 0, 4]).unwrap();
        assert_eq!(Outputs::concat(&parts), Ok(whole.clone()));
        assert!(Outputs::concat(&[]).is_err());
        let other = Outputs { rows: 1, tensors: vec![] };
        assert!(Outputs::concat(&[outputs(1), other]).is_err());
        let turned = whole.gather_rows(&[3, 0, 4, 1, 2]);
        assert_eq!(turned.tensors[0].slice_rows(0..1), whole.tensors[0].slice_rows(3..4));
        assert_eq!(turned.gather_rows(&[1, 3, 4, 0, 2]), whole);
    }

    #[test]
    fn split_refuses_sizes_that_do_not_add_up() {
        assert!(outputs(5).split(&[2, 2]).is_err());
    }
}
