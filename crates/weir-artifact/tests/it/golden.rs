//! `tests/golden/NAME.toml` beside a model, and what is said about it, `NAME.txt`. The
//! first line `# model: NAME` chooses the model. After a change on purpose:
//! `UPDATE_GOLDEN=1 cargo test -p weir-artifact`, then read the difference.

use std::{fmt::Write, path::PathBuf};

use weir_artifact::ModelSpec;

use crate::support::{Folder, assert_golden, tests};

fn summary(spec: &ModelSpec) -> String {
    let mut out = format!("{} {} {:?}, labels {:?}\n", spec.name, spec.version, spec.task, spec.labels);
    let _ = writeln!(
        out,
        "engine {:?}, {:?}, deterministic {}, stateful {}",
        spec.engine, spec.limits, spec.deterministic, spec.stateful
    );
    let _ = writeln!(out, "extra {:?}, coerce {:?}", spec.schema.extra, spec.schema.coerce);
    out.extend(spec.signature.inputs.iter().map(|i| format!("input {i}\n")));
    out.extend(spec.signature.outputs.iter().map(|o| format!("output {o}\n")));
    for field in &spec.schema.fields {
        let _ = writeln!(out, "{field:?}");
    }
    for (word, answer) in &spec.answers {
        let _ = writeln!(out, "{word}: {answer:?}");
    }
    if let Some(text) = &spec.text {
        let head = text.head.as_ref().map(|h| h.len());
        let _ = writeln!(
            out,
            "text {:?}, normalize {}, multi_label {}, head {head:?}",
            text.pooling, text.normalize, text.multi_label
        );
    }
    let _ = writeln!(out, "{} samples", spec.samples.len());
    out.extend(spec.notes.iter().map(|n| format!("note: {n}\n")));
    out
}

fn told(text: &str) -> String {
    let model =
        text.lines().next().and_then(|l| l.strip_prefix("# model: ")).expect("first line: # model: NAME");
    let folder = Folder::new().with("m/model.toml", text).with_model("m/model.onnx", model);
    for file in ["head.safetensors", "wide_head.safetensors", "tokenizer.json"] {
        folder.write(&format!("m/{file}"), &std::fs::read(tests("models").join(file)).unwrap());
    }
    folder.write("m/samples.jsonl", b"{\"input\": {}}\n");
    folder.write("m/bad.jsonl", b"{\"input\": {}}\nnot json\n{\"inputs\": {}}\n");
    match folder.load() {
        Ok(model) => summary(&model.spec),
        Err(problems) => folder.told(&problems) + "\n",
    }
}

#[test]
fn every_golden_manifest_is_told_as_recorded() {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(tests("golden")).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "toml"));
    files.sort();
    assert!(files.len() >= 15, "the golden files are gone");
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy();
        assert_golden(&name, &told(&std::fs::read_to_string(&file).unwrap()));
    }
}
