//! What a file says about its inputs and outputs.

use std::collections::HashSet;

use weir_types::{DType, Dim, Signature, TensorSpec};

use super::{
    labels::zip_map_labels,
    proto::{
        Dimension, DimensionValue, GraphProto, ModelProto, TensorTypeProto, TypeProto, TypeValue,
        ValueInfoProto,
    },
    show,
    tensor::{dtype, type_name},
};

/// Most dimensions of a tensor at the border of a model; numpy ends at 64.
const MOST_DIMS: usize = 64;

/// The signature, and what is remarkable about it.
pub(super) fn signature(model: &ModelProto) -> Result<(Signature, Vec<String>), Vec<String>> {
    let mut notes = Vec::new();
    let Some(graph) = &model.graph else { return Ok((Signature::default(), notes)) };
    let constants: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let mut problems = Vec::new();
    let inputs = graph.input.iter().filter(|i| !constants.contains(i.name.as_str()));
    let inputs: Vec<_> =
        inputs.filter_map(|i| keep(spec(i, "input", None, &mut notes), &mut problems)).collect();
    let outputs: Vec<_> = graph
        .output
        .iter()
        .filter_map(|o| keep(spec(o, "output", Some(graph), &mut notes), &mut problems))
        .collect();
    if graph.output.is_empty() {
        problems.push("the graph has no outputs".to_owned());
    }
    if problems.is_empty() { Ok((Signature { inputs, outputs }, notes)) } else { Err(problems) }
}

fn keep<T>(result: Result<T, String>, problems: &mut Vec<String>) -> Option<T> {
    result.map_err(|problem| problems.push(problem)).ok()
}

/// The tensor that `value` is; `graph` is given for outputs, which may be maps.
fn spec(
    value: &ValueInfoProto,
    what: &str,
    graph: Option<&GraphProto>,
    notes: &mut Vec<String>,
) -> Result<TensorSpec, String> {
    let name = show(&value.name);
    match value.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(TypeValue::Tensor(tensor)) => tensor_spec(&value.name, what, tensor, notes),
        Some(TypeValue::Sequence(sequence)) => {
            let item = sequence.elem_type.as_deref();
            match graph.filter(|_| item.is_some_and(is_score_map)) {
                Some(graph) => Ok(zip_map_spec(&value.name, graph)),
                None => Err(format!("{what} {name} is a sequence; only tensors can be served")),
            }
        }
        Some(TypeValue::Map(_)) => Err(format!(
            "{what} {name} is a map; only tensors can be served (export the model without DictVectorizer)"
        )),
        Some(_) => Err(format!("{what} {name} is optional, sparse or opaque; only tensors can be served")),
        None => Err(format!("{what} {name} has no type")),
    }
}

fn tensor_spec(
    name: &str,
    what: &str,
    tensor: &TensorTypeProto,
    notes: &mut Vec<String>,
) -> Result<TensorSpec, String> {
    let Some(dtype) = dtype(tensor.elem_type) else {
        let elements = type_name(tensor.elem_type);
        return Err(format!("{what} {} has elements of {elements}, which cannot be served", show(name)));
    };
    let shape = match &tensor.shape {
        Some(shape) if shape.dim.len() > MOST_DIMS => {
            return Err(format!("{what} {} has {} dimensions", show(name), shape.dim.len()));
        }
        Some(shape) => shape.dim.iter().map(dim).collect(),
        None => {
            notes.push(format!(
                "{what} {} declares no shape; one row a leading element is assumed",
                show(name)
            ));
            vec![Dim::Any(None)]
        }
    };
    Ok(TensorSpec { name: name.to_owned(), dtype, shape })
}

/// Exporters write "any" as an absent value, an empty or a question-mark name, or -1.
fn dim(dimension: &Dimension) -> Dim {
    match &dimension.value {
        Some(DimensionValue::Value(n)) => usize::try_from(*n).map_or(Dim::Any(None), Dim::Fixed),
        Some(DimensionValue::Param(name)) if !matches!(name.as_str(), "" | "?" | "None") => {
            Dim::Any(Some(name.clone()))
        }
        _ => Dim::Any(None),
    }
}

/// Whether a sequence item is what `ZipMap` makes: label -> float32.
fn is_score_map(item: &TypeProto) -> bool {
    let Some(TypeValue::Map(map)) = &item.value else { return false };
    let scores = map.value_type.as_deref().and_then(|t| t.value.as_ref());
    matches!(dtype(map.key_type), Some(DType::Int64 | DType::String))
        && matches!(scores, Some(TypeValue::Tensor(t)) if dtype(t.elem_type) == Some(DType::Float32))
}

fn zip_map_spec(name: &str, graph: &GraphProto) -> TensorSpec {
    let zip_map = graph.node.iter().find(|n| n.output.iter().any(|o| o == name));
    let classes = zip_map.and_then(zip_map_labels).map_or(Dim::Any(None), |l| Dim::Fixed(l.len()));
    TensorSpec { name: name.to_owned(), dtype: DType::Float32, shape: vec![Dim::Any(None), classes] }
}
