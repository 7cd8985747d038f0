//! The contract of [`Engine`]: one suite that every implementation runs.

use std::thread;

use serde_json::Value;
use weir_engine::{CancelFlag, Context, Engine, EngineError};
use weir_types::{Batch, DType, Dim, Outputs, Tensor, TensorData};

use crate::support::{Fixture, answer};

/// A number of the fixture's JSON, where NaN and the infinities are words.
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

/// Compares `outputs` with the fixture's answers; says what differs.
fn compare(fixture: &Fixture, outputs: &Outputs, tolerance: f64) -> Result<(), String> {
    let name = &fixture.name;
    let model = fixture.model();
    for (spec, got) in model.signature.outputs.iter().zip(&outputs.tensors) {
        let expected = fixture.case["outputs"].as_array().unwrap();
        let expected = expected.iter().find(|o| o["name"] == *spec.name).unwrap();
        let (shape, want) = match expected["maps"].as_array() {
            Some(maps) => from_maps(maps, &model.class_labels.clone().unwrap()),
            None => {
                let shape = expected["shape"].as_array().unwrap();
                let shape = shape.iter().map(|d| d.as_u64().unwrap() as usize).collect();
                (shape, expected["data"].as_array().unwrap().clone())
            }
        };
        if got.shape() != shape {
            return Err(format!("{name}: {} has shape {:?}, not {shape:?}", spec.name, got.shape()));
        }
        let dtype = if expected["maps"].is_array() { "float32" } else { expected["dtype"].as_str().unwrap() };
        if got.dtype().as_str() != dtype || got.dtype() != spec.dtype {
            return Err(format!("{name}: {} is {}, not {dtype}", spec.name, got.dtype()));
        }
        let off = differing(got, &want, tolerance);
        if !off.is_empty() {
            let shown: Vec<_> = off.iter().take(4).collect();
            return Err(format!(
                "{name}: {} differs in {} of {}: {shown:?}",
                spec.name,
                off.len(),
                want.len()
            ));
        }
    }
    Ok(())
}

fn from_maps(maps: &[Value], labels: &[String]) -> (Vec<usize>, Vec<Value>) {
    let data = maps.iter().flat_map(|row| labels.iter().map(|l| row[l].clone())).collect();
    (vec![maps.len(), labels.len()], data)
}

/// `(position, got, wanted)` where they differ.
fn differing(got: &Tensor, want: &[Value], tolerance: f64) -> Vec<(usize, String, String)> {
    let near = |a: f64, b: f64| {
        a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * b.abs().max(1.0)
    };
    let same = |i: usize| match got.data() {
        TensorData::Float32(v) => near(v[i].into(), number(&want[i])),
        TensorData::Float64(v) => near(v[i], number(&want[i])),
        TensorData::Int64(v) => want[i] == v[i],
        TensorData::Int32(v) => want[i] == v[i],
        TensorData::Bool(v) => want[i] == v[i],
        TensorData::String(v) => want[i] == *v[i],
        other => panic!("fixtures have no {}", other.dtype()),
    };
    let shown =
        |i: usize| format!("{:?}", got.data()).split([',', '[']).nth(i + 1).unwrap_or("").trim().to_owned();
    (0..want.len()).filter(|&i| !same(i)).map(|i| (i, shown(i), want[i].to_string())).collect()
}

/// The fixture's own rows get the fixture's answers.
pub(crate) fn goldens(engine: &dyn Engine, fixture: &Fixture, tolerance: f64) -> Result<(), String> {
    let outputs =
        answer(engine, fixture.batch(&fixture.model())).map_err(|e| format!("{}: {e}", fixture.name))?;
    compare(fixture, &outputs, tolerance)
}

/// Runs the whole contract. `tolerance` is against the fixture's answers; what an engine
/// says about a row alone, in a batch and beside other requests must agree within it too.
pub(crate) fn check(engine: &dyn Engine, fixture: &Fixture, tolerance: f64) {
    goldens(engine, fixture, tolerance).unwrap_or_else(|e| panic!("{e}"));
    wrong_inputs(engine, fixture);
    output_selection(engine, fixture);
    cancelled_work_ends(engine, fixture);
    threads(engine, fixture);
    if by_rows(fixture) {
        no_rows(engine, fixture);
        rows_do_not_touch(engine, fixture, tolerance);
        merged_requests(engine, fixture, tolerance);
    }
}

/// Whether every input and output has a row for each row of the request.
fn by_rows(fixture: &Fixture) -> bool {
    let model = fixture.model();
    let rows = fixture.batch(&model).rows;
    let free = |shape: &[Dim]| matches!(shape.first(), Some(Dim::Any(_)));
    let signature = &model.signature;
    let specs = || signature.inputs.iter().chain(&signature.outputs);
    let answered = |o: &Value| o["maps"].is_array() || o["shape"][0].as_u64() == Some(rows as u64);
    rows > 0
        && specs().all(|spec| free(&spec.shape))
        && fixture.case["outputs"].as_array().unwrap().iter().all(answered)
}

fn run(engine: &dyn Engine, batches: &[Batch]) -> Outputs {
    let work: Vec<_> = batches.iter().map(|b| engine.prepare(b.clone()).unwrap()).collect();
    engine.execute(&work.iter().collect::<Vec<_>>(), &mut Context::default()).unwrap()
}

fn cut(batch: &Batch, range: std::ops::Range<usize>) -> Batch {
    let inputs = batch.inputs.iter().map(|t| t.slice_rows(range.clone())).collect();
    Batch { rows: range.len(), inputs }
}

fn assert_near(fixture: &Fixture, what: &str, got: &Outputs, want: &Outputs, tolerance: f64) {
    assert_eq!(got.rows, want.rows, "{}: {what}", fixture.name);
    for (got, want) in got.tensors.iter().zip(&want.tensors) {
        let worst = crate::support::difference(&format!("{}: {what}", fixture.name), got, want);
        assert!(worst <= tolerance, "{}: {what} differs by {worst:e}", fixture.name);
    }
}

fn no_rows(engine: &dyn Engine, fixture: &Fixture) {
    let model = fixture.model();
    let outputs = run(engine, &[cut(&fixture.batch(&model), 0..0)]);
    assert_eq!(outputs.rows, 0, "{}", fixture.name);
    for (spec, tensor) in model.signature.outputs.iter().zip(&outputs.tensors) {
        assert_eq!((tensor.dtype(), tensor.rows()), (spec.dtype, 0), "{}: {spec}", fixture.name);
        assert_eq!(tensor.shape().len(), spec.shape.len(), "{}: {spec}", fixture.name);
    }
}

fn rows_do_not_touch(engine: &dyn Engine, fixture: &Fixture, tolerance: f64) {
    let batch = fixture.batch(&fixture.model());
    let whole = run(engine, std::slice::from_ref(&batch));
    for row in 0..batch.rows {
        let alone = run(engine, &[cut(&batch, row..row + 1)]);
        let tensors = whole.tensors.iter().map(|t| t.slice_rows(row..row + 1)).collect();
        assert_near(fixture, "a row alone", &alone, &Outputs { rows: 1, tensors }, tolerance);
    }
}

fn merged_requests(engine: &dyn Engine, fixture: &Fixture, tolerance: f64) {
    let batch = fixture.batch(&fixture.model());
    let middle = batch.rows.div_ceil(2);
    // One of the requests has no rows: it must not shift the others.
    let requests =
        [cut(&batch, 0..middle), cut(&batch, 0..0), cut(&batch, middle..batch.rows), batch.clone()];
    let merged = run(engine, &requests);
    let rows: Vec<usize> = requests.iter().map(|r| r.rows).collect();
    for (part, request) in merged.split(&rows).unwrap().iter().zip(&requests) {
        if request.rows == 0 {
            // Only their number is certain: exporters declare shapes that graphs do not keep.
            assert!(part.tensors.iter().all(|t| t.rows() == 0), "{}", fixture.name);
            continue;
        }
        assert_near(fixture, "merged requests", part, &run(engine, std::slice::from_ref(request)), tolerance);
    }
}

fn refused(engine: &dyn Engine, fixture: &Fixture, what: &str, batch: Batch) {
    match engine.prepare(batch) {
        Err(EngineError::Input(text)) => assert!(!text.is_empty(), "{}: {what}", fixture.name),
        other => panic!("{}: {what}: {other:?}", fixture.name),
    }
}

/// Another type, another rank, another width and another number of inputs.
fn wrong_inputs(engine: &dyn Engine, fixture: &Fixture) {
    let model = fixture.model();
    let batch = fixture.batch(&model);
    let with = |at: usize, tensor: Tensor| {
        let mut changed = batch.clone();
        changed.inputs[at] = tensor;
        changed
    };
    for (at, (spec, tensor)) in model.signature.inputs.iter().zip(&batch.inputs).enumerate() {
        let n = tensor.data().len();
        let other = if spec.dtype == DType::Float32 {
            TensorData::Int64(vec![0; n])
        } else {
            TensorData::Float32(vec![0.0; n])
        };
        let retyped = Tensor::new(tensor.shape().to_vec(), other).unwrap();
        refused(engine, fixture, "another type", with(at, retyped));
        let mut shape = tensor.shape().to_vec();
        shape.push(1);
        let higher = Tensor::new(shape, tensor.data().clone()).unwrap();
        refused(engine, fixture, "another rank", with(at, higher));
        if spec.shape.len() == 2 && spec.shape[1].fixed().is_some() {
            let wide = Tensor::new(vec![1, 1000], TensorData::Float32(vec![0.0; 1000])).unwrap();
            refused(engine, fixture, "another width", with(at, wide));
        }
    }
    let mut missing = batch.clone();
    if missing.inputs.pop().is_some() {
        refused(engine, fixture, "an input is missing", missing);
    }
}

/// Each output alone is what it is among all, in its place; the others are empty.
fn output_selection(engine: &dyn Engine, fixture: &Fixture) {
    let batch = fixture.batch(&fixture.model());
    let whole = run(engine, std::slice::from_ref(&batch));
    let work = engine.prepare(batch).unwrap();
    for wanted in 0..whole.tensors.len() {
        let mut context = Context { outputs: Some(vec![wanted]), ..Context::default() };
        let outputs = engine.execute(&[&work], &mut context).unwrap();
        assert_eq!(outputs.tensors.len(), whole.tensors.len(), "{}", fixture.name);
        for (i, (got, all)) in outputs.tensors.iter().zip(&whole.tensors).enumerate() {
            if i == wanted {
                let worst = crate::support::difference(&fixture.name, got, all);
                assert!(worst <= 0.0, "{}: output {i} alone differs by {worst:e}", fixture.name);
            } else {
                assert!(got.data().is_empty(), "{}: output {i} was not asked for", fixture.name);
            }
        }
    }
    let mut context = Context { outputs: Some(vec![whole.tensors.len()]), ..Context::default() };
    assert!(matches!(engine.execute(&[&work], &mut context), Err(EngineError::Input(_))), "{}", fixture.name);
}

fn cancelled_work_ends(engine: &dyn Engine, fixture: &Fixture) {
    let batch = fixture.batch(&fixture.model());
    if batch.rows == 0 {
        return;
    }
    let work = engine.prepare(batch).unwrap();
    let cancel = CancelFlag::default();
    cancel.cancel();
    let mut context = Context { cancel, ..Context::default() };
    assert!(
        matches!(engine.execute(&[&work], &mut context), Err(EngineError::Cancelled)),
        "{}",
        fixture.name
    );
}

/// Calls at the same time get the same answer, bit for bit.
fn threads(engine: &dyn Engine, fixture: &Fixture) {
    let work = engine.prepare(fixture.batch(&fixture.model())).unwrap();
    let once = || engine.execute(&[&work], &mut Context::default()).unwrap();
    let first = once();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..8 {
                    assert_near(fixture, "calls at the same time", &once(), &first, 0.0);
                }
            });
        }
    });
}

#[test]
fn onnx_runtime_keeps_the_contract() {
    let mut kept = 0;
    for fixture in Fixture::all() {
        let Ok(model) = fixture.gate() else { continue };
        let Ok(engine) = crate::support::ort(&fixture.bytes, &model) else { continue };
        if !fixture.must_fail() && !fixture.refused() {
            check(&*engine, &fixture, 1e-6);
            kept += 1;
        }
    }
    assert!(kept > 140, "{kept} fixtures were answered");
}

#[test]
fn rten_keeps_the_contract() {
    for name in [
        "mlp",
        "mlp_no_rows",
        "mlp_fixed_batch",
        "add_sub",
        "symbolic_dims",
        "odd_names",
        "embedding_layernorm",
    ] {
        let fixture = Fixture::load(name);
        let engine = crate::support::rten(&fixture.bytes, &fixture.model()).unwrap();
        check(&*engine, &fixture, 1e-6);
    }
}
