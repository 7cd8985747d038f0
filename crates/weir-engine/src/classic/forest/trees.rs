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
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, trivial_numeric_casts)]
        impl Number for $ty {
            const INFINITY: Self = <$ty>::INFINITY;
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
    /// Fast layout; empty where a node cannot be written in it.
    pub(super) steps: Vec<Step<T>>,
    pub(super) roots: Vec<Root>,
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
        Ok(Self {
            leaves: leaves(&order),
            plain_leaves: leaves(&all),
            steps,
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
fn lay_out<T: Number>(ensemble: &Ensemble) -> Option<(Vec<Step<T>>, Vec<Root>, Vec<usize>)> {
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
