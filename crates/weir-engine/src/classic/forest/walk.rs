//! Walking: which leaf of each tree a row falls into.
//!
//! One row walks 16 trees at once and a batch walks 16 rows down one tree at once: the
//! loads of one walk depend on each other, those of 16 do not, so the processor overlaps
//! them (after Asadi, Lin, de Vries: "Runtime Optimizations for Tree-based Machine
//! Learning Models", 2014).

use super::{
    parse::Mode,
    score::Sums,
    trees::{Leaves, Number, Plain, Root, Step, Trees},
};

/// Walks that are under way at once.
const LANES: usize = 16;

/// Adds up the leaves of `rows` rows of `columns` values in `x`.
pub(super) fn sum<T: Number>(trees: &Trees<T>, x: &[T], columns: usize, sums: &mut Sums<T>, rows: usize) {
    if trees.steps.is_empty() {
        return (0..rows).for_each(|row| plain(trees, &x[row * columns..], row, sums));
    }
    let width = trees.columns + 1;
    let mut scratch = vec![T::default(); width * rows.min(LANES)];
    for first in (0..rows).step_by(LANES) {
        let lanes = LANES.min(rows - first);
        let mut missing = false;
        for lane in 0..lanes {
            let row = &x[(first + lane) * columns..][..trees.columns];
            missing |= row.iter().any(|v| v.is_nan());
            scratch[lane * width..][..trees.columns].copy_from_slice(row);
        }
        if missing {
            (first..first + lanes).for_each(|row| plain(trees, &x[row * columns..], row, sums));
        } else if lanes == LANES {
            across_rows(trees, &scratch, width, first, sums);
        } else {
            (0..lanes)
                .for_each(|lane| across_trees(trees, &scratch[lane * width..][..width], first + lane, sums));
        }
    }
}

/// One row, 16 trees at a time.
fn across_trees<T: Number>(trees: &Trees<T>, row: &[T], at: usize, sums: &mut Sums<T>) {
    let (groups, rest) = trees.roots.as_chunks::<LANES>();
    for group in groups {
        let mut leaves = group.map(|root| root.at);
        let depth = group.iter().map(|root| root.depth).max().unwrap_or(0);
        for _ in 0..depth {
            for leaf in &mut leaves {
                *leaf = next(&trees.steps, row, *leaf);
            }
        }
        leaves.iter().for_each(|&leaf| add(trees, &trees.leaves, leaf as usize, at, sums));
    }
    for root in rest {
        let leaf = (0..root.depth).fold(root.at, |leaf, _| next(&trees.steps, row, leaf));
        add(trees, &trees.leaves, leaf as usize, at, sums);
    }
}

/// 16 rows, one tree at a time.
fn across_rows<T: Number>(trees: &Trees<T>, rows: &[T], width: usize, first: usize, sums: &mut Sums<T>) {
    for &Root { at, depth } in &trees.roots {
        let mut leaves = [at; LANES];
        for _ in 0..depth {
            for (lane, leaf) in leaves.iter_mut().enumerate() {
                *leaf = next(&trees.steps, &rows[lane * width..], *leaf);
            }
        }
        for (lane, &leaf) in leaves.iter().enumerate() {
            add(trees, &trees.leaves, leaf as usize, first + lane, sums);
        }
    }
}

/// The child that `row` goes to. Written without a branch: half of them would be
/// mispredicted.
#[inline(always)]
#[allow(clippy::neg_cmp_op_on_partial_ord)] // NaN thresholds stand for "never"
fn next<T: Number>(steps: &[Step<T>], row: &[T], at: u32) -> u32 {
    let step = &steps[at as usize];
    step.left + u32::from(!(row[step.feature as usize] <= step.threshold))
}

/// Adds what `leaf` holds to row `at`.
#[inline(always)]
fn add<T: Number>(trees: &Trees<T>, leaves: &Leaves<T>, leaf: usize, at: usize, sums: &mut Sums<T>) {
    match leaves {
        Leaves::One(target, weights) => sums.add(trees.join, at, *target, weights[leaf]),
        Leaves::Many(ranges) => {
            let (start, end) = ranges[leaf];
            for &(target, weight) in &trees.weights[start as usize..end as usize] {
                sums.add(trees.join, at, target, weight);
            }
        }
    }
}

/// One row through the plain layout, with every rule.
fn plain<T: Number>(trees: &Trees<T>, row: &[T], at: usize, sums: &mut Sums<T>) {
    for &root in &trees.plain_roots {
        let mut node = root;
        while let Some(split) = &trees.plain[node] {
            node = if holds(split, row[split.feature], &trees.members) { split.yes } else { split.no };
        }
        add(trees, &trees.plain_leaves, node, at, sums);
    }
}

fn holds<T: Number>(split: &Plain<T>, x: T, members: &[T]) -> bool {
    let t = split.threshold;
    let holds = match &split.mode {
        Mode::LessOrEqual => x <= t,
        Mode::Less => x < t,
        Mode::GreaterOrEqual => x >= t,
        Mode::Greater => x > t,
        Mode::Equal => x == t,
        Mode::NotEqual => x != t,
        Mode::Member(set) => members[set.clone()].contains(&x),
    };
    holds || (split.missing_is_yes && x.is_nan())
}
