//! Exports that are known to answer differently from the model they were made of.
//!
//! The figures are shares of hard rows (NaN, infinities, values at a threshold, unseen
//! categories) that were more than 1e-6 off the library, measured over 91 models; see
//! `docs/concepts/conversion-exactness.md`.

use std::collections::{HashMap, HashSet};

use crate::onnx::{
    OnnxModel,
    proto::{GraphProto, NodeProto},
};

const TREES: [&str; 3] = ["TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble"];
const PAGE: &str = "see docs/concepts/conversion-exactness.md";

/// One sentence for each thing that an operator should know.
pub(crate) fn notes(model: &OnnxModel) -> Vec<String> {
    let Some(graph) = &model.model.graph else { return Vec::new() };
    let mut notes = model.notes.clone();
    notes.extend(exporter(model, graph));
    notes.extend(scaled_trees(graph));
    notes.extend(double_trees(model, graph));
    notes.extend(margins(model, graph));
    notes
}

fn nodes<'a>(graph: &'a GraphProto, ops: &'a [&str]) -> impl Iterator<Item = &'a NodeProto> {
    graph.node.iter().filter(move |n| ops.contains(&n.op_type.as_str()))
}

fn has(graph: &GraphProto, ops: &[&str]) -> bool {
    nodes(graph, ops).next().is_some()
}

/// Exporters of other libraries' trees, by the producer and the name they give the nodes:
/// onnxmltools calls LightGBM's `LgbmClassifier`, and XGBoost's like the operator.
fn exporter(model: &OnnxModel, graph: &GraphProto) -> Option<String> {
    let producer = model.producer.to_lowercase();
    let named = |part: &str| nodes(graph, &TREES).any(|n| n.name.to_lowercase().contains(part));
    let known = if !has(graph, &TREES) {
        return None;
    } else if producer.starts_with("catboost") {
        "exported by CatBoost: 19.2 % of hard rows are more than 1e-6 off the library, and all rows of a model \
         with Poisson loss"
    } else if named("lgbm") {
        "exported from LightGBM: 42.7 % of hard rows are more than 1e-6 off the library, and nearly all rows of \
         models with sigmoid other than 1, multiclassova, reg_sqrt, random-forest boosting or linear trees"
    } else if named("xgb") || producer.contains("onnxmltools") {
        "exported by onnxmltools, as it does for XGBoost: 36.9 % of hard rows are more than 1e-6 off the library, \
         and nearly all rows of models with reg:logistic, survival:*, binary:logitraw, binary:hinge or rank:* \
         objectives, several targets, or early stopping"
    } else {
        return None;
    };
    Some(format!("{known}; {PAGE}"))
}

/// A scaler computes in float32 where scikit-learn computes in float64: values land on the
/// other side of thresholds.
fn scaled_trees(graph: &GraphProto) -> Option<String> {
    let trees = nodes(graph, &TREES).filter_map(|tree| tree.input.first());
    let scaled = comes_from(graph, trees.map(String::as_str).collect(), &["Scaler", "Normalizer"]);
    scaled.then(|| {
        format!(
            "a scaler stands before trees: it rounds differently from scikit-learn, which moved 15 % of hard \
             rows across thresholds; train the trees without it, they do not need it; {PAGE}"
        )
    })
}

/// Whether any of `values` is computed from an operator of `ops`, however far back.
fn comes_from<'a>(graph: &'a GraphProto, values: Vec<&'a str>, ops: &[&str]) -> bool {
    let makers: HashMap<&str, &NodeProto> =
        graph.node.iter().flat_map(|n| n.output.iter().map(move |o| (o.as_str(), n))).collect();
    let mut seen: HashSet<&str> = values.iter().copied().collect();
    let mut open = values;
    while let Some(node) = open.pop().map(|name| makers.get(name)) {
        let Some(node) = node else { continue };
        if ops.contains(&node.op_type.as_str()) {
            return true;
        }
        open.extend(node.input.iter().map(String::as_str).filter(|name| seen.insert(name)));
    }
    false
}

/// Histogram gradient boosting compares in float64; its thresholds were rounded to float32.
/// skl2onnx writes it like plain gradient boosting, which loses nothing: both are trees
/// that start from base values.
fn double_trees(model: &OnnxModel, graph: &GraphProto) -> Option<String> {
    let boosted = |tree: &NodeProto| !tree.floats("base_values").is_empty();
    let skl2onnx = model.producer.to_lowercase().contains("skl2onnx");
    (skl2onnx && nodes(graph, &TREES).any(boosted)).then(|| {
        format!(
            "boosted trees of scikit-learn: if it is HistGradientBoosting, its float64 thresholds were rounded to \
             float32, and up to 17 % of rows that lie at a threshold are more than 1e-6 off; {PAGE}"
        )
    })
}

/// Classifiers without probabilities export their margins under that name: an SVC that was
/// trained without `probability=True`, LinearSVC, and others that are linear without a link.
fn margins(model: &OnnxModel, graph: &GraphProto) -> Option<String> {
    let svc = |n: &NodeProto| n.op_type == "SVMClassifier" && n.floats("prob_a").is_empty();
    let link = |n: &NodeProto| n.string("post_transform").is_some_and(|p| p != "NONE");
    let answers = |n: &NodeProto| n.output.get(1).is_some_and(|o| is_answer(graph, o));
    let linear = |n: &NodeProto| n.op_type == "LinearClassifier" && !link(n) && answers(n);
    let named = model.signature.outputs.iter().any(|o| o.name.contains("prob"));
    (named && graph.node.iter().any(|n| svc(n) || linear(n))).then(|| {
        format!("the classifier has no probabilities: what the export calls so are its margins; {PAGE}")
    })
}

/// Whether a value leaves the graph as it is.
fn is_answer(graph: &GraphProto, value: &str) -> bool {
    let passes = |n: &&NodeProto| matches!(n.op_type.as_str(), "Identity" | "Cast" | "ZipMap");
    let handed_on = graph.node.iter().filter(passes).filter(|n| n.input.iter().any(|i| i == value));
    let mut names = handed_on.flat_map(|n| n.output.iter()).map(String::as_str).chain([value]);
    names.any(|name| graph.output.iter().any(|o| o.name == name))
}
