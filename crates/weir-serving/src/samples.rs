//! Golden rows: a version that does not answer them as it should never serves.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use weir_artifact::{ModelSpec, Sample};
use weir_codec::{BodyShape, DecodeLimits, RowDecoder, write_answer};
use weir_engine::{Context, Engine};
use weir_types::{Batch, Clock, Deadline, Outputs};

use crate::{Executor, Job, Reason, background::Background};

/// Most mismatches that are told; more of them say nothing new.
const MAX_TOLD: usize = 5;

/// A golden row that takes an executor longer has failed: loading must end.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Answers the rows of one sample.
pub(crate) type Answerer<'a> = dyn Fn(Batch) -> Result<Outputs, String> + 'a;

/// Answers by an engine, on this thread.
pub(crate) fn on(engine: &dyn Engine) -> impl Fn(Batch) -> Result<Outputs, String> {
    |batch| {
        let prepared = engine.prepare(batch).map_err(|e| e.to_string())?;
        engine.execute(&[&prepared], &mut Context::default()).map_err(|e| e.to_string())
    }
}

/// Runs every sample on `executor`, as requests would.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_executor(
    spec: &ModelSpec,
    executor: &dyn Executor,
    clock: &dyn Clock,
    background: &Background,
) -> Result<(), Reason> {
    check(spec, &|batch: Batch| ask(executor, batch, clock, background))
}

/// Runs one batch on `executor`, as a request would, for a thread that has no runtime.
///
/// # Errors
/// What the executor says, and where the system gives no thread.
pub(crate) fn ask(
    executor: &dyn Executor,
    batch: Batch,
    clock: &dyn Clock,
    background: &Background,
) -> Result<Outputs, String> {
    let deadline = Deadline::after(clock.now(), TIMEOUT);
    let done = background.run(|runtime| runtime.block_on(executor.execute(Job::new(batch, deadline))))?;
    done.map(|done| done.outputs).map_err(|error| error.to_string())
}

/// Runs every sample through decoder, model and answer, exactly as a request would go.
///
/// # Errors
/// One line for each sample that fails, up to five, and how many there were.
pub(crate) fn check(spec: &ModelSpec, model: &Answerer<'_>) -> Result<(), Reason> {
    if spec.samples.is_empty() {
        return Ok(());
    }
    // What a sample expects and what the model makes of it is the operator's, and may be another server's word.
    let public = "rows of samples.jsonl are not answered as they should be; the log says which";
    let decoder = RowDecoder::new(Arc::new(spec.schema.clone()), BodyShape::Row, DecodeLimits::default())
        .map_err(|error| Reason::new(public, error.to_string()))?;
    let mut failures: Vec<String> = spec
        .samples
        .iter()
        .filter_map(|sample| {
            let failed = check_one(spec, model, &decoder, sample).err()?;
            Some(format!("sample on line {}: {failed}", sample.line))
        })
        .collect();
    if failures.is_empty() {
        return Ok(());
    }
    let total = failures.len();
    failures.truncate(MAX_TOLD);
    failures.push(format!("{total} of {} samples failed", spec.samples.len()));
    Err(Reason::new(public, failures.join("\n")))
}

fn check_one(
    spec: &ModelSpec,
    model: &Answerer<'_>,
    decoder: &RowDecoder,
    sample: &Sample,
) -> Result<(), String> {
    let batch = decoder.decode(&sample.input).map_err(|rejection| rejection.to_string())?;
    let outputs = model(batch)?;
    let (Some(expected), Some(answer)) = (&sample.prediction, spec.answer("prediction")) else {
        return Ok(());
    };
    let mut json = Vec::new();
    let _ = write_answer(answer, &outputs, 0, &mut json);
    let got: Value = serde_json::from_slice(&json).map_err(|e| e.to_string())?;
    if agree(expected, &got, sample.tolerance) {
        return Ok(());
    }
    Err(format!("expected {expected} within {:e}, the model answers {got}", sample.tolerance))
}

/// Whether two answers are equal but for `tolerance` in every number.
fn agree(expected: &Value, got: &Value, tolerance: f64) -> bool {
    match (expected, got) {
        (Value::Number(a), Value::Number(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= tolerance,
            _ => a == b,
        },
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| agree(a, b, tolerance))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, a)| b.get(k).is_some_and(|b| agree(a, b, tolerance)))
        }
        _ => expected == got,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_may_differ_by_the_tolerance_and_nothing_else_may_differ() {
        let expected = json!([{"label": "a", "score": 0.5}, null]);
        assert!(agree(&expected, &json!([{"score": 0.5000001, "label": "a"}, null]), 1e-6));
        for wrong in [
            json!([{"label": "a", "score": 0.51}, null]),
            json!([{"label": "b", "score": 0.5}, null]),
            json!([{"label": "a", "score": 0.5}, 0]),
            json!([{"label": "a", "score": 0.5}]),
            json!([{"label": "a", "score": null}, null]),
        ] {
            assert!(!agree(&expected, &wrong, 1e-6), "{wrong}");
        }
    }
}
