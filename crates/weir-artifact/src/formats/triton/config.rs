//! `config.pbtxt`, typed: Triton's `ModelConfig` (`model_config.proto`) as far as a model
//! of ONNX Runtime needs it. Fields that would change answers are refused, the others that
//! have no effect here are named in notes; unknown ones are refused, as Triton does.

mod batching;
mod sequences;

use weir_types::DType;

use super::{
    ensemble::Step,
    textproto::{self, Fault, Field, Message, Place, Value},
};
use crate::{BatchingTable, SequenceTable};

/// What the file says.
#[derive(Debug, Clone, Default)]
pub(super) struct Config {
    pub(super) name: Option<String>,
    /// Most rows of a request; 0 where the dimensions include the rows.
    /// Whether answers are kept.
    pub(super) cache: bool,
    pub(super) max_batch_size: usize,
    pub(super) inputs: Vec<Tensor>,
    pub(super) outputs: Vec<Tensor>,
    pub(super) policy: Policy,
    /// The artefact's file name within a version folder.
    pub(super) artifact: Option<String>,
    pub(super) batching: BatchingTable,
    /// What the model remembers between requests.
    pub(super) sequence: Option<SequenceTable>,
    /// The steps of an ensemble.
    pub(super) ensemble: Option<Vec<Step>>,
    pub(super) notes: Vec<String>,
}

/// `input` or `output`.
#[derive(Debug, Clone, Default)]
pub(super) struct Tensor {
    pub(super) place: Place,
    pub(super) name: String,
    pub(super) dtype: Option<DType>,
    /// -1 for any size.
    pub(super) dims: Vec<i64>,
    /// The model's own dimensions, where requests have others.
    pub(super) reshape: Option<Vec<i64>>,
    /// File of class names, and where it is said.
    pub(super) labels: Option<(String, Place)>,
}

/// Which versions are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Policy {
    Latest(usize),
    All,
    Specific(Vec<u64>),
}

impl Default for Policy {
    /// Triton's.
    fn default() -> Self {
        Policy::Latest(1)
    }
}

/// Would change answers, or what a request is.
const REFUSED: &[(&str, &str)] = &[
    ("batch_input", "inputs made from the batch cannot be served"),
    ("batch_output", "outputs scattered by the batch cannot be served"),
    ("model_operations", "libraries of custom operators are never loaded"),
    ("model_repository_agents", "agents that change a model before it is loaded are not run"),
];

/// Has no effect on answers, and none here.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("optimization", "the engine's own optimisations are used"),
    ("cc_model_filenames", "models run on the CPU, from the default file"),
    ("metric_tags", "metrics carry the model's name and version"),
    ("model_metrics", "metrics are the server's own"),
    ("model_warmup", "golden rows (`samples` in model.toml) are what runs at every load"),
    ("runtime", "`engine` in model.toml chooses one"),
];

/// Reads the file.
///
/// # Errors
/// All that is wrong, each at its place.
pub(super) fn read(text: &str) -> Result<Config, Vec<Fault>> {
    let message = textproto::parse(text).map_err(|fault| vec![fault])?;
    let mut reader = Reader::default();
    let mut config = Config::default();
    message.iter().for_each(|field| reader.config(field, &mut config));
    reader.ensemble_alone(&message, &config);
    if let Some(table) = config.sequence.as_mut().filter(|_| config.max_batch_size > 0) {
        sequences::in_rows(table);
    }
    config.notes = reader.notes;
    if reader.faults.is_empty() { Ok(config) } else { Err(reader.faults) }
}

#[derive(Default)]
pub(super) struct Reader {
    faults: Vec<Fault>,
    notes: Vec<String>,
}

impl Reader {
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub(super) fn fault(&mut self, field: &Field, message: impl Into<String>) {
        self.faults.push((field.place, message.into()));
    }

    fn config(&mut self, field: &Field, config: &mut Config) {
        let listed = |list: &[(&str, &'static str)]| {
            list.iter().find(|(name, _)| *name == field.name).map(|(_, why)| *why)
        };
        match field.name.as_str() {
            "name" => config.name = self.text(field),
            "platform" => self.one_of(field, &["onnxruntime_onnx", "onnxruntime", "ensemble"]),
            "backend" => self.one_of(field, &["onnxruntime"]),
            "max_batch_size" => config.max_batch_size = self.count(field),
            "input" => config.inputs.extend(self.tensor(field)),
            "output" => config.outputs.extend(self.tensor(field)),
            "sequence_batching" => config.sequence = Some(self.sequences(field)),
            "ensemble_scheduling" => config.ensemble = Some(self.ensemble(field)),
            "version_policy" => config.policy = self.policy(field),
            "default_model_filename" => config.artifact = self.text(field),
            "dynamic_batching" => self.batching(field, &mut config.batching),
            "instance_group" => self.instances(field, &mut config.batching),
            "parameters" => self.parameters(field, &mut config.batching),
            "model_transaction_policy" => self.transactions(field),
            "response_cache" => config.cache = self.response_cache(field),
            name => match (listed(REFUSED), listed(WITHOUT_EFFECT)) {
                (Some(why), _) => self.fault(field, format!("`{name}`: {why}")),
                (_, Some(why)) => self.notes.push(format!("`{name}` has no effect: {why}")),
                _ => self.unknown(field, "a model configuration"),
            },
        }
    }

    /// A platform `ensemble` and its steps go together.
    fn ensemble_alone(&mut self, message: &Message, config: &Config) {
        let says = |f: &&Field| f.name == "platform" && f.value == Value::Text("ensemble".to_owned());
        let platform = message.iter().find(says);
        let other = message.iter().find(|f| matches!(f.name.as_str(), "platform" | "backend") && !says(f));
        match (platform, &config.ensemble, other) {
            (Some(field), None, _) => self.fault(field, "an ensemble needs `ensemble_scheduling`"),
            (_, Some(_), Some(field)) => {
                self.fault(
                    field,
                    format!("`{}` is not for ensembles: write platform: \"ensemble\"", field.name),
                );
            }
            _ => {}
        }
    }

    pub(super) fn unknown(&mut self, field: &Field, within: &str) {
        self.fault(field, format!("unknown field `{}` of {within}", short(&field.name)));
    }

    pub(super) fn text(&mut self, field: &Field) -> Option<String> {
        if let Value::Text(text) = &field.value {
            return Some(text.clone()).filter(|t| !t.is_empty());
        }
        self.fault(field, format!("`{}` is a string, in quotes", field.name));
        None
    }

    /// Platform or backend.
    fn one_of(&mut self, field: &Field, served: &[&str]) {
        let Some(given) = self.text(field).filter(|g| !served.contains(&g.as_str())) else { return };
        let (name, given) = (&field.name, short(&given));
        self.fault(
            field,
            format!("{name} `{given}` is not served, `{}` is: export the model to ONNX", served[0]),
        );
    }

    pub(super) fn int(&mut self, field: &Field) -> Option<i64> {
        let parsed = match &field.value {
            Value::Word(word) => integer(word),
            _ => None,
        };
        if parsed.is_none() {
            self.fault(field, format!("`{}` is a whole number", field.name));
        }
        parsed
    }

    /// A number that is not negative.
    fn count(&mut self, field: &Field) -> usize {
        let Some(n) = self.int(field) else { return 0 };
        usize::try_from(n).unwrap_or_else(|_| {
            self.fault(field, format!("`{}` is 0 or more, got {n}", field.name));
            0
        })
    }

    fn truth(&mut self, field: &Field) -> bool {
        match &field.value {
            Value::Word(w) if matches!(w.as_str(), "true" | "True" | "t" | "1") => true,
            Value::Word(w) if matches!(w.as_str(), "false" | "False" | "f" | "0") => false,
            _ => {
                self.fault(field, format!("`{}` is true or false", field.name));
                false
            }
        }
    }

    pub(super) fn message<'a>(&mut self, field: &'a Field) -> &'a [Field] {
        const NONE: &Message = &Vec::new();
        if let Value::Message(fields) = &field.value {
            return fields;
        }
        self.fault(field, format!("`{}` holds fields, in braces", field.name));
        NONE
    }

    fn tensor(&mut self, field: &Field) -> Option<Tensor> {
        let before = self.faults.len();
        let mut tensor = Tensor { place: field.place, ..Tensor::default() };
        for inner in self.message(field) {
            match inner.name.as_str() {
                "name" => tensor.name = self.text(inner).unwrap_or_default(),
                "data_type" => tensor.dtype = self.dtype(inner),
                "dims" => tensor.dims.extend(self.dim(inner)),
                "reshape" => tensor.reshape = Some(self.reshape(inner)),
                "label_filename" if field.name == "output" => {
                    tensor.labels = self.text(inner).map(|name| (name, inner.place));
                }
                // NHWC or NCHW: says what the dimensions mean, changes nothing.
                "format" if field.name == "input" => {}
                "optional" | "allow_ragged_batch" | "is_shape_tensor" | "is_non_linear_format_io" => {
                    if self.truth(inner) {
                        self.fault(inner, format!("`{}` cannot be served", inner.name));
                    }
                }
                _ => self.unknown(inner, &format!("an {}", field.name)),
            }
        }
        if tensor.name.is_empty() && self.faults.len() == before {
            self.fault(field, format!("an {} needs a `name`", field.name));
        }
        (self.faults.len() == before).then_some(tensor)
    }

    fn dim(&mut self, field: &Field) -> Option<i64> {
        let dim = self.int(field)?;
        if dim < -1 || dim == 0 {
            self.fault(field, format!("`dims` are 1 or more, or -1 for any size, got {dim}"));
        }
        Some(dim)
    }

    fn reshape(&mut self, field: &Field) -> Vec<i64> {
        let mut shape = Vec::new();
        for inner in self.message(field) {
            match inner.name.as_str() {
                "shape" => shape.extend(self.int(inner)),
                _ => self.unknown(inner, "`reshape`"),
            }
        }
        shape
    }

    fn dtype(&mut self, field: &Field) -> Option<DType> {
        let word = match &field.value {
            Value::Word(word) => word.as_str(),
            _ => "",
        };
        let found = TYPES.iter().find(|(name, _)| *name == word).map(|(_, dtype)| *dtype);
        if found.is_none() {
            let known: Vec<_> = TYPES.iter().map(|(name, _)| *name).collect();
            self.fault(
                field,
                format!("unknown data_type `{}`: it is one of {}", short(word), known.join(", ")),
            );
        }
        found
    }

    fn policy(&mut self, field: &Field) -> Policy {
        let mut policy = Policy::default();
        for choice in self.message(field) {
            let inner = self.message(choice);
            policy = match choice.name.as_str() {
                "all" => Policy::All,
                "latest" => {
                    let count = inner.iter().find(|f| f.name == "num_versions").map(|f| self.count(f));
                    // Absent and 0 are the same to protobuf; Triton reads both as 1.
                    Policy::Latest(count.unwrap_or(1).max(1))
                }
                "specific" => {
                    let versions = inner.iter().filter(|f| f.name == "versions");
                    Policy::Specific(versions.map(|f| self.count(f) as u64).collect())
                }
                _ => {
                    self.unknown(choice, "`version_policy`: it is one of latest, all, specific");
                    continue;
                }
            };
        }
        policy
    }

    /// `response_cache`: Triton's own has no time and no size a model.
    fn response_cache(&mut self, field: &Field) -> bool {
        let mut enabled = false;
        for inner in self.message(field) {
            match inner.name.as_str() {
                "enable" => enabled = self.truth(inner),
                _ => self.unknown(inner, "`response_cache`"),
            }
        }
        if enabled {
            self.note("`response_cache`: answers are kept for an hour, row by row, as an empty `[cache]` in model.toml says");
        }
        enabled
    }

    fn transactions(&mut self, field: &Field) {
        for inner in self.message(field) {
            match inner.name.as_str() {
                "decoupled" if self.truth(inner) => {
                    self.fault(inner, "decoupled models (any number of answers) cannot be served");
                }
                "decoupled" => {}
                _ => self.unknown(inner, "`model_transaction_policy`"),
            }
        }
    }
}

const TYPES: [(&str, DType); 14] = [
    ("TYPE_BOOL", DType::Bool),
    ("TYPE_UINT8", DType::Uint8),
    ("TYPE_UINT16", DType::Uint16),
    ("TYPE_UINT32", DType::Uint32),
    ("TYPE_UINT64", DType::Uint64),
    ("TYPE_INT8", DType::Int8),
    ("TYPE_INT16", DType::Int16),
    ("TYPE_INT32", DType::Int32),
    ("TYPE_INT64", DType::Int64),
    ("TYPE_FP16", DType::Float16),
    ("TYPE_FP32", DType::Float32),
    ("TYPE_FP64", DType::Float64),
    ("TYPE_STRING", DType::String),
    ("TYPE_BF16", DType::Bfloat16),
];

fn integer(word: &str) -> Option<i64> {
    let (sign, digits) = word.strip_prefix('-').map_or((1, word), |digits| (-1, digits));
    let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => i64::from_str_radix(hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => i64::from_str_radix(digits, 8),
        None => digits.parse(),
    };
    value.ok().filter(|_| digits.starts_with(|c: char| c.is_ascii_digit())).map(|v: i64| sign * v)
}

/// The file's own words as a message repeats them.
fn short(text: &str) -> String {
    text.chars().take(64).collect()
}
