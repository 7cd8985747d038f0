//! Everything that is known about one version of a model once its folder was read.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use crate::{GraphPlan, Lookups, SequenceSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_types::{Answer, ModelName, Schema, Signature, Version};

use crate::{BatchingTable, CacheTable};

/// Which engine the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// The best one that can run the artefact.
    #[default]
    Auto,
    /// The native interpreter of `ai.onnx.ml` graphs.
    Native,
    /// rten, embedded.
    Rten,
    /// ONNX Runtime, from a library found at run time.
    OnnxRuntime,
}

/// What the model does, which decides the shape of a typed answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // the names are the field's standard terms
pub enum Task {
    Regression,
    Classification,
    TextClassification,
    Embedding,
    TokenClassification,
    Rerank,
    #[default]
    Raw,
}

impl Task {
    /// The name used in `model.toml` and shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Task::Regression => "regression",
            Task::Classification => "classification",
            Task::TextClassification => "text-classification",
            Task::Embedding => "embedding",
            Task::TokenClassification => "token-classification",
            Task::Rerank => "rerank",
            Task::Raw => "raw",
        }
    }
}

/// How token vectors become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The encoder's output is the answer already.
    #[default]
    None,
    /// Mean over the tokens that the attention mask keeps.
    Mean,
    /// The first token's vector.
    Cls,
    /// Element-wise maximum over the tokens that the attention mask keeps.
    Max,
}

/// How logits become scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// A distribution over the labels.
    Softmax,
    /// Each label by itself, from 0 to 1.
    Sigmoid,
    /// The logits are the scores.
    None,
}

/// How labels of tokens become entities, by the names of transformers'
/// `TokenClassificationPipeline`. All but `none` join neighbours: a token of the same type
/// continues the entity before it unless its label begins with `B-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregation {
    /// Each token is an entity, with its label as it is (`B-PER`).
    None,
    /// Each token counts by its own best label.
    #[default]
    Simple,
    /// The words' tokens take the label of the first one.
    First,
    /// A word's scores are the mean of its tokens'.
    Average,
    /// The words' tokens take the label of the one that is surest.
    Max,
}

impl Aggregation {
    /// The name used in `model.toml` and shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Aggregation::None => "none",
            Aggregation::Simple => "simple",
            Aggregation::First => "first",
            Aggregation::Average => "average",
            Aggregation::Max => "max",
        }
    }

    /// What an entity is called whose tokens are labelled `label`; `None` for the label of
    /// what is no entity, `O`.
    pub fn entity(self, label: &str) -> Option<&str> {
        let name = match self {
            Aggregation::None => label,
            _ => label.split_once('-').map_or(label, |(_, entity)| entity),
        };
        (name != "O").then_some(name)
    }
}

/// Tokenizer, pooling and head of a text model.
#[derive(Debug, Clone, PartialEq)]
pub struct TextSpec {
    /// Bytes of `tokenizer.json`.
    pub tokenizer: Arc<[u8]>,
    /// How token vectors become one.
    pub pooling: Pooling,
    /// Whether the pooled vector is scaled to length 1.
    pub normalize: bool,
    /// Bytes of the linear head (safetensors: float32 `weight` `[labels, hidden]`, `bias` `[labels]`).
    pub head: Option<Arc<[u8]>>,
    /// Whether scores are independent (sigmoid) rather than a distribution (softmax).
    pub multi_label: bool,
    /// How logits become scores; by default what `multi_label` and the number of labels say.
    pub activation: Option<Activation>,
    /// How labels of tokens become entities; for token classification only.
    pub aggregation: Aggregation,
}

/// Bounds on one request to this model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelLimits {
    /// Most rows in one request.
    pub max_rows: usize,
    /// Most tokens a text is cut to.
    pub max_tokens: usize,
}

impl Default for ModelLimits {
    fn default() -> Self {
        Self { max_rows: 10_000, max_tokens: 256 }
    }
}

/// A golden row: run when the version loads, a mismatch refuses it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Line in the samples file, from 1.
    pub line: usize,
    /// The row as a caller would send it (JSON object).
    pub input: Vec<u8>,
    /// What the word `prediction` must answer.
    pub prediction: Option<serde_json::Value>,
    /// Largest absolute difference of a number.
    pub tolerance: f64,
}

/// One version of a model: everything about it but its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    /// The model's name.
    pub name: ModelName,
    /// The version.
    pub version: Version,
    /// The artefact file.
    pub artifact: PathBuf,
    /// Size of the artefact in bytes.
    pub artifact_bytes: u64,
    /// When the artefact was written, where the file system says.
    pub modified: Option<SystemTime>,
    /// SHA-256 over the artefact and everything that goes into an answer, lower-case hex.
    pub digest: String,
    /// One sentence for the docs page.
    pub description: Option<String>,
    /// Tensors in and out, as the engine sees them.
    pub signature: Signature,
    /// Rows in, as callers see them.
    pub schema: Schema,
    /// What the model does.
    pub task: Task,
    /// Names of the classes, in the order of the score columns.
    pub labels: Vec<String>,
    /// What the words of a response template mean: `prediction` first, then the rest, for
    /// example `label`, `score`, `labels`, `scores`, `probability:<label>`, `output:<tensor>`.
    pub answers: Vec<(String, Answer)>,
    /// Present for models that read text.
    pub text: Option<TextSpec>,
    /// Present for models that are made of others.
    pub graph: Option<Arc<GraphPlan>>,
    /// Which engine the operator wants.
    pub engine: EngineChoice,
    /// Bounds on one request.
    pub limits: ModelLimits,
    /// How requests wait and run together.
    pub batching: BatchingTable,
    /// How answers are kept, if the operator says so.
    pub cache: Option<CacheTable>,
    /// Whether the same row always gets the same answer.
    pub deterministic: bool,
    /// Whether the model keeps state between calls.
    pub stateful: bool,
    /// Present for models whose state this server keeps: sequences.
    pub sequence: Option<Arc<SequenceSpec>>,
    /// Whether tensor clients see one input a field instead of the model's own inputs.
    pub columns: bool,
    /// Fields that are filled in from the feature views of a server.
    pub lookups: Lookups,
    /// Golden rows.
    pub samples: Vec<Sample>,
    /// What a reader should know about the artefact, for example an export that is known to
    /// be inexact. Shown by `weir inspect`.
    pub notes: Vec<String>,
}

impl ModelSpec {
    /// What `word` means in a response template.
    pub fn answer(&self, word: &str) -> Option<&Answer> {
        self.answers.iter().find(|(name, _)| name == word).map(|(_, answer)| answer)
    }
}
