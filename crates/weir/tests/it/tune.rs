//! `weir tune`. No figure is asserted; that a search finds the best setting is tested on cost models,
//! beside the code.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::server::{root, weir};

/// A copy of the housing model, which a command may write to.
fn housing() -> (TempDir, PathBuf) {
    let kept = tempfile::tempdir().unwrap();
    let folder = kept.path().join("housing");
    fs::create_dir(&folder).unwrap();
    let from = root().join("examples/models/housing");
    for file in ["model.toml", "model.onnx", "samples.jsonl"] {
        fs::copy(from.join(file), folder.join(file)).unwrap();
    }
    (kept, folder)
}

/// Exit status, standard output, standard error.
fn tune(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let done = weir(folder).arg("tune").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

#[test]
fn without_time_the_setting_in_force_is_measured_and_stays() {
    let (_kept, model) = housing();
    let before = fs::read_to_string(model.join("model.toml")).unwrap();
    let arguments =
        [".", "--rows", "100", "--slo", "p50=100ms", "--budget", "1ms", "--report", "r.html", "--json"];
    let (code, out, told) = tune(&model, &arguments);
    assert_eq!(code, Some(0), "{out} {told}");
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["outcome"], "none", "{document}");
    let tried = document["tried"].as_array().unwrap();
    assert_eq!(tried.len(), 1, "{document}");
    assert!(tried[0]["rate"].as_f64().unwrap() > 0.0 && tried[0]["steps"].as_array().unwrap().len() > 1);
    assert!(document["words"].to_string().contains("--budget") && document["written"].is_null());
    assert!(fs::read_to_string(model.join("r.html")).unwrap().contains("<td>in force</td>"));
    assert_eq!(fs::read_to_string(model.join("model.toml")).unwrap(), before);
}

#[test]
fn a_table_and_a_sentence_are_printed() {
    let (_kept, model) = housing();
    let (code, out, told) =
        tune(&model, &["model.onnx", "--slo", "p50=100ms", "--budget", "1ms", "--dry-run"]);
    assert_eq!(code, Some(0), "{out} {told}");
    let lines: Vec<_> = out.lines().collect();
    assert!(lines[0].ends_with("setting") && lines[1].contains("in force"), "{out}");
    assert!(out.contains("changes nothing") || out.contains("--budget"), "{out}");
}

#[test]
fn what_cannot_be_kept_is_told_with_what_was_measured() {
    let (_kept, model) = housing();
    let (code, _, told) = tune(&model, &[".", "--slo", "p99=1us"]);
    assert_eq!(code, Some(1));
    assert!(told.contains("p99=0.001ms cannot be kept") && told.contains("a p50 of"), "{told}");
}

#[test]
fn what_has_no_batches_of_its_own_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |manifest: &str| {
        let model = folder.path().join("m");
        fs::create_dir_all(&model).unwrap();
        fs::write(model.join("model.toml"), manifest).unwrap();
        let (code, _, told) = tune(folder.path(), &["m", "--slo", "p99=50ms"]);
        assert_eq!(code, Some(1), "{manifest}");
        told
    };
    assert!(refused("[[graph.step]]\nmodel = \"other\"\n").contains("made of other models"));
    assert!(refused("[remote]\nurl = \"http://127.0.0.1:1\"\n").contains("tune it there"));
    let (_kept, file) = housing();
    let (_, _, told) = tune(&file, &["model.onnx", "--slo", "p99=50ms"]);
    assert!(told.contains("name its folder"), "{told}");
    let (_, _, told) = tune(folder.path(), &["nowhere", "--slo", "p99=50ms"]);
    assert!(told.contains("nowhere does not exist"), "{told}");
}

#[test]
fn every_mistake_of_the_flags_is_told() {
    let flags = [".", "--slo", "fast", "--rows", "x", "--budget", "0s"];
    let (code, _, told) = tune(Path::new("."), &flags);
    assert_eq!(code, Some(1));
    for flag in ["--slo", "--rows", "--budget"] {
        assert!(told.contains(flag), "{flag}: {told}");
    }
    let (_, _, told) = tune(Path::new("."), &[".", "--slo", "goodput=99%"]);
    assert!(told.contains("p99=50ms"), "{told}");
}
