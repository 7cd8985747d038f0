//! `TreeEnsemble` of `ai.onnx.ml` 5: splits and leaves in separate lists, sets of members.

use std::ops::Range;

use weir_artifact::onnx::tensor as read_tensor;
use weir_types::TensorData;

use super::{Aggregate, Ensemble, Mode, Node, check, tensor_floats};
use crate::classic::{
    op::{Outcome, Source},
    post::Post,
};

/// Reads a forest.
pub(in crate::classic::forest) fn ensemble(source: &Source<'_>) -> Outcome<Ensemble> {
    let raw = Raw::read(source)?;
    let seen = vec![false; raw.modes.len()];
    let mut out = Out { raw: &raw, source, nodes: Vec::new(), seen, columns: 0 };
    let roots = source.node.ints("tree_roots");
    let roots = roots.iter().map(|&r| out.tree(r)).collect::<Outcome<Vec<_>>>()?;
    let targets = usize::try_from(source.node.int("n_targets").unwrap_or(0)).unwrap_or(0);
    let numbers = [Aggregate::Average, Aggregate::Sum, Aggregate::Min, Aggregate::Max];
    let number = source.node.int("aggregate_function").unwrap_or(1);
    let aggregate = usize::try_from(number).ok().and_then(|n| numbers.get(n).copied());
    let post = Post::by_number(source.node.int("post_transform").unwrap_or(0));
    let (nodes, columns) = (out.nodes, out.columns);
    let ensemble = Ensemble {
        nodes,
        roots,
        weights: raw.weights(source, targets)?,
        targets,
        base: Vec::new(),
        members: raw.members,
        aggregate: aggregate.ok_or_else(|| source.broken("unknown aggregate_function"))?,
        post: post.ok_or_else(|| source.broken("unknown post_transform"))?,
        columns,
    };
    check(&ensemble, false).map_err(|why| source.broken(why))?;
    Ok(ensemble)
}

struct Raw<'a> {
    modes: Vec<u8>,
    features: &'a [i64],
    thresholds: Vec<f64>,
    yes: &'a [i64],
    yes_is_leaf: &'a [i64],
    no: &'a [i64],
    no_is_leaf: &'a [i64],
    missing: &'a [i64],
    members: Vec<f64>,
    sets: Vec<Range<usize>>,
    leaf_targets: &'a [i64],
    leaf_weights: Vec<f64>,
}

impl<'a> Raw<'a> {
    fn read(source: &Source<'a>) -> Outcome<Self> {
        let node = source.node;
        let floats = |name: &str| match node.tensor(name) {
            Some(proto) => tensor_floats(source, name, proto),
            None => Ok(Vec::new()),
        };
        let modes = node.tensor("nodes_modes").ok_or_else(|| source.broken("nodes_modes is missing"))?;
        let modes = match read_tensor(modes).map_err(|why| source.broken(why))?.into_data() {
            TensorData::Uint8(v) => v,
            _ => return Err(source.broken("nodes_modes must hold uint8")),
        };
        let members = floats("membership_values")?;
        let raw = Raw {
            sets: sets(&modes, &members),
            modes,
            features: node.ints("nodes_featureids"),
            thresholds: floats("nodes_splits")?,
            yes: node.ints("nodes_truenodeids"),
            yes_is_leaf: node.ints("nodes_trueleafs"),
            no: node.ints("nodes_falsenodeids"),
            no_is_leaf: node.ints("nodes_falseleafs"),
            missing: node.ints("nodes_missing_value_tracks_true"),
            members,
            leaf_targets: node.ints("leaf_targetids"),
            leaf_weights: floats("leaf_weights")?,
        };
        let n = raw.modes.len();
        let lengths = [
            raw.features.len(),
            raw.thresholds.len(),
            raw.yes.len(),
            raw.yes_is_leaf.len(),
            raw.no.len(),
            raw.no_is_leaf.len(),
        ];
        let uneven = lengths.iter().any(|&l| l != n) || raw.leaf_targets.len() != raw.leaf_weights.len();
        if uneven || (!raw.missing.is_empty() && raw.missing.len() != n) {
            return Err(source.broken("the lists of nodes or leaves differ in length"));
        }
        Ok(raw)
    }

    fn weights(&self, source: &Source<'_>, targets: usize) -> Outcome<Vec<(usize, f64)>> {
        let target = |&t: &i64| {
            let known = usize::try_from(t).ok().filter(|&t| t < targets);
            known.ok_or_else(|| source.broken(format!("a leaf adds to target {t} of {targets}")))
        };
        let ids = self.leaf_targets.iter().map(target).collect::<Outcome<Vec<_>>>()?;
        Ok(ids.into_iter().zip(self.leaf_weights.iter().copied()).collect())
    }
}

/// `BRANCH_MEMBER`.
const MEMBER: u8 = 6;

/// Which members belong to each node: sets are separated by NaN, in the order of the nodes.
fn sets(modes: &[u8], members: &[f64]) -> Vec<Range<usize>> {
    let mut at = 0;
    let set = |&mode: &u8| {
        if mode != MEMBER {
            return 0..0;
        }
        let start = at.min(members.len());
        let length = members[start..].iter().position(|m| m.is_nan()).unwrap_or(members.len() - start);
        at = start + length + 1;
        start..start + length
    };
    modes.iter().map(set).collect()
}

struct Out<'a, 'b> {
    raw: &'a Raw<'b>,
    source: &'a Source<'b>,
    nodes: Vec<Node>,
    /// Splits that were copied: each belongs to one place of one tree.
    seen: Vec<bool>,
    columns: usize,
}

impl Out<'_, '_> {
    /// Copies the tree at `root` and gives the index of its root.
    fn tree(&mut self, root: i64) -> Outcome<usize> {
        let raw = self.raw;
        let known = usize::try_from(root).ok().filter(|&r| r < raw.modes.len());
        let root = known.ok_or_else(|| self.source.broken(format!("there is no node {root}")))?;
        // A tree of one leaf is a split both of whose children are that leaf.
        let lone = raw.yes_is_leaf[root] != 0 && raw.no_is_leaf[root] != 0 && raw.yes[root] == raw.no[root];
        if lone {
            return self.place(raw.yes[root], 1).map(|(at, _)| at);
        }
        let (first, from) = self.place(root as i64, 0)?;
        let mut open: Vec<_> = from.map(|from| (from, first)).into_iter().collect();
        while let Some((from, to)) = open.pop() {
            let (yes, inner) = self.place(raw.yes[from], raw.yes_is_leaf[from])?;
            open.extend(inner.map(|from| (from, yes)));
            let (no, inner) = self.place(raw.no[from], raw.no_is_leaf[from])?;
            open.extend(inner.map(|from| (from, no)));
            self.nodes[to] = self.split(from, yes, no)?;
        }
        Ok(first)
    }

    /// Makes room for split or leaf `id`; gives its index, and for a split what to copy there.
    fn place(&mut self, id: i64, is_leaf: i64) -> Outcome<(usize, Option<usize>)> {
        let broken = |why: &str| self.source.broken(format!("{why} {id}"));
        let count = if is_leaf == 0 { self.raw.modes.len() } else { self.raw.leaf_targets.len() };
        let known = usize::try_from(id).ok().filter(|&i| i < count);
        let id = known.ok_or_else(|| broken("there is no node or leaf"))?;
        if is_leaf == 0 && std::mem::replace(&mut self.seen[id], true) {
            return Err(broken("two nodes share the child"));
        }
        self.nodes.push(Node::Leaf(id..id + 1));
        Ok((self.nodes.len() - 1, (is_leaf == 0).then_some(id)))
    }

    fn split(&mut self, from: usize, yes: usize, no: usize) -> Outcome<Node> {
        let raw = self.raw;
        let feature = raw.features[from];
        let known = usize::try_from(feature).ok();
        let feature = known.ok_or_else(|| self.source.broken(format!("a node reads column {feature}")))?;
        self.columns = self.columns.max(feature.saturating_add(1));
        let mode = match raw.modes[from] {
            0 => Mode::LessOrEqual,
            1 => Mode::Less,
            2 => Mode::GreaterOrEqual,
            3 => Mode::Greater,
            4 => Mode::Equal,
            5 => Mode::NotEqual,
            MEMBER => Mode::Member(raw.sets[from].clone()),
            other => return Err(self.source.broken(format!("node mode {other}"))),
        };
        let missing_is_yes = raw.missing.get(from) == Some(&1);
        Ok(Node::Split { mode, feature, threshold: raw.thresholds[from], yes, no, missing_is_yes })
    }
}
