//! Walking: which leaf of each tree a row falls into.
//!
//! One row walks 16 trees at once and a batch walks 16 rows down one tree at once: the
//! loads of one walk depend on each other, those of 16 do not, so the processor overlaps
//! them (after Asadi, Lin, de Vries: "Runtime Optimizations for Tree-based Machine
//! Learning Models", 2014).

use super::{
    parse::Mode,
    score::{Sum, Sums},
    trees::{Leaves, Number, PADDING, Plain, Root, Small, Step, Trees, WINDOW},
};

/// Walks that are under way at once.
const LANES: usize = 16;
/// Columns of the small layout, the padding included.
const COLUMNS: usize = 256;

/// Rows to walk.
#[derive(Clone, Copy)]
struct Rows<'a, T> {
    x: &'a [T],
    columns: usize,
}

impl<'a, T: Number> Rows<'a, T> {
    /// Row `i`, as far as the trees read it.
    fn row(&self, i: usize, trees: &Trees<T>) -> &'a [T] {
        &self.x[i * self.columns..][..trees.columns]
    }
}

/// Adds up the leaves of `rows` rows of `columns` values in `x`.
pub(super) fn sum<T: Number>(trees: &Trees<T>, x: &[T], columns: usize, sums: &mut Sums<T>, rows: usize) {
    let all = Rows { x, columns };
    if !trees.small.is_empty() {
        small(trees, all, rows, sums);
    } else if !trees.steps.is_empty() {
        large(trees, all, rows, sums);
    } else {
        (0..rows).for_each(|row| plain(trees, all.row(row, trees), row, sums));
    }
}

/// Splits `rows` rows into full blocks of 16 and single ones, rows with NaN apart.
fn small<T: Number>(trees: &Trees<T>, all: Rows<'_, T>, rows: usize, sums: &mut Sums<T>) {
    let in_blocks = rows - rows % LANES;
    // Not for fewer: a block is 16 KiB to clear, which for one row is a good part of the work.
    if in_blocks > 0 {
        small_blocks(trees, all, in_blocks, sums);
    }
    for at in in_blocks..rows {
        let row = all.row(at, trees);
        if row.iter().any(|v| v.is_nan()) {
            plain(trees, row, at, sums);
        } else {
            small_row(trees, row, at, sums);
        }
    }
}

/// The first `rows` rows, a multiple of 16.
fn small_blocks<T: Number>(trees: &Trees<T>, all: Rows<'_, T>, rows: usize, sums: &mut Sums<T>) {
    let mut block = [T::default(); COLUMNS * LANES];
    block[usize::from(PADDING) * LANES..].fill(T::LOWEST);
    for first in (0..rows).step_by(LANES) {
        let part = Rows { x: &all.x[first * all.columns..], ..all };
        if fill_block(trees, part, &mut block) {
            (0..LANES).for_each(|lane| plain(trees, part.row(lane, trees), first + lane, sums));
        } else {
            small_rows(trees, &block, first, sums);
        }
    }
}

/// Puts 16 rows into a block, column by column; says whether a NaN is among them.
fn fill_block<T: Number>(trees: &Trees<T>, part: Rows<'_, T>, block: &mut [T; COLUMNS * LANES]) -> bool {
    let mut missing = false;
    for lane in 0..LANES {
        for (column, &value) in part.row(lane, trees).iter().enumerate() {
            missing |= value.is_nan();
            block[column * LANES + lane] = value;
        }
    }
    missing
}

/// 16 rows, one tree at a time.
fn small_rows<T: Number>(trees: &Trees<T>, block: &[T; COLUMNS * LANES], first: usize, sums: &mut Sums<T>) {
    let mut one = [Sum::default(); LANES];
    for &Root { at: root, depth } in &trees.roots {
        let Some(window) = trees.small[root as usize..].first_chunk::<WINDOW>() else { return };
        let mut at = [0u8; LANES];
        for _ in 0..depth {
            for (lane, at) in at.iter_mut().enumerate() {
                let node = &window[usize::from(*at)];
                *at = node.next(block[usize::from(node.feature) * LANES + lane]);
            }
        }
        match &trees.leaves {
            Leaves::One(..) => one.iter_mut().zip(at).for_each(|(sum, at)| {
                sum.add(trees.join, window[usize::from(at)].threshold);
            }),
            Leaves::Many(ranges) => at.iter().enumerate().for_each(|(lane, &at)| {
                many(trees, ranges[root as usize + usize::from(at)], first + lane, sums);
            }),
        }
    }
    if let Leaves::One(target, _) = trees.leaves {
        sums.of_target(first, target).zip(one).for_each(|(sum, one)| *sum = one);
    }
}

/// One row, 16 trees at a time.
fn small_row<T: Number>(trees: &Trees<T>, row: &[T], at_row: usize, sums: &mut Sums<T>) {
    let mut padded = [T::LOWEST; COLUMNS];
    padded[..row.len()].copy_from_slice(row);
    let mut found = vec![0u8; trees.roots.len()];
    let Some(any) = trees.small.first_chunk::<WINDOW>() else { return };
    for group in trees.by_depth.chunks(LANES) {
        let mut windows = [any; LANES];
        let mut depth = 0;
        for (window, &tree) in windows.iter_mut().zip(group) {
            let root = trees.roots[tree as usize];
            let Some(own) = trees.small[root.at as usize..].first_chunk() else { return };
            *window = own;
            depth = root.depth;
        }
        let mut at = [0u8; LANES];
        for _ in 0..depth {
            for (at, window) in at.iter_mut().zip(windows) {
                let node = &window[usize::from(*at)];
                *at = node.next(padded[usize::from(node.feature)]);
            }
        }
        for (at, &tree) in at.into_iter().zip(group) {
            found[tree as usize] = at;
        }
    }
    // Summed in the order of the trees: float32 sums depend on it.
    let mut one = Sum::default();
    for (root, at) in trees.roots.iter().zip(found) {
        let leaf = root.at as usize + usize::from(at);
        match &trees.leaves {
            Leaves::One(..) => one.add(trees.join, trees.small[leaf].threshold),
            Leaves::Many(ranges) => many(trees, ranges[leaf], at_row, sums),
        }
    }
    if let Leaves::One(target, _) = trees.leaves {
        sums.of_target(at_row, target).take(1).for_each(|sum| *sum = one);
    }
}

impl<T: Number> Small<T> {
    /// The child that a value of this node's column leads to. Written without a branch:
    /// half of them would be mispredicted.
    #[inline(always)]
    #[allow(clippy::neg_cmp_op_on_partial_ord)] // NaN thresholds stand for "never"
    fn next(&self, value: T) -> u8 {
        self.left.wrapping_add(u8::from(!(value <= self.threshold)))
    }
}

/// Trees too large for the small layout: the same, with indices of 32 bits. Such trees are
/// uneven (grown until every leaf is pure, half their depth is in a few branches), so a walk
/// ends when all of its lanes have; and all rows walk one tree before the next is fetched,
/// since the forest is larger than the caches.
fn large<T: Number>(trees: &Trees<T>, all: Rows<'_, T>, rows: usize, sums: &mut Sums<T>) {
    let width = trees.columns + 1;
    let mut padded = vec![T::default(); width * rows];
    let mut whole = Vec::with_capacity(rows);
    for at in 0..rows {
        let row = all.row(at, trees);
        if row.iter().any(|v| v.is_nan()) {
            plain(trees, row, at, sums);
        } else {
            padded[whole.len() * width..][..row.len()].copy_from_slice(row);
            whole.push(at);
        }
    }
    let (blocks, rest) = whole.as_chunks::<LANES>();
    for root in &trees.roots {
        for (block, rows) in blocks.iter().zip(padded.chunks(width * LANES)) {
            let leaves =
                walk([root.at; LANES], root.depth, |lane, at| next(&trees.steps, &rows[lane * width..], at));
            for (&row, leaf) in block.iter().zip(leaves) {
                add(trees, &trees.leaves, leaf as usize, row, sums);
            }
        }
    }
    let single = padded[blocks.len() * LANES * width..].chunks(width);
    rest.iter().zip(single).for_each(|(&at, row)| across_trees(trees, row, at, sums));
}

/// One row, 16 trees at a time.
fn across_trees<T: Number>(trees: &Trees<T>, row: &[T], at: usize, sums: &mut Sums<T>) {
    for group in trees.roots.chunks(LANES) {
        // Lanes without a tree of their own walk the group's first again.
        let roots = std::array::from_fn(|lane| group.get(lane).unwrap_or(&group[0]).at);
        let depth = group.iter().map(|root| root.depth).max().unwrap_or(0);
        let leaves = walk(roots, depth, |_, at| next(&trees.steps, row, at));
        for &leaf in &leaves[..group.len()] {
            add(trees, &trees.leaves, leaf as usize, at, sums);
        }
    }
}

/// Steps in all lanes until none moves any more; a leaf leads to itself.
#[inline(always)]
fn walk(mut at: [u32; LANES], depth: u32, step: impl Fn(usize, u32) -> u32) -> [u32; LANES] {
    for _ in 0..depth {
        let mut moved = 0;
        for (lane, at) in at.iter_mut().enumerate() {
            let next = step(lane, *at);
            moved |= next ^ *at;
            *at = next;
        }
        if moved == 0 {
            break;
        }
    }
    at
}

/// The child that `row` goes to.
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
        Leaves::Many(ranges) => many(trees, ranges[leaf], at, sums),
    }
}

/// Adds a range of weights to row `at`.
fn many<T: Number>(trees: &Trees<T>, (start, end): (u32, u32), at: usize, sums: &mut Sums<T>) {
    for &(target, weight) in &trees.weights[start as usize..end as usize] {
        sums.add(trees.join, at, target, weight);
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
