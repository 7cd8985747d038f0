//! How much work a job is, in its model's own unit.

use weir_engine::Engine;
use weir_types::Batch;

use super::{Caller, cut::Cut, queue::Ticket};

/// Rows, and what each costs: tokens for text, elements where the request decides how many a
/// row has, else one.
#[derive(Debug)]
pub(super) struct Size {
    pub(super) rows: usize,
    /// Estimated tokens of each row.
    lengths: Option<Vec<usize>>,
    /// Cost of a row of length 1.
    row: u64,
}

impl Size {
    /// Of `batch`; `uniform` says that all rows of its model have the same number of elements.
    pub(super) fn new(engine: &dyn Engine, batch: &Batch, uniform: bool) -> Self {
        Self::of(engine.lengths(batch), batch, uniform)
    }

    /// The same of rows whose lengths the caller knows, if they differ.
    pub(super) fn of(lengths: Option<Vec<usize>>, batch: &Batch, uniform: bool) -> Self {
        let row = match lengths {
            None if !uniform => batch.inputs.iter().map(|t| t.row_width() as u64).sum::<u64>().max(1),
            _ => 1,
        };
        Self { rows: batch.rows, lengths, row }
    }

    /// Estimated tokens of each row, where they differ.
    pub(super) fn lengths(&self) -> Option<&[usize]> {
        self.lengths.as_deref()
    }

    /// Of the longest row.
    pub(super) fn row_cost(&self) -> u64 {
        self.lengths().map_or(self.row, |l| l.iter().copied().max().unwrap_or(1) as u64)
    }

    /// Of all rows; at least 1.
    pub(super) fn cost(&self) -> u64 {
        match self.lengths() {
            None => (self.rows as u64).saturating_mul(self.row),
            Some(lengths) => lengths.iter().map(|l| *l as u64).sum(),
        }
        .max(1)
    }

    /// A ticket for each piece of `cut`.
    pub(super) fn tickets(
        &self,
        cut: &Cut,
        batch: &Batch,
        buckets: &[usize],
        (level, caller): (usize, &Caller),
    ) -> Vec<Ticket> {
        let ticket = |piece: usize| {
            let (rows, longest) = cut.measure(piece, self.lengths());
            let kind = match self.lengths() {
                Some(_) => buckets.partition_point(|&bucket| bucket < longest) as u64,
                None => kind(batch),
            };
            let cost = (rows as u64).saturating_mul(longest as u64).saturating_mul(self.row).max(1);
            Ticket { level, caller: caller.clone(), cost, rows, kind, last: piece + 1 == cut.pieces() }
        };
        (0..cut.pieces()).map(ticket).collect()
    }
}

/// A number of what must be equal for tensors to be stacked: all dimensions but the rows
/// (FNV-1a). Two shapes with one number would fail together and be tried again apart.
pub(super) fn kind(batch: &Batch) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x100_0000_01b3;
    let dims = batch
        .inputs
        .iter()
        .flat_map(|t| [t.shape().len()].into_iter().chain(t.shape().iter().skip(1).copied()));
    dims.fold(BASIS, |hash, dim| (hash ^ dim as u64).wrapping_mul(PRIME))
}
