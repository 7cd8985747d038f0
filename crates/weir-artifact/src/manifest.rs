//! `model.toml`: what an operator adds to an artefact. The types are the documentation:
//! `weir config schema` prints their JSON Schema.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_config::HumanDuration;
use weir_types::{DType, Scalar};

use crate::{
    Activation, Aggregation, BatchingTable, CacheTable, EngineChoice, GraphTable, ModelLimits, Pooling,
    RemoteTable, SequenceTable, Task,
};

/// What the artefact cannot say about a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Manifest {
    /// The model's name, `[a-z0-9][a-z0-9._-]{0,127}`. Default: the folder's name.
    pub name: Option<String>,
    /// The artefact's file name. Default: the one artefact in the folder.
    pub artifact: Option<String>,
    /// One sentence for the docs page.
    pub description: Option<String>,
    /// Which engine runs the model; `auto` takes the best one that can.
    pub engine: EngineChoice,
    /// What the model does. Default: read off the artefact.
    pub task: Option<Task>,
    /// Names of the classes, in the order of the score columns. Default: the artefact's own.
    pub labels: Option<Vec<String>>,
    /// Whether the same row always gets the same answer; `false` turns caching off.
    pub deterministic: bool,
    /// Whether the model keeps state between calls; `[sequence]` says so too.
    pub stateful: bool,
    /// JSON lines of golden rows with expected answers: run when the model loads, a mismatch
    /// refuses it.
    pub samples: Option<String>,
    /// What a row looks like.
    pub input: InputTable,
    /// What a response says.
    pub output: OutputTable,
    /// Bounds on one request.
    pub limits: LimitsTable,
    /// How requests wait and run together.
    pub batching: BatchingTable,
    /// How answers are kept, if they are: an empty table takes the defaults.
    pub cache: Option<CacheTable>,
    /// For models that read text: tokenizer, pooling and head.
    pub text: Option<TextTable>,
    /// For models that are made of others: their steps.
    pub graph: Option<GraphTable>,
    /// For models that another server runs: where.
    pub remote: Option<RemoteTable>,
    /// For models that keep state: which of their tensors go from one request to the next.
    pub sequence: Option<SequenceTable>,
    /// How clients of the Open Inference Protocol V2 see the model.
    pub v2: V2Table,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            name: None,
            artifact: None,
            description: None,
            engine: EngineChoice::Auto,
            task: None,
            labels: None,
            deterministic: true,
            stateful: false,
            samples: None,
            input: InputTable::default(),
            output: OutputTable::default(),
            limits: LimitsTable::default(),
            batching: BatchingTable::default(),
            cache: None,
            text: None,
            graph: None,
            remote: None,
            sequence: None,
            v2: V2Table::default(),
        }
    }
}

/// How clients of the Open Inference Protocol V2 see the model.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct V2Table {
    /// Whether each `[[input.field]]` is an input of its own, `[rows, 1]` for a single value,
    /// instead of the model's own input tensors.
    pub columns: bool,
}

/// What a row looks like.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InputTable {
    /// What to do with keys that are no field.
    pub extra: ExtraWord,
    /// Which conversions a value may go through.
    pub coerce: CoerceWord,
    /// The fields of a row, in the column order of the model's inputs. Default: one field an
    /// input.
    pub field: Vec<FieldTable>,
    /// Keys of a row that name entities, by which fields with `from` are looked up. Default:
    /// one an entity, called as the feature view calls it.
    pub key: Vec<KeyTable>,
}

/// A key of a row that names an entity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyTable {
    /// The key in a row.
    pub name: String,
    /// The entity of the feature views, where it has another name and there is more than one.
    pub entity: Option<String>,
    /// Other accepted keys.
    #[serde(default)]
    pub alias: Vec<String>,
    /// `string` or `int64`. Default: what the feature view says.
    pub dtype: Option<DTypeWord>,
    /// For the docs page.
    pub description: Option<String>,
    /// A typical value, for the docs page.
    pub example: Option<Scalar>,
}

/// What to do with keys that are no field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExtraWord {
    /// Refuse them.
    #[default]
    Forbid,
    /// Skip them.
    Ignore,
}

/// Which conversions a value may go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CoerceWord {
    /// Pydantic's lax mode: `"3"` and `true` are numbers for a float field.
    #[default]
    Lax,
    /// Pydantic's strict mode: a value must have the field's JSON type.
    Strict,
}

/// One named field of a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldTable {
    /// The key in a row.
    pub name: String,
    /// Other accepted keys.
    #[serde(default)]
    pub alias: Vec<String>,
    /// The model input that it fills; needed only where the order does not say.
    pub input: Option<String>,
    /// Element type. Default: the input's.
    pub dtype: Option<DTypeWord>,
    /// Dimensions of the value, `-1` for any size. Default: a single value, or the whole
    /// row of the input if it has no other field.
    pub shape: Option<Vec<i64>>,
    /// Whether `null` is a value: NaN for floats, the empty string for strings.
    #[serde(default)]
    pub nullable: bool,
    /// The value when the key is absent; with `from`, when nothing is known either.
    pub default: Option<Scalar>,
    /// The feature, as `view.feature`, that is looked up when the key is absent and the row says
    /// of which entity. A value in the row counts.
    pub from: Option<String>,
    /// How old a value that is looked up may be, by its event time. Default: as old as its view
    /// keeps it.
    pub max_age: Option<HumanDuration>,
    /// At least.
    pub ge: Option<f64>,
    /// Greater than.
    pub gt: Option<f64>,
    /// At most.
    pub le: Option<f64>,
    /// Less than.
    pub lt: Option<f64>,
    /// The only values allowed.
    #[serde(rename = "enum")]
    pub one_of: Option<Vec<Scalar>>,
    /// Shortest string, in characters.
    pub min_length: Option<usize>,
    /// Longest string, in characters.
    pub max_length: Option<usize>,
    /// Regular expression that must be found in the string.
    pub pattern: Option<String>,
    /// Whether NaN and infinities are values (written as strings, `"NaN"`).
    #[serde(default)]
    pub allow_inf_nan: bool,
    /// For the docs page.
    pub description: Option<String>,
    /// A typical value, for the docs page.
    pub example: Option<Scalar>,
}

impl FieldTable {
    /// A required field without rules.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            alias: Vec::new(),
            input: None,
            dtype: None,
            shape: None,
            nullable: false,
            default: None,
            from: None,
            max_age: None,
            ge: None,
            gt: None,
            le: None,
            lt: None,
            one_of: None,
            min_length: None,
            max_length: None,
            pattern: None,
            allow_inf_nan: false,
            description: None,
            example: None,
        }
    }
}

/// An element type by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the names say it
pub enum DTypeWord {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Float16,
    Bfloat16,
    Float32,
    Float64,
    String,
}

impl From<DTypeWord> for DType {
    fn from(word: DTypeWord) -> Self {
        match word {
            DTypeWord::Bool => DType::Bool,
            DTypeWord::Int8 => DType::Int8,
            DTypeWord::Int16 => DType::Int16,
            DTypeWord::Int32 => DType::Int32,
            DTypeWord::Int64 => DType::Int64,
            DTypeWord::Uint8 => DType::Uint8,
            DTypeWord::Uint16 => DType::Uint16,
            DTypeWord::Uint32 => DType::Uint32,
            DTypeWord::Uint64 => DType::Uint64,
            DTypeWord::Float16 => DType::Float16,
            DTypeWord::Bfloat16 => DType::Bfloat16,
            DTypeWord::Float32 => DType::Float32,
            DTypeWord::Float64 => DType::Float64,
            DTypeWord::String => DType::String,
        }
    }
}

/// What a response says.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutputTable {
    /// What the word `prediction` means: `label`, `score`, `labels`, `scores`,
    /// `probability:<label>` or `output:<tensor>`. Default: what the task says.
    pub prediction: Option<String>,
}

/// Bounds on one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsTable {
    /// Most rows in one request.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_rows: usize,
    /// Most tokens a text is cut to, special tokens included.
    #[schemars(range(min = 3, max = 1_000_000))]
    pub max_tokens: usize,
}

impl Default for LimitsTable {
    fn default() -> Self {
        let ModelLimits { max_rows, max_tokens } = ModelLimits::default();
        Self { max_rows, max_tokens }
    }
}

/// Tokenizer, pooling and head of a model that reads text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextTable {
    /// File of the tokenizer (Hugging Face `tokenizer.json`).
    #[serde(default = "default_tokenizer")]
    pub tokenizer: String,
    /// File of a linear head (safetensors: float32 `weight` [labels, hidden], `bias` [labels]).
    pub head: Option<String>,
    /// How the tokens' vectors become one: `none` if the model's output is one a text already.
    #[serde(default)]
    pub pooling: Pooling,
    /// Whether the pooled vector is divided by its length.
    #[serde(default)]
    pub normalize: bool,
    /// Whether a text can have several labels: scores by sigmoid instead of softmax.
    #[serde(default)]
    pub multi_label: bool,
    /// How logits become scores: `softmax`, `sigmoid` or `none`. Default: softmax, and sigmoid
    /// for `multi_label` and for a single label.
    pub activation: Option<Activation>,
    /// For token classification, how labels of tokens become entities, as in transformers'
    /// pipeline: `none`, `simple`, `first`, `average` or `max`. Default: `simple`.
    pub aggregation: Option<Aggregation>,
}

impl Default for TextTable {
    fn default() -> Self {
        Self {
            tokenizer: default_tokenizer(),
            head: None,
            pooling: Pooling::default(),
            normalize: false,
            multi_label: false,
            activation: None,
            aggregation: None,
        }
    }
}

fn default_tokenizer() -> String {
    "tokenizer.json".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dtype_has_its_word() {
        for dtype in DType::ALL {
            let word: DTypeWord = serde_json::from_value(dtype.as_str().into()).unwrap();
            assert_eq!(DType::from(word), dtype);
        }
    }
}
