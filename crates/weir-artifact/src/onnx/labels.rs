//! Which classes a graph tells apart.

use weir_types::{Tensor, TensorData};

use super::{
    proto::{GraphProto, ModelProto, NodeProto},
    tensor::tensor,
};

/// Most nodes between a graph's output and the classifier that it comes from.
const MOST_STEPS: usize = 8;

/// The classes in the order of the score columns: of a `ZipMap`, else of the classifier
/// that an output comes from, else of the table that `ArrayFeatureExtractor` looks labels
/// up in (how skl2onnx writes naive Bayes, voting and stacking).
pub(super) fn class_labels(model: &ModelProto) -> Option<Vec<String>> {
    let graph = model.graph.as_ref()?;
    let zip_map = graph.node.iter().find_map(zip_map_labels);
    let traced = || graph.output.iter().find_map(|o| trace(graph, &o.name));
    let only = || {
        let mut all = graph.node.iter().filter_map(classifier_labels);
        all.next().filter(|_| all.next().is_none())
    };
    zip_map.or_else(traced).or_else(only)
}

/// The labels of a `ZipMap` node.
pub(super) fn zip_map_labels(node: &NodeProto) -> Option<Vec<String>> {
    if node.op_type == "ZipMap" { labels(node, "classlabels_int64s", "classlabels_strings") } else { None }
}

fn classifier_labels(node: &NodeProto) -> Option<Vec<String>> {
    match node.op_type.as_str() {
        "TreeEnsembleClassifier" => labels(node, "classlabels_int64s", "classlabels_strings"),
        "LinearClassifier" | "SVMClassifier" => labels(node, "classlabels_ints", "classlabels_strings"),
        _ => None,
    }
}

fn labels(node: &NodeProto, ints: &str, strings: &str) -> Option<Vec<String>> {
    let strings = node.strings(strings);
    let found =
        if strings.is_empty() { node.ints(ints).iter().map(ToString::to_string).collect() } else { strings };
    Some(found).filter(|l: &Vec<String>| !l.is_empty())
}

/// Follows `name` back through nodes that hand their first input on.
fn trace(graph: &GraphProto, name: &str) -> Option<Vec<String>> {
    let mut name = name;
    for _ in 0..MOST_STEPS {
        let node = graph.node.iter().find(|n| n.output.iter().any(|o| o == name))?;
        if let Some(found) = classifier_labels(node) {
            return Some(found);
        }
        match node.op_type.as_str() {
            "ArrayFeatureExtractor" => return node.input.first().and_then(|table| constant(graph, table)),
            "Cast" | "Reshape" | "Identity" | "Flatten" | "Squeeze" | "Unsqueeze" | "Normalizer"
            | "Softmax" => {
                name = node.input.first()?;
            }
            _ => return None,
        }
    }
    None
}

fn constant(graph: &GraphProto, name: &str) -> Option<Vec<String>> {
    let table: Tensor = tensor(graph.initializer.iter().find(|t| t.name == name)?).ok()?;
    match table.into_data() {
        TensorData::Int64(v) => Some(v.iter().map(ToString::to_string).collect()),
        TensorData::Int32(v) => Some(v.iter().map(ToString::to_string).collect()),
        TensorData::String(v) => Some(v),
        _ => None,
    }
}
