//! Golden rows: JSON lines.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};
use weir_config::Problem;

use crate::{Sample, files};

/// Most golden rows: they run at every load.
const MAX_SAMPLES: usize = 10_000;

/// Largest absolute difference of a number where the sample does not say.
const DEFAULT_TOLERANCE: f64 = 1e-6;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    input: Map<String, Value>,
    #[serde(default, deserialize_with = "present")]
    prediction: Option<Value>,
    tolerance: Option<f64>,
}

/// `null` is a prediction too; only an absent key is none.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Reads `{"input": {…}, "prediction": …, "tolerance": …}` line by line; empty lines are
/// skipped.
///
/// # Errors
/// All problems, each with its line.
pub(crate) fn read(path: &Path) -> Result<Vec<Sample>, Vec<Problem>> {
    let refuse = |message: String| vec![Problem::new(path, message)];
    let bytes = files::read(path, files::limits::SAMPLES_BYTES).map_err(refuse)?;
    let mut samples = Vec::new();
    let mut problems = Vec::new();
    let lines = bytes.split(|&b| b == b'\n').enumerate();
    for (i, line) in lines.filter(|(_, l)| !l.trim_ascii().is_empty()) {
        if samples.len() + problems.len() == MAX_SAMPLES {
            problems
                .push(Problem::new(path, format!("more than {MAX_SAMPLES} samples: they run at every load")));
            break;
        }
        match sample(line, i + 1) {
            Ok(sample) => samples.push(sample),
            Err((column, message)) => {
                problems.push(Problem::new(path, message).at(i + 1, column));
            }
        }
    }
    problems.truncate(100);
    if problems.is_empty() { Ok(samples) } else { Err(problems) }
}

fn sample(line: &[u8], number: usize) -> Result<Sample, (usize, String)> {
    let parsed: Line = serde_json::from_slice(line).map_err(|e| {
        let text = e.to_string();
        let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
        (e.column().max(1), format!("a sample is {{\"input\": {{…}}, \"prediction\": …}}: {reason}"))
    })?;
    let tolerance = parsed.tolerance.unwrap_or(DEFAULT_TOLERANCE);
    if tolerance < 0.0 {
        return Err((1, format!("`tolerance` must be 0 or more, got {tolerance}")));
    }
    let input = serde_json::to_vec(&parsed.input).map_err(|e| (1, e.to_string()))?;
    Ok(Sample { line: number, input, prediction: parsed.prediction, tolerance })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_every_digit() {
        let sample = sample(br#"{"input": {"x": 9.841300010681152}, "prediction": 0.1}"#, 7).unwrap();
        assert_eq!(sample.input, br#"{"x":9.841300010681152}"#);
        assert_eq!((sample.line, sample.tolerance), (7, DEFAULT_TOLERANCE));
    }

    #[test]
    fn bad_lines_say_where() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.jsonl");
        std::fs::write(
            &path,
            "{\"input\": {}}\n\n{\"inptu\": {}}\n{\"input\": 1}\n{\"input\": {}, \"tolerance\": -1}\n{",
        )
        .unwrap();
        let problems = read(&path).unwrap_err();
        let at: Vec<_> = problems.iter().map(|p| p.at.unwrap()).collect();
        assert_eq!(at, [(3, 8), (4, 11), (5, 1), (6, 1)]);
    }
}
