//! An MLflow model: `MLmodel` (YAML) with a signature (JSON within).
//!
//! What a column means is what MLflow's own scoring of the onnx flavour does with it
//! (`mlflow/onnx/__init__.py`): of a model with one input the columns in the signature's
//! order are that input's, otherwise each is the input of its name.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;
use serde_json::Value;
use weir_config::Problem;
use weir_types::{DType, Dim, Signature, TensorSpec};

use super::{Described, Source};
use crate::{
    FieldTable, InputTable, Manifest, V2Table,
    files::{self, Folders},
    onnx::OnnxModel,
    task::list,
};

/// Largest `MLmodel`.
const MAX_BYTES: u64 = 4 << 20;

/// Most columns of a signature.
const MAX_COLUMNS: usize = 100_000;

/// Flavours whose own file can run code, or is no format that is read here, and what to do.
const EXPORTS: [(&str, &str); 8] = [
    ("sklearn", "export it with skl2onnx.to_onnx and save that with mlflow.onnx.save_model"),
    ("xgboost", "native XGBoost files cannot be served yet; onnxmltools.convert_xgboost makes ONNX of one"),
    (
        "lightgbm",
        "native LightGBM files cannot be served yet; onnxmltools.convert_lightgbm makes ONNX of one",
    ),
    ("catboost", "save it with save_model(…, format=\"onnx\") and that with mlflow.onnx.save_model"),
    ("pytorch", "export it with torch.onnx.export and save that with mlflow.onnx.save_model"),
    ("tensorflow", "export it with tf2onnx and save that with mlflow.onnx.save_model"),
    ("transformers", "export it with `optimum-cli export onnx` and serve that folder"),
    ("sentence_transformers", "export it with `optimum-cli export onnx` and serve that folder"),
];

/// The parts of `MLmodel` that matter here.
#[derive(Debug, Deserialize)]
struct MlModel {
    #[serde(default)]
    flavors: BTreeMap<String, Option<Value>>,
    #[serde(default)]
    signature: Option<RawSignature>,
}

#[derive(Debug, Default, Deserialize)]
struct RawSignature {
    #[serde(default)]
    inputs: Option<String>,
    #[serde(default)]
    params: Option<String>,
}

/// One column or tensor of the signature.
#[derive(Debug, Deserialize)]
struct Entry {
    r#type: String,
    #[serde(default)]
    name: Option<Value>,
    #[serde(default = "yes")]
    required: bool,
    #[serde(default, rename = "tensor-spec")]
    tensor: Option<TensorEntry>,
}

#[derive(Debug, Deserialize)]
struct TensorEntry {
    dtype: String,
    shape: Vec<i64>,
}

fn yes() -> bool {
    true
}

impl Entry {
    /// Column names are strings, or numbers where a data frame had none.
    fn name(&self) -> Option<String> {
        match self.name.as_ref()? {
            Value::String(name) => Some(name.clone()),
            Value::Number(n) => Some(n.to_string()),
            _ => None,
        }
    }
}

fn read(source: &Source<'_>) -> Result<MlModel, Vec<Problem>> {
    let text = files::text(source.file, MAX_BYTES).map_err(|message| source.refuse(message))?;
    serde_saphyr::from_str(&text).map_err(|error| {
        let problem = Problem::new(source.file, format!("is no MLmodel file: {}", reason(&error)));
        let at = error.location().filter(|at| at.line() > 0);
        let at =
            at.and_then(|at| Some((usize::try_from(at.line()).ok()?, usize::try_from(at.column()).ok()?)));
        vec![match at {
            Some((line, column)) => problem.at(line, column.max(1)),
            None => problem,
        }]
    })
}

/// The library's own words, without the excerpt that it adds.
fn reason(error: &serde_saphyr::Error) -> String {
    error.without_snippet().to_string().lines().next().unwrap_or_default().to_owned()
}

/// The onnx flavour's file.
pub(super) fn artifact(source: &Source<'_>) -> Result<PathBuf, Vec<Problem>> {
    let model = read(source)?;
    let data = data(&model).ok_or_else(|| source.refuse(no_onnx(&model)))?;
    Folders::new(source.folder, None)
        .find(&data)
        .map_err(|message| source.refuse(format!("flavors.onnx.data: {message}")))
}

/// What the onnx flavour calls its file, if there is that flavour.
fn data(model: &MlModel) -> Option<String> {
    let data = model.flavors.get("onnx")?.as_ref().and_then(|f| f.get("data")).and_then(Value::as_str);
    Some(data.unwrap_or("model.onnx").to_owned())
}

fn no_onnx(model: &MlModel) -> String {
    let known = EXPORTS.iter().find(|(flavour, _)| model.flavors.contains_key(*flavour));
    if let Some((flavour, fix)) = known {
        return format!("the flavour {flavour} cannot be served: {fix}");
    }
    let names: Vec<_> =
        model.flavors.keys().take(10).map(|n| n.chars().take(64).collect::<String>()).collect();
    match names.is_empty() {
        true => "has no `flavors`: the onnx flavour is served".to_owned(),
        false => format!(
            "has the flavours {}: only the onnx flavour is served, export the model to ONNX and save that with \
             mlflow.onnx.save_model",
            names.join(", ")
        ),
    }
}

/// What the signature says about the artefact.
pub(super) fn describe(source: &Source<'_>, graph: &OnnxModel) -> Result<Described, Vec<Problem>> {
    let model = read(source)?;
    let artifact = data(&model);
    let mut notes = Vec::new();
    let onnx = model.flavors.get("onnx").and_then(Option::as_ref);
    if onnx.and_then(|f| f.get("onnx_session_options")).is_some_and(|o| !o.is_null()) {
        notes.push("`flavors.onnx.onnx_session_options` has no effect: the engine has its own".to_owned());
    }
    let signature = model.signature.unwrap_or_default();
    if signature.params.as_deref().is_some_and(|p| !matches!(p.trim(), "" | "null" | "[]")) {
        notes.push("`signature.params` have no effect: an ONNX graph takes no parameters".to_owned());
    }
    let Some(inputs) = &signature.inputs else {
        notes.push("MLmodel has no signature of inputs: a row is the artefact's inputs".to_owned());
        let manifest = Manifest { artifact, ..Manifest::default() };
        return Ok(Described { manifest, notes, wanted: None });
    };
    let entries: Vec<Entry> = serde_json::from_str(inputs).map_err(|e| {
        source.refuse(format!("signature.inputs: {e}; it is a JSON list of columns or tensors"))
    })?;
    let mut check = Check { graph: &graph.signature, messages: Vec::new(), notes };
    let tensors = entries.iter().all(|e| e.r#type == "tensor");
    let field = if tensors { check.tensors(&entries) } else { check.columns(&entries) };
    if check.messages.is_empty() {
        let input = InputTable { field, ..InputTable::default() };
        // MLServer's clients send one tensor a column.
        let v2 = V2Table { columns: !tensors };
        if input.field.iter().any(|f| f.nullable) {
            check.notes.push("a column that is not required may be null, its key must be there".to_owned());
        }
        let manifest = Manifest { artifact, input, v2, ..Manifest::default() };
        return Ok(Described { manifest, notes: check.notes, wanted: None });
    }
    let told = check.messages.into_iter().take(100);
    Err(told.map(|m| Problem::new(source.file, format!("signature.inputs: {m}"))).collect())
}

/// Compares signature and artefact.
struct Check<'a> {
    graph: &'a Signature,
    messages: Vec<String>,
    notes: Vec<String>,
}

impl Check<'_> {
    /// Tensors are the artefact's inputs as they are: no fields of their own.
    fn tensors(&mut self, entries: &[Entry]) -> Vec<FieldTable> {
        let inputs = &self.graph.inputs;
        if entries.len() != inputs.len() {
            self.messages.push(format!("{} tensors, and the artefact takes {}", entries.len(), list(inputs)));
            return Vec::new();
        }
        for (i, entry) in entries.iter().enumerate() {
            let spec = match entry.name() {
                None if inputs.len() == 1 => &inputs[0],
                None => {
                    self.messages.push(format!("tensor {i} needs a name: the artefact has several inputs"));
                    continue;
                }
                Some(name) => match inputs.iter().find(|s| s.name == name) {
                    Some(spec) => spec,
                    // Names of a single tensor are free in MLflow, which feeds it anyway.
                    None if inputs.len() == 1 => &inputs[0],
                    None => {
                        self.messages.push(format!(
                            "the artefact has no input `{}`: it takes {}",
                            short(&name),
                            list(inputs)
                        ));
                        continue;
                    }
                },
            };
            if let Some(tensor) = &entry.tensor {
                self.tensor(tensor, spec);
            }
        }
        Vec::new()
    }

    fn tensor(&mut self, tensor: &TensorEntry, spec: &TensorSpec) {
        let fits = |(given, own): (&i64, &Dim)| {
            *given == -1 || own.fixed().is_none_or(|n| i64::try_from(n) == Ok(*given))
        };
        let undeclared = spec.shape.len() == 1 && tensor.shape.len() > 1;
        if !undeclared
            && (tensor.shape.len() != spec.shape.len() || !tensor.shape.iter().zip(&spec.shape).all(fits))
        {
            self.messages.push(format!("the tensor is {:?}, and the artefact's input {spec}", tensor.shape));
        }
        let dtype = match tensor.dtype.as_str() {
            "str" | "object" => Ok(DType::String),
            other => other.parse(),
        };
        match dtype {
            Ok(given) if given == spec.dtype => {}
            // MLflow rounds these itself before it calls the artefact.
            Ok(DType::Float64) if spec.dtype == DType::Float32 => self.notes.push(format!(
                "the signature says float64, and the artefact takes {spec}: numbers are rounded to float32, as MLflow does"
            )),
            Ok(given) => self.messages.push(format!("the tensor is {given}, and the artefact's input {spec}")),
            Err(_) => self.messages.push(format!("unknown dtype `{}`", short(&tensor.dtype))),
        }
    }

    fn columns(&mut self, entries: &[Entry]) -> Vec<FieldTable> {
        if entries.len() > MAX_COLUMNS {
            self.messages.push(format!("more than {MAX_COLUMNS} columns"));
            return Vec::new();
        }
        let inputs = &self.graph.inputs;
        if let [only] = &inputs[..] {
            if let Some(width) =
                only.row_width().filter(|_| only.shape.len() > 1).filter(|w| *w != entries.len())
            {
                let n = entries.len();
                self.messages.push(format!("{n} columns, and the artefact's input {only} takes {width}"));
                return Vec::new();
            }
            return entries.iter().enumerate().filter_map(|(i, e)| self.column(i, e, only)).collect();
        }
        let missing = inputs.iter().filter(|s| entries.iter().all(|e| e.name().as_deref() != Some(&s.name)));
        let missing: Vec<String> =
            missing.map(|s| format!("no column for the artefact's input {s}")).collect();
        self.messages.extend(missing);
        entries
            .iter()
            .enumerate()
            .filter_map(|(i, entry)| {
                let name = entry.name().unwrap_or_default();
                match inputs.iter().find(|s| s.name == name) {
                    Some(spec) => self.column(i, entry, spec),
                    None => {
                        self.messages.push(format!(
                            "the artefact has no input for column `{}`: it takes {}",
                            short(&name),
                            list(inputs)
                        ));
                        None
                    }
                }
            })
            .collect()
    }

    fn column(&mut self, index: usize, entry: &Entry, input: &TensorSpec) -> Option<FieldTable> {
        // A data frame without column names: MLflow leaves the names out, and so the fields
        // are called by number, as pandas would.
        let name = entry.name().unwrap_or_else(|| index.to_string());
        let mut field = FieldTable { input: Some(input.name.clone()), ..FieldTable::new(name.clone()) };
        match cast(&entry.r#type, input.dtype) {
            Ok(bounds) => {
                (field.ge, field.le) = bounds.unzip();
                self.cast_note(entry, input, bounds.filter(|_| entry.r#type != "boolean"));
            }
            Err(why) => {
                self.messages.push(format!("column `{}` {why}", short(&name)));
                return None;
            }
        }
        if !entry.required {
            field.nullable = input.dtype.is_float() || input.dtype == DType::String;
            if !field.nullable {
                self.messages.push(format!(
                    "column `{}` is not required, and the artefact's input {input} has no missing value",
                    short(&name)
                ));
            }
        }
        Some(field)
    }

    fn cast_note(&mut self, entry: &Entry, input: &TensorSpec, bounds: Option<(f64, f64)>) {
        let Some((_, most)) = bounds else { return };
        let note = format!(
            "columns of type {} go into {input}: numbers beyond ±{most} are refused, as they would be rounded",
            entry.r#type
        );
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// Whether a column's type goes into an input of `dtype` without loss, and the numbers for
/// which it does, where that is not all of them.
fn cast(column: &str, dtype: DType) -> Result<Option<(f64, f64)>, String> {
    use DType::{Bool, Float32, Float64, Int32, Int64, String as Text};
    // Whole numbers up to 2^24 and 2^53.
    const EXACT_32: Option<(f64, f64)> = Some((-16_777_216.0, 16_777_216.0));
    const EXACT_64: Option<(f64, f64)> = Some((-9_007_199_254_740_992.0, 9_007_199_254_740_992.0));
    match (column, dtype) {
        ("boolean", Bool) | ("string", Text) => Ok(None),
        // Of int64 columns for int32 inputs the decoder refuses what does not fit.
        ("integer", Int32 | Int64 | Float64) | ("long", Int64 | Int32) => Ok(None),
        // MLflow rounds doubles too, before it calls the artefact.
        ("float" | "double", Float32 | Float64) => Ok(None),
        ("boolean", Float32 | Float64 | Int32 | Int64) => Ok(Some((0.0, 1.0))),
        ("integer" | "long", Float32) => Ok(EXACT_32),
        ("long", Float64) => Ok(EXACT_64),
        ("boolean" | "integer" | "long" | "float" | "double" | "string", _) => {
            Err(format!("is {column}, which does not go into the artefact's {dtype}"))
        }
        _ => Err(format!("has the type {}, which cannot be served", short(column))),
    }
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}
