//! Which operators of a graph rten does not have.
//!
//! rten stops at the first operator that it does not know. An operator who is told one a
//! time has to export a model again and again, so each operator of the graph is asked for
//! alone: rten has no list to look it up in, but refuses an unknown operator in a graph of
//! one node. A copy of its list was rejected: it would be wrong after the next upgrade.

use std::collections::BTreeSet;

use rten::{LoadErrorKind, ModelOptions};
use weir_artifact::onnx::{
    dtype,
    proto::{GraphProto, ModelProto, NodeProto, TypeValue},
};
use weir_types::DType;

use super::plan::guarded;

/// An operator: domain (empty for `ai.onnx`) and name.
type Operator = (String, String);

/// How rten ends its complaint about an operator that it does not have.
const UNKNOWN: &str = "operator not supported or not enabled";
/// And about one that was left out of this build.
const LEFT_OUT: &str = "operator not enabled because";

/// The operators of `model` that rten does not have, `domain.name` each, sorted.
pub(super) fn missing(options: &ModelOptions, model: &ModelProto) -> Vec<String> {
    let operators: BTreeSet<Operator> = nodes(model).map(|(_, node)| operator(node)).collect();
    let unknown = operators.iter().filter(|(domain, name)| is_unknown(options, domain, name));
    unknown.map(|(domain, name)| shown(domain, name)).collect()
}

/// What rten 0.27 runs, but answers wrongly (the fixtures show it): one sentence each.
///
/// A cast of integers to bool, which attention masks use, is right. Types are those that the
/// file declares.
pub(super) fn wrong(model: &ModelProto) -> Vec<String> {
    let sentence = |(graph, node): (&GraphProto, &NodeProto)| match node.op_type.as_str() {
        "Sign" => Some("`Sign` of zero is not zero in it".to_owned()),
        "Softplus" => Some("`Softplus` of values above 88 is infinite in it".to_owned()),
        "Cast" if node.int("to") == Some(BOOL) => {
            let source = node.input.first()?;
            declared(graph, source)?
                .is_float()
                .then(|| format!("it casts the floats `{source}` to bool by cutting their fraction off"))
        }
        _ => None,
    };
    let sentences: BTreeSet<String> = nodes(model).filter_map(sentence).collect();
    sentences.into_iter().collect()
}

/// `TensorProto.DataType.BOOL`.
const BOOL: i64 = 9;

/// All nodes, those of subgraphs too, each with the graph it stands in.
fn nodes(model: &ModelProto) -> impl Iterator<Item = (&GraphProto, &NodeProto)> {
    let mut graphs: Vec<&GraphProto> = model.graph.iter().collect();
    let mut next = 0;
    // The gate bounded the number of nodes and how deep graphs nest.
    while let Some(&graph) = graphs.get(next) {
        next += 1;
        let attributes = graph.node.iter().flat_map(|n| &n.attribute);
        graphs.extend(attributes.flat_map(|a| a.g.as_deref().into_iter().chain(&a.graphs)));
    }
    graphs.into_iter().flat_map(|graph| graph.node.iter().map(move |node| (graph, node)))
}

fn operator(node: &NodeProto) -> Operator {
    let domain = if node.domain == "ai.onnx" { "" } else { &node.domain };
    (domain.to_owned(), node.op_type.clone())
}

/// The element type that `graph` declares for the value `name`.
fn declared(graph: &GraphProto, name: &str) -> Option<DType> {
    let mut infos = graph.input.iter().chain(&graph.value_info).chain(&graph.output);
    let info = infos.find(|i| i.name == name)?;
    match info.r#type.as_ref()?.value.as_ref()? {
        TypeValue::Tensor(tensor) => dtype(tensor.elem_type),
        _ => None,
    }
}

fn shown(domain: &str, name: &str) -> String {
    if domain.is_empty() { name.to_owned() } else { format!("{domain}.{name}") }
}

fn is_unknown(options: &ModelOptions, domain: &str, name: &str) -> bool {
    let loaded = guarded(|| options.load(one_node(domain, name)));
    matches!(loaded, Ok(Err(e)) if e.kind() == LoadErrorKind::OperatorInvalid
        && [UNKNOWN, LEFT_OUT].iter().any(|words| e.to_string().contains(words)))
}

/// A `ModelProto` whose graph is one node, in protobuf's wire format.
fn one_node(domain: &str, name: &str) -> Vec<u8> {
    let mut node = Vec::new();
    field(&mut node, 2, b"output");
    field(&mut node, 4, name.as_bytes());
    field(&mut node, 7, domain.as_bytes());
    let mut graph = Vec::new();
    field(&mut graph, 1, &node);
    let mut opset = Vec::new();
    field(&mut opset, 1, domain.as_bytes());
    // opset_import.version = 21
    opset.extend([0x10, 21]);
    // ir_version = 8
    let mut model = vec![0x08, 8];
    field(&mut model, 7, &graph);
    field(&mut model, 8, &opset);
    model
}

/// Appends a length-delimited field.
fn field(message: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    message.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        message.push((length as u8 & 0x7f) | 0x80);
        length >>= 7;
    }
    message.push(length as u8);
    message.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(list: &[(&str, &str)]) -> ModelProto {
        let node = |&(domain, name): &(&str, &str)| NodeProto {
            domain: domain.to_owned(),
            op_type: name.to_owned(),
            ..NodeProto::default()
        };
        let graph = GraphProto { node: list.iter().map(node).collect(), ..GraphProto::default() };
        ModelProto { graph: Some(graph), ..ModelProto::default() }
    }

    #[test]
    fn every_missing_operator_is_named_and_no_other() {
        let graph = graph(&[
            ("", "MatMul"),
            ("ai.onnx.ml", "TreeEnsembleClassifier"),
            ("", "Conv"),
            ("", "StringConcat"),
            ("com.microsoft", "SkipLayerNormalization"),
            ("my.own", "Magic"),
            ("", "Dropout"),
            ("", "If"),
        ]);
        let missing = missing(&ModelOptions::with_all_ops(), &graph);
        assert_eq!(missing, ["StringConcat", "ai.onnx.ml.TreeEnsembleClassifier", "my.own.Magic"]);
    }
}
