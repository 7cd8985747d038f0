//! What a graph is to everybody else: a model like any other.

use std::sync::Arc;

use weir_types::{DType, Dim, Signature, TensorSpec};

use super::{
    resolve::{Resolved, Resolver},
    types::{Role, Typed},
};
use crate::{
    ModelLimits, ModelSpec, Task, answers, digest,
    load::Parts,
    lookups,
    task::{Decision, check_labels, number_output},
};

/// The model that the graph is; `None` where its words and labels do not fit, which is told.
pub(super) fn spec(resolver: &mut Resolver<'_>, graph: Resolved<'_>) -> Option<ModelSpec> {
    let draft = resolver.draft;
    let manifest = &draft.manifest;
    let Resolved { plan, members, schema, inputs, outputs } = graph;
    let named = |(name, typed): &(String, Typed)| TensorSpec { name: name.clone(), ..typed.spec.clone() };
    let signature = Signature { inputs, outputs: outputs.iter().map(named).collect() };
    let roles: Vec<&Role> = outputs.iter().map(|(_, typed)| &typed.role).collect();
    let parts = parts(resolver, signature, &roles);
    if let Some(declared) = &draft.declared {
        resolver.report.problems.extend(declared.differences(&parts.signature));
    }
    let answers = answers::answers(&parts, manifest.output.prediction.as_deref(), resolver.report);
    let deterministic = manifest.deterministic && members.iter().all(|m| m.deterministic);
    let stateful = manifest.stateful || members.iter().any(|m| m.stateful);
    if let Some(cache) = &manifest.cache {
        cache.check((deterministic, stateful), resolver.report);
    }
    let rows = members.iter().map(|m| m.limits.max_rows).chain([manifest.limits.max_rows]).min();
    let digests: Vec<&str> = plan.members.iter().zip(&members).map(|(_, m)| m.digest.as_str()).collect();
    let lookups = lookups::declare(&manifest.input, &schema, resolver.report);
    resolver.report.problems.is_empty().then(|| ModelSpec {
        name: draft.candidate.name.clone(),
        version: draft.candidate.version.clone(),
        artifact: draft.candidate.artifact.clone(),
        artifact_bytes: draft.bytes,
        modified: draft.candidate.artifact.metadata().and_then(|file| file.modified()).ok(),
        digest: digest::of_graph(manifest, &digests),
        description: manifest.description.clone(),
        signature: parts.signature,
        schema,
        task: parts.task,
        labels: parts.labels,
        answers,
        text: None,
        graph: Some(Arc::new(plan)),
        engine: manifest.engine,
        limits: ModelLimits { max_rows: rows.unwrap_or(1), max_tokens: manifest.limits.max_tokens },
        batching: manifest.batching.clone(),
        cache: manifest.cache.clone(),
        deterministic,
        stateful,
        sequence: None,
        columns: manifest.v2.columns,
        lookups,
        samples: draft.samples.clone(),
        notes: draft.notes.clone(),
    })
}

/// Task, labels and scores: what the operator says, else what the tensors mean.
fn parts(resolver: &mut Resolver<'_>, signature: Signature, roles: &[&Role]) -> Parts {
    let manifest = &resolver.draft.manifest;
    let task = manifest.task.or_else(|| manifest.labels.as_ref().map(|_| Task::Classification));
    let task = task.unwrap_or_else(|| task_of(roles));
    let mut parts = Parts { signature, task, labels: Vec::new(), scores: None, decision: None, text: None };
    match task {
        Task::Classification | Task::TextClassification => classes(resolver, &mut parts, roles),
        _ if manifest.labels.is_some() => {
            let message =
                format!("`labels` name the classes of a classification, the task is {}", task.as_str());
            resolver.report.at("labels", message);
        }
        Task::Regression if number_output(&parts.signature).is_none() => {
            resolver.report.at("task", "no output of the graph is a number");
        }
        Task::TokenClassification => {
            resolver.report.at("task", "entities are found by one text model, not by a graph");
        }
        _ => {}
    }
    parts
}

fn task_of(roles: &[&Role]) -> Task {
    let scored = |role: &&Role| if let Role::Scores(task, _) = role { Some(*task) } else { None };
    let valued = |role: &&Role| if let Role::Value(task) = role { Some(*task) } else { None };
    let class = |role: &&Role| matches!(role, Role::Class(..)).then_some(Task::Classification);
    let first = roles.first().and_then(valued);
    roles.iter().find_map(scored).or(first).or_else(|| roles.iter().find_map(class)).unwrap_or_default()
}

/// Labels, the output of their scores, and the output that names a class.
fn classes(resolver: &mut Resolver<'_>, parts: &mut Parts, roles: &[&Role]) {
    let known = roles.iter().find_map(|role| match role {
        Role::Scores(_, labels) | Role::Class(_, labels) => Some(labels.clone()),
        _ => None,
    });
    let given = resolver.draft.manifest.labels.clone();
    if let Some(given) = &given {
        check_labels(given, resolver.report);
    }
    let meant = known.filter(|known| given.as_ref().is_none_or(|given| given.len() == known.len()));
    parts.labels = given.or_else(|| meant.clone()).unwrap_or_default();
    let count = parts.labels.len();
    let scores = |role: &&Role| matches!(role, Role::Scores(_, labels) if Some(labels) == meant.as_ref());
    parts.scores = roles.iter().position(scores).or_else(|| wide(&parts.signature, count));
    parts.decision = roles.iter().enumerate().find_map(|(output, role)| match role {
        Role::Class(classes, labels) if Some(labels) == meant.as_ref() => {
            Some(Decision { output, classes: classes.clone() })
        }
        _ => None,
    });
    if count < 2 {
        resolver
            .report
            .at("labels", "a classification needs `labels`, two or more, in the order of the score columns");
    } else if parts.scores.is_none() && parts.decision.is_none() {
        let message = format!(
            "no output of the graph holds scores of {count} labels, one column each, or one of these classes"
        );
        resolver.report.at("labels", message);
    }
}

/// The one output of `labels` columns of floats.
fn wide(signature: &Signature, labels: usize) -> Option<usize> {
    let fits = |o: &TensorSpec| {
        let float = matches!(o.dtype, DType::Float32 | DType::Float64);
        float && o.shape.len() == 2 && o.shape.get(1).and_then(Dim::fixed) == Some(labels)
    };
    let mut found = signature.outputs.iter().enumerate().filter(|(_, o)| fits(o)).map(|(i, _)| i);
    found.next().filter(|_| found.next().is_none())
}
