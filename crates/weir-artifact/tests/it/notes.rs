//! Exports that are known to be inexact say so.

use crate::support::Folder;

fn notes(model: &str) -> Vec<String> {
    Folder::new().with_model("m/model.onnx", model).load().unwrap().spec.notes
}

#[test]
fn each_library_is_recognised_by_its_real_export() {
    for (model, sign) in [
        ("lightgbm_onnxmltools", "exported from LightGBM: 42.7 %"),
        ("xgboost_onnxmltools", "as it does for XGBoost: 36.9 %"),
        ("catboost", "exported by CatBoost: 19.2 %"),
        ("housing", "if it is HistGradientBoosting"),
    ] {
        let notes = notes(model);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].contains(sign), "{notes:?}");
    }
}

#[test]
fn margins_are_not_taken_for_probabilities() {
    for model in ["svc_margins", "linear_svc"] {
        let notes = notes(model);
        assert!(notes.iter().any(|n| n.contains("has no probabilities")), "{model}: {notes:?}");
    }
    // Of two classes the columns are the margin and its opposite, not one a class.
    let spec = Folder::new().with_model("m/model.onnx", "svc_margins").load().unwrap().spec;
    assert_eq!(spec.task, weir_artifact::Task::Raw);
}

#[test]
fn a_network_has_no_notes() {
    assert_eq!(notes("mixed"), [""; 0]);
}
