//! Types and shapes of tensors within a graph, and what they mean.

use weir_types::{Dim, Scalar, TensorSpec};

use crate::{ModelSpec, Task, task::number_output};

/// What a tensor says about a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Role {
    /// One score a label.
    Scores(Task, Vec<String>),
    /// The class that a model decided for, and what the tensor holds for each label.
    Class(Vec<Scalar>, Vec<String>),
    /// The answer of a regression, an embedding or a reranker.
    Value(Task),
    /// Nothing that is known.
    Plain,
}

/// A tensor, and what it says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Typed {
    pub(super) spec: TensorSpec,
    pub(super) role: Role,
}

/// The outputs of a model.
pub(super) fn outputs(spec: &ModelSpec) -> Vec<Typed> {
    let outputs = spec.signature.outputs.iter().enumerate();
    outputs.map(|(i, output)| Typed { spec: output.clone(), role: role(spec, i) }).collect()
}

fn role(spec: &ModelSpec, index: usize) -> Role {
    use weir_types::Answer::{Class, LabelScores};
    match (spec.answer("labels"), spec.answer("label")) {
        (Some(LabelScores { output, labels }), _) if *output == index => {
            Role::Scores(spec.task, labels.clone())
        }
        (_, Some(Class { output, classes, labels })) if *output == index => {
            Role::Class(classes.clone(), labels.clone())
        }
        _ => match spec.task {
            Task::Regression if number_output(&spec.signature) == Some(index) => Role::Value(spec.task),
            Task::Embedding | Task::Rerank if index == 0 => Role::Value(spec.task),
            _ => Role::Plain,
        },
    }
}

/// The one type that tensors have which stand for the same thing: sizes that one of them
/// leaves open are the other's. The leading dimension is the rows and no part of it.
///
/// # Errors
/// The second of two that differ.
pub(super) fn same(first: &Typed, rest: &[&Typed]) -> Result<Typed, TensorSpec> {
    let mut whole = first.clone();
    for other in rest {
        whole.spec.shape = narrowed(&whole.spec, &other.spec).ok_or_else(|| other.spec.clone())?;
        if whole.role != other.role {
            whole.role = Role::Plain;
        }
    }
    Ok(whole)
}

/// The shape of two tensors that can stand for each other; `None` where they cannot.
pub(super) fn narrowed(a: &TensorSpec, b: &TensorSpec) -> Option<Vec<Dim>> {
    if a.dtype != b.dtype || a.shape.len() != b.shape.len() {
        return None;
    }
    let dims = a.shape.iter().zip(&b.shape).enumerate().map(|(i, (a, b))| match (a.fixed(), b.fixed()) {
        _ if i == 0 => Some(if a.fixed().is_some() { a.clone() } else { b.clone() }),
        (Some(x), Some(y)) if x != y => None,
        (Some(_), _) => Some(a.clone()),
        _ => Some(b.clone()),
    });
    dims.collect()
}
