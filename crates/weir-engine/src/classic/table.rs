//! Which operator is compiled by which function.

use super::{
    cast::cast,
    elementwise as e, features as f, forest, index as i, labels as l, linear, matrix as m,
    op::{Op, Outcome, Source},
    reduce as r, shape as s, svm, unary as u,
};

/// Compiles one node.
pub(super) type Compile = fn(&Source<'_>) -> Outcome<Op>;

/// Every operator, sorted by domain and name.
pub(super) const TABLE: &[(&str, &str, Compile)] = &[
    ("", "Abs", u::abs),
    ("", "Add", e::add),
    ("", "And", e::and),
    ("", "ArgMax", r::arg_max),
    ("", "ArgMin", r::arg_min),
    ("", "Cast", cast),
    ("", "Ceil", u::ceil),
    ("", "Clip", u::clip),
    ("", "Concat", s::concat),
    ("", "Constant", s::constant),
    ("", "ConstantOfShape", s::constant_of_shape),
    ("", "Cos", u::cos),
    ("", "CumSum", i::cum_sum),
    ("", "Div", e::div),
    ("", "Equal", e::equal),
    ("", "Erf", u::erf),
    ("", "Exp", u::exp),
    ("", "Expand", s::expand),
    ("", "Flatten", s::flatten),
    ("", "Floor", u::floor),
    ("", "Gather", i::gather),
    ("", "GatherElements", i::gather_elements),
    ("", "Gemm", m::gemm),
    ("", "Greater", e::greater),
    ("", "GreaterOrEqual", e::greater_or_equal),
    ("", "Identity", s::identity),
    ("", "IsInf", u::is_inf),
    ("", "IsNaN", u::is_nan),
    ("", "Less", e::less),
    ("", "LessOrEqual", e::less_or_equal),
    ("", "Log", u::log),
    ("", "LogSoftmax", r::log_softmax),
    ("", "LpNormalization", r::lp_normalization),
    ("", "MatMul", m::mat_mul),
    ("", "Max", e::max),
    ("", "Mean", e::mean),
    ("", "Min", e::min),
    ("", "Mod", e::modulo),
    ("", "Mul", e::mul),
    ("", "Neg", u::neg),
    ("", "Not", e::not),
    ("", "OneHot", i::one_hot),
    ("", "Or", e::or),
    ("", "Pad", s::pad),
    ("", "Pow", e::pow),
    ("", "Reciprocal", u::reciprocal),
    ("", "ReduceL1", r::l1),
    ("", "ReduceL2", r::l2),
    ("", "ReduceLogSumExp", r::log_sum_exp),
    ("", "ReduceMax", r::max),
    ("", "ReduceMean", r::mean),
    ("", "ReduceMin", r::min),
    ("", "ReduceProd", r::prod),
    ("", "ReduceSum", r::sum),
    ("", "ReduceSumSquare", r::sum_square),
    ("", "Relu", u::relu),
    ("", "Reshape", s::reshape),
    ("", "Round", u::round),
    ("", "Shape", s::shape),
    ("", "Sigmoid", u::sigmoid),
    ("", "Sign", u::sign),
    ("", "Sin", u::sin),
    ("", "Size", s::size),
    ("", "Slice", i::slice),
    ("", "Softmax", r::softmax),
    ("", "Softplus", u::softplus),
    ("", "Split", s::split),
    ("", "Sqrt", u::sqrt),
    ("", "Squeeze", s::squeeze),
    ("", "Sub", e::sub),
    ("", "Sum", e::add),
    ("", "Tanh", u::tanh),
    ("", "Tile", s::tile),
    ("", "TopK", i::top_k),
    ("", "Transpose", s::transpose),
    ("", "Unsqueeze", s::unsqueeze),
    ("", "Where", e::choose),
    ("", "Xor", e::xor),
    ("ai.onnx.ml", "ArrayFeatureExtractor", f::array_feature_extractor),
    ("ai.onnx.ml", "Binarizer", f::binarizer),
    ("ai.onnx.ml", "CategoryMapper", l::category_mapper),
    ("ai.onnx.ml", "FeatureVectorizer", f::feature_vectorizer),
    ("ai.onnx.ml", "Imputer", f::imputer),
    ("ai.onnx.ml", "LabelEncoder", l::label_encoder),
    ("ai.onnx.ml", "LinearClassifier", linear::classifier),
    ("ai.onnx.ml", "LinearRegressor", linear::regressor),
    ("ai.onnx.ml", "Normalizer", f::normalizer),
    ("ai.onnx.ml", "OneHotEncoder", l::one_hot_encoder),
    ("ai.onnx.ml", "SVMClassifier", svm::classifier),
    ("ai.onnx.ml", "SVMRegressor", svm::regressor),
    ("ai.onnx.ml", "Scaler", f::scaler),
    ("ai.onnx.ml", "TreeEnsemble", forest::tree_ensemble),
    ("ai.onnx.ml", "TreeEnsembleClassifier", forest::classifier),
    ("ai.onnx.ml", "TreeEnsembleRegressor", forest::regressor),
    ("ai.onnx.ml", "ZipMap", l::zip_map),
];

/// The function that compiles `operator` of `domain`.
pub(super) fn find(domain: &str, operator: &str) -> Option<Compile> {
    let at = TABLE.binary_search_by(|(d, o, _)| (*d, *o).cmp(&(domain, operator))).ok()?;
    Some(TABLE[at].2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_artifact::onnx::NATIVE_OPS;

    #[test]
    fn weir_artifact_knows_the_same_operators() {
        let names: Vec<_> = TABLE.iter().map(|(domain, op, _)| (*domain, *op)).collect();
        assert_eq!(names, NATIVE_OPS);
    }
}
