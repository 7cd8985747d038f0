//! `weir inspect`: what a model is and what would run it.

use std::process::ExitCode;

use anyhow::anyhow;
use serde_json::{Value, json};
use weir_artifact::{Candidate, Discovery, Kind, ModelSpec, Task};
use weir_engine::EngineInfo;
use weir_types::{Field, Scalar, SystemClock};

use crate::{
    args::Inspect,
    output::{Output, size},
    settings::{self, engine_options, lines},
};

/// What runs it, or why nothing can.
type Loaded = Result<EngineInfo, String>;

pub(crate) fn run(options: &Inspect, output: &Output) -> anyhow::Result<ExitCode> {
    let Discovery { found, problems } = weir_artifact::discover(&options.path);
    let problems: Vec<_> = problems.into_iter().map(|p| p.problem).collect();
    if found.is_empty() {
        return Err(anyhow!(lines(&problems)));
    }
    let (mut documents, mut failed) = (Vec::new(), !problems.is_empty());
    if failed {
        output.error(&lines(&problems));
    }
    for candidate in &found {
        match inspect(candidate) {
            Ok((spec, engine)) => {
                failed |= engine.is_err();
                match output.is_json() {
                    true => documents.push(document(&spec, &engine)),
                    false => print(&spec, &engine, output),
                }
            }
            Err(problems) => {
                failed = true;
                output.error(&problems);
            }
        }
    }
    if output.is_json() {
        output.json(&json!({ "models": documents }));
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn inspect(candidate: &Candidate) -> Result<(ModelSpec, Loaded), String> {
    if candidate.kind == Kind::Graph {
        let version = settings::graph(candidate).map_err(|error| error.to_string())?;
        return Ok(((*version.spec).clone(), Ok(version.engine.clone())));
    }
    if candidate.kind == Kind::Remote {
        return weir_serving::describe_remote(candidate).map(|(spec, engine)| (spec, Ok(engine)));
    }
    let mut model = weir_artifact::load(candidate).map_err(|problems| lines(&problems))?;
    let engine = weir_engine::load(&model, &engine_options(None));
    if let Ok(engine) = &engine {
        model.spec.notes.extend(weir_serving::unmerged(&model.spec, &**engine, &SystemClock));
    }
    Ok((model.spec, engine.map(|engine| engine.info().clone()).map_err(|error| error.to_string())))
}

fn document(spec: &ModelSpec, engine: &Loaded) -> Value {
    let tensors =
        |specs: &[weir_types::TensorSpec]| specs.iter().map(ToString::to_string).collect::<Vec<_>>();
    let engine = match engine {
        Ok(engine) => json!({
            "name": engine.name,
            "version": engine.version,
            "reason": engine.reason,
        }),
        Err(error) => json!({ "error": error }),
    };
    json!({
        "name": spec.name.as_str(),
        "version": spec.version.as_str(),
        "description": spec.description,
        "task": spec.task.as_str(),
        "artifact": spec.artifact,
        "bytes": spec.artifact_bytes,
        "digest": spec.digest,
        "engine": engine,
        "inputs": tensors(&spec.signature.inputs),
        "outputs": tensors(&spec.signature.outputs),
        "graph": graph_document(spec),
        "fields": spec.schema.fields.iter().enumerate().map(|(i, f)| field_document(spec, i, f)).collect::<Vec<_>>(),
        "labels": spec.labels,
        "aggregation": aggregation(spec),
        "words": spec.answers.iter().map(|(word, _)| word).collect::<Vec<_>>(),
        "samples": spec.samples.len(),
        "notes": spec.notes,
        "sample_request": sample_request(spec),
    })
}

/// How tokens become entities, where the model finds any.
fn aggregation(spec: &ModelSpec) -> Option<&'static str> {
    let text = spec.text.as_ref().filter(|_| spec.task == Task::TokenClassification)?;
    Some(text.aggregation.as_str())
}

/// The steps of a graph, and the models that it asks.
fn graph_document(spec: &ModelSpec) -> Value {
    let Some(plan) = &spec.graph else { return Value::Null };
    let members: Vec<_> = plan.members.iter().map(|m| format!("{}/{}", m.model, m.version)).collect();
    let drawing = spec.drawing().unwrap_or_default();
    json!({ "members": members, "calls": plan.calls, "drawing": drawing.lines().collect::<Vec<_>>() })
}

fn field_document(spec: &ModelSpec, index: usize, field: &Field) -> Value {
    let mut document = json!({ "name": field.name, "dtype": dtype(field), "rules": rules(field) });
    if let Some(source) = source(spec, index) {
        document["from"] = source.into();
    }
    document
}

/// The feature that a server with feature views fills the field in from.
fn source(spec: &ModelSpec, index: usize) -> Option<String> {
    spec.lookups.sources().find(|(field, _)| *field == index).map(|(_, source)| source)
}

fn print(spec: &ModelSpec, engine: &Loaded, output: &Output) {
    output.heading(&format!("{}/{}", spec.name, spec.version));
    let tensors = |specs: &[weir_types::TensorSpec]| {
        specs.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let engine = match engine {
        Ok(engine) => format!("{} {}: {}", engine.name, engine.version, engine.reason),
        Err(error) => format!("none: {error}"),
    };
    let mut rows = vec![
        ("artefact", spec.artifact.display().to_string()),
        ("size", size(spec.artifact_bytes)),
        ("digest", spec.digest.clone()),
        ("task", spec.task.as_str().to_owned()),
        ("engine", engine),
        ("inputs", tensors(&spec.signature.inputs)),
        ("outputs", tensors(&spec.signature.outputs)),
    ];
    if !spec.labels.is_empty() {
        rows.push(("labels", spec.labels.join(", ")));
    }
    rows.extend(aggregation(spec).map(|name| ("aggregation", name.to_owned())));
    rows.extend(spec.drawing().map(|drawing| ("graph", drawing)));
    rows.push(("words", spec.answers.iter().map(|(w, _)| w.as_str()).collect::<Vec<_>>().join(", ")));
    rows.push(("samples", spec.samples.len().to_string()));
    rows.extend(spec.notes.iter().map(|note| ("note", note.clone())));
    output.pairs(&rows);
    let fields: Vec<_> = spec
        .schema
        .fields
        .iter()
        .enumerate()
        .map(|(i, f)| {
            let from = source(spec, i).map(|source| format!("from {source}"));
            let rules = from.into_iter().chain([rules(f)]).filter(|part| !part.is_empty());
            let rules = rules.collect::<Vec<_>>().join(", ");
            vec![f.name.clone(), dtype(f), rules, f.description.clone().unwrap_or_default()]
        })
        .collect();
    output.table(&["field", "dtype", "rules", "description"], &fields);
    if let Some(request) = sample_request(spec) {
        output.line(&format!(
            "  try  curl localhost:8000/v1/models/{}:predict --json '{}'",
            spec.name,
            request.to_string().replace('\'', "'\\''")
        ));
    }
}

fn rules(field: &Field) -> String {
    let r = &field.rules;
    let bound = |name: &str, value: Option<f64>| value.map(|v| format!("{name} {v}"));
    let length = |name: &str, value: Option<usize>| value.map(|v| format!("{name} {v}"));
    let parts = [
        bound("≥", r.ge),
        bound(">", r.gt),
        bound("≤", r.le),
        bound("<", r.lt),
        length("min length", r.min_length),
        length("max length", r.max_length),
        r.pattern.as_ref().map(|p| format!("pattern {p}")),
        r.one_of
            .as_ref()
            .map(|values| format!("one of {}", values.iter().map(text).collect::<Vec<_>>().join(", "))),
        field.nullable.then(|| "nullable".into()),
        field.default.as_ref().map(|d| format!("default {}", text(d))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn text(scalar: &Scalar) -> String {
    match scalar {
        Scalar::Bool(value) => value.to_string(),
        Scalar::Int(value) => value.to_string(),
        Scalar::Float(value) => value.to_string(),
        Scalar::String(value) => value.clone(),
    }
}

/// A request that the model answers.
fn sample_request(spec: &ModelSpec) -> Option<Value> {
    spec.example_rows(1).pop()
}

/// `float32`, or `float32[8]` for a list.
fn dtype(field: &Field) -> String {
    if field.shape.is_empty() {
        return field.dtype.to_string();
    }
    let dims: Vec<_> = field.shape.iter().map(ToString::to_string).collect();
    format!("{}[{}]", field.dtype, dims.join(", "))
}
