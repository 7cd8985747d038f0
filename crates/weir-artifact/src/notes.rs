//! Exports that are known to answer differently from the model they were made of.
//!
//! The figures are shares of hard rows (NaN, infinities, values at a threshold, unseen
//! categories) that were more than 1e-6 off the library, measured over 91 models; see
//! `docs/concepts/conversion-exactness.md`.

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
    notes.extend(svc_scores(model, graph));
    notes
}

fn nodes<'a>(graph: &'a GraphProto, ops: &'a [&str]) -> impl Iterator<Item = &'a NodeProto> {
    graph.node.iter().filter(move |n| ops.contains(&n.op_type.as_str()))
}

fn has(graph: &GraphProto, ops: &[&str]) -> bool {
    nodes(graph, ops).next().is_some()
}

/// Exporters of other libraries' trees, by the producer and the name they give the graph.
fn exporter(model: &OnnxModel, graph: &GraphProto) -> Option<String> {
    let producer = model.producer.to_lowercase();
    let said = format!("{producer} {}", graph.name.to_lowercase());
    let names = nodes(graph, &TREES).map(|n| n.name.to_lowercase()).collect::<Vec<_>>().join(" ");
    let (library, figure) = if producer.contains("catboost") {
        (
            "CatBoost's own exporter",
            "19.2 % of hard rows more than 1e-6 off; Poisson models wrong on every row",
        )
    } else if !producer.contains("onnxmltools") && !producer.contains("onnxconverter") {
        return None;
    } else if said.contains("lightgbm") || names.contains("lgbm") || names.contains("lightgbm") {
        (
            "onnxmltools from LightGBM",
            "42.7 % of hard rows more than 1e-6 off; sigmoid other than 1, one-vs-all, random-forest and linear-tree models wrong on nearly every row",
        )
    } else if said.contains("xgboost") || said.contains("xgb") || names.contains("xgb") {
        (
            "onnxmltools from XGBoost",
            "36.9 % of hard rows more than 1e-6 off; ranking, survival and hinge objectives, and models stopped early, wrong on nearly every row",
        )
    } else if has(graph, &TREES) {
        ("onnxmltools", "36.9 % (XGBoost) and 42.7 % (LightGBM) of hard rows more than 1e-6 off")
    } else {
        return None;
    };
    Some(format!("exported by {library}: {figure}; {PAGE}"))
}

/// A scaler computes in float32 where scikit-learn computes in float64: values land on the
/// other side of thresholds.
fn scaled_trees(graph: &GraphProto) -> Option<String> {
    const SCALERS: [&str; 2] = ["Scaler", "Normalizer"];
    let before = nodes(graph, &TREES).any(|tree| {
        let input = tree.input.first().map_or("", String::as_str);
        comes_from(graph, input, &SCALERS)
    });
    before.then(|| {
        format!("a scaler stands before trees: it rounds differently from scikit-learn and moved 15 % of hard rows across thresholds; train the trees without it; {PAGE}")
    })
}

/// Whether the value is computed from an operator of `ops`, some steps back.
fn comes_from(graph: &GraphProto, name: &str, ops: &[&str]) -> bool {
    const MOST_STEPS: usize = 64;
    let mut open = vec![name];
    for _ in 0..MOST_STEPS {
        let Some(name) = open.pop() else { return false };
        for node in graph.node.iter().filter(|n| n.output.iter().any(|o| o == name)) {
            if ops.contains(&node.op_type.as_str()) {
                return true;
            }
            open.extend(node.input.iter().map(String::as_str));
        }
    }
    false
}

/// Histogram gradient boosting compares float64; its thresholds were rounded to float32.
/// Recognised by what skl2onnx writes for it and for no other scikit-learn trees: hundreds
/// of trees that sum up from base values, with a logistic or softmax link or none.
fn double_trees(model: &OnnxModel, graph: &GraphProto) -> Option<String> {
    let boosted = |tree: &NodeProto| {
        let own = tree.attribute("nodes_values_as_tensor").is_none();
        let missing = tree.ints("nodes_missing_value_tracks_true").contains(&1);
        own && (missing || !tree.floats("base_values").is_empty())
            && tree.string("post_transform").is_some_and(|p| p != "NONE")
    };
    let skl2onnx = model.producer.to_lowercase().contains("skl2onnx");
    (skl2onnx && nodes(graph, &TREES).any(boosted)).then(|| {
        format!("boosted trees of scikit-learn with thresholds rounded from float64 to float32: exact for float32 inputs that are no thresholds, up to 17 % of hard rows off otherwise; {PAGE}")
    })
}

/// An SVC that was trained without `probability=True` calls its margins probabilities.
fn svc_scores(model: &OnnxModel, graph: &GraphProto) -> Option<String> {
    let plain = |n: &NodeProto| n.floats("prob_a").is_empty();
    let named = model.signature.outputs.iter().any(|o| o.name.contains("prob"));
    (named && nodes(graph, &["SVMClassifier"]).any(plain)).then(|| {
        format!("the SVC was trained without probability=True: what the export calls probabilities are its margins; {PAGE}")
    })
}
