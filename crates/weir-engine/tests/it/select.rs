//! Which engine is chosen, and what is said when none can be.

use std::{fs, path::Path, sync::Arc};

use weir_artifact::{EngineChoice, LoadedModel, discover, load};
use weir_engine::{Engine, EngineError, EngineOptions, onnx::OrtLocation};

use crate::support::location;

/// A fixture, loaded as a bare file.
fn model(name: &str) -> LoadedModel {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.onnx"));
    let found = discover(&path).found;
    load(&found[0]).unwrap_or_else(|e| panic!("{name}: {e:?}"))
}

fn chosen(name: &str, choice: EngineChoice, ort: OrtLocation) -> Result<Arc<dyn Engine>, EngineError> {
    let mut model = model(name);
    model.spec.engine = choice;
    weir_engine::load(&model, &EngineOptions { ort, ..EngineOptions::default() })
}

fn name_and_reason(engine: Result<Arc<dyn Engine>, EngineError>) -> (&'static str, String) {
    let engine = engine.unwrap();
    (engine.info().name, engine.info().reason.clone())
}

fn refusal(engine: Result<Arc<dyn Engine>, EngineError>) -> String {
    engine.map(|_| ()).unwrap_err().to_string()
}

#[test]
fn a_neural_network_runs_on_the_library_where_one_is_found() {
    let (name, why) = name_and_reason(chosen("mlp", EngineChoice::Auto, location()));
    assert!(name == "onnxruntime" && why.contains("was found at"), "{name}: {why}");
}

#[test]
fn an_override_is_honoured_or_refused_with_the_reason() {
    for (choice, expected) in [(EngineChoice::Rten, "rten"), (EngineChoice::OnnxRuntime, "onnxruntime")] {
        let (name, why) = name_and_reason(chosen("mlp", choice, location()));
        assert!(name == expected && why.contains(&format!("engine = \"{expected}\"")), "{name}: {why}");
    }
    let why = refusal(chosen("rf_regressor", EngineChoice::Rten, location()));
    assert!(why.contains("rten cannot run") && why.contains("TreeEnsembleRegressor"), "{why}");
    let why = refusal(chosen("conv", EngineChoice::Native, location()));
    assert!(why.contains("native cannot run") && why.contains("Conv"), "{why}");
}

#[test]
fn a_named_library_that_cannot_be_used_is_never_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("libonnxruntime.so");
    fs::write(&garbage, "garbage").unwrap();
    let ort = OrtLocation { explicit: Some(garbage), ..location() };
    for choice in [EngineChoice::Auto, EngineChoice::OnnxRuntime] {
        let why = refusal(chosen("mlp", choice, ort.clone()));
        assert!(why.contains("is not a library that can be loaded"), "{why}");
    }
}

#[test]
fn small_models_without_loops_are_light() {
    for (name, light) in [("mlp", true), ("conv", false), ("symbolic_dims", false)] {
        let engine = chosen(name, EngineChoice::OnnxRuntime, location()).unwrap();
        assert_eq!(engine.cost() == weir_engine::Cost::Light, light, "{name}");
    }
}

#[test]
fn a_classic_model_runs_natively_and_elsewhere_where_asked() {
    let (name, why) = name_and_reason(chosen("rf_regressor", EngineChoice::Auto, location()));
    assert!(name == "native" && why.contains("classic model"), "{name}: {why}");
    let (name, _) = name_and_reason(chosen("rf_regressor", EngineChoice::OnnxRuntime, location()));
    assert_eq!(name, "onnxruntime");
    let why = refusal(chosen("zipmap_default", EngineChoice::OnnxRuntime, location()));
    assert!(why.contains("engine = \"native\""), "{why}");
}

/// ONNX Runtime loads all of these, and reads beyond a row of one of them.
#[test]
fn a_forest_that_contradicts_itself_reaches_no_runtime() {
    let mut reached = 0;
    for name in
        ["cycle", "missing_child", "negative_feature", "short_attribute", "wide_feature", "wrong_target"]
    {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/refuse_tree_{name}.onnx"));
        let Ok(mut model) = load(&discover(&path).found[0]) else { continue };
        reached += 1;
        for choice in [EngineChoice::Auto, EngineChoice::Native, EngineChoice::OnnxRuntime] {
            model.spec.engine = choice;
            let options = EngineOptions { ort: location(), ..EngineOptions::default() };
            let error = weir_engine::load(&model, &options).map(|_| ()).unwrap_err();
            assert!(matches!(error, EngineError::Artifact(_)), "{name}: {error}");
        }
    }
    assert!(reached > 3, "the gate refused all but {reached} itself");
}
