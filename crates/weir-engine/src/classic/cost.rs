//! How long a row takes, estimated at load.

use weir_artifact::onnx::{OnnxModel, proto::NodeProto};

use crate::Cost;

/// Below this a row is computed where the request was decoded: handing it to another thread
/// and back costs about as much.
const LIGHT_NANOS: usize = 50_000;
/// Reading inputs, making outputs.
const STEP_NANOS: usize = 300;
/// One comparison of one tree, most of them overlapped (measured: 100 trees of 31 leaves
/// take a microsecond).
const SPLIT_NANOS: usize = 2;

/// Whether rows of this model take less than 50 µs. A row whose width each request decides
/// may be of any size, so it counts as heavy.
pub(super) fn estimate(model: &OnnxModel) -> Cost {
    let fixed = model.signature.inputs.iter().all(|input| input.row_width().is_some());
    let Some(graph) = model.model.graph.as_ref().filter(|_| fixed) else { return Cost::Heavy };
    let constants: usize = graph.initializer.iter().map(elements).sum();
    let nodes: usize = graph.node.iter().map(node_nanos).sum();
    if nodes + constants < LIGHT_NANOS { Cost::Light } else { Cost::Heavy }
}

/// Each number of a constant is touched about once a row.
fn elements(tensor: &weir_artifact::onnx::proto::TensorProto) -> usize {
    tensor.dims.iter().fold(1usize, |n, &d| n.saturating_mul(usize::try_from(d).unwrap_or(0)))
}

fn node_nanos(node: &NodeProto) -> usize {
    let trees = node.ints("nodes_treeids");
    let roots = if node.op_type == "TreeEnsemble" {
        node.ints("tree_roots").len()
    } else {
        trees.windows(2).filter(|w| w[0] != w[1]).count() + usize::from(!trees.is_empty())
    };
    let splits = node.ints("nodes_featureids").len();
    if let Some(tree) = splits.checked_div(roots) {
        let depth = usize::BITS - tree.leading_zeros();
        return STEP_NANOS + roots * (depth as usize + 2) * SPLIT_NANOS;
    }
    let numbers: usize = node.attribute.iter().map(|a| a.floats.len()).sum();
    STEP_NANOS + numbers
}
