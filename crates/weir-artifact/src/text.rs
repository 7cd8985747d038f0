//! Models that read text: their files, and the signature that callers see.

use std::sync::Arc;

use safetensors::{Dtype, SafeTensors};
use weir_types::{DType, Dim, Signature, TensorSpec};

use crate::{
    Activation, Manifest, Pooling, Task, TextSpec, TextTable,
    files::{self, Folders, limits},
    onnx::OnnxModel,
    report::Report,
    task::{check_labels, list},
};

/// Inputs that a tokenizer can fill.
const TOKEN_INPUTS: [&str; 3] = ["input_ids", "attention_mask", "token_type_ids"];

/// The field and input that callers see.
const TEXT_INPUT: &str = "text";

/// What a reranker compares the text with.
const QUERY_INPUT: &str = "query";

/// The output of a token classification.
const ENTITIES_OUTPUT: &str = "entities";

/// A text model, resolved.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// `None` where a file could not be read.
    pub(crate) spec: Option<TextSpec>,
    pub(crate) signature: Signature,
    pub(crate) task: Task,
    pub(crate) labels: Vec<String>,
    /// Index of the output that holds one score a label.
    pub(crate) scores: Option<usize>,
}

/// What a text model reads of its encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// A vector of each text, `[texts, n]`: `logits` or `sentence_embedding`.
    Texts,
    /// A vector of each token, `[texts, tokens, hidden]`: `last_hidden_state` or
    /// `token_embeddings`.
    Tokens,
    /// One score a label of each token, `[texts, tokens, labels]`: `logits`.
    TokenScores,
}

impl Reading {
    /// What a model of `task` reads whose tokens' vectors are pooled so.
    pub fn of(task: Task, pooling: Pooling) -> Self {
        match (task, pooling) {
            (Task::TokenClassification, _) => Reading::TokenScores,
            (_, Pooling::None) => Reading::Texts,
            _ => Reading::Tokens,
        }
    }
}

/// Index of the encoder's output for `reading`: the one of its usual name, else the first of
/// its rank.
///
/// # Errors
/// A sentence when no output fits.
pub fn encoder_output(encoder: &Signature, reading: Reading) -> Result<usize, String> {
    let (rank, names, what): (_, &[&str], _) = match reading {
        Reading::Texts => (2, &["logits", "sentence_embedding"], "one vector a text"),
        Reading::Tokens => (3, &["last_hidden_state", "token_embeddings"], "one vector a token"),
        Reading::TokenScores => (3, &["logits"], "the scores of each token's labels"),
    };
    let fits = |o: &TensorSpec| o.dtype.is_float() && o.shape.len() == rank;
    let named = |name: &str| encoder.outputs.iter().position(|o| o.name == name && fits(o));
    names.iter().copied().find_map(named).or_else(|| encoder.outputs.iter().position(fits)).ok_or_else(|| {
        format!(
            "no output of the encoder holds {what} ({rank} dimensions of floats): it gives {}",
            list(&encoder.outputs)
        )
    })
}

/// Reads the files of `[text]` and works out what callers see; what is wrong goes to
/// `report`.
pub(crate) fn resolve(
    manifest: &Manifest,
    table: &TextTable,
    folders: &Folders,
    graph: &OnnxModel,
    report: &mut Report,
) -> Resolved {
    check_inputs(&graph.signature, report);
    let tokenizer = read(folders, "text.tokenizer", &table.tokenizer, limits::TOKENIZER_BYTES, report);
    let head = table.head.as_ref().map(|name| read(folders, "text.head", name, limits::HEAD_BYTES, report));
    let task = manifest.task.unwrap_or_else(|| guess(manifest, table));
    let reading = Reading::of(task, table.pooling);
    let place = if reading == Reading::TokenScores { "task" } else { "text.pooling" };
    let encoded = report.keep(place, encoder_output(&graph.signature, reading));
    let hidden = encoded.and_then(|i| graph.signature.outputs[i].shape.last()?.fixed());
    let columns = match &head {
        Some(head) => head.as_deref().and_then(|bytes| head_columns(bytes, hidden, report)),
        None => hidden,
    };
    let labels = labels(task, manifest, columns, report);
    let width = columns.or((!labels.is_empty()).then_some(labels.len()));
    let spec = tokenizer.map(|tokenizer| TextSpec {
        tokenizer,
        pooling: table.pooling,
        normalize: table.normalize,
        head: head.flatten(),
        multi_label: table.multi_label,
        activation: table.activation,
        aggregation: table.aggregation.unwrap_or_default(),
    });
    check_table(task, table, report);
    if table.multi_label && table.activation.is_some_and(|a| a != Activation::Sigmoid) {
        report
            .at("text.activation", "several labels a text are scored by `sigmoid`: leave one of the two out");
    }
    let scores = (task == Task::TextClassification).then_some(0);
    Resolved { spec, signature: signature(task, width), task, labels, scores }
}

/// Keys of `[text]` that mean nothing for the task would be believed to work.
fn check_table(task: Task, table: &TextTable, report: &mut Report) {
    if task != Task::TokenClassification {
        if table.aggregation.is_some() {
            report.at("text.aggregation", "only a token-classification has an `aggregation`: leave it out");
        }
        return;
    }
    for (key, given) in [
        ("pooling", table.pooling != Pooling::None),
        ("normalize", table.normalize),
        ("head", table.head.is_some()),
        ("multi_label", table.multi_label),
        ("activation", table.activation.is_some()),
    ] {
        if given {
            let message = format!(
                "a token-classification is read off the encoder's own scores, by softmax: leave `{key}` out"
            );
            report.at(&format!("text.{key}"), message);
        }
    }
}

fn guess(manifest: &Manifest, table: &TextTable) -> Task {
    if table.head.is_some() || manifest.labels.is_some() { Task::TextClassification } else { Task::Embedding }
}

fn read(folders: &Folders, key: &str, name: &str, max: u64, report: &mut Report) -> Option<Arc<[u8]>> {
    let path = report.keep(key, folders.find(name))?;
    report.keep(key, files::read(&path, max)).map(Arc::from)
}

fn check_inputs(encoder: &Signature, report: &mut Report) {
    for input in &encoder.inputs {
        let whole = matches!(input.dtype, DType::Int64 | DType::Int32) && input.shape.len() == 2;
        if !TOKEN_INPUTS.contains(&input.name.as_str()) || !whole {
            report.at("text", format!("the encoder's input {input} is none that a tokenizer fills (integers [texts, tokens] called {})", TOKEN_INPUTS.join(", ")));
        }
    }
    if !encoder.inputs.iter().any(|i| i.name == TOKEN_INPUTS[0]) {
        report.at(
            "text",
            format!("the encoder has no input `{}`: it takes {}", TOKEN_INPUTS[0], list(&encoder.inputs)),
        );
    }
}

/// Scores that a linear head gives, if it fits vectors of `hidden`.
fn head_columns(bytes: &[u8], hidden: Option<usize>, report: &mut Report) -> Option<usize> {
    let (labels, takes) = report.keep("text.head", head_shape(bytes))?;
    match hidden {
        Some(gives) if gives != takes => {
            report.at("text.head", format!("the head takes vectors of {takes}, the encoder gives {gives}"));
            None
        }
        _ => Some(labels),
    }
}

/// Labels and hidden size of a linear head.
fn head_shape(bytes: &[u8]) -> Result<(usize, usize), String> {
    let wrong = |what: String| {
        format!(
            "the head is wrong: {what} (safetensors, float32 `weight` [labels, hidden] and `bias` [labels])"
        )
    };
    let head = SafeTensors::deserialize(bytes).map_err(|e| wrong(e.to_string()))?;
    let tensor = |name: &str, rank: usize| {
        let found = head.tensor(name).map_err(|_| wrong(format!("it has no `{name}`")))?;
        let fits = found.dtype() == Dtype::F32 && found.shape().len() == rank;
        if fits {
            Ok(found.shape().to_vec())
        } else {
            Err(wrong(format!("`{name}` is {:?} {:?}", found.dtype(), found.shape())))
        }
    };
    let (weight, bias) = (tensor("weight", 2)?, tensor("bias", 1)?);
    if weight[0] != bias[0] || weight[0] == 0 || weight[1] == 0 {
        return Err(wrong(format!("`weight` is {weight:?} and `bias` is {bias:?}")));
    }
    Ok((weight[0], weight[1]))
}

fn labels(task: Task, manifest: &Manifest, columns: Option<usize>, report: &mut Report) -> Vec<String> {
    let labels = manifest.labels.clone().unwrap_or_default();
    check_labels(&labels, report);
    match task {
        Task::TextClassification | Task::TokenClassification => match columns {
            Some(n) if n != labels.len() => {
                report.at("labels", format!("`labels` names {}, the model gives {n} scores", labels.len()));
            }
            _ if labels.is_empty() => report.at("labels", format!("a {} needs `labels`, in the order of the scores", task.as_str())),
            _ => {}
        },
        Task::Rerank => match columns {
            _ if manifest.labels.is_some() => report.at("labels", "a reranker has no `labels`"),
            Some(n) if n != 1 => report.at("task", format!("a reranker gives one score for two texts, this model gives {n}")),
            _ => {}
        },
        Task::Embedding if manifest.labels.is_some() => report.at("labels", "an embedding has no `labels`"),
        Task::Embedding => {}
        other => report.at("task", format!("a model with a `[text]` table cannot have the task {}: it is text-classification, token-classification, embedding or rerank", other.as_str())),
    }
    labels
}

/// What callers see: one string in, two for a reranker, and one vector out, or the entities of
/// the text as JSON: there are as many as the text has, and a tensor of them would be as wide
/// as the neighbour with the most.
fn signature(task: Task, width: Option<usize>) -> Signature {
    let rows = || Dim::Any(Some("N".to_owned()));
    let text = |name: &str| TensorSpec { name: name.to_owned(), dtype: DType::String, shape: vec![rows()] };
    let name = match task {
        Task::TextClassification => "scores",
        Task::Rerank => "score",
        _ => "embedding",
    };
    let query = (task == Task::Rerank).then(|| text(QUERY_INPUT));
    let vector = width.map_or(Dim::Any(None), Dim::Fixed);
    let output = match task {
        Task::TokenClassification => text(ENTITIES_OUTPUT),
        _ => TensorSpec { name: name.to_owned(), dtype: DType::Float32, shape: vec![rows(), vector] },
    };
    Signature { inputs: query.into_iter().chain([text(TEXT_INPUT)]).collect(), outputs: vec![output] }
}
