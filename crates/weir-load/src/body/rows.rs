//! Where rows come from: made up by a schema, or a file of samples.

use std::{fs, path::Path};

use serde_json::{Map, Value};

use super::schema::Schema;
use crate::rng::Rng;

/// Largest file of bodies or samples, bytes.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// The tolerance of a sample that names none.
pub(crate) const TOLERANCE: f64 = 1e-5;

/// A row of a samples file, `{"input": {…}, "prediction": …, "tolerance": …}` a line, as it is
/// beside a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) input: Map<String, Value>,
    pub(crate) prediction: Option<Value>,
    pub(crate) tolerance: f64,
}

/// A source of rows.
#[derive(Debug, Clone)]
pub(crate) enum Rows {
    /// Made up.
    Schema(Schema),
    /// From a file.
    Samples(Vec<Sample>),
}

impl Rows {
    /// `count` rows.
    pub(crate) fn draw(&self, rng: &mut Rng, count: usize) -> Vec<Sample> {
        match self {
            Self::Schema(schema) => (0..count)
                .map(|_| Sample { input: schema.row().object(rng), prediction: None, tolerance: TOLERANCE })
                .collect(),
            Self::Samples(samples) => {
                let first = rng.below(samples.len());
                samples.iter().cycle().skip(first).take(count).cloned().collect()
            }
        }
    }
}

/// The lines of a file that hold anything.
///
/// # Errors
/// The file cannot be read, is too large, or holds nothing.
pub(crate) fn lines(path: &Path) -> Result<Vec<String>, String> {
    let told = |what: String| format!("{}: {what}", path.display());
    let size = fs::metadata(path).map_err(|e| told(e.to_string()))?.len();
    if size > MAX_FILE_BYTES {
        return Err(told(format!("is larger than {MAX_FILE_BYTES} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|e| told(e.to_string()))?;
    let lines: Vec<String> = text.lines().filter(|l| !l.trim().is_empty()).map(str::to_owned).collect();
    if lines.is_empty() { Err(told("is empty".into())) } else { Ok(lines) }
}

/// Reads a file of samples.
///
/// # Errors
/// What is wrong, with the line.
pub(crate) fn samples(path: &Path) -> Result<Vec<Sample>, String> {
    let sample = |(i, line): (usize, &String)| {
        let told = |what: &str| format!("{}:{}: {what}", path.display(), i + 1);
        let mut value: Map<String, Value> =
            serde_json::from_str(line).map_err(|e| told(&format!("is no JSON object: {e}")))?;
        let Some(Value::Object(input)) = value.remove("input") else {
            return Err(told("a sample is {\"input\": {…}, \"prediction\": …}; for whole bodies use --body"));
        };
        let tolerance = value.get("tolerance").and_then(Value::as_f64).unwrap_or(TOLERANCE);
        Ok(Sample { input, prediction: value.remove("prediction"), tolerance })
    };
    lines(path)?.iter().enumerate().map(sample).collect()
}
