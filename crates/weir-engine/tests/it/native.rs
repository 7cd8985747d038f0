//! The native engine against onnxruntime's own answers, and against scikit-learn's.

use std::fs;

use serde_json::Value;
use weir_artifact::onnx::{GateLimits, OnnxModel, read};
use weir_engine::{ClassicEngine, Cost, Engine, EngineError};
use weir_types::{Batch, Outputs, Tensor, TensorData};

use crate::{
    contract,
    support::{Fixture, answer, repository},
};

/// Largest difference, relative to 1 or the value's size.
const TOLERANCE: f64 = 1e-6;

/// Fixtures with an operator that the engine leaves to others.
const OTHERS: [&str; 5] =
    ["conv", "embedding_layernorm", "embedding_out_of_range", "scalar_input_if", "refuse_unknown_operator"];

fn load(fixture: &Fixture) -> Result<ClassicEngine, EngineError> {
    ClassicEngine::load(&fixture.model(), "a test".into())
}

#[test]
fn every_fixture_is_answered_as_onnxruntime_does() {
    let (mut answered, mut refused) = (0, 0);
    let mut wrong = Vec::new();
    for fixture in Fixture::all() {
        let Ok(model) = fixture.gate() else {
            assert!(fixture.refused(), "{}: {:?}", fixture.name, fixture.gate().unwrap_err());
            refused += 1;
            continue;
        };
        let name = &fixture.name;
        match load(&fixture) {
            Err(EngineError::Unsupported { .. }) if OTHERS.contains(&name.as_str()) => {}
            Err(_) if fixture.refused() => refused += 1,
            Ok(_) if fixture.refused() => wrong.push(format!("{name} was loaded")),
            Err(e) => wrong.push(format!("{name}: {e}")),
            Ok(engine) if fixture.must_fail() => {
                let got = answer(&engine, fixture.batch(&model));
                if !matches!(got, Err(EngineError::Input(_))) {
                    wrong.push(format!("{name}: {got:?}"));
                }
            }
            Ok(engine) => {
                match contract::goldens(&engine, &fixture, TOLERANCE) {
                    Ok(()) => contract::check(&engine, &fixture, TOLERANCE),
                    Err(why) => wrong.push(why),
                }
                answered += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(answered > 180 && refused > 15, "{answered} answered, {refused} refused");
}

fn housing() -> OnnxModel {
    let bytes = fs::read(repository().join("examples/models/housing/model.onnx")).unwrap();
    read(&bytes, &GateLimits::default()).unwrap()
}

/// The demo's samples: rows, and scikit-learn's own probability of the second class.
fn samples() -> (Vec<f32>, Vec<f64>) {
    let text = fs::read_to_string(repository().join("examples/models/housing/samples.jsonl")).unwrap();
    let (mut rows, mut probabilities) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        rows.extend(line["input"].as_object().unwrap().values().map(|v| v.as_f64().unwrap() as f32));
        probabilities.push(line["prediction"].as_f64().unwrap());
    }
    (rows, probabilities)
}

fn probabilities(outputs: &Outputs) -> Vec<f32> {
    outputs.tensors[1].as_f32().unwrap().chunks(2).map(|row| row[1]).collect()
}

#[test]
fn the_demo_answers_as_scikit_learn_does() {
    let engine = ClassicEngine::load(&housing(), "a test".into()).unwrap();
    let (rows, expected) = samples();
    let n = expected.len();
    assert_eq!((n, rows.len()), (500, 4000));
    let whole = Tensor::new(vec![n, 8], TensorData::Float32(rows.clone())).unwrap();
    let together = probabilities(&answer(&engine, Batch { rows: n, inputs: vec![whole] }).unwrap());
    for (i, (row, want)) in rows.chunks(8).zip(&expected).enumerate() {
        let one = Tensor::new(vec![1, 8], TensorData::Float32(row.to_vec())).unwrap();
        let alone = probabilities(&answer(&engine, Batch { rows: 1, inputs: vec![one] }).unwrap())[0];
        assert_eq!(alone.to_bits(), together[i].to_bits(), "sample {}", i + 1);
        assert!((f64::from(alone) - want).abs() <= 1e-6, "sample {}: {alone} for {want}", i + 1);
    }
}

#[test]
fn cost_follows_the_size_of_the_model() {
    let cost = |model: &OnnxModel| ClassicEngine::load(model, String::new()).unwrap().cost();
    assert_eq!(cost(&housing()), Cost::Light);
    // A forest of the same trees a hundred times over.
    let mut large = housing();
    let node = &mut large.model.graph.as_mut().unwrap().node[0];
    for attribute in &mut node.attribute {
        let tree_ids = attribute.name.ends_with("_treeids");
        let (ints, floats, strings) =
            (attribute.ints.clone(), attribute.floats.clone(), attribute.strings.clone());
        for copy in 1..100 {
            let shift = if tree_ids { copy * 1000 } else { 0 };
            if attribute.name.starts_with("nodes_") || attribute.name.starts_with("class_") {
                attribute.ints.extend(ints.iter().map(|i| i + shift));
                attribute.floats.extend(&floats);
                attribute.strings.extend(strings.iter().cloned());
            }
        }
    }
    assert_eq!(cost(&large), Cost::Heavy);
}

#[test]
fn errors_name_the_operator_and_the_limit() {
    let fixture = Fixture::load("onehot_strict_unseen");
    let engine = load(&fixture).unwrap();
    let error = answer(&engine, fixture.batch(&fixture.model())).unwrap_err();
    assert_eq!(error.to_string(), "OneHotEncoder: a value is none of the categories that the model knows");
    let fixture = Fixture::load("refuse_tree_wide_feature");
    let error = fixture.gate().unwrap_err().join("\n");
    assert!(error.contains("asks for feature 500, but a row has 2 columns"), "{error}");
    let fixture = Fixture::load("conv");
    let error = load(&fixture).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("native cannot run this model") && error.contains("ai.onnx:Conv"), "{error}");
}

/// Where leaves score both of two classes, onnxruntime answers 0 and 1 whatever the labels
/// are; here the answer is one of the model's labels.
#[test]
fn both_classes_scored_answer_with_the_models_own_labels() {
    let fixture = Fixture::load("tree_classifier_input_int64");
    let mut model = fixture.model();
    let labels = |model: &OnnxModel| {
        let engine = ClassicEngine::load(model, String::new()).unwrap();
        match answer(&engine, fixture.batch(model)).unwrap().tensors[0].data() {
            TensorData::Int64(v) => v.clone(),
            other => panic!("{other:?}"),
        }
    };
    let plain = labels(&model);
    assert!(plain.contains(&0) && plain.contains(&1));
    let node = &mut model.model.graph.as_mut().unwrap().node[0];
    node.attribute.iter_mut().find(|a| a.name == "classlabels_int64s").unwrap().ints = vec![10, 20];
    assert_eq!(labels(&model), plain.iter().map(|l| 10 + 10 * l).collect::<Vec<_>>());
}

/// A changed bit may make another model of it, but never a panic: attributes are checked
/// when a model loads, shapes when it runs.
#[test]
fn damaged_models_never_panic() {
    let (mut loaded, mut refused) = (0, 0);
    for fixture in Fixture::all().iter().filter(|f| !f.refused() && !f.must_fail()) {
        let model = fixture.model();
        let batch = fixture.batch(&model);
        for flip in 0..64 {
            let mut bytes = fixture.bytes.clone();
            // A fixed walk over the file; the step is prime to most lengths.
            let bit = flip * 7919 % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(model) = read(&bytes, &GateLimits::default()) else {
                refused += 1;
                continue;
            };
            let Ok(engine) = ClassicEngine::load(&model, String::new()) else {
                refused += 1;
                continue;
            };
            loaded += 1;
            // `execute` turns a panic into an error, so its text is looked at.
            if let Err(error) = answer(&engine, batch.clone()) {
                assert!(!error.to_string().contains("panicked"), "{} bit {bit}: {error}", fixture.name);
            }
        }
    }
    assert!(loaded > 1000 && refused > 1000, "{loaded} loaded, {refused} refused");
}
