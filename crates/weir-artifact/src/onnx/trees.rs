//! Whether the trees of a graph stay inside the row that they are given.
//!
//! ONNX Runtime 1.32 loads a forest whose feature index lies beyond its input and then reads
//! whatever stands behind the row in memory. The native engine refuses such a forest when it
//! parses it; the gate does so for every runtime.

use std::collections::HashMap;

use super::{
    proto::{DimensionValue, GraphProto, NodeProto, TypeValue, ValueInfoProto},
    show,
};

/// Forests of `ai.onnx.ml` by operator; each keeps the features of its splits here.
const FORESTS: [&str; 3] = ["TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"];

/// Operators that hand on as many columns as they get.
const SAME_WIDTH: [&str; 6] = ["Cast", "Identity", "Imputer", "Scaler", "Normalizer", "Binarizer"];

/// All splits that ask for a feature that no row has, one sentence a node.
pub(super) fn check(graph: &GraphProto) -> Vec<String> {
    let mut widths = input_widths(graph);
    let mut problems = Vec::new();
    for node in &graph.node {
        let width = node.input.first().and_then(|name| widths.get(name.as_str())).copied();
        if FORESTS.contains(&node.op_type.as_str()) {
            problems.extend(beyond(node, width));
        }
        if let (Some(width), [output]) = (width, &node.output[..])
            && SAME_WIDTH.contains(&node.op_type.as_str())
        {
            widths.insert(output, width);
        }
    }
    problems
}

/// The last dimension of each matrix that goes into the graph, where the file says it.
fn input_widths(graph: &GraphProto) -> HashMap<&str, i64> {
    graph.input.iter().filter_map(|input| Some((input.name.as_str(), width(input)?))).collect()
}

fn width(input: &ValueInfoProto) -> Option<i64> {
    let Some(TypeValue::Tensor(tensor)) = input.r#type.as_ref()?.value.as_ref() else { return None };
    let [_, columns] = &tensor.shape.as_ref()?.dim[..] else { return None };
    match columns.value.as_ref()? {
        DimensionValue::Value(size) => Some(*size),
        DimensionValue::Param(_) => None,
    }
}

/// A feature that is negative, or not below `width` where that is known.
fn beyond(node: &NodeProto, width: Option<i64>) -> Option<String> {
    let outside = |feature: i64| feature < 0 || width.is_some_and(|width| feature >= width);
    let modes = node.attribute("nodes_modes").map_or(&[][..], |modes| &modes.strings);
    // What a leaf says about features is not read.
    let splits = |index: usize| modes.get(index).is_none_or(|mode| &mode[..] != b"LEAF");
    let mut features = node.ints("nodes_featureids").iter().enumerate();
    let (_, feature) = features.find(|(index, feature)| splits(*index) && outside(**feature))?;
    let has = width.map_or("columns count from 0".to_owned(), |width| format!("a row has {width} columns"));
    let name = if node.name.is_empty() { &node.op_type } else { &node.name };
    Some(format!("forest {}: a split asks for feature {feature}, but {has}", show(name)))
}
