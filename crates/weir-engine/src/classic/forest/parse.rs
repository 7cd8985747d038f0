//! From attributes to an [`Ensemble`]: one list of nodes with checked children.

use std::{collections::HashMap, ops::Range};

use weir_artifact::onnx::tensor as read_tensor;
use weir_types::TensorData;

use super::{Outcome, Post, Source};

pub(super) mod version5;

/// How a node compares; the answer "yes" leads to its true child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    LessOrEqual,
    Less,
    GreaterOrEqual,
    Greater,
    Equal,
    NotEqual,
    /// Equal to one of a range of [`Ensemble::members`].
    Member(Range<usize>),
}

/// What a tree's weights become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// A node: a comparison, or a leaf that adds `weights[range]`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// `row[feature] mode threshold`, with the children's indices.
    Split { mode: Mode, feature: usize, threshold: f64, yes: usize, no: usize, missing_is_yes: bool },
    /// Range in [`Ensemble::weights`].
    Leaf(Range<usize>),
}

/// A forest in one form, whatever operator it came from. Thresholds and weights are kept
/// in float64, which holds float32 exactly.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ensemble {
    pub(super) nodes: Vec<Node>,
    /// Index of each tree's root, in the order of summation.
    pub(super) roots: Vec<usize>,
    /// `(target, weight)`.
    pub(super) weights: Vec<(usize, f64)>,
    pub(super) targets: usize,
    pub(super) base: Vec<f64>,
    /// Members of the sets that nodes ask for.
    pub(super) members: Vec<f64>,
    pub(super) aggregate: Aggregate,
    pub(super) post: Post,
    /// Columns that a row must have at least.
    pub(super) columns: usize,
}

/// Reads a forest whose leaf attributes start with `prefix` (`class` or `target`).
pub(super) fn ensemble(source: &Source<'_>, prefix: &str, targets: usize) -> Outcome<Ensemble> {
    let raw = Raw::read(source, prefix)?;
    let ids = raw.ids(source)?;
    let weights = raw.weights(source, &ids, targets)?;
    let mut columns = 0;
    let mut nodes = Vec::with_capacity(raw.modes.len());
    for at in 0..raw.modes.len() {
        let node = raw.node(source, at, &ids, &weights.of_node)?;
        if let Node::Split { feature, .. } = &node {
            columns = columns.max(feature + 1);
        }
        nodes.push(node);
    }
    let ensemble = Ensemble {
        nodes,
        roots: raw.roots(),
        weights: weights.list,
        targets,
        base: floats(source, "base_values")?,
        members: Vec::new(),
        aggregate: aggregate(source)?,
        post: Post::read(source)?,
        columns,
    };
    check(&ensemble, prefix == "class").map_err(|why| source.broken(why))?;
    Ok(ensemble)
}

/// What both versions of the operators must satisfy.
fn check(ensemble: &Ensemble, classifier: bool) -> Result<(), String> {
    let (targets, bases) = (ensemble.targets, ensemble.base.len());
    if targets == 0 {
        return Err("no targets or classes are given".to_owned());
    }
    let fits = bases == 0 || bases == targets || (classifier && targets == 2 && bases == 1);
    if !fits {
        return Err(format!("{bases} base values for {targets} targets or classes"));
    }
    // The file's own limit on columns; far beyond any table, and it bounds the scratch rows.
    if ensemble.columns > 1 << 24 {
        return Err(format!("a node reads column {}", ensemble.columns - 1));
    }
    no_cycles(ensemble)
}

/// Every node is reached once at most: what walks down ends, and layouts can be copied
/// tree by tree. (Shared nodes would be legal arithmetic, but no exporter writes them.)
fn no_cycles(ensemble: &Ensemble) -> Result<(), String> {
    let mut seen = vec![false; ensemble.nodes.len()];
    let mut open = ensemble.roots.clone();
    while let Some(at) = open.pop() {
        if std::mem::replace(&mut seen[at], true) {
            return Err(format!("node {at} is the child of two nodes, or of itself"));
        }
        if let Node::Split { yes, no, .. } = &ensemble.nodes[at] {
            open.extend([*yes, *no]);
        }
    }
    Ok(())
}

fn aggregate(source: &Source<'_>) -> Outcome<Aggregate> {
    source.word(
        "aggregate_function",
        &[
            ("SUM", Aggregate::Sum),
            ("AVERAGE", Aggregate::Average),
            ("MIN", Aggregate::Min),
            ("MAX", Aggregate::Max),
        ],
    )
}

/// A list of numbers given as floats or, under `<name>_as_tensor`, in double precision.
fn floats(source: &Source<'_>, name: &str) -> Outcome<Vec<f64>> {
    let wide = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect();
    match source.node.tensor(&format!("{name}_as_tensor")) {
        None => Ok(wide(source.node.floats(name))),
        Some(proto) => tensor_floats(source, name, proto),
    }
}

fn tensor_floats(
    source: &Source<'_>,
    name: &str,
    proto: &weir_artifact::onnx::proto::TensorProto,
) -> Outcome<Vec<f64>> {
    match read_tensor(proto).map_err(|why| source.broken(why))?.into_data() {
        TensorData::Float64(v) => Ok(v),
        TensorData::Float32(v) => Ok(v.iter().map(|&x| f64::from(x)).collect()),
        _ => Err(source.broken(format!("{name} must hold floats"))),
    }
}

/// The attributes as they stand.
struct Raw<'a> {
    modes: Vec<Option<Mode>>,
    trees: &'a [i64],
    ids: &'a [i64],
    features: &'a [i64],
    yes: &'a [i64],
    no: &'a [i64],
    thresholds: Vec<f64>,
    missing: &'a [i64],
    weight_trees: &'a [i64],
    weight_nodes: &'a [i64],
    weight_targets: &'a [i64],
    weight_values: Vec<f64>,
}

/// Weights in the order of the nodes, and the range of each node.
struct Weights {
    list: Vec<(usize, f64)>,
    of_node: Vec<Range<usize>>,
}

/// `(tree, node)` -> index.
type Ids = HashMap<(i64, i64), usize>;

impl<'a> Raw<'a> {
    fn read(source: &Source<'a>, prefix: &str) -> Outcome<Self> {
        let node = source.node;
        let ints = |name: &str| node.ints(&format!("{prefix}_{name}"));
        let modes = node.attribute("nodes_modes").map_or(&[][..], |a| &a.strings);
        let modes = modes.iter().map(|m| mode(source, m)).collect::<Outcome<Vec<_>>>()?;
        let raw = Raw {
            modes,
            trees: node.ints("nodes_treeids"),
            ids: node.ints("nodes_nodeids"),
            features: node.ints("nodes_featureids"),
            yes: node.ints("nodes_truenodeids"),
            no: node.ints("nodes_falsenodeids"),
            thresholds: floats(source, "nodes_values")?,
            missing: node.ints("nodes_missing_value_tracks_true"),
            weight_trees: ints("treeids"),
            weight_nodes: ints("nodeids"),
            weight_targets: ints("ids"),
            weight_values: floats(source, &format!("{prefix}_weights"))?,
        };
        raw.check_lengths(prefix).map_err(|why| source.broken(why))?;
        Ok(raw)
    }

    fn check_lengths(&self, prefix: &str) -> Result<(), String> {
        let nodes = self.modes.len();
        let lengths = [
            ("nodes_treeids", self.trees.len(), nodes),
            ("nodes_nodeids", self.ids.len(), nodes),
            ("nodes_featureids", self.features.len(), nodes),
            ("nodes_truenodeids", self.yes.len(), nodes),
            ("nodes_falsenodeids", self.no.len(), nodes),
            ("nodes_values", self.thresholds.len(), nodes),
            ("treeids of the weights", self.weight_trees.len(), self.weight_targets.len()),
            ("nodeids of the weights", self.weight_nodes.len(), self.weight_targets.len()),
            ("the weights", self.weight_values.len(), self.weight_targets.len()),
        ];
        if nodes == 0 {
            return Err("the forest has no nodes".to_owned());
        }
        if !self.missing.is_empty() && self.missing.len() != nodes {
            return Err(format!("{} missing-value directions for {nodes} nodes", self.missing.len()));
        }
        match lengths.into_iter().find(|(_, got, want)| got != want) {
            Some((name, got, want)) => Err(format!("{name} ({prefix}): {got} entries, {want} needed")),
            None => Ok(()),
        }
    }

    fn ids(&self, source: &Source<'_>) -> Outcome<Ids> {
        let mut ids = HashMap::with_capacity(self.ids.len());
        for (at, key) in self.trees.iter().copied().zip(self.ids.iter().copied()).enumerate() {
            if ids.insert(key, at).is_some() {
                return Err(source.broken(format!("node {} of tree {} is given twice", key.1, key.0)));
            }
        }
        Ok(ids)
    }

    /// The first node of each run of one tree number, as onnxruntime takes it.
    fn roots(&self) -> Vec<usize> {
        (0..self.trees.len()).filter(|&i| i == 0 || self.trees[i] != self.trees[i - 1]).collect()
    }

    fn weights(&self, source: &Source<'_>, ids: &Ids, targets: usize) -> Outcome<Weights> {
        let mut entries = Vec::with_capacity(self.weight_targets.len());
        for (i, &target) in self.weight_targets.iter().enumerate() {
            let key = (self.weight_trees[i], self.weight_nodes[i]);
            let Some(&node) = ids.get(&key) else {
                return Err(source.broken(format!(
                    "a weight is for node {} of tree {}, which is not there",
                    key.1, key.0
                )));
            };
            let Some(target) = usize::try_from(target).ok().filter(|&t| t < targets) else {
                return Err(source.broken(format!("a leaf adds to target {target} of {targets}")));
            };
            entries.push((node, target, self.weight_values[i]));
        }
        // Stable: weights of one leaf stay in the file's order.
        entries.sort_by_key(|&(node, ..)| node);
        let mut of_node = vec![0..0; self.modes.len()];
        for (at, &(node, ..)) in entries.iter().enumerate() {
            let range: &mut Range<usize> = &mut of_node[node];
            if range.start == range.end {
                *range = at..at;
            }
            range.end = at + 1;
        }
        Ok(Weights {
            list: entries.into_iter().map(|(_, target, weight)| (target, weight)).collect(),
            of_node,
        })
    }

    fn node(&self, source: &Source<'_>, at: usize, ids: &Ids, weights: &[Range<usize>]) -> Outcome<Node> {
        let Some(mode) = self.modes[at].clone() else {
            return match weights[at].clone() {
                range if range.is_empty() => Err(source.broken(format!("leaf {at} has no weight"))),
                range => Ok(Node::Leaf(range)),
            };
        };
        let child = |id: i64| {
            let tree = self.trees[at];
            ids.get(&(tree, id))
                .copied()
                .ok_or_else(|| source.broken(format!("tree {tree} has no node {id}")))
        };
        let feature = self.features[at];
        let feature =
            usize::try_from(feature).map_err(|_| source.broken(format!("a node reads column {feature}")))?;
        Ok(Node::Split {
            mode,
            feature,
            threshold: self.thresholds[at],
            yes: child(self.yes[at])?,
            no: child(self.no[at])?,
            missing_is_yes: self.missing.get(at) == Some(&1),
        })
    }
}

/// `None` for a leaf.
fn mode(source: &Source<'_>, word: &[u8]) -> Outcome<Option<Mode>> {
    Ok(Some(match word {
        b"LEAF" => return Ok(None),
        b"BRANCH_LEQ" => Mode::LessOrEqual,
        b"BRANCH_LT" => Mode::Less,
        b"BRANCH_GTE" => Mode::GreaterOrEqual,
        b"BRANCH_GT" => Mode::Greater,
        b"BRANCH_EQ" => Mode::Equal,
        b"BRANCH_NEQ" => Mode::NotEqual,
        _ => return Err(source.broken(format!("node mode `{}`", String::from_utf8_lossy(word)))),
    }))
}
