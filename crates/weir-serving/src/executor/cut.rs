//! A large request is cut, so that it neither holds a worker for long nor leaves others idle.

use std::ops::Range;

use weir_types::{Batch, Error, Outputs};

use super::Answered;

/// Which rows run together. Rows of several lengths are put in order first: what is padded to
/// the longest should be about as long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Rows in the order in which they run; `None` for the request's own.
    order: Option<Vec<usize>>,
    /// One range of that order a piece. Together they cover it; there is one at least.
    ranges: Vec<Range<usize>>,
}

impl Cut {
    /// Cuts `rows` rows of these `lengths` (of length 1 without any) into pieces of at most
    /// `max_rows` rows and at most `max_length` of `rows * longest row`; one row alone may
    /// have more.
    pub(super) fn new(rows: usize, lengths: Option<&[usize]>, max_rows: usize, max_length: usize) -> Self {
        let longest = lengths.map_or(1, |l| l.iter().copied().max().unwrap_or(1));
        if rows <= max_rows && rows.saturating_mul(longest) <= max_length {
            return Self { order: None, ranges: std::iter::once(0..rows).collect() };
        }
        let order = lengths.map(|lengths| {
            let mut order: Vec<usize> = (0..rows).collect();
            order.sort_by_key(|&row| std::cmp::Reverse(lengths[row]));
            order
        });
        let length = |at: usize| match (lengths, &order) {
            (Some(lengths), Some(order)) => lengths[order[at]],
            _ => 1,
        };
        let mut ranges = Vec::new();
        let mut start = 0;
        for end in 1..=rows {
            let joins = end < rows
                && end - start < max_rows
                && (end - start + 1).saturating_mul(length(start)) <= max_length;
            if !joins {
                ranges.push(start..end);
                start = end;
            }
        }
        Self { order, ranges }
    }

    /// How many pieces there are.
    pub(super) fn pieces(&self) -> usize {
        self.ranges.len()
    }

    /// Rows of a piece, and the longest of its `lengths`.
    pub(super) fn measure(&self, piece: usize, lengths: Option<&[usize]>) -> (usize, usize) {
        let range = self.ranges[piece].clone();
        let Some(lengths) = lengths else { return (range.len(), 1) };
        let row = |at: usize| self.order.as_ref().map_or(at, |order| order[at]);
        let longest = range.clone().map(|at| lengths[row(at)]).max().unwrap_or(1);
        (range.len(), longest)
    }

    /// The rows of a piece.
    pub(super) fn rows(&self, batch: &Batch, piece: usize) -> Batch {
        let range = self.ranges[piece].clone();
        match &self.order {
            None => batch.slice_rows(range),
            Some(order) => batch.gather_rows(&order[range]),
        }
    }

    /// Puts the pieces' answers together, in the request's order.
    ///
    /// # Errors
    /// `Internal` where they do not fit together.
    pub(super) fn join(&self, mut parts: Vec<Answered>) -> Result<Answered, Error> {
        // The step of a sequence is one piece.
        let state = parts.first_mut().and_then(|part| part.state.take());
        let (parts, tokens): (Vec<_>, Vec<_>) = parts.into_iter().map(|a| (a.outputs, a.tokens)).unzip();
        let tokens =
            tokens.into_iter().collect::<Option<Vec<_>>>().map(|parts| self.in_order(parts.concat()));
        Ok(Answered { outputs: self.join_outputs(parts)?, tokens, state })
    }

    /// Values of the rows as they ran, in the request's order.
    fn in_order(&self, ran: Vec<u32>) -> Vec<u32> {
        let Some(order) = &self.order else { return ran };
        let mut values = vec![0; ran.len()];
        order.iter().zip(ran).for_each(|(&row, value)| {
            if let Some(place) = values.get_mut(row) {
                *place = value;
            }
        });
        values
    }

    fn join_outputs(&self, mut parts: Vec<Outputs>) -> Result<Outputs, Error> {
        let whole = match parts.pop() {
            Some(only) if parts.is_empty() => only,
            Some(last) => {
                parts.push(last);
                Outputs::concat(&parts)?
            }
            None => return Err(Error::internal("a request without parts was answered")),
        };
        let Some(order) = &self.order else { return Ok(whole) };
        if whole.rows != order.len() || whole.tensors.iter().any(|tensor| tensor.rows() != order.len()) {
            return Err(Error::internal("the engine answered another number of rows than it was given"));
        }
        let mut places = vec![0; order.len()];
        order.iter().enumerate().for_each(|(at, &row)| places[row] = at);
        Ok(whole.gather_rows(&places))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_types::{Tensor, TensorData};

    use super::*;

    #[test]
    fn what_fits_is_one_piece_and_an_empty_request_too() {
        assert_eq!(Cut::new(8, Some(&[4; 8]), 8, 32).pieces(), 1);
        assert_eq!(Cut::new(0, Some(&[]), 8, 32).pieces(), 1);
        assert_eq!(Cut::new(8, None, 8, 1).pieces(), 8);
    }

    #[test]
    fn like_lengths_run_together_and_a_long_row_alone() {
        let lengths = [2, 100, 2, 9, 2];
        let cut = Cut::new(5, Some(&lengths), 4, 10);
        let of = |piece| cut.measure(piece, Some(&lengths));
        assert_eq!((0..cut.pieces()).map(of).collect::<Vec<_>>(), [(1, 100), (1, 9), (3, 2)]);
    }

    proptest! {
        #[test]
        fn pieces_join_to_the_whole(lengths in prop::collection::vec(1usize..40, 0..60), ragged: bool,
                                    max_rows in 1usize..9, max_length in 1usize..100) {
            let rows = lengths.len();
            let data = TensorData::Int64((0..rows as i64).collect());
            let batch = Batch { rows, inputs: vec![Tensor::new(vec![rows], data).unwrap()] };
            let lengths = ragged.then_some(&lengths[..]);
            let cut = Cut::new(rows, lengths, max_rows, max_length);
            let parts: Vec<_> = (0..cut.pieces()).map(|piece| {
                let Batch { rows, inputs } = cut.rows(&batch, piece);
                let (n, longest) = cut.measure(piece, lengths);
                prop_assert_eq!(n, rows);
                prop_assert!(rows <= max_rows && (rows <= 1 || rows * longest <= max_length));
                let TensorData::Int64(values) = inputs[0].data() else { unreachable!("made above") };
                let tokens = ragged.then(|| values.iter().map(|v| *v as u32).collect());
                Ok(Answered { outputs: Outputs { rows, tensors: inputs }, tokens, state: None })
            }).collect::<Result<_, TestCaseError>>()?;
            let Answered { outputs, tokens, .. } = cut.join(parts).unwrap();
            prop_assert_eq!(outputs.tensors, batch.inputs);
            prop_assert_eq!(tokens, ragged.then(|| (0..rows as u32).collect::<Vec<_>>()));
        }
    }
}
