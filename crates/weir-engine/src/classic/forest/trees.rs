//! A forest laid out for walking.
//!
//! The layout decides the speed. A node is a threshold, a column and the index of its left
//! child, the right one follows it: 12 bytes in float32. Every comparison is turned into
//! `x <= threshold` at load (`x < t` is `x <=` the float below `t`, `>` and `>=` swap the
//! children), and leaves lead to themselves, so that trees are walked a fixed number of
//! steps without a branch that could be mispredicted. What cannot be written so (equality,
//! sets, rows with NaN) takes a plain walk over the nodes as they were.

use std::ops::{AddAssign, Neg};

use super::{
    parse::{Ensemble, Mode, Node},
    walk,
};

/// The float types that trees compute in.
pub(super) trait Number:
    Copy + PartialOrd + Default + Send + Sync + AddAssign + Neg<Output = Self> + 'static
{
    const INFINITY: Self;
    const LOWEST: Self;
    const NAN: Self;
    fn of(x: f64) -> Self;
    fn f32(self) -> f32;
    fn next_below(self) -> Self;
    fn is_nan(self) -> bool;
    fn divided(self, by: usize) -> Self;
    fn plus(self, other: Self) -> Self;
}

macro_rules! number {
    ($ty:ty) => {
        impl Number for $ty {
            const INFINITY: Self = <$ty>::INFINITY;
            const LOWEST: Self = <$ty>::NEG_INFINITY;
            const NAN: Self = <$ty>::NAN;
            fn of(x: f64) -> Self {
                x as $ty
            }
            fn f32(self) -> f32 {
                self as f32
            }
            fn next_below(self) -> Self {
                self.next_down()
            }
            fn is_nan(self) -> bool {
                <$ty>::is_nan(self)
            }
            fn divided(self, by: usize) -> Self {
                self / by as $ty
            }
            fn plus(self, other: Self) -> Self {
                self + other
            }
        }
    };
}
number!(f32);
number!(f64);

/// A node of the fast layout: on to `left` if `row[feature] <= threshold`, else to the node
/// after it. A leaf compares the padding column (always 0) with infinity and leads to itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step<T> {
    pub(super) threshold: T,
    pub(super) feature: u32,
    pub(super) left: u32,
}

/// Nodes of one tree in the small layout, at most; the window that a walk looks into.
pub(super) const WINDOW: usize = 256;
/// The padding column of the small layout; always negative infinity.
pub(super) const PADDING: u8 = u8::MAX;

/// A node of the small layout, for trees of up to 256 nodes over up to 255 columns: 8 bytes
/// in float32, and indices that cannot leave a window of 256 nodes, so that no bound is
/// checked while walking. A leaf keeps its weight as threshold; the padding column is below
/// every number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Small<T> {
    pub(super) threshold: T,
    pub(super) feature: u8,
    /// From the root of the tree.
    pub(super) left: u8,
}

/// A node of the plain layout.
#[derive(Debug, Clone)]
pub(super) struct Plain<T> {
    pub(super) mode: Mode,
    pub(super) feature: usize,
    pub(super) threshold: T,
    pub(super) yes: usize,
    pub(super) no: usize,
    pub(super) missing_is_yes: bool,
}

/// One tree of the fast layout.
#[derive(Debug, Clone, Copy)]
pub(super) struct Root {
    pub(super) at: u32,
    pub(super) depth: u32,
}

/// What a leaf adds: the one weight of a forest in which every leaf has one for the same
/// target, or a range of [`Trees::weights`].
#[derive(Debug)]
pub(super) enum Leaves<T> {
    /// `(target, weight of each node)`; 0 where the node is no leaf.
    One(usize, Vec<T>),
    /// `(start, end)` of each node.
    Many(Vec<(u32, u32)>),
}

/// How weights of one target join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Join {
    Add,
    Min,
    Max,
}

/// A forest, in the order of its trees.
#[derive(Debug)]
pub(super) struct Trees<T> {
    /// Small layout, a window longer than its nodes; empty where a node does not fit.
    pub(super) small: Vec<Small<T>>,
    /// Fast layout; empty where a node cannot be written in it, or the small one is used.
    pub(super) steps: Vec<Step<T>>,
    pub(super) roots: Vec<Root>,
    /// Trees by depth: those walked together end together.
    pub(super) by_depth: Vec<u32>,
    /// What each node of the fast layout adds.
    pub(super) leaves: Leaves<T>,
    /// Plain layout; `None` for leaves.
    pub(super) plain: Vec<Option<Plain<T>>>,
    pub(super) plain_roots: Vec<usize>,
    /// What each node of the plain layout adds.
    pub(super) plain_leaves: Leaves<T>,
    pub(super) weights: Vec<(usize, T)>,
    pub(super) members: Vec<T>,
    pub(super) columns: usize,
    pub(super) join: Join,
}

impl<T: Number> Trees<T> {
    /// Lays `ensemble` out.
    pub(super) fn new(ensemble: &Ensemble) -> Result<Self, String> {
        // Indices of nodes and weights are 32 bits wide.
        if ensemble.nodes.len().max(ensemble.weights.len()) >= u32::MAX as usize {
            return Err("the forest has more nodes than can be addressed".to_owned());
        }
        let plain = ensemble.nodes.iter().map(Plain::new).collect();
        let (steps, roots, order) = lay_out(ensemble).unwrap_or_default();
        let node_leaves = |at: &usize| match &ensemble.nodes[*at] {
            Node::Leaf(range) => (range.start as u32, range.end as u32),
            Node::Split { .. } => (0, 0),
        };
        let all: Vec<usize> = (0..ensemble.nodes.len()).collect();
        let leaves = |order: &[usize]| Leaves::new(ensemble, order.iter().map(node_leaves).collect());
        let fast_leaves = leaves(&order);
        let small = shrink(&steps, &roots, ensemble.columns, &fast_leaves).unwrap_or_default();
        Ok(Self {
            steps: if small.is_empty() { steps } else { Vec::new() },
            small,
            by_depth: by_depth(&roots),
            leaves: fast_leaves,
            plain_leaves: leaves(&all),
            roots,
            plain,
            plain_roots: ensemble.roots.clone(),
            weights: ensemble.weights.iter().map(|&(target, w)| (target, T::of(w))).collect(),
            members: ensemble.members.iter().map(|&m| T::of(m)).collect(),
            columns: ensemble.columns,
            join: match ensemble.aggregate {
                super::parse::Aggregate::Min => Join::Min,
                super::parse::Aggregate::Max => Join::Max,
                _ => Join::Add,
            },
        })
    }

    /// Sums the weights of the leaves that each of the `rows` rows in `x` falls into.
    pub(super) fn sum(&self, x: &[T], columns: usize, sums: &mut super::score::Sums<T>, rows: usize) {
        sums.clear(rows);
        walk::sum(self, x, columns, sums, rows);
    }
}

impl<T: Number> Leaves<T> {
    fn new(ensemble: &Ensemble, ranges: Vec<(u32, u32)>) -> Self {
        let single = ensemble.targets == 1 || {
            let one =
                |n: &Node| matches!(n, Node::Split { .. }) || matches!(n, Node::Leaf(r) if r.len() == 1);
            let target = ensemble.weights.first().map(|w| w.0);
            ensemble.nodes.iter().all(one) && ensemble.weights.iter().all(|w| Some(w.0) == target)
        };
        if !single {
            return Leaves::Many(ranges);
        }
        // With one target onnxruntime counts the first weight of a leaf only.
        let weight = |&(start, end): &(u32, u32)| {
            if start == end { T::default() } else { T::of(ensemble.weights[start as usize].1) }
        };
        let target = ensemble.weights.first().map_or(0, |w| w.0);
        Leaves::One(target, ranges.iter().map(weight).collect())
    }
}

impl<T: Number> Plain<T> {
    fn new(node: &Node) -> Option<Self> {
        let Node::Split { mode, feature, threshold, yes, no, missing_is_yes } = node else { return None };
        Some(Self {
            mode: mode.clone(),
            feature: *feature,
            threshold: T::of(*threshold),
            yes: *yes,
            no: *no,
            missing_is_yes: *missing_is_yes,
        })
    }
}

/// The fast layout, its roots, and which node of the ensemble stands at each place. `None`
/// if a node does not fit into it.
#[allow(clippy::type_complexity)] // three parallel results of one pass
pub(super) fn lay_out<T: Number>(ensemble: &Ensemble) -> Option<(Vec<Step<T>>, Vec<Root>, Vec<usize>)> {
    let padding = u32::try_from(ensemble.columns).ok()?;
    let mut steps: Vec<Step<T>> = Vec::with_capacity(ensemble.nodes.len());
    let mut order = Vec::with_capacity(ensemble.nodes.len());
    let mut roots = Vec::with_capacity(ensemble.roots.len());
    for &root in &ensemble.roots {
        let first = order.len();
        order.push(root);
        let mut depth = 0;
        // Breadth first: the levels that every row passes lie together.
        let mut level_end = order.len();
        let mut at = first;
        while at < order.len() {
            let step = match &ensemble.nodes[order[at]] {
                Node::Leaf(_) => Step { threshold: T::INFINITY, feature: padding, left: at as u32 },
                Node::Split { mode, feature, threshold, yes, no, .. } => {
                    let (threshold, swapped) = threshold_of(mode, T::of(*threshold))?;
                    let left = order.len() as u32;
                    order.extend(if swapped { [*no, *yes] } else { [*yes, *no] });
                    Step { threshold, feature: *feature as u32, left }
                }
            };
            steps.push(step);
            at += 1;
            if at == level_end && level_end < order.len() {
                depth += 1;
                level_end = order.len();
            }
        }
        roots.push(Root { at: first as u32, depth });
    }
    Some((steps, roots, order))
}

fn by_depth(roots: &[Root]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..roots.len() as u32).collect();
    order.sort_by_key(|&tree| roots[tree as usize].depth);
    order
}

/// The small layout of `steps`; `None` if a tree, a column or a weight does not fit.
fn shrink<T: Number>(
    steps: &[Step<T>],
    roots: &[Root],
    columns: usize,
    leaves: &Leaves<T>,
) -> Option<Vec<Small<T>>> {
    if columns > usize::from(PADDING) || steps.is_empty() {
        return None;
    }
    let ends = roots.iter().skip(1).map(|root| root.at as usize).chain([steps.len()]);
    let mut small = Vec::with_capacity(steps.len() + WINDOW);
    for (root, end) in roots.iter().zip(ends) {
        for at in root.at as usize..end {
            let step = &steps[at];
            let leaf = step.left as usize == at;
            let threshold = match leaves {
                Leaves::One(_, weights) if leaf => weights[at],
                _ => step.threshold,
            };
            // A weight that is not a number would lead the walk out of its leaf.
            if leaf && threshold.is_nan() {
                return None;
            }
            let feature = if leaf { PADDING } else { u8::try_from(step.feature).ok()? };
            small.push(Small { threshold, feature, left: u8::try_from(step.left - root.at).ok()? });
        }
    }
    let unused = Small { threshold: T::INFINITY, feature: PADDING, left: 0 };
    small.extend([unused; WINDOW]);
    Some(small)
}

/// The threshold of `x <= t` that answers as `mode` does for every x but NaN, and whether
/// the children change places. `None` if there is none.
fn threshold_of<T: Number>(mode: &Mode, t: T) -> Option<(T, bool)> {
    // Nothing is `<= NaN`, so it stands for "never"; infinity stands for "always".
    let below = |t: T| if t.next_below() < t { t.next_below() } else { T::NAN };
    Some(match mode {
        Mode::LessOrEqual => (t, false),
        Mode::Less => (below(t), false),
        Mode::Greater | Mode::GreaterOrEqual if t.is_nan() => (T::INFINITY, true),
        Mode::Greater => (t, true),
        Mode::GreaterOrEqual => (below(t), true),
        Mode::Equal | Mode::NotEqual | Mode::Member(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_a_less_or_equal() {
        let odd = [f32::NEG_INFINITY, -1.0, -0.0, 0.0, 1e-45, 0.1, f32::MAX, f32::INFINITY, f32::NAN];
        for t in odd {
            for x in odd.into_iter().filter(|x| !x.is_nan()) {
                let all = [
                    (Mode::LessOrEqual, x <= t),
                    (Mode::Less, x < t),
                    (Mode::Greater, x > t),
                    (Mode::GreaterOrEqual, x >= t),
                ];
                for (mode, yes) in all {
                    let (threshold, swapped) = threshold_of(&mode, t).unwrap();
                    assert_eq!((x <= threshold) != swapped, yes, "{x} {mode:?} {t}");
                }
            }
        }
    }
}
