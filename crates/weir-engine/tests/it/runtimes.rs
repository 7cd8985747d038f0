//! rten and ONNX Runtime against the fixtures, whose answers come from onnxruntime in Python.

use std::panic::AssertUnwindSafe;

use weir_engine::{Context, Engine, EngineError};
use weir_types::{Batch, DType, Tensor, TensorData};

use crate::support::{Fixture, answer, ort, rten};

/// Largest difference, relative to 1 or the value's size.
const TOLERANCE: f64 = 1e-6;

/// Fixtures that rten 0.27 answers otherwise, and why; its documentation here says the same.
const DIFFERS: [(&str, &str); 5] = [
    ("cast_int64_float32", "the fixture has an int64 beyond 32 bits: refused"),
    ("identity_int64", "the fixture has an int64 beyond 32 bits: refused"),
    ("conv", "Conv without `strides` fails when it runs"),
    ("glue_reduce", "ArgMax gives the last of equal values"),
    ("scaler_minmax_clip", "Clip makes NaN 0"),
];

#[test]
fn onnx_runtime_answers_every_fixture() {
    let (mut answered, mut hinted) = (0, 0);
    for fixture in Fixture::all() {
        let Ok(model) = fixture.gate() else { continue };
        let zipmap = fixture.case["outputs"].as_array().into_iter().flatten().any(|o| !o["maps"].is_null());
        match ort(&fixture.bytes, &model) {
            // Attributes of trees are checked by the native engine, which sees every such graph
            // before ONNX Runtime does (`select`).
            Ok(_) if fixture.name.starts_with("refuse_tree") => {}
            Ok(engine) if !fixture.refused() && !zipmap => {
                check(&fixture, &model, &*engine);
                answered += 1;
            }
            Err(EngineError::Unsupported { why, .. }) if zipmap => {
                assert!(why.contains("engine = \"native\""), "{}: {why}", fixture.name);
                hinted += 1;
            }
            Err(_) if fixture.refused() => {}
            Ok(_) => panic!("{} was loaded", fixture.name),
            Err(e) => panic!("{}: {e}", fixture.name),
        }
    }
    assert!(answered > 140 && hinted >= 3, "{answered} answered, {hinted} refused with a hint");
}

#[test]
fn rten_answers_what_it_loads_and_names_what_it_lacks() {
    let (mut answered, mut lacking) = (Vec::new(), Vec::new());
    for fixture in Fixture::all() {
        let Ok(model) = fixture.gate() else { continue };
        match rten(&fixture.bytes, &model) {
            Ok(_) if fixture.refused() => panic!("{} was loaded", fixture.name),
            Ok(engine) if DIFFERS.iter().any(|(name, _)| *name == fixture.name) => {
                let as_expected =
                    std::panic::catch_unwind(AssertUnwindSafe(|| check(&fixture, &model, &*engine)));
                assert!(as_expected.is_err(), "{} is right now: take it off the list", fixture.name);
            }
            Ok(engine) => {
                check(&fixture, &model, &*engine);
                answered.push(fixture.name);
            }
            Err(EngineError::Unsupported { why, .. }) => {
                assert!(why.contains("install onnxruntime"), "{}: {why}", fixture.name);
                lacking.push(format!("{}: {why}", fixture.name));
            }
            Err(_) if fixture.refused() => {}
            Err(e) => panic!("{}: {e}", fixture.name),
        }
    }
    for needed in ["mlp", "add_sub", "symbolic_dims", "scalar_input_if", "embedding_layernorm", "odd_names"] {
        assert!(answered.iter().any(|n| n == needed), "{needed} is not served: {lacking:#?}");
    }
    for (name, words) in [
        ("cast_float32_bool:", "casts the floats `x` to bool"),
        ("glue_unary:", "`Softplus` of values above 88"),
        ("glue_unary:", "`Sign` of zero"),
        ("rf_regressor:", "ai.onnx.ml.TreeEnsembleRegressor"),
    ] {
        let why = lacking.iter().find(|l| l.starts_with(name)).unwrap();
        assert!(why.contains(words), "{why}");
    }
}

fn check(fixture: &Fixture, model: &weir_artifact::onnx::OnnxModel, engine: &dyn Engine) {
    let name = &fixture.name;
    let result = answer(engine, fixture.batch(model));
    if fixture.must_fail() {
        assert!(result.is_err(), "{name} answered {result:?}");
        return;
    }
    let outputs = result.unwrap_or_else(|e| panic!("{name}: {e}"));
    let difference = fixture.difference(model, &outputs);
    assert!(difference <= TOLERANCE, "{name} on {}: {difference:e}", engine.info().name);
}

/// Both engines with a fixture's model.
fn engines(name: &str) -> (Fixture, [std::sync::Arc<dyn Engine>; 2]) {
    let fixture = Fixture::load(name);
    let model = fixture.model();
    let engines = [ort(&fixture.bytes, &model).unwrap(), rten(&fixture.bytes, &model).unwrap()];
    (fixture, engines)
}

#[test]
fn merged_requests_get_what_they_get_alone() {
    let (fixture, engines) = engines("add_sub");
    let whole = fixture.batch(&fixture.model());
    for engine in engines {
        let part = |range: std::ops::Range<usize>| Batch {
            rows: range.len(),
            inputs: whole.inputs.iter().map(|t| t.slice_rows(range.clone())).collect(),
        };
        let works: Vec<_> =
            [0..1, 1..1, 1..2].map(|r| engine.prepare(part(r)).unwrap()).into_iter().collect();
        let merged = engine.execute(&works.iter().collect::<Vec<_>>(), &mut Context::default()).unwrap();
        assert_eq!(merged, answer(&*engine, whole.clone()).unwrap());
        for part in merged.split(&[1, 0, 1]).unwrap() {
            assert_eq!(part.tensors.len(), 2);
        }
    }
}

#[test]
fn only_the_outputs_asked_for_come() {
    let (fixture, engines) = engines("add_sub");
    for engine in engines {
        let prepared = engine.prepare(fixture.batch(&fixture.model())).unwrap();
        let all = engine.execute(&[&prepared], &mut Context::default()).unwrap();
        let mut context = Context { outputs: Some(vec![1]), ..Context::default() };
        let some = engine.execute(&[&prepared], &mut context).unwrap();
        assert_eq!(some.tensors[1], all.tensors[1]);
        assert_eq!(some.tensors[0].shape(), [2, 0]);
        assert!(some.split(&[1, 1]).is_ok());
        context.outputs = Some(vec![2]);
        assert!(matches!(engine.execute(&[&prepared], &mut context), Err(EngineError::Input(_))));
    }
}

#[test]
fn nobody_waits_for_what_was_cancelled() {
    let (fixture, engines) = engines("mlp");
    for engine in engines {
        let prepared = engine.prepare(fixture.batch(&fixture.model())).unwrap();
        let mut context = Context::default();
        context.cancel.cancel();
        assert!(matches!(engine.execute(&[&prepared], &mut context), Err(EngineError::Cancelled)));
    }
}

#[test]
fn an_input_that_does_not_fit_is_refused_by_name() {
    let (_, engines) = engines("mlp");
    let tensor = |shape: &[usize], data| Tensor::new(shape.to_vec(), data).unwrap();
    let floats = |n| TensorData::Float32(vec![0.0; n]);
    let one = |tensor| vec![tensor];
    for engine in engines {
        for (inputs, rows) in [
            (one(tensor(&[2, 5], floats(10))), 2),
            (one(tensor(&[8], floats(8))), 8),
            (one(tensor(&[2, 4], TensorData::Float64(vec![0.0; 8]))), 2),
            (one(tensor(&[2, 4], floats(8))), 3),
            (Vec::new(), 2),
        ] {
            let shown = format!("{inputs:?}");
            match engine.prepare(Batch { rows, inputs }) {
                Err(EngineError::Input(text)) => assert!(text.contains("the model takes"), "{text}"),
                other => panic!("{shown}: {other:?}"),
            }
        }
    }
}

#[test]
fn rten_takes_int64_that_fits_and_refuses_what_does_not() {
    let fixture = Fixture::load("identity_int64");
    let model = fixture.model();
    let engine = rten(&fixture.bytes, &model).unwrap();
    let like = fixture.batch(&model).inputs[0].shape().to_vec();
    let batch = |value: i64| {
        let count = like.iter().product();
        let tensor = Tensor::new(like.clone(), TensorData::Int64(vec![value; count])).unwrap();
        Batch { rows: tensor.rows(), inputs: vec![tensor] }
    };
    for value in [i64::from(i32::MIN), i64::from(i32::MAX)] {
        let outputs = answer(&*engine, batch(value)).unwrap();
        assert_eq!(outputs.tensors, batch(value).inputs);
    }
    let error = engine.prepare(batch(i64::from(i32::MAX) + 1)).unwrap_err().to_string();
    assert!(error.contains("2147483648") && error.contains("between"), "{error}");
}

#[test]
fn rten_refuses_strings_and_float64_by_name() {
    for (name, dtype) in [("identity_string", DType::String), ("identity_float64", DType::Float64)] {
        let fixture = Fixture::load(name);
        let error = rten(&fixture.bytes, &fixture.model()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(dtype.as_str()) && error.contains("install onnxruntime"), "{error}");
    }
}

#[test]
fn strings_of_every_kind_come_back_as_they_were() {
    let fixture = Fixture::load("identity_string");
    let model = fixture.model();
    let engine = ort(&fixture.bytes, &model).unwrap();
    let texts = ["", "\0", "a\0b\0", "\u{fffd}", "😀🎉", "שלום", &"x".repeat(20_000), "é"];
    let data = TensorData::String(texts.map(String::from).to_vec());
    let tensor = Tensor::new(vec![texts.len(), 1], data).unwrap();
    let outputs = answer(&*engine, Batch { rows: texts.len(), inputs: vec![tensor.clone()] }).unwrap();
    assert_eq!(outputs.tensors, [tensor]);
}
