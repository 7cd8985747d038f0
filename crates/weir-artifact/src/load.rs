//! Reading one version of a model.

use std::{borrow::Cow, path::Path, sync::Arc};

use prost::bytes::Bytes;
use weir_config::{Loaded, Problem};
use weir_types::{Dim, Signature, TensorSpec};

use crate::{
    Candidate, Kind, Manifest, ModelLimits, ModelSpec, Sample, Task, TextSpec, TextTable, answers, digest,
    discover::read_manifest,
    fields,
    files::{self, Folders},
    formats, lookups, notes,
    onnx::{self, GateLimits, OnnxModel},
    report::Report,
    samples, sequence, task, text,
};

/// A model that was read and checked, ready for an engine.
#[derive(Debug, Clone)]
pub struct LoadedModel {
    /// Everything about it but its weights.
    pub spec: ModelSpec,
    /// The artefact, read once: the digest and the checks are about these very bytes.
    pub bytes: Arc<[u8]>,
    /// The artefact, decoded. Its signature is what the engine sees: for a text model the
    /// encoder's, while [`ModelSpec::signature`] is what callers see.
    pub graph: OnnxModel,
}

/// Reads a model: `model.toml`, the artefact through the ONNX gate, tokenizer and head,
/// golden rows.
///
/// # Errors
/// All problems at once, of all its files.
pub fn load(candidate: &Candidate) -> Result<LoadedModel, Vec<Problem>> {
    if candidate.kind != Kind::Artifact {
        let message = "is no artefact: the model is made of others or runs elsewhere";
        return Err(vec![Problem::new(&candidate.artifact, message)]);
    }
    let written = describe(candidate.manifest.as_deref());
    let artifact = read_artifact(&candidate.artifact);
    let (loaded, (bytes, graph)) = match (written, artifact) {
        (Ok(loaded), Ok(artifact)) => (loaded, artifact),
        (written, artifact) => {
            return Err([written.err(), artifact.err()].into_iter().flatten().flatten().collect());
        }
    };
    let (manifest, notes) = chosen(candidate, loaded.value, &graph)?;
    let foreign = candidate.foreign.as_ref().map(|f| &f.file);
    let place = candidate.manifest.as_ref().or(foreign).unwrap_or(&candidate.artifact);
    let mut report = Report::new(place, candidate.manifest.as_ref().map(|_| loaded.places));
    let mut spec = resolve(candidate, &manifest, &bytes, &graph, &mut report);
    spec.notes.splice(0..0, notes);
    let mut problems = report.problems;
    if problems.is_empty() {
        return Ok(LoadedModel { spec, bytes, graph });
    }
    problems.sort_by(|a, b| (&a.file, a.at).cmp(&(&b.file, b.at)));
    Err(problems)
}

/// What describes the model: `written` where there is a `model.toml`, else what a folder of
/// another layout comes to; and what is to be said about that.
pub(crate) fn chosen(
    candidate: &Candidate,
    written: Manifest,
    graph: &OnnxModel,
) -> Result<(Manifest, Vec<String>), Vec<Problem>> {
    match (&candidate.foreign, &candidate.manifest) {
        (None, _) => Ok((written, Vec::new())),
        (Some(foreign), Some(_)) => Ok((written, vec![formats::passed_over(foreign)])),
        (Some(foreign), None) => {
            let described = formats::describe(candidate, foreign, graph)?;
            Ok((described.manifest, described.notes))
        }
    }
}

pub(crate) fn describe(manifest: Option<&Path>) -> Result<Loaded<Manifest>, Vec<Problem>> {
    match manifest {
        Some(path) => weir_config::parse_with(path, &read_manifest(path)?, &[]),
        None => weir_config::parse_with(Path::new(""), "", &[]),
    }
}

pub(crate) fn read_artifact(path: &Path) -> Result<(Arc<[u8]>, OnnxModel), Vec<Problem>> {
    let refuse = |message: String| Problem::new(path, message);
    let bytes: Arc<[u8]> =
        files::read(path, files::limits::ARTIFACT_BYTES).map_err(|m| vec![refuse(m)])?.into();
    // The decoded graph's large constants share these bytes.
    let graph = onnx::read_shared(&Bytes::from_owner(Arc::clone(&bytes)), &GateLimits::default());
    let graph = graph.map_err(|messages| messages.into_iter().map(refuse).collect::<Vec<_>>())?;
    Ok((bytes, graph))
}

/// What the parts of a model come to, whether it reads tensors or text.
pub(crate) struct Parts {
    pub(crate) signature: Signature,
    pub(crate) task: Task,
    pub(crate) labels: Vec<String>,
    /// Index of the output that holds one score a label.
    pub(crate) scores: Option<usize>,
    /// The output that holds the class that the model decided for.
    pub(crate) decision: Option<task::Decision>,
    pub(crate) text: Option<TextSpec>,
}

pub(crate) fn resolve(
    candidate: &Candidate,
    manifest: &Manifest,
    bytes: &[u8],
    graph: &OnnxModel,
    report: &mut Report,
) -> ModelSpec {
    let folders = Folders::new(&candidate.folder, candidate.manifest.as_deref());
    let samples = read_samples(manifest, &folders, report);
    manifest.batching.check(report);
    if let Some(cache) = &manifest.cache {
        cache.check((manifest.deterministic, manifest.stateful), report);
    }
    let mut notes = notes::notes(graph);
    let mut limits =
        ModelLimits { max_rows: manifest.limits.max_rows, max_tokens: manifest.limits.max_tokens };
    let sequence =
        manifest.sequence.as_ref().and_then(|table| sequence::read(table, &graph.signature, report));
    let seen = seen(manifest, graph);
    if manifest.text.is_some() && manifest.sequence.is_some() {
        report.at("sequence", "a model that reads text keeps no state: leave out `[sequence]` or `[text]`");
    }
    let parts = match &manifest.text {
        Some(table) => text_parts(manifest, table, &folders, graph, report),
        None => tensor_parts(manifest, &seen, report),
    };
    if let Some(note) = one_row(&seen.signature) {
        limits.max_rows = 1;
        notes.push(note);
    }
    if sequence.as_ref().is_some_and(|sequence| !sequence.merges) && manifest.batching.merge == Some(true) {
        report.at("batching.merge", APART);
    }
    notes.extend(sequence.as_ref().map(|sequence| sequence.note()));
    if sequence.as_ref().is_some_and(|sequence| sequence.merges) {
        // A row is a step of one sequence.
        limits.max_rows = 1;
    }
    let schema = fields::schema(&manifest.input, &parts.signature, report);
    let lookups = lookups::declare(&manifest.input, &schema, report);
    let prediction = manifest.output.prediction.as_deref();
    let answers = answers::answers(&parts, prediction, report);
    ModelSpec {
        name: candidate.name.clone(),
        version: candidate.version.clone(),
        artifact: candidate.artifact.clone(),
        artifact_bytes: bytes.len() as u64,
        modified: candidate.artifact.metadata().and_then(|file| file.modified()).ok(),
        digest: digest::digest(manifest, bytes, parts.text.as_ref()),
        description: manifest.description.clone(),
        signature: parts.signature,
        schema,
        task: parts.task,
        labels: parts.labels,
        answers,
        text: parts.text,
        graph: None,
        engine: manifest.engine,
        limits,
        batching: manifest.batching.clone(),
        cache: manifest.cache.clone(),
        deterministic: manifest.deterministic,
        stateful: manifest.stateful || sequence.is_some(),
        sequence: sequence.map(Arc::new),
        columns: manifest.v2.columns,
        lookups,
        samples,
        notes,
    }
}

const APART: &str = "`batching.merge` cannot be true: not all tensors have a dimension for several sequences, \
                     so steps run one by one; leave it out";

/// The artefact without the tensors that are the server's own.
fn seen<'a>(manifest: &Manifest, graph: &'a OnnxModel) -> Cow<'a, OnnxModel> {
    match &manifest.sequence {
        None => Cow::Borrowed(graph),
        Some(table) => Cow::Owned(OnnxModel { signature: table.visible(&graph.signature), ..graph.clone() }),
    }
}

fn text_parts(
    manifest: &Manifest,
    table: &TextTable,
    folders: &Folders,
    graph: &OnnxModel,
    report: &mut Report,
) -> Parts {
    let text::Resolved { spec, signature, task, labels, scores } =
        text::resolve(manifest, table, folders, graph, report);
    Parts { signature, task, labels, scores, decision: None, text: spec }
}

fn tensor_parts(manifest: &Manifest, graph: &OnnxModel, report: &mut Report) -> Parts {
    check_rows(&graph.signature, report);
    let task::Resolved { task, labels, scores, decision } = task::resolve(manifest, graph, report);
    Parts { signature: open_rows(&graph.signature), task, labels, scores, decision, text: None }
}

/// Rows are the leading dimension of everything; without it nothing can be told apart.
fn check_rows(signature: &Signature, report: &mut Report) {
    if signature.inputs.is_empty() {
        report.at("artifact", "the model takes no input: there is nothing to ask it");
    }
    for (what, spec) in sides(signature) {
        let rows = spec.shape.first();
        let fixed = rows.and_then(Dim::fixed).filter(|n| *n != 1);
        let why = match (rows, fixed, what) {
            (None, ..) => "has no leading dimension for rows".to_owned(),
            (_, Some(n), "input") => {
                format!("takes exactly {n} rows: export the model with a dynamic batch size")
            }
            (_, Some(n), _) => format!(
                "has {n} rows whatever was asked: export the model with a dynamic batch size, or without this output"
            ),
            _ => continue,
        };
        report.at("artifact", format!("{what} {spec} {why}"));
    }
}

fn sides(signature: &Signature) -> impl Iterator<Item = (&'static str, &TensorSpec)> {
    let inputs = signature.inputs.iter().map(|i| ("input", i));
    inputs.chain(signature.outputs.iter().map(|o| ("output", o)))
}

fn one(spec: &TensorSpec) -> bool {
    spec.shape.first().and_then(Dim::fixed) == Some(1)
}

/// A note, if the model was exported for one row at a time.
fn one_row(signature: &Signature) -> Option<String> {
    let fixed = signature.inputs.iter().find(|i| one(i))?;
    Some(format!(
        "input {fixed} was exported for one row: requests of more are refused; export it with a dynamic batch size"
    ))
}

/// The signature as callers see it. Exporters declare one row for outputs that have as many
/// as the inputs (onnxmltools: `label: int64[1]`): where the inputs are open, so are they.
fn open_rows(signature: &Signature) -> Signature {
    let mut open = signature.clone();
    if !open.inputs.iter().any(one) {
        let rows = open.outputs.iter_mut().filter(|o| one(o)).filter_map(|o| o.shape.first_mut());
        rows.for_each(|rows| *rows = Dim::Any(None));
    }
    open
}

pub(crate) fn read_samples(manifest: &Manifest, folders: &Folders, report: &mut Report) -> Vec<Sample> {
    let Some(name) = &manifest.samples else { return Vec::new() };
    let Some(path) = report.keep("samples", folders.find(name)) else { return Vec::new() };
    samples::read(&path).unwrap_or_else(|problems| {
        report.problems.extend(problems);
        Vec::new()
    })
}
