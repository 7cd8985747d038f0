//! What the native engine can run, as a table.
//!
//! It stands here and not in `weir-engine` because the choice of an engine is shown by
//! `weir inspect`, which loads none. A test in `weir-engine` holds the two together.

use super::{
    gate::canonical,
    proto::{GraphProto, ModelProto},
    show,
};

/// Operators of the native engine: `(domain, operator)`, sorted; the domain of ONNX itself
/// is `""`.
pub const NATIVE_OPS: &[(&str, &str)] = &[
    ("", "Abs"),
    ("", "Add"),
    ("", "And"),
    ("", "ArgMax"),
    ("", "ArgMin"),
    ("", "Cast"),
    ("", "Ceil"),
    ("", "Clip"),
    ("", "Concat"),
    ("", "Constant"),
    ("", "ConstantOfShape"),
    ("", "Cos"),
    ("", "CumSum"),
    ("", "Div"),
    ("", "Equal"),
    ("", "Erf"),
    ("", "Exp"),
    ("", "Expand"),
    ("", "Flatten"),
    ("", "Floor"),
    ("", "Gather"),
    ("", "GatherElements"),
    ("", "Gemm"),
    ("", "Greater"),
    ("", "GreaterOrEqual"),
    ("", "Identity"),
    ("", "IsInf"),
    ("", "IsNaN"),
    ("", "Less"),
    ("", "LessOrEqual"),
    ("", "Log"),
    ("", "LogSoftmax"),
    ("", "LpNormalization"),
    ("", "MatMul"),
    ("", "Max"),
    ("", "Mean"),
    ("", "Min"),
    ("", "Mod"),
    ("", "Mul"),
    ("", "Neg"),
    ("", "Not"),
    ("", "OneHot"),
    ("", "Or"),
    ("", "Pad"),
    ("", "Pow"),
    ("", "Reciprocal"),
    ("", "ReduceL1"),
    ("", "ReduceL2"),
    ("", "ReduceLogSumExp"),
    ("", "ReduceMax"),
    ("", "ReduceMean"),
    ("", "ReduceMin"),
    ("", "ReduceProd"),
    ("", "ReduceSum"),
    ("", "ReduceSumSquare"),
    ("", "Relu"),
    ("", "Reshape"),
    ("", "Round"),
    ("", "Shape"),
    ("", "Sigmoid"),
    ("", "Sign"),
    ("", "Sin"),
    ("", "Size"),
    ("", "Slice"),
    ("", "Softmax"),
    ("", "Softplus"),
    ("", "Split"),
    ("", "Sqrt"),
    ("", "Squeeze"),
    ("", "Sub"),
    ("", "Sum"),
    ("", "Tanh"),
    ("", "Tile"),
    ("", "TopK"),
    ("", "Transpose"),
    ("", "Unsqueeze"),
    ("", "Where"),
    ("", "Xor"),
    ("ai.onnx.ml", "ArrayFeatureExtractor"),
    ("ai.onnx.ml", "Binarizer"),
    ("ai.onnx.ml", "CategoryMapper"),
    ("ai.onnx.ml", "FeatureVectorizer"),
    ("ai.onnx.ml", "Imputer"),
    ("ai.onnx.ml", "LabelEncoder"),
    ("ai.onnx.ml", "LinearClassifier"),
    ("ai.onnx.ml", "LinearRegressor"),
    ("ai.onnx.ml", "Normalizer"),
    ("ai.onnx.ml", "OneHotEncoder"),
    ("ai.onnx.ml", "SVMClassifier"),
    ("ai.onnx.ml", "SVMRegressor"),
    ("ai.onnx.ml", "Scaler"),
    ("ai.onnx.ml", "TreeEnsemble"),
    ("ai.onnx.ml", "TreeEnsembleClassifier"),
    ("ai.onnx.ml", "TreeEnsembleRegressor"),
    ("ai.onnx.ml", "ZipMap"),
];

/// Before version 7 arithmetic broadcast by attributes, which the engine does not read.
const OLDEST_OPSET: i64 = 7;

/// Whether the graph uses an operator of `ai.onnx.ml`.
pub(super) fn is_classic(model: &ModelProto) -> bool {
    nodes(model).any(|(domain, _)| domain == "ai.onnx.ml")
}

/// What the native engine lacks for this graph.
pub(super) fn unsupported(model: &ModelProto, opsets: &[(String, i64)]) -> Vec<String> {
    let lacks = |op: &(&str, &str)| NATIVE_OPS.binary_search(op).is_err();
    let name = |(domain, op): (&str, &str)| {
        let domain = if domain.is_empty() { "ai.onnx" } else { domain };
        format!("{domain}:{}", show(op).trim_matches('`'))
    };
    let mut missing: Vec<String> = nodes(model).filter(lacks).map(name).collect();
    let old = opsets.iter().find(|(domain, version)| domain.is_empty() && *version < OLDEST_OPSET);
    missing.extend(old.map(|(_, version)| format!("ai.onnx opset {version} (older than {OLDEST_OPSET})")));
    missing.sort_unstable();
    missing.dedup();
    missing
}

/// Operators of the main graph. Subgraphs need not be looked into: no operator with one is
/// in the table.
fn nodes(model: &ModelProto) -> impl Iterator<Item = (&str, &str)> {
    let graph: Option<&GraphProto> = model.graph.as_ref();
    graph.into_iter().flat_map(|g| &g.node).map(|n| (canonical(&n.domain), n.op_type.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(NATIVE_OPS.is_sorted());
    }
}
