//! What a model does: told by the operator, or read off the artefact.

use weir_types::{DType, Scalar, Signature, TensorSpec};

use crate::{
    Manifest, Task,
    onnx::{OnnxModel, proto::NodeProto},
    report::Report,
};

/// Operators that answer a number.
const REGRESSORS: [&str; 4] = ["TreeEnsembleRegressor", "LinearRegressor", "SVMRegressor", "TreeEnsemble"];

/// Task and labels of a model of tensors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Resolved {
    pub(crate) task: Task,
    pub(crate) labels: Vec<String>,
    /// Index of the output that holds one score a label.
    pub(crate) scores: Option<usize>,
    /// The output that holds the class that the model decided for.
    pub(crate) decision: Option<Decision>,
}

/// An output that names a class, and what it holds for each label.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decision {
    pub(crate) output: usize,
    pub(crate) classes: Vec<Scalar>,
}

/// Resolves task, labels and scores; what is wrong goes to `report`.
pub(crate) fn resolve(manifest: &Manifest, graph: &OnnxModel, report: &mut Report) -> Resolved {
    let signature = &graph.signature;
    let labels = manifest.labels.clone().or_else(|| graph.class_labels.clone()).unwrap_or_default();
    if manifest.labels.is_some() {
        check_labels(&labels, report);
    }
    let task = manifest.task.unwrap_or_else(|| guess(graph, manifest, &labels));
    match task {
        Task::Classification => classification(labels, manifest, graph, report),
        Task::Regression | Task::Raw => {
            if manifest.labels.is_some() {
                report.at(
                    "labels",
                    format!("`labels` name the classes of a classification, the task is {}", task.as_str()),
                );
            }
            if task == Task::Regression && number_output(signature).is_none() {
                report.at("task", format!("no output is a number: {}", list(&signature.outputs)));
            }
            Resolved { task, labels: Vec::new(), scores: None, decision: None }
        }
        Task::TextClassification | Task::TokenClassification | Task::Embedding | Task::Rerank => {
            report.at(
                "task",
                format!("the task {} needs a `[text]` table that names the tokenizer", task.as_str()),
            );
            Resolved { task, labels, scores: None, decision: None }
        }
    }
}

fn classification(
    labels: Vec<String>,
    manifest: &Manifest,
    graph: &OnnxModel,
    report: &mut Report,
) -> Resolved {
    let outputs = &graph.signature.outputs;
    let scores = scores_output(graph, labels.len());
    if labels.len() < 2 {
        let place = if manifest.labels.is_some() { "labels" } else { "task" };
        report.at(place, "a classification needs `labels`, two or more, in the order of the score columns");
    } else if opposed_margins(graph) {
        report.at("task", "the SVC was trained without probability=True, and the columns of its scores are no classes: train it with, or serve it as task = \"raw\", whose `output:label` is the class");
    } else if scores.is_none() {
        let message = format!(
            "no output holds scores of {} labels, one column each: the model gives {} (one column only? \
             serve it as a regression, or export the probabilities of all classes)",
            labels.len(),
            list(outputs)
        );
        report.at(if manifest.labels.is_some() { "labels" } else { "task" }, message);
    }
    let decision = decision(graph, labels.len());
    Resolved { task: Task::Classification, labels, scores, decision }
}

/// Names of classes must be told apart.
pub(crate) fn check_labels(labels: &[String], report: &mut Report) {
    for (i, label) in labels.iter().enumerate() {
        if label.is_empty() {
            report.at(&format!("labels[{i}]"), "a label must not be empty");
        } else if labels[..i].contains(label) {
            report.at(&format!("labels[{i}]"), format!("two labels are called `{label}`"));
        }
    }
}

fn guess(graph: &OnnxModel, manifest: &Manifest, labels: &[String]) -> Task {
    if manifest.labels.is_some() {
        return Task::Classification;
    }
    if labels.len() > 1 && scores_output(graph, labels.len()).is_some() {
        return Task::Classification;
    }
    let nodes = graph.model.graph.iter().flat_map(|g| &g.node);
    let regressor = nodes.map(|n| n.op_type.as_str()).any(|op| REGRESSORS.contains(&op));
    // Anomaly detectors use the same operators, but answer a label beside the number.
    let alone = graph.signature.outputs.len() == 1;
    if regressor && alone && graph.class_labels.is_none() && number_output(&graph.signature).is_some() {
        return Task::Regression;
    }
    Task::Raw
}

/// The output that holds `labels` scores a row: the one that says so by its width, then by
/// its name, and no guess where several remain.
pub(crate) fn scores_output(graph: &OnnxModel, labels: usize) -> Option<usize> {
    if opposed_margins(graph) {
        return None;
    }
    let signature = &graph.signature;
    let fits = |o: &TensorSpec| {
        matches!(o.dtype, DType::Float32 | DType::Float64)
            && o.shape.len() == 2
            && o.shape[1].fixed().is_none_or(|n| n == labels)
    };
    let all: Vec<usize> = (0..signature.outputs.len()).filter(|&i| fits(&signature.outputs[i])).collect();
    let output = |i: &&usize| &signature.outputs[**i];
    let exact: Vec<_> = all.iter().filter(|i| output(i).shape[1].fixed().is_some()).collect();
    let candidates = if exact.is_empty() { all.iter().collect() } else { exact };
    let mut named = candidates.iter().filter(|i| output(i).name.to_lowercase().contains("prob"));
    match (candidates.as_slice(), named.next(), named.next()) {
        ([one], _, _) => Some(**one),
        (_, Some(one), None) => Some(**one),
        _ => None,
    }
}

/// Whether the scores are the margin of a support vector machine of two classes and its
/// opposite: `[s, -s]` with s above zero for the *second* class, so that each column stands
/// for the other one's class.
fn opposed_margins(graph: &OnnxModel) -> bool {
    let two = graph.class_labels.as_ref().is_some_and(|l| l.len() == 2);
    let margins = |n: &NodeProto| n.op_type == "SVMClassifier" && n.floats("prob_a").is_empty();
    two && graph.model.graph.iter().flat_map(|g| &g.node).any(margins)
}

/// The one output that holds a class of the artefact's own a row.
fn decision(graph: &OnnxModel, labels: usize) -> Option<Decision> {
    let names = graph.class_labels.as_ref().filter(|c| c.len() == labels)?;
    let class = |o: &TensorSpec| {
        matches!(o.dtype, DType::Int64 | DType::Int32 | DType::String)
            && o.shape.len() == 1
            && o.name.to_lowercase().contains("label")
    };
    let outputs = &graph.signature.outputs;
    let output = outputs.iter().position(class)?;
    let scalar = |name: &String| match outputs[output].dtype {
        DType::String => Some(Scalar::String(name.clone())),
        _ => name.parse().ok().map(Scalar::Int),
    };
    Some(Decision { output, classes: names.iter().map(scalar).collect::<Option<_>>()? })
}

/// The first output that holds one number a row.
pub(crate) fn number_output(signature: &Signature) -> Option<usize> {
    let number = |o: &TensorSpec| {
        !matches!(o.dtype, DType::String | DType::Bool)
            && o.shape.iter().skip(1).all(|d| d.fixed() == Some(1))
    };
    let float = signature.outputs.iter().position(|o| o.dtype.is_float() && number(o));
    float.or_else(|| signature.outputs.iter().position(number))
}

/// Tensors as a person would write them.
pub(crate) fn list(tensors: &[TensorSpec]) -> String {
    tensors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
